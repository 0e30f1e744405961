// SPDX-License-Identifier: Apache-2.0
/// @file The local APIC of one processor: xAPIC page and x2APIC MSRs over the same registers.
///
/// Intel SDM vol. 3A chapter 10. Deviations: SMIs are accepted and dropped; arbitration and remote
/// read registers read as 0; thermal and performance counter LVT entries are there, but nothing
/// raises them; EOI-broadcast suppression is not offered.
#pragma once

#include "base/address.h"
#include "base/guest_memory.h"
#include "platform/apic_bus.h"
#include "platform/clock.h"
#include "platform/device.h"
#include "platform/layout.h"
#include "platform/timer.h"
#include "platform/vector_set.h"

#include <array>
#include <utility>

namespace gnomon::platform {

struct LocalApicOptions {
    u32 id = 0;            ///< x2APIC ID; the xAPIC ID is its low 8 bits
    bool bootstrap = true; ///< IA32_APIC_BASE.BSP; other processors wait for a start-up IPI
    bool x2apic = true;    ///< whether CPUID shows x2APIC, so that IA32_APIC_BASE.EXTD may be set
    u64 timer_hz = layout::apic_timer_hz;
    unsigned physical_bits = guest_physical_bits; ///< MAXPHYADDR, 36 to 52
};

/// As a BusDevice it is the 4 KiB register page. Not thread-safe.
class LocalApic final : public BusDevice, public Timed {
public:
    /// Register numbers: the page offset / 16, and the MSR number - 0x800. Reset values are those
    /// of power-up.
    enum class Reg : u8 {
        id = 0x02,              // r- reset: the processor's
        version = 0x03,         // r- 00050014h
        tpr = 0x08,             // rw reset 00h
        apr = 0x09,             // r- 00h, xAPIC only
        ppr = 0x0a,             // r- reset 00h
        eoi = 0x0b,             // -w
        rrd = 0x0c,             // r- 00h, xAPIC only
        ldr = 0x0d,             // rw reset 00h; x2APIC r-, follows from the ID
        dfr = 0x0e,             // rw reset FFFFFFFFh, xAPIC only
        svr = 0x0f,             // rw reset FFh
        isr0 = 0x10,            // r- to 17h, reset 00h
        tmr0 = 0x18,            // r- to 1Fh, reset 00h
        irr0 = 0x20,            // r- to 27h, reset 00h
        esr = 0x28,             // rw reset 00h; write (x2APIC: only 0) to refresh
        icr_low = 0x30,         // rw reset 00h; x2APIC: 64 bits
        icr_high = 0x31,        // rw reset 00h, xAPIC only
        lvt_timer = 0x32,       // rw reset 10000h
        lvt_thermal = 0x33,     // rw reset 10000h
        lvt_performance = 0x34, // rw reset 10000h
        lvt_lint0 = 0x35,       // rw reset 10000h
        lvt_lint1 = 0x36,       // rw reset 10000h
        lvt_error = 0x37,       // rw reset 10000h
        timer_initial = 0x38,   // rw reset 00h
        timer_current = 0x39,   // r- reset 00h
        timer_divide = 0x3e,    // rw reset 00h
        self_ipi = 0x3f,        // -w x2APIC only
    };
    enum class Msr : u32 {
        apic_base = 0x1b,     // rw reset FEE00800h or FEE00900h (BSP)
        tsc_deadline = 0x6e0, // rw reset 0
        x2apic_first = 0x800,
        x2apic_last = 0x8ff,
    };
    /// IA32_APIC_BASE.
    static constexpr u64 base_bsp = 1 << 8, base_extd = 1 << 10, base_enable = 1 << 11;

    /// `clock` and `bus` must outlive the device. The owner attaches it to the bus.
    LocalApic(const LocalApicOptions& options, const Clock& clock, ApicBus& bus);

    // --- the guest's interfaces ---

    /// The register page; only for accesses that `page()` says are its own. Registers are 32 bits
    /// at multiples of 16. Writes of other widths or alignments are ignored, reads give the bytes
    /// that are there and zeros between.
    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    /// Where the register page is, none while it is disabled or in x2APIC mode.
    [[nodiscard]] std::optional<Gpa> page() const;

    /// Whether `read_msr` and `write_msr` are to be asked: IA32_APIC_BASE, IA32_TSC_DEADLINE and
    /// 0x800 to 0x8ff.
    [[nodiscard]] static bool owns_msr(u32 index);
    /// False: the guest gets #GP(0), and nothing has changed.
    [[nodiscard]] bool read_msr(u32 index, u64& value);
    [[nodiscard]] bool write_msr(u32 index, u64 value);

    /// CR8 is bits 7:4 of the TPR. `value` in 0..15.
    [[nodiscard]] u8 cr8() const { return m_tpr >> 4; }
    void set_cr8(u8 value) { m_tpr = static_cast<u8>((value & 15) << 4); }

    /// What the guest added to its TSC (IA32_TSC_ADJUST, modulo 2^64), against which its deadlines
    /// are meant.
    void set_tsc_adjust(u64 adjust) { m_tsc_adjust = adjust; }

    // --- the processor's interface ---

