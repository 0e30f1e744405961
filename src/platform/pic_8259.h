// SPDX-License-Identifier: Apache-2.0
/// @file The pair of 8259A programmable interrupt controllers with their edge/level control
/// registers.
///
/// Intel 8259A data sheet (231468); ELCR: Intel 82371AB (PIIX4) data sheet, section 4.2.
/// Deviations: a request on an edge-triggered input is kept when the input falls before it is
/// acknowledged (silicon answers with a spurious IR7), because a monitor acknowledges later than
/// silicon; MCS-80 mode, LTIM (overruled by ELCR, as in the PIIX) and buffered mode are stored or
/// ignored without effect.
#pragma once

#include "platform/device.h"
#include "platform/interrupt_line.h"
#include "platform/vector_set.h"

namespace gnomon::platform {

/// One 8259A: eight inputs, one output.
class Pic8259 final : public ByteDevice, public InterruptSink {
public:
    enum class Reg : u8 {
        command = 0, // rw write: ICW1, OCW2, OCW3; read: IRR or ISR as OCW3 chose, reset IRR
        data = 1,    // rw write: ICW2-ICW4 while initializing, else OCW1; read: IMR, reset FFh (as
                     // firmware leaves it)
    };

    /// @param output INT. @param level_capable inputs that ELCR may make level-triggered.
    Pic8259(InterruptLine output, u8 level_capable)
        : m_output(std::move(output)), m_level_capable(level_capable) {}

    [[nodiscard]] u8 read_byte(u64 offset) override;
    void write_byte(u64 offset, u8 value) override;
    void set_input(unsigned pin, bool asserted) override;

    [[nodiscard]] bool output() const { return m_output.asserted(); }
    /// One INTA cycle: takes the highest request into service, gives its input (7 if there is none)
    /// and leaves in `spurious` whether there was none.
    [[nodiscard]] u8 acknowledge(bool& spurious);
    [[nodiscard]] u8 vector(u8 input) const { return static_cast<u8>(m_vector_base | (input & 7)); }

    /// Inputs in service.
    [[nodiscard]] u8 in_service() const { return m_isr; }
    /// Inputs that ask and are not masked, or are in service.
    [[nodiscard]] u8 active() const { return static_cast<u8>((requests() & ~m_imr) | m_isr); }
    [[nodiscard]] u8 level_triggered() const { return m_elcr; }
    void set_level_triggered(u8 inputs);

private:
    enum class Initialization : u8 { done, icw2, icw3, icw4 };

    [[nodiscard]] u8 requests() const;
    /// Position in the current priority order of the highest bit set in `inputs`, 0 highest; 8 if
    /// none.
    [[nodiscard]] unsigned highest_position(u8 inputs) const;
    [[nodiscard]] u8 input_at(unsigned position) const {
        return static_cast<u8>((position + m_highest) & 7);
    }
    [[nodiscard]] int pending_input() const;
    void update_output() { m_output.set(pending_input() >= 0); }
    void take_into_service(u8 input);
    void begin_initialization(u8 icw1);
    void operate(u8 ocw2);
    void select(u8 ocw3);

    InterruptLine m_output;
    u8 m_level_capable;
    u8 m_elcr = 0;
    u8 m_inputs = 0;  ///< levels now
    u8 m_latched = 0; ///< edges not yet acknowledged
    u8 m_imr = 0xff, m_isr = 0;
    u8 m_vector_base = 0;
    u8 m_highest = 0; ///< the input that has the highest priority
    Initialization m_initialization = Initialization::done;
    bool m_single = false, m_expect_icw4 = false;
    bool m_automatic_eoi = false, m_rotate_on_automatic_eoi = false;
    bool m_special_mask = false, m_special_fully_nested = false;
    bool m_read_isr = false, m_poll = false;
};

/// Master and slave, cascaded at IR2, and ELCR1/ELCR2. As an InterruptSink its pins are the ISA
/// IRQs 0 to 15.
class Pic8259Pair final : public InterruptSink {
public:
    /// @param output INTR to the processor.
    explicit Pic8259Pair(InterruptLine output);

    [[nodiscard]] BusDevice& master_ports() { return m_master; }
    [[nodiscard]] BusDevice& slave_ports() { return m_slave; }
    [[nodiscard]] BusDevice& elcr_ports() { return m_elcr; }

    void set_input(unsigned irq, bool asserted) override;
    [[nodiscard]] bool pending() const { return m_master.output(); }
    /// The processor's interrupt acknowledge: the vector, that of a spurious IR7 if nothing is
    /// pending.
    [[nodiscard]] u8 acknowledge();
    [[nodiscard]] bool in_service() const {
        return (m_master.in_service() | m_slave.in_service()) != 0;
    }
    /// Of inputs that ask and are not masked, or are in service; without the cascade.
    [[nodiscard]] VectorSet active_vectors() const;

private:
    /// Bit n: input n is level-triggered.
    class Elcr final : public ByteDevice {
    public:
        enum class Reg : u8 {
            elcr1 = 0, // rw IRQ 0-7, reset 00h, IRQ 0-2 fixed edge
            elcr2 = 1, // rw IRQ 8-15, reset 00h, IRQ 8 and 13 fixed edge
        };
        Elcr(Pic8259& master, Pic8259& slave) : m_master(master), m_slave(slave) {}
        [[nodiscard]] u8 read_byte(u64 offset) override { return chip(offset).level_triggered(); }
        void write_byte(u64 offset, u8 value) override { chip(offset).set_level_triggered(value); }

    private:
        [[nodiscard]] Pic8259& chip(u64 offset) {
            return static_cast<Reg>(offset & 1) == Reg::elcr1 ? m_master : m_slave;
        }
        Pic8259& m_master;
        Pic8259& m_slave;
    };

    Pic8259 m_master;
    Pic8259 m_slave;
    Elcr m_elcr;
};

} // namespace gnomon::platform
