// SPDX-License-Identifier: Apache-2.0
/// @file The board `gnomon-pc`: all devices that every machine has, wired together (layout.h).
#pragma once

#include "platform/acpi_pm.h"
#include "platform/bus.h"
#include "platform/i8042.h"
#include "platform/io_apic.h"
#include "platform/local_apic.h"
#include "platform/pci/decoder.h"
#include "platform/pci/device.h"
#include "platform/pci/host_bridge.h"
#include "platform/pic_8259.h"
#include "platform/pit_8254.h"
#include "platform/reset_control.h"
#include "platform/rtc_mc146818.h"
#include "platform/uart_16550.h"

#include <memory>
#include <vector>

namespace gnomon::platform {

struct BoardOptions {
    unsigned cpu_count = 1; ///< 1 to 255; local APIC IDs are 0, 1, 2 ...
    u64 memory_bytes = 0;   ///< for the CMOS memory-size cells
    u64 utc_ns = 0;         ///< time of day at the clock's present instant, ns since 1970-01-01 UTC
    bool x2apic = true;     ///< whether CPUID shows it
    u64 apic_timer_hz = layout::apic_timer_hz;
    std::array<SerialBackEnd*, layout::serial_count> serial =
        {}; ///< null: output is dropped; must outlive the board
};

/// Owns its devices. Not thread-safe: one lock outside, around every call of the board and of
/// anything it gives out. Nothing here blocks. `cpu` arguments are 0 to cpu_count()-1 (VERIFY).
///
/// A run loop: run_timers(); if interrupt_pending(cpu) and the processor can take it, inject
/// acknowledge_interrupt(cpu); run the processor until an exit or next_deadline_ns(); pass port,
/// memory and MSR accesses on; stop at power_request().
class Board {
public:
    /// @param clock must outlive the board.
    [[nodiscard]] static Result<std::unique_ptr<Board>> create(const BoardOptions& options,
                                                               const Clock& clock);
    Board(const Board&) = delete;
    Board& operator=(const Board&) = delete;
    ~Board();

    [[nodiscard]] unsigned cpu_count() const { return static_cast<unsigned>(m_local_apics.size()); }

    // --- the guest's accesses ---

    [[nodiscard]] PortBus& port_bus() { return m_port_bus; }
    /// For placing devices. A processor's access goes through `mmio_read` and `mmio_write`, because
    /// each processor sees its own local APIC at an address that it chooses, in front of everything
    /// else on the bus.
    [[nodiscard]] MmioBus& mmio_bus() { return m_mmio_bus; }
    [[nodiscard]] u64 mmio_read(unsigned cpu, Gpa gpa, unsigned size);
    void mmio_write(unsigned cpu, Gpa gpa, unsigned size, u64 value);
    [[nodiscard]] LocalApic& local_apic(unsigned cpu);
    [[nodiscard]] u8 cr8(unsigned cpu) { return local_apic(cpu).cr8(); }
    void set_cr8(unsigned cpu, u8 value) { local_apic(cpu).set_cr8(value); }

    // --- interrupts, as a processor sees them ---

    /// Whether `acknowledge_interrupt` would give a vector. It does not depend on RFLAGS.IF.
    [[nodiscard]] bool interrupt_pending(unsigned cpu) const;
    /// Takes the interrupt: the local APIC's highest, else the 8259's where its INTR reaches this
    /// processor (CPU 0 by LINT0, any by an I/O APIC entry in ExtINT mode).
    [[nodiscard]] std::optional<u8> acknowledge_interrupt(unsigned cpu);
    /// Whether the processor has an interrupt in service, at its local APIC or, if their INTR can
    /// reach it, at the 8259s.
    [[nodiscard]] bool interrupt_in_service(unsigned cpu) const;
    /// Vectors that it has been asked to take, whether or not it can now, or has in service.
    [[nodiscard]] VectorSet active_vectors(unsigned cpu) const;
    [[nodiscard]] bool nmi_pending(unsigned cpu) const;
    bool take_nmi(unsigned cpu) { return local_apic(cpu).take_nmi(); }

    // --- time ---

    /// The earliest virtual time (Clock::now_ns) at which `run_timers` has something to do; it may
    /// lie in the past.
    [[nodiscard]] std::optional<u64> next_deadline_ns() const;
    void run_timers();

    // --- the world outside ---

