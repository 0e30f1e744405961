// SPDX-License-Identifier: Apache-2.0
#include "platform/io_apic.h"

#include "platform/local_apic.h"

namespace gnomon::platform {

namespace {

constexpr u32 version = (IoApic::pin_count - 1) << 16 | 0x20;
constexpr u32 id_mask = 0x0f00'0000;

constexpr DeliveryMode delivery_mode(u64 entry) {
    return static_cast<DeliveryMode>((entry >> 8) & 7);
}

} // namespace

IoApic::IoApic(ApicBus& bus) : m_bus(bus) { m_entries.fill(Entry::masked); }

/// Only fixed and lowest-priority interrupts can be level-triggered; the others are edges whatever
/// the entry says.
bool IoApic::is_level(unsigned pin) const {
    const DeliveryMode mode = delivery_mode(m_entries[pin]);
    return (m_entries[pin] & Entry::level) != 0 &&
           (mode == DeliveryMode::fixed || mode == DeliveryMode::lowest_priority);
}

InterruptMessage IoApic::message(u64 entry) {
    InterruptMessage m;
    m.logical = (entry & Entry::logical) != 0;
    m.destination = static_cast<u32>(entry >> 56);
    if (!m.logical && m.destination == 0xff) m.destination = InterruptMessage::broadcast;
    m.mode = delivery_mode(entry);
    m.vector = static_cast<u8>(entry);
    m.level_triggered = (entry & Entry::level) != 0;
    return m;
}

/// Sends the interrupt of a level-triggered input that asks for it and has none under way.
void IoApic::service(unsigned pin) {
    u64& entry = m_entries[pin];
    if (!m_inputs[pin] || !is_level(pin) || (entry & (Entry::masked | Entry::remote_irr)) != 0)
        return;
    if (m_bus.deliver(message(entry))) entry |= Entry::remote_irr;
}

void IoApic::set_input(unsigned pin, bool asserted) {
    if (pin >= pin_count || m_inputs[pin] == asserted) return;
    m_inputs[pin] = asserted;
    if (!asserted) return;
    if (is_level(pin)) {
        service(pin);
        return;
    }
    const u64 entry = m_entries[pin];
    if ((entry & Entry::masked) != 0 || delivery_mode(entry) == DeliveryMode::external) return;
    InterruptMessage edge = message(entry);
    edge.level_triggered = false;
    m_bus.deliver(edge);
}

void IoApic::end_of_interrupt(u8 vector) {
    for (unsigned pin = 0; pin < pin_count; ++pin) {
        u64& entry = m_entries[pin];
        if ((entry & Entry::remote_irr) == 0 || static_cast<u8>(entry) != vector) continue;
        entry &= ~Entry::remote_irr;
        service(pin);
    }
}

void IoApic::acceptance_changed() {
    for (unsigned pin = 0; pin < pin_count; ++pin)
        service(pin);
}

bool IoApic::routes_external_interrupt(unsigned pin, const LocalApic& apic) const {
    if (pin >= pin_count) return false;
    const u64 entry = m_entries[pin];
    if ((entry & Entry::masked) != 0 || delivery_mode(entry) != DeliveryMode::external)
        return false;
    const InterruptMessage m = message(entry);
    return apic.is_destination(m.destination, m.logical);
}

u32 IoApic::read_index() const {
    switch (static_cast<IndexReg>(m_select)) {
    case IndexReg::id:
    case IndexReg::arbitration: return m_id;
    case IndexReg::version: return version;
    default: break;
    }
    constexpr unsigned first = static_cast<unsigned>(IndexReg::redirection);
    const unsigned pin = (m_select - first) / 2;
    if (m_select < first || pin >= pin_count) return ~u32{0};
    return static_cast<u32>(m_select % 2 == 0 ? m_entries[pin] : m_entries[pin] >> 32);
}

void IoApic::write_index(u32 value) {
    if (static_cast<IndexReg>(m_select) == IndexReg::id) m_id = value & id_mask;
    constexpr unsigned first = static_cast<unsigned>(IndexReg::redirection);
    const unsigned pin = (m_select - first) / 2;
    if (m_select < first || pin >= pin_count) return;
    u64& entry = m_entries[pin];
    const bool high = m_select % 2 != 0;
    const u64 half = high ? u64{0xffff'ffff} << 32 : 0xffff'ffff,
              bits = high ? u64{value} << 32 : value;
    const u64 changed = half & Entry::writable;
    entry = (entry & ~changed) | (bits & changed);
    // Remote IRR belongs to level-triggered entries; making one edge-triggered clears it, on which
    // Linux relies to get rid of an interrupt that firmware left behind.
    if (!is_level(pin)) entry &= ~Entry::remote_irr;
    service(pin);
}

u64 IoApic::read(u64 offset, unsigned size) {
    // Three 32-bit registers; what an access of another shape finds between them is 0.
    u64 value = 0;
    for (unsigned i = 0; i < size && i < 8; ++i) {
        const u64 at = offset + i;
        u32 word = 0;
        if ((at & ~u64{3}) == static_cast<u64>(Reg::select))
            word = m_select;
        else if ((at & ~u64{3}) == static_cast<u64>(Reg::window))
            word = read_index();
        value |= u64{(word >> (8 * (at & 3))) & 0xff} << (8 * i);
    }
    return value;
}

void IoApic::write(u64 offset, unsigned size, u64 value) {
    // The index and the vector are single bytes, so any width that holds them will do; the window
    // is 32 bits or nothing.
    if (offset == static_cast<u64>(Reg::select))
        m_select = static_cast<u8>(value);
    else if (offset == static_cast<u64>(Reg::window) && size >= 4)
        write_index(static_cast<u32>(value));
    else if (offset == static_cast<u64>(Reg::eoi))
        end_of_interrupt(static_cast<u8>(value));
}

} // namespace gnomon::platform
