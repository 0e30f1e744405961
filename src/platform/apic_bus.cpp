// SPDX-License-Identifier: Apache-2.0
#include "platform/apic_bus.h"

#include "platform/local_apic.h"

namespace gnomon::platform {

bool ApicBus::deliver(const InterruptMessage& message) {
    if (message.mode != DeliveryMode::lowest_priority) {
        bool accepted = false;
        for (LocalApic* apic : m_apics)
            if (apic->is_destination(message.destination, message.logical))
                accepted |= apic->accept(message);
        return accepted;
    }
    LocalApic* chosen = nullptr;
    std::size_t chosen_index = 0;
    for (std::size_t i = 1; i <= m_apics.size(); ++i) {
        const std::size_t index = (m_last_arbitrated + i) % m_apics.size();
        LocalApic* apic = m_apics[index];
        if (!apic->enabled() || !apic->is_destination(message.destination, message.logical))
            continue;
        if (chosen == nullptr || apic->processor_priority() < chosen->processor_priority()) {
            chosen = apic;
            chosen_index = index;
        }
    }
    if (chosen == nullptr) return false;
    m_last_arbitrated = chosen_index;
    return chosen->accept(message);
}

bool ApicBus::deliver_to_all(const InterruptMessage& message, const LocalApic* except) {
    bool accepted = false;
    for (LocalApic* apic : m_apics)
        if (apic != except) accepted |= apic->accept(message);
    return accepted;
}

bool ApicBus::deliver_msi(u64 address, u32 data) {
    if (address >> 20 != 0xfee) return false;
    const auto destination = static_cast<u32>((address >> 12) & 0xff);
    InterruptMessage message;
    message.logical = (address & (1 << 2)) != 0;
    message.destination =
        !message.logical && destination == 0xff ? InterruptMessage::broadcast : destination;
    message.mode = static_cast<DeliveryMode>((data >> 8) & 7);
    message.vector = static_cast<u8>(data);
    message.level_triggered = (data & (1 << 15)) != 0;
    if (message.level_triggered && (data & (1 << 14)) == 0) return false; // deassert
    return deliver(message);
}

void ApicBus::end_of_interrupt(u8 vector) {
    for (ApicBusListener* listener : m_listeners)
        listener->end_of_interrupt(vector);
}

void ApicBus::acceptance_changed() {
    for (ApicBusListener* listener : m_listeners)
        listener->acceptance_changed();
}

} // namespace gnomon::platform
