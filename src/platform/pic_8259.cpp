// SPDX-License-Identifier: Apache-2.0
#include "platform/pic_8259.h"

namespace gnomon::platform {

namespace {

constexpr unsigned cascade_input = 2;

// Command words (data sheet figures 7 and 8).
constexpr u8 icw1 = 1 << 4, icw1_ic4 = 1 << 0, icw1_sngl = 1 << 1;
constexpr u8 icw4_aeoi = 1 << 1, icw4_sfnm = 1 << 4;
constexpr u8 ocw3 = 1 << 3, ocw3_ris = 1 << 0, ocw3_rr = 1 << 1, ocw3_poll = 1 << 2,
             ocw3_smm = 1 << 5, ocw3_esmm = 1 << 6;

constexpr u8 bit(unsigned n) { return static_cast<u8>(1U << (n & 7)); }

} // namespace

u8 Pic8259::requests() const {
    return static_cast<u8>((m_latched & ~m_elcr) | (m_inputs & m_elcr));
}

unsigned Pic8259::highest_position(u8 inputs) const {
    for (unsigned position = 0; position < 8; ++position)
        if ((inputs & bit(input_at(position))) != 0) return position;
    return 8;
}

int Pic8259::pending_input() const {
    const unsigned wanted = highest_position(static_cast<u8>(requests() & ~m_imr));
    if (wanted == 8) return -1;
    u8 blocking = m_isr;
    if (m_special_mask) blocking = static_cast<u8>(blocking & ~m_imr);
    // Special fully nested mode: a slave in service does not block its own further, higher
    // requests.
    const bool same_allowed = m_special_fully_nested && input_at(wanted) == cascade_input;
    if (same_allowed) blocking = static_cast<u8>(blocking & ~bit(cascade_input));
    return wanted < highest_position(blocking) ? input_at(wanted) : -1;
}

void Pic8259::set_input(unsigned pin, bool asserted) {
    const u8 mask = bit(pin);
    if (asserted) {
        if ((m_inputs & mask) == 0) m_latched |= mask;
        m_inputs |= mask;
    } else {
        m_inputs = static_cast<u8>(m_inputs & ~mask);
    }
    update_output();
}

void Pic8259::set_level_triggered(u8 inputs) {
    m_elcr = inputs & m_level_capable;
    m_latched = static_cast<u8>(m_latched & ~m_elcr);
    update_output();
}

void Pic8259::take_into_service(u8 input) {
    m_latched = static_cast<u8>(m_latched & ~bit(input));
    if (!m_automatic_eoi)
        m_isr |= bit(input);
    else if (m_rotate_on_automatic_eoi)
        m_highest = (input + 1) & 7;
    // INT falls with every acknowledge; a request that still waits makes a new edge.
    m_output.set(false);
    update_output();
}

u8 Pic8259::acknowledge(bool& spurious) {
    const int input = pending_input();
    spurious = input < 0;
    if (spurious) return 7;
    take_into_service(static_cast<u8>(input));
    return static_cast<u8>(input);
}

u8 Pic8259::read_byte(u64 offset) {
    if (m_poll) {
        m_poll = false;
        bool spurious = false;
        const u8 input = acknowledge(spurious);
        return spurious ? u8{0} : static_cast<u8>(0x80 | input);
    }
    switch (static_cast<Reg>(offset & 1)) {
    case Reg::command: return m_read_isr ? m_isr : requests();
    case Reg::data: return m_imr;
    }
    return 0xff;
}

void Pic8259::begin_initialization(u8 value) {
    m_latched = 0;
    m_imr = m_isr = 0;
    m_highest = 0;
    m_special_mask = m_special_fully_nested = false;
    m_automatic_eoi = m_rotate_on_automatic_eoi = false;
    m_read_isr = m_poll = false;
    m_expect_icw4 = (value & icw1_ic4) != 0;
    m_single = (value & icw1_sngl) != 0;
    m_initialization = Initialization::icw2;
}

void Pic8259::operate(u8 value) {
    const u8 level = value & 7;
    const unsigned serviced = highest_position(m_isr);
    switch (value >> 5) {
    case 0: m_rotate_on_automatic_eoi = false; break;
    case 4: m_rotate_on_automatic_eoi = true; break;
    case 1: // non-specific EOI
    case 5: // rotate on non-specific EOI
        if (serviced == 8) break;
        m_isr = static_cast<u8>(m_isr & ~bit(input_at(serviced)));
        if (value >> 5 == 5) m_highest = (input_at(serviced) + 1) & 7;
        break;
    case 3: m_isr = static_cast<u8>(m_isr & ~bit(level)); break;
    case 7:
        m_isr = static_cast<u8>(m_isr & ~bit(level));
        m_highest = (level + 1) & 7;
        break;
    case 6: m_highest = (level + 1) & 7; break;
    default: break; // 2: no operation
    }
}

void Pic8259::select(u8 value) {
    if ((value & ocw3_poll) != 0) m_poll = true;
    if ((value & ocw3_rr) != 0) m_read_isr = (value & ocw3_ris) != 0;
    if ((value & ocw3_esmm) != 0) m_special_mask = (value & ocw3_smm) != 0;
}

void Pic8259::write_byte(u64 offset, u8 value) {
    if (static_cast<Reg>(offset & 1) == Reg::command) {
        if ((value & icw1) != 0)
            begin_initialization(value);
        else if ((value & ocw3) != 0)
            select(value);
        else
            operate(value);
    } else {
        switch (m_initialization) {
        case Initialization::done: m_imr = value; break;
        case Initialization::icw2:
            m_vector_base = value & 0xf8;
            m_initialization = !m_single       ? Initialization::icw3
                               : m_expect_icw4 ? Initialization::icw4
                                               : Initialization::done;
            break;
        case Initialization::icw3: // the cascade is wired, whatever the guest believes
            m_initialization = m_expect_icw4 ? Initialization::icw4 : Initialization::done;
            break;
        case Initialization::icw4:
            m_automatic_eoi = (value & icw4_aeoi) != 0;
            m_special_fully_nested = (value & icw4_sfnm) != 0;
            m_initialization = Initialization::done;
            break;
        }
    }
    update_output();
}

Pic8259Pair::Pic8259Pair(InterruptLine output)
    : m_master(std::move(output), 0xf8), m_slave(InterruptLine(m_master, cascade_input), 0xde),
      m_elcr(m_master, m_slave) {}

void Pic8259Pair::set_input(unsigned irq, bool asserted) {
    if (irq == cascade_input || irq > 15) return;
    if (irq < 8)
        m_master.set_input(irq, asserted);
    else
        m_slave.set_input(irq - 8, asserted);
}

u8 Pic8259Pair::acknowledge() {
    bool spurious = false;
    const u8 input = m_master.acknowledge(spurious);
    if (spurious || input != cascade_input) return m_master.vector(input);
    return m_slave.vector(m_slave.acknowledge(spurious));
}

VectorSet Pic8259Pair::active_vectors() const {
    VectorSet active;
    const u8 of_master = m_master.active() & static_cast<u8>(~bit(cascade_input)),
             of_slave = m_slave.active();
    if ((of_master | of_slave) == 0) return active;
    for (u8 input = 0; input < 8; ++input) {
        if ((of_master & bit(input)) != 0) active.set(m_master.vector(input));
        if ((of_slave & bit(input)) != 0) active.set(m_slave.vector(input));
    }
    return active;
}

} // namespace gnomon::platform
