// SPDX-License-Identifier: Apache-2.0
/// @file Registers, MSRs and modes of the local APIC. Interrupts are in local_apic_interrupts.cpp.
#include "platform/local_apic.h"

#include <utility>

namespace gnomon::platform {

namespace {

constexpr u32 version = 0x0005'0014; // six LVT entries, integrated APIC

constexpr unsigned number(LocalApic::Reg reg) { return static_cast<unsigned>(reg); }

/// Bits that software may set, by register; reserved elsewhere (SDM figures 10-7 to 10-12).
constexpr std::array<u32, 6> lvt_writable = {
    0x000700ff, // timer: vector, mask, mode
    0x000107ff, // thermal: vector, delivery mode, mask
    0x000107ff, // performance counters
    0x0001a7ff, // LINT0: also polarity and trigger mode
    0x0001a7ff, // LINT1
    0x000100ff, // error: vector, mask
};
constexpr u32 lvt_read_only = 1 << 12, lint_read_only = lvt_read_only | 1 << 14;
constexpr u32 icr_low_writable = 0x000c'cfff, divide_writable = 0xb;

} // namespace

LocalApic::LocalApic(const LocalApicOptions& options, const Clock& clock, ApicBus& bus)
    : m_options(options), m_clock(clock), m_bus(bus), m_timer_rate(options.timer_hz) {
    m_base = layout::local_apic_base | base_enable | (options.bootstrap ? base_bsp : 0);
    m_waiting_for_start_up = !options.bootstrap;
    reset_registers();
}

/// Everything but the ID, IA32_APIC_BASE and the levels of the pins (SDM sections 10.4.7.1
/// and 10.4.7.3).
void LocalApic::reset_registers() {
    m_tpr = 0;
    m_ldr = 0;
    m_dfr = ~u32{0};
    m_svr = 0xff;
    m_isr.clear_all();
    m_tmr.clear_all();
    m_irr.clear_all();
    m_esr = m_esr_pending = 0;
    m_icr_low = m_icr_high = 0;
    m_lvt.fill(lvt_masked);
    m_timer_initial = m_timer_divide = 0;
    m_timer_expiry.reset();
    m_timer_fired_ns = 0;
    m_tsc_deadline = 0;
}

bool LocalApic::take_init() {
    if (!std::exchange(m_init, false)) return false;
    reset_registers();
    m_waiting_for_start_up = (m_base & base_bsp) == 0;
    return true;
}

std::optional<u8> LocalApic::take_start_up() {
    if (m_init || !m_waiting_for_start_up || !m_start_up) return std::nullopt;
    m_waiting_for_start_up = false;
    return std::exchange(m_start_up, std::nullopt);
}

std::optional<Gpa> LocalApic::page() const {
    if (!hardware_enabled() || x2apic_mode()) return std::nullopt;
    return Gpa(m_base & ~page_offset_mask);
}

// --- the register page ---

u64 LocalApic::read(u64 offset, unsigned size) {
    u64 value = 0;
    std::optional<u32> word;
    u64 word_at = ~u64{0};
    for (unsigned i = 0; i < size && i < 8; ++i) {
        const u64 at = offset + i, reg = at >> 4;
        if ((at & 15) >= 4 || at >= layout::local_apic_size) continue;
        if (reg != word_at) { // each register once, since reading may report an error
            word = reg < 0x40 && reg != number(Reg::self_ipi)
                       ? read_register(static_cast<unsigned>(reg))
                       : std::nullopt;
            word_at = reg;
            if (!word) report_error(Esr::illegal_register);
        }
        value |= u64{(word.value_or(0) >> (8 * (at & 3))) & 0xff} << (8 * i);
    }
    return value;
}

void LocalApic::write(u64 offset, unsigned size, u64 value) {
    if ((offset & 15) != 0 || size < 4) return;
    const u64 reg = offset >> 4;
    if (reg >= 0x40 || reg == number(Reg::self_ipi) ||
        !write_register(static_cast<unsigned>(reg), static_cast<u32>(value)))
        report_error(Esr::illegal_register);
}

// --- MSRs ---

bool LocalApic::owns_msr(u32 index) {
    return index == static_cast<u32>(Msr::apic_base) ||
           index == static_cast<u32>(Msr::tsc_deadline) ||
           (index >= static_cast<u32>(Msr::x2apic_first) &&
            index <= static_cast<u32>(Msr::x2apic_last));
}

bool LocalApic::read_msr(u32 index, u64& value) {
    if (index == static_cast<u32>(Msr::apic_base)) {
        value = m_base;
        return true;
    }
    if (index == static_cast<u32>(Msr::tsc_deadline)) {
        advance(m_clock.now_ns());
        value = timer_mode() == TimerMode::tsc_deadline ? m_tsc_deadline : 0;
        return true;
    }
    const u32 reg = index - static_cast<u32>(Msr::x2apic_first);
    if (!owns_msr(index) || !x2apic_mode() || reg >= 0x40) return false;
    switch (static_cast<Reg>(reg)) {
    case Reg::apr:
    case Reg::eoi: // write-only
    case Reg::rrd:
    case Reg::dfr:
    case Reg::icr_high:
    case Reg::self_ipi: return false;
    case Reg::icr_low: value = m_icr_low | u64{m_icr_high} << 32; return true;
    default: break;
    }
    const std::optional<u32> word = read_register(reg);
    if (!word) return false;
    value = *word;
    return true;
}

/// Whether `value` has only bits that the register has (SDM section 10.12.1.3: others give #GP).
bool LocalApic::x2apic_value_valid(unsigned reg, u64 value) const {
    const auto within = [value](u64 allowed) { return (value & ~allowed) == 0; };
    switch (static_cast<Reg>(reg)) {
    case Reg::tpr:
    case Reg::self_ipi: return within(0xff);
    case Reg::eoi:
    case Reg::esr: return value == 0;
    case Reg::svr: return within(svr_mask);
    case Reg::icr_low: return within(u64{0xffff'ffff} << 32 | icr_low_writable);
    case Reg::lvt_timer: return within(lvt_writable[timer] | lvt_read_only);
    case Reg::lvt_thermal: return within(lvt_writable[thermal] | lvt_read_only);
    case Reg::lvt_performance: return within(lvt_writable[performance] | lvt_read_only);
    case Reg::lvt_lint0: return within(lvt_writable[lint0] | lint_read_only);
    case Reg::lvt_lint1: return within(lvt_writable[lint1] | lint_read_only);
    case Reg::lvt_error: return within(lvt_writable[error] | lvt_read_only);
    case Reg::timer_initial: return within(0xffff'ffff);
    case Reg::timer_divide: return within(divide_writable);
    default: return false; // read-only or not there
    }
}

bool LocalApic::write_msr(u32 index, u64 value) {
    if (index == static_cast<u32>(Msr::apic_base)) return write_base(value);
    if (index == static_cast<u32>(Msr::tsc_deadline)) {
        advance(m_clock.now_ns());
        if (timer_mode() == TimerMode::tsc_deadline) m_tsc_deadline = value;
        return true;
    }
    const u32 reg = index - static_cast<u32>(Msr::x2apic_first);
    if (!owns_msr(index) || !x2apic_mode() || !x2apic_value_valid(reg, value)) return false;
    if (static_cast<Reg>(reg) == Reg::icr_low) m_icr_high = static_cast<u32>(value >> 32);
    if (static_cast<Reg>(reg) == Reg::self_ipi) {
        m_icr_low = static_cast<u32>(value) | 1 << 18; // as an IPI to self through the ICR
        send_ipi();
        return true;
    }
    return write_register(reg, static_cast<u32>(value));
}

/// SDM figure 10-27: disabled -> xAPIC -> x2APIC -> disabled, xAPIC -> disabled, and nothing else.
bool LocalApic::write_base(u64 value) {
    const u64 address = ((u64{1} << m_options.physical_bits) - 1) & ~page_offset_mask;
    if ((value & ~(address | base_bsp | base_extd | base_enable)) != 0) return false;
    if ((value & base_extd) != 0 && !m_options.x2apic) return false;
    const auto mode = [](u64 base) { return base & (base_extd | base_enable); };
    const u64 from = mode(m_base), to = mode(value);
    if (to == base_extd) return false;
    if (from == (base_extd | base_enable) && to == base_enable) return false;
    if (from == 0 && to == (base_extd | base_enable)) return false;
    m_base = value;
    if (from == to) return true;
    if (to == 0) reset_registers();
    if ((to & base_extd) != 0) m_ldr = (m_options.id >> 4) << 16 | u32{1} << (m_options.id & 15);
    m_bus.acceptance_changed();
    return true;
}

// --- registers ---

std::optional<u32> LocalApic::read_register(unsigned reg) {
    if (reg >= number(Reg::isr0) && reg < number(Reg::isr0) + 8) return m_isr.word32(reg & 7);
    if (reg >= number(Reg::tmr0) && reg < number(Reg::tmr0) + 8) return m_tmr.word32(reg & 7);
    if (reg >= number(Reg::irr0) && reg < number(Reg::irr0) + 8) return m_irr.word32(reg & 7);
    switch (static_cast<Reg>(reg)) {
    case Reg::id: return x2apic_mode() ? m_options.id : m_options.id << 24;
    case Reg::version: return version;
    case Reg::tpr: return m_tpr;
    case Reg::apr:
    case Reg::eoi:
    case Reg::rrd: return 0;
    case Reg::ppr: return processor_priority();
    case Reg::ldr: return m_ldr;
    case Reg::dfr: return m_dfr;
    case Reg::svr: return m_svr;
    case Reg::esr: return m_esr;
    case Reg::icr_low: return m_icr_low;
    case Reg::icr_high: return m_icr_high;
    case Reg::lvt_timer:
    case Reg::lvt_thermal:
    case Reg::lvt_performance:
    case Reg::lvt_lint0:
    case Reg::lvt_lint1:
    case Reg::lvt_error: return m_lvt[reg - number(Reg::lvt_timer)];
    case Reg::timer_initial: return m_timer_initial;
    case Reg::timer_current: advance(m_clock.now_ns()); return timer_current();
    case Reg::timer_divide: return m_timer_divide;
    default: return std::nullopt;
    }
}

bool LocalApic::write_register(unsigned reg, u32 value) {
    switch (static_cast<Reg>(reg)) {
    case Reg::id: // read-only in this generation, and no error
    case Reg::version:
    case Reg::apr:
    case Reg::ppr:
    case Reg::rrd:
    case Reg::timer_current: return !x2apic_mode();
    case Reg::tpr: m_tpr = static_cast<u8>(value); return true;
    case Reg::eoi: end_of_interrupt(); return true;
    case Reg::ldr: m_ldr = value & 0xff00'0000; return true;
    case Reg::dfr: m_dfr = value | 0x0fff'ffff; return true;
    case Reg::svr: write_svr(value); return true;
    case Reg::esr: m_esr = std::exchange(m_esr_pending, 0); return true;
    case Reg::icr_low:
        m_icr_low = value & icr_low_writable;
        send_ipi();
        return true;
    case Reg::icr_high: m_icr_high = value & 0xff00'0000; return true;
    case Reg::lvt_timer:
    case Reg::lvt_thermal:
    case Reg::lvt_performance:
    case Reg::lvt_lint0:
    case Reg::lvt_lint1:
    case Reg::lvt_error: write_lvt(reg - number(Reg::lvt_timer), value); return true;
    case Reg::timer_initial:
        advance(m_clock.now_ns());
        if (timer_mode() == TimerMode::tsc_deadline) return true; // ignored
        m_timer_initial = value;
        m_timer_expiry.reset();
        if (value != 0) start_timer(timer_period());
        return true;
    case Reg::timer_divide: write_divide(value); return true;
    default: return reg >= number(Reg::isr0) && reg < number(Reg::irr0) + 8; // read-only
    }
}

void LocalApic::write_svr(u32 value) {
    m_svr = value & svr_mask;
    if ((m_svr & svr_enable) == 0) {
        advance(m_clock.now_ns());
        for (u32& entry : m_lvt)
            entry |= lvt_masked;
    } else {
        m_bus.acceptance_changed();
    }
}

void LocalApic::write_lvt(unsigned index, u32 value) {
    advance(m_clock.now_ns()); // a timer that has run out did so under the old entry
    const TimerMode before = timer_mode();
    u32 entry = value & lvt_writable[index];
    if ((m_svr & svr_enable) == 0) entry |= lvt_masked;
    // Remote IRR lasts until EOI, but means nothing to an edge-triggered entry.
    if ((entry & lvt_level) != 0) entry |= m_lvt[index] & lvt_remote_irr;
    m_lvt[index] = entry;
    if (index == timer) {
        const TimerMode after = timer_mode();
        if (before == after) return;
        // Entering or leaving TSC-deadline mode disarms the timer (SDM section 10.5.4.1).
        if (before == TimerMode::tsc_deadline || after == TimerMode::tsc_deadline) {
            m_tsc_deadline = 0;
            m_timer_initial = 0;
            m_timer_expiry.reset();
        }
        if (after == TimerMode::reserved) m_timer_expiry.reset();
    } else if (index == lint0 || index == lint1) {
        const unsigned pin = index - lint0;
        if (m_lint[pin] && (entry & lvt_level) != 0) raise_local(index);
    }
}

} // namespace gnomon::platform
