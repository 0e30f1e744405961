// SPDX-License-Identifier: Apache-2.0
/// @file Acceptance, priority and sending of interrupts, and the timer of the local APIC.
#include "platform/local_apic.h"

namespace gnomon::platform {

namespace {

constexpr u8 first_legal_vector = 16;

constexpr u8 priority_class(u8 vector) { return vector & 0xf0; }
constexpr DeliveryMode delivery_mode(u32 word) {
    return static_cast<DeliveryMode>((word >> 8) & 7);
}

} // namespace

// --- priority and acknowledgement (SDM section 10.8.3) ---

u8 LocalApic::processor_priority() const {
    const u8 in_service = m_isr.highest().value_or(0);
    return priority_class(m_tpr) >= priority_class(in_service) ? m_tpr : priority_class(in_service);
}

std::optional<u8> LocalApic::deliverable() const {
    if (!hardware_enabled()) return std::nullopt;
    const std::optional<u8> requested = m_irr.highest();
    if (!requested || priority_class(*requested) <= priority_class(processor_priority()))
        return std::nullopt;
    return requested;
}

std::optional<u8> LocalApic::acknowledge() {
    const std::optional<u8> vector = deliverable();
    if (!vector) return std::nullopt;
    m_irr.clear(*vector);
    m_isr.set(*vector);
    return vector;
}

void LocalApic::end_of_interrupt() {
    const std::optional<u8> vector = m_isr.highest();
    if (!vector) return;
    m_isr.clear(*vector);
    if (!m_tmr.test(*vector)) return;
    m_bus.end_of_interrupt(*vector);
    for (const unsigned index : {lint0, lint1}) {
        u32& entry = m_lvt[index];
        if ((entry & lvt_remote_irr) == 0 || static_cast<u8>(entry) != *vector) continue;
        entry &= ~lvt_remote_irr;
        if (m_lint[index - lint0]) raise_local(index);
    }
}

// --- acceptance ---

void LocalApic::report_error(u32 bit) {
    m_esr_pending |= bit;
    const u32 entry = m_lvt[error];
    if ((entry & lvt_masked) != 0) return;
    const u8 vector = static_cast<u8>(entry);
    // An illegal vector here is an error in itself, which must not be reported the same way again.
    if (vector < first_legal_vector)
        m_esr_pending |= Esr::receive_illegal_vector;
    else
        accept_vector(vector, false);
}

bool LocalApic::accept_vector(u8 vector, bool level) {
    if (!enabled()) return false;
    if (vector < first_legal_vector) {
        report_error(Esr::receive_illegal_vector);
        return false;
    }
    m_irr.set(vector);
    m_tmr.set(vector, level);
    return true;
}

bool LocalApic::accept(const InterruptMessage& message) {
    if (!hardware_enabled()) return false;
    switch (message.mode) {
    case DeliveryMode::fixed:
    case DeliveryMode::lowest_priority:
        return accept_vector(message.vector, message.level_triggered);
    case DeliveryMode::smi: return true;
    case DeliveryMode::nmi: m_nmi = true; return true;
    case DeliveryMode::init:
        m_init = true;
        m_start_up.reset();
        return true;
    case DeliveryMode::start_up:
        // Ignored by a processor that runs; one that is about to take an INIT will wait.
        if (!m_waiting_for_start_up && !(m_init && (m_base & base_bsp) == 0)) return false;
        m_start_up = message.vector;
        return true;
    case DeliveryMode::reserved:
    case DeliveryMode::external: return false;
    }
    return false;
}

/// SDM section 10.6.2.
bool LocalApic::is_destination(u32 destination, bool logical) const {
    if (!hardware_enabled()) return false;
    if (!logical) {
        if (destination == InterruptMessage::broadcast) return true;
        return destination == (x2apic_mode() ? m_options.id : m_options.id & 0xff);
    }
    if (x2apic_mode()) {
        if (destination == InterruptMessage::broadcast) return true;
        return destination >> 16 == m_ldr >> 16 && (destination & m_ldr & 0xffff) != 0;
    }
    const u32 own = m_ldr >> 24;
    if (destination == InterruptMessage::broadcast) return true;
    if (destination > 0xff) return false;
    if (m_dfr >> 28 == 0xf) return (destination & own) != 0; // flat
    if (m_dfr >> 28 != 0) return false;
    if (destination == 0xff) return true; // cluster
    return destination >> 4 == own >> 4 && (destination & own & 0xf) != 0;
}

// --- local interrupts ---

void LocalApic::raise_local(unsigned index) {
    u32& entry = m_lvt[index];
    if ((entry & lvt_masked) != 0) return;
    const bool pin = index == lint0 || index == lint1;
    // The timer's and the error entry have no delivery mode.
    const DeliveryMode mode =
        index == timer || index == error ? DeliveryMode::fixed : delivery_mode(entry);
    switch (mode) {
    case DeliveryMode::fixed: {
        const bool level = pin && (entry & lvt_level) != 0;
        if (level && (entry & lvt_remote_irr) != 0) return;
        if (accept_vector(static_cast<u8>(entry), level) && level) entry |= lvt_remote_irr;
        break;
    }
    case DeliveryMode::nmi: m_nmi = true; break;
    case DeliveryMode::init:
        m_init = true;
        m_start_up.reset();
        break;
    default: break; // SMI; ExtINT is a wire, see passes_external_interrupts
    }
}

bool LocalApic::passes_external_interrupts() const {
    if (!enabled()) return true;
    const u32 entry = m_lvt[lint0];
    return (entry & lvt_masked) == 0 && delivery_mode(entry) == DeliveryMode::external;
}

void LocalApic::set_lint(unsigned pin, bool asserted) {
    if (pin > 1 || m_lint[pin] == asserted) return;
    m_lint[pin] = asserted;
    if (!asserted) return;
    if (!hardware_enabled()) { // LINT1 is the NMI pin, LINT0 the INTR pin, which is looked at
                               // elsewhere
        if (pin == 1) m_nmi = true;
        return;
    }
    raise_local(pin == 0 ? lint0 : lint1);
}

// --- interprocessor interrupts (SDM section 10.6.1) ---

void LocalApic::send_ipi() {
    const u8 vector = static_cast<u8>(m_icr_low);
    const DeliveryMode mode = delivery_mode(m_icr_low);
    const bool level = (m_icr_low & (1 << 15)) != 0, assert_ = (m_icr_low & (1 << 14)) != 0;
    const unsigned shorthand = (m_icr_low >> 18) & 3;

    if (mode == DeliveryMode::init && level && !assert_) return; // INIT level de-assert
    const bool vectored = mode == DeliveryMode::fixed || mode == DeliveryMode::lowest_priority;
    if (vectored && vector < first_legal_vector) return report_error(Esr::send_illegal_vector);

    InterruptMessage message;
    message.mode = mode;
    message.vector = vector;
    message.logical = (m_icr_low & (1 << 11)) != 0;
    switch (shorthand) {
    case 0:
        message.destination = x2apic_mode() ? m_icr_high : m_icr_high >> 24;
        if (!x2apic_mode() && !message.logical && message.destination == 0xff)
            message.destination = InterruptMessage::broadcast;
        m_bus.deliver(message);
        break;
    case 1: // self: neither INIT nor start-up
        if (vectored || mode == DeliveryMode::nmi) accept(message);
        break;
    case 2: // all including self
        if (vectored || mode == DeliveryMode::nmi) m_bus.deliver_to_all(message, nullptr);
        break;
    default: // all excluding self
        m_bus.deliver_to_all(message, this);
        break;
    }
}

// --- timer (SDM section 10.5.4) ---

u64 LocalApic::timer_divisor() const {
    const unsigned code = (m_timer_divide & 3) | (m_timer_divide >> 1 & 4);
    return code == 7 ? 1 : u64{2} << code;
}

u32 LocalApic::timer_current() const {
    if (!m_timer_expiry) return 0;
    const u64 now = timer_ticks(), divisor = timer_divisor();
    if (*m_timer_expiry <= now) return 0;
    // Not yet divided down to 0 means at least 1.
    return static_cast<u32>((*m_timer_expiry - now + divisor - 1) / divisor);
}

void LocalApic::write_divide(u32 value) {
    advance(m_clock.now_ns());
    const u64 remaining = timer_current();
    m_timer_divide = value & 0xb;
    if (m_timer_expiry) start_timer(remaining * timer_divisor());
}

std::optional<u64> LocalApic::next_deadline_ns() const {
    if ((m_lvt[timer] & lvt_masked) != 0) return std::nullopt;
    if (timer_mode() == TimerMode::tsc_deadline) {
        if (m_tsc_deadline == 0) return std::nullopt;
        // Looked at once: the deadline may come while this runs.
        const u64 now = m_clock.tsc();
        if (m_tsc_deadline <= now + m_tsc_adjust) return m_clock.now_ns();
        // From the deadline itself where it has a place on the clock, so that the answer does not
        // wander.
        const u64 machine_tsc = m_tsc_deadline - m_tsc_adjust;
        if (machine_tsc >= now) return TickRate(m_clock.tsc_hz()).ns(machine_tsc);
        return ~u64{0};
    }
    if (!m_timer_expiry) return std::nullopt;
    const u64 ns = m_timer_rate.ns(*m_timer_expiry);
    if (timer_mode() != TimerMode::periodic) return ns;
    return std::max(ns, m_timer_fired_ns + minimum_period_ns);
}

void LocalApic::advance(u64 now_ns) {
    if (timer_mode() == TimerMode::tsc_deadline) {
        if (m_tsc_deadline == 0 || m_clock.tsc() + m_tsc_adjust < m_tsc_deadline) return;
        m_tsc_deadline = 0;
        raise_local(timer);
        return;
    }
    const u64 now = m_timer_rate.ticks(now_ns);
    if (!m_timer_expiry || now < *m_timer_expiry) return;
    const u64 period = timer_period();
    if (timer_mode() == TimerMode::periodic && period != 0) {
        // Periods that nobody looked at are merged into one interrupt.
        m_timer_expiry = *m_timer_expiry + ((now - *m_timer_expiry) / period + 1) * period;
    } else {
        m_timer_expiry.reset();
    }
    m_timer_fired_ns = now_ns;
    raise_local(timer);
}

} // namespace gnomon::platform