    /// What the guest has asked for, none so far. It stands until the board is destroyed; to reset
    /// the machine is to build a new one.
    [[nodiscard]] std::optional<PowerRequest> power_request() const { return m_power.pending(); }
    void press_power_button() { m_acpi_pm.press_power_button(); }
    /// Port `n`, 0 to 3 (VERIFY).
    [[nodiscard]] Uart16550& serial(unsigned n);

    // --- for further devices ---

    /// A new line to I/O APIC input `gsi`, first_pci_gsi to 23 (VERIFY), and to the 8259 input that
    /// goes with it. Lines to the same input are joined: it is asserted while any of them is.
    [[nodiscard]] InterruptLine pci_interrupt_line(unsigned gsi);
    /// The line of ISA IRQ `irq`, 0 to 15 and no other device's, to both interrupt controllers;
    /// edge-triggered.
    [[nodiscard]] InterruptLine isa_line(unsigned irq) { return InterruptLine(m_isa, irq); }
    [[nodiscard]] ApicBus& apic_bus() { return m_apic_bus; } ///< for message signalled interrupts
    [[nodiscard]] PciSegment& pci() { return m_pci; }
    /// For the function that is then inserted into `pci()` as device `device` of bus 0, 1 to 31
    /// (VERIFY). 0 is the host bridge.
    [[nodiscard]] PciSlot pci_slot(unsigned device);
    /// Has `device` advanced with the others from now on. It must outlive the board or the last
    /// call of its timers.
    void add_timed(Timed& device) { m_timed.push_back(&device); }

private:
    /// From ISA IRQs to both interrupt controllers.
    class IsaLines final : public InterruptSink {
    public:
        IsaLines(Pic8259Pair& pic, IoApic& io_apic) : m_pic(pic), m_io_apic(io_apic) {}
        void set_input(unsigned irq, bool asserted) override {
            m_pic.set_input(irq, asserted);
            m_io_apic.set_input(irq == layout::pit_irq ? layout::pit_gsi : irq, asserted);
        }

    private:
        Pic8259Pair& m_pic;
        IoApic& m_io_apic;
    };
    /// From the 8259's INTR to LINT0 of CPU 0 and to I/O APIC input 0.
    class IntrLine final : public InterruptSink {
    public:
        explicit IntrLine(Board& board) : m_board(board) {}
        void set_input(unsigned, bool asserted) override;

    private:
        Board& m_board;
    };
    /// Several lines into one input of the I/O APIC, and of the 8259s.
    class PciLines final : public InterruptSink {
    public:
        PciLines(IoApic& io_apic, Pic8259Pair& pic) : m_io_apic(io_apic), m_pic(pic) {}
        void set_input(unsigned gsi, bool asserted) override;

    private:
        IoApic& m_io_apic;
        Pic8259Pair& m_pic;
        // How many lines ask.
        std::array<unsigned, layout::io_apic_pin_count> m_asserted{};
        std::array<unsigned, layout::isa_irq_count> m_isa_asserted{};
    };

    Board(const BoardOptions& options, const Clock& clock);
    [[nodiscard]] Result<> place_devices();
    [[nodiscard]] bool external_interrupt_pending(unsigned cpu) const;
    [[nodiscard]] bool takes_external_interrupts(unsigned cpu) const;
    [[nodiscard]] bool in_local_apic(unsigned cpu, Gpa gpa, unsigned size, u64& offset);

    // In the order of construction: what comes later refers to what comes before.
    const Clock& m_clock;
    PowerControl m_power;
    PortBus m_port_bus;
    MmioBus m_mmio_bus;
    ApicBus m_apic_bus;
    std::vector<std::unique_ptr<LocalApic>> m_local_apics;
    IoApic m_io_apic;
    IntrLine m_intr;
    Pic8259Pair m_pic;
    IsaLines m_isa;
    PciLines m_pci_lines;
    Pit8254 m_pit;
    RtcMc146818 m_rtc;
    AcpiPm m_acpi_pm;
    I8042 m_i8042;
    ResetControl m_reset;
    PciSegment m_pci;
    PciHostBridge m_host_bridge;
    PciConfigPorts m_pci_ports;
    PciEcam m_pci_ecam;
    PciDecoder m_pci_decoder;
    std::vector<std::unique_ptr<Uart16550>> m_serial;
    std::vector<Timed*> m_timed;
};

} // namespace gnomon::platform
