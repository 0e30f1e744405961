// SPDX-License-Identifier: Apache-2.0
/// @file The bus between local APICs, I/O APICs and devices that send messages.
///
/// Intel SDM vol. 3A sections 10.6 (IPIs) and 10.11 (message signalled interrupts).
#pragma once

#include "base/types.h"

#include <vector>

namespace gnomon::platform {

class LocalApic;

enum class DeliveryMode : u8 {
    fixed = 0,
    lowest_priority = 1,
    smi = 2,      ///< accepted and dropped: there is no system management mode
    reserved = 3, ///< dropped
    nmi = 4,
    init = 5,
    start_up = 6,
    external = 7, ///< ExtINT: never a message here, see IoApic::routes_external_interrupt
};

struct InterruptMessage {
    /// Physical destination that means every processor, in whatever width the sender has.
    static constexpr u32 broadcast = 0xffff'ffff;

    u32 destination = 0;
    bool logical = false;
    DeliveryMode mode = DeliveryMode::fixed;
    u8 vector = 0;
    bool level_triggered = false;
};

/// Something other than a processor that sends interrupts and wants to know when to send again.
class ApicBusListener {
public:
    ApicBusListener() = default;
    ApicBusListener(const ApicBusListener&) = delete;
    ApicBusListener& operator=(const ApicBusListener&) = delete;
    virtual ~ApicBusListener() = default;
    /// A processor has finished a level-triggered interrupt.
    virtual void end_of_interrupt(u8 vector) = 0;
    /// A processor that accepted nothing may now accept.
    virtual void acceptance_changed() = 0;
};

/// Not thread-safe. What is attached must outlive the bus or never be called through it again.
class ApicBus {
public:
    void attach(LocalApic& apic) { m_apics.push_back(&apic); }
    void attach(ApicBusListener& listener) { m_listeners.push_back(&listener); }

    /// Whether any processor accepted.
    bool deliver(const InterruptMessage& message);
    /// To all processors but `except`, which may be null.
    bool deliver_to_all(const InterruptMessage& message, const LocalApic* except);
    /// A device writes `data` to `address` in 0xfee00000-0xfeefffff; other addresses are ignored.
    bool deliver_msi(u64 address, u32 data);

    void end_of_interrupt(u8 vector);
    void acceptance_changed();

private:
    std::vector<LocalApic*> m_apics;
    std::vector<ApicBusListener*> m_listeners;
    std::size_t m_last_arbitrated = 0; ///< lowest priority: ties go round
};

} // namespace gnomon::platform