    /// The vector that the processor would take now if it took interrupts.
    [[nodiscard]] std::optional<u8> deliverable() const;
    /// Takes that vector into service; none if there is none.
    [[nodiscard]] std::optional<u8> acknowledge();

    [[nodiscard]] const VectorSet& requested() const { return m_irr; }
    [[nodiscard]] const VectorSet& in_service() const { return m_isr; }

    [[nodiscard]] bool nmi_pending() const { return m_nmi; }
    bool take_nmi() { return std::exchange(m_nmi, false); }
    [[nodiscard]] bool init_pending() const { return m_init; }
    /// An INIT has come; this APIC is reset by taking it. The owner resets the processor, which,
    /// unless it is the bootstrap processor, waits for a start-up IPI then.
    bool take_init();
    /// The vector of a start-up IPI that came while the processor waited for one: it starts at
    /// vector << 12.
    [[nodiscard]] std::optional<u8> take_start_up();
    [[nodiscard]] bool waiting_for_start_up() const { return m_waiting_for_start_up; }

    /// Whether the 8259's INTR, wired to LINT0, interrupts this processor: LINT0 is unmasked
    /// ExtINT, or the APIC is disabled (by hardware: the pins are INTR and NMI; by software: as
    /// firmware's virtual wire mode leaves it).
    [[nodiscard]] bool passes_external_interrupts() const;
    /// Local interrupt pins, `pin` 0 or 1.
    void set_lint(unsigned pin, bool asserted);

    // --- the bus's interface ---

    [[nodiscard]] u32 id() const { return m_options.id; }
    [[nodiscard]] bool hardware_enabled() const { return (m_base & base_enable) != 0; }
    [[nodiscard]] bool x2apic_mode() const { return (m_base & base_extd) != 0; }
    /// Enabled by IA32_APIC_BASE and by the spurious vector register: takes fixed interrupts.
    [[nodiscard]] bool enabled() const { return hardware_enabled() && (m_svr & svr_enable) != 0; }
    [[nodiscard]] u8 processor_priority() const;
    [[nodiscard]] bool is_destination(u32 destination, bool logical) const;
    /// False if it takes no such interrupt now.
    bool accept(const InterruptMessage& message);

    // --- Timed ---

    [[nodiscard]] std::optional<u64> next_deadline_ns() const override;
    void advance(u64 now_ns) override;

private:
    enum Lvt : unsigned { timer, thermal, performance, lint0, lint1, error, lvt_count };
    enum class TimerMode : u8 { one_shot = 0, periodic = 1, tsc_deadline = 2, reserved = 3 };

    static constexpr u32 svr_enable = 1 << 8, svr_mask = 0x3ff;
    static constexpr u32 lvt_remote_irr = 1 << 14, lvt_level = 1 << 15, lvt_masked = 1 << 16;
    struct Esr {
        static constexpr u32 send_illegal_vector = 1 << 5, receive_illegal_vector = 1 << 6,
                             illegal_register = 1 << 7;
    };

    void reset_registers();
    [[nodiscard]] std::optional<u32> read_register(unsigned reg);
    /// False if there is no such register or it cannot be written.
    bool write_register(unsigned reg, u32 value);
    [[nodiscard]] bool x2apic_value_valid(unsigned reg, u64 value) const;
    bool write_base(u64 value);

    void write_svr(u32 value);
    void write_lvt(unsigned index, u32 value);
    void end_of_interrupt();
    void send_ipi();
    bool accept_vector(u8 vector, bool level);
    void raise_local(unsigned index);
    void report_error(u32 bit);

    [[nodiscard]] TimerMode timer_mode() const {
        return static_cast<TimerMode>((m_lvt[timer] >> 17) & 3);
    }
    [[nodiscard]] u64 timer_ticks() const { return m_timer_rate.ticks(m_clock.now_ns()); }
    [[nodiscard]] u64 timer_divisor() const;
    [[nodiscard]] u64 timer_period() const { return u64{m_timer_initial} * timer_divisor(); }
    [[nodiscard]] u32 timer_current() const;
    void start_timer(u64 ticks) { m_timer_expiry = timer_ticks() + ticks; }
    void write_divide(u32 value);

    LocalApicOptions m_options;
    const Clock& m_clock;
    ApicBus& m_bus;
    TickRate m_timer_rate;

    u64 m_base = 0;
    u8 m_tpr = 0;
    u32 m_ldr = 0, m_dfr = ~u32{0}, m_svr = 0xff;
    VectorSet m_isr, m_tmr, m_irr;
    u32 m_esr = 0, m_esr_pending = 0;
    u32 m_icr_low = 0, m_icr_high = 0; ///< xAPIC: the destination is icr_high 31:24
    std::array<u32, lvt_count> m_lvt{};
    std::array<bool, 2> m_lint{};

    u32 m_timer_initial = 0, m_timer_divide = 0;
    std::optional<u64> m_timer_expiry; ///< in ticks of timer_hz
    u64 m_timer_fired_ns = 0;
    u64 m_tsc_deadline = 0; ///< 0: not armed
    u64 m_tsc_adjust = 0;

    bool m_nmi = false, m_init = false;
    bool m_waiting_for_start_up = false;
    std::optional<u8> m_start_up;
};

} // namespace gnomon::platform
