// SPDX-License-Identifier: Apache-2.0
#include "platform/rtc_mc146818.h"

#include "base/guest_memory.h"
#include "platform/layout.h"

#include <algorithm>
#include <chrono>

namespace gnomon::platform {

namespace {

constexpr TickRate time_base(layout::rtc_hz);
constexpr u64 seconds_per_day = 86'400;
constexpr u8 divider_mask = 0x70, divider_reset = 0x60, rate_mask = 0x0f;
constexpr u8 alarm_any = 0xc0;

/// CMOS cells that firmware fills (IBM AT layout and its common extensions).
enum class Cell : u8 {
    equipment = 0x14,
    base_memory_kb = 0x15,       // 16 bits
    extended_memory_kb = 0x17,   // 16 bits, above 1 MiB
    checksum = 0x2e,             // 16 bits, high byte first, of 0x10-0x2d
    extended_memory_kb_2 = 0x30, // 16 bits, as 0x17
    memory_above_16m = 0x34,     // 16 bits, in 64 KiB
    memory_above_4g = 0x5b,      // 24 bits, in 64 KiB
};

} // namespace

RtcMc146818::RtcMc146818(const Clock& clock, InterruptLine irq8, u64 utc_ns, u64 memory_bytes)
    : m_clock(clock), m_irq8(std::move(irq8)), m_advanced_to(clock.now_ns()) {
    m_utc_offset_ns = utc_ns - m_advanced_to;
    reg(Reg::a) = 0x26;
    reg(Reg::b) = hours24;
    reg(Reg::d) = vrt;
    fill_memory_sizes(memory_bytes);
    store_time(m_advanced_to);
}

void RtcMc146818::fill_memory_sizes(u64 memory_bytes) {
    const auto put = [this](Cell cell, u64 value, unsigned bytes) {
        for (unsigned i = 0; i < bytes; ++i)
            m_memory[static_cast<u8>(cell) + i] = static_cast<u8>(value >> (8 * i));
    };
    const u64 low = std::min(memory_bytes, ram_low_limit), high = memory_bytes - low;
    const u64 above_1m = low > (1 << 20) ? (low - (1 << 20)) >> 10 : 0;
    const u64 above_16m = low > (16 << 20) ? (low - (16 << 20)) >> 16 : 0;
    put(Cell::equipment, 0x02, 1); // a mathematics coprocessor, no floppy drive, no display
    put(Cell::base_memory_kb, 640, 2);
    put(Cell::extended_memory_kb, std::min<u64>(above_1m, 0xffff), 2);
    put(Cell::extended_memory_kb_2, std::min<u64>(above_1m, 0xffff), 2);
    put(Cell::memory_above_16m, std::min<u64>(above_16m, 0xffff), 2);
    put(Cell::memory_above_4g, std::min<u64>(high >> 16, 0xff'ffff), 3);
    unsigned sum = 0;
    for (unsigned i = 0x10; i <= 0x2d; ++i)
        sum += m_memory[i];
    m_memory[static_cast<u8>(Cell::checksum)] = static_cast<u8>(sum >> 8);
    m_memory[static_cast<u8>(Cell::checksum) + 1] = static_cast<u8>(sum);
}

/// The time does not run while SET is set or the divider chain is held in reset.
bool RtcMc146818::stopped() const {
    return (reg(Reg::b) & set) != 0 || (reg(Reg::a) & divider_reset) == divider_reset;
}

/// Period of the periodic interrupt in ticks of the time base, 0 if it is off (data sheet table 3).
u64 RtcMc146818::periodic_ticks() const {
    const unsigned rate = reg(Reg::a) & rate_mask;
    if (rate == 0 || (reg(Reg::a) & divider_reset) == divider_reset) return 0;
    return u64{1} << (rate <= 2 ? rate + 6 : rate - 1);
}

u8 RtcMc146818::encode(unsigned value) const {
    if ((reg(Reg::b) & dm) != 0) return static_cast<u8>(value);
    return static_cast<u8>((value / 10 % 10) << 4 | value % 10);
}

unsigned RtcMc146818::decode(u8 value) const {
    if ((reg(Reg::b) & dm) != 0) return value;
    return (value >> 4) * 10U + (value & 15U);
}

u8 RtcMc146818::encode_hours(unsigned hours) const {
    if ((reg(Reg::b) & hours24) != 0) return encode(hours);
    const u8 value = encode(hours % 12 == 0 ? 12 : hours % 12);
    return hours >= 12 ? static_cast<u8>(value | 0x80) : value;
}

unsigned RtcMc146818::decode_hours(u8 value) const {
    if ((reg(Reg::b) & hours24) != 0) return decode(value);
    return decode(value & 0x7f) % 12 + ((value & 0x80) != 0 ? 12U : 0U);
}

/// Puts the running time into the registers.
void RtcMc146818::store_time(u64 now_ns) {
    using namespace std::chrono;
    const u64 utc = rtc_ns(now_ns) / ns_per_second;
    const u64 second = utc % seconds_per_day;
    const sys_days date{days{static_cast<int>(utc / seconds_per_day)}};
    const year_month_day ymd(date);
    const auto full_year = static_cast<unsigned>(static_cast<int>(ymd.year()));
    reg(Reg::seconds) = encode(static_cast<unsigned>(second % 60));
    reg(Reg::minutes) = encode(static_cast<unsigned>(second / 60 % 60));
    reg(Reg::hours) = encode_hours(static_cast<unsigned>(second / 3600));
    reg(Reg::day_of_week) = encode(weekday(date).c_encoding() + 1);
    reg(Reg::day) = encode(static_cast<unsigned>(ymd.day()));
    reg(Reg::month) = encode(static_cast<unsigned>(ymd.month()));
    reg(Reg::year) = encode(full_year % 100);
    reg(Reg::century) = encode(full_year / 100 % 100);
}

/// Makes the registers the running time. A guest may have stored anything: impossible values are
/// brought to the nearest possible one, and times before 1970 to 1970.
void RtcMc146818::load_time(u64 now_ns, u64 ns_into_second) {
    using namespace std::chrono;
    const unsigned century = std::min(decode(reg(Reg::century)), 99U);
    const unsigned two_digits = std::min(decode(reg(Reg::year)), 99U);
    const year y{static_cast<int>(std::clamp(century * 100 + two_digits, 1970U, 2500U))};
    const month m{std::clamp(decode(reg(Reg::month)), 1U, 12U)};
    const unsigned last = static_cast<unsigned>((y / m / std::chrono::last).day());
    const day d{std::clamp(decode(reg(Reg::day)), 1U, last)};
    const auto day_number = static_cast<u64>(sys_days(y / m / d).time_since_epoch().count());
    const u64 second = std::min(decode_hours(reg(Reg::hours)), 23U) * u64{3600} +
                       std::min(decode(reg(Reg::minutes)), 59U) * u64{60} +
                       std::min(decode(reg(Reg::seconds)), 59U);
    const u64 utc_ns = (day_number * seconds_per_day + second) * ns_per_second + ns_into_second;
    m_utc_offset_ns = utc_ns - now_ns;
}

bool RtcMc146818::alarm_matches(u64 utc_seconds) const {
    const u64 second = utc_seconds % seconds_per_day;
    const auto matches = [](u8 alarm, u8 value) {
        return (alarm & alarm_any) == alarm_any || alarm == value;
    };
    return matches(reg(Reg::seconds_alarm), encode(static_cast<unsigned>(second % 60))) &&
           matches(reg(Reg::minutes_alarm), encode(static_cast<unsigned>(second / 60 % 60))) &&
           matches(reg(Reg::hours_alarm), encode_hours(static_cast<unsigned>(second / 3600)));
}

void RtcMc146818::update_irq() {
    u8& flags = reg(Reg::c);
    const bool asserted = (flags & reg(Reg::b) & (pf | af | uf)) != 0;
    flags = static_cast<u8>(asserted ? flags | irqf : flags & ~irqf);
    m_irq8.set(asserted);
}

void RtcMc146818::advance(u64 now_ns) {
    if (now_ns <= m_advanced_to) return;
    u8& flags = reg(Reg::c);
    if (const u64 period = periodic_ticks();
        period != 0 && time_base.ticks(now_ns) / period != time_base.ticks(m_advanced_to) / period)
        flags |= pf;
    if (!stopped()) {
        const u64 from = rtc_ns(m_advanced_to) / ns_per_second, to = rtc_ns(now_ns) / ns_per_second;
        if (from != to) flags |= uf;
        // Alarms come round every day, so looking at the last day finds whatever there was.
        const u64 first = to - from > seconds_per_day ? to - seconds_per_day : from;
        for (u64 second = first + 1; second <= to && (flags & af) == 0; ++second)
            if (alarm_matches(second)) flags |= af;
    }
    m_advanced_to = now_ns;
    update_irq();
}

std::optional<u64> RtcMc146818::next_deadline_ns() const {
    // A flag that is already set raises nothing new until the guest has read register C.
    const u8 wanted = static_cast<u8>(reg(Reg::b) & ~reg(Reg::c));
    std::optional<u64> deadline;
    if (const u64 period = periodic_ticks(); (wanted & pie) != 0 && period != 0)
        deadline = time_base.ns((time_base.ticks(m_advanced_to) / period + 1) * period);
    if ((wanted & (uie | aie)) != 0 && !stopped()) {
        const u64 into_second = rtc_ns(m_advanced_to) % ns_per_second;
        deadline = earlier(deadline, m_advanced_to + (ns_per_second - into_second));
    }
    return deadline;
}

u8 RtcMc146818::read_register(u8 index) {
    const u64 now = m_clock.now_ns();
    advance(now);
    switch (static_cast<Reg>(index)) {
    case Reg::a: {
        const bool updating =
            !stopped() && rtc_ns(now) % ns_per_second >= ns_per_second - update_ns;
        return static_cast<u8>(reg(Reg::a) | (updating ? uip : 0));
    }
    case Reg::c: {
        const u8 flags = reg(Reg::c);
        reg(Reg::c) = 0;
        update_irq();
        return flags;
    }
    case Reg::seconds:
    case Reg::minutes:
    case Reg::hours:
    case Reg::day_of_week:
    case Reg::day:
    case Reg::month:
    case Reg::year:
    case Reg::century:
        if (!stopped()) store_time(now);
        return m_memory[index];
    default: return m_memory[index];
    }
}

void RtcMc146818::write_register(u8 index, u8 value) {
    const u64 now = m_clock.now_ns();
    advance(now);
    const bool was_stopped = stopped();
    if (!was_stopped) store_time(now); // under the format in force so far
    const bool was_reset = (reg(Reg::a) & divider_reset) == divider_reset;
    switch (static_cast<Reg>(index)) {
    case Reg::a: reg(Reg::a) = value & (divider_mask | rate_mask); break;
    case Reg::b:
        if ((value & set) != 0) value = static_cast<u8>(value & ~uie); // setting SET clears UIE
        reg(Reg::b) = value;
        // The chip does not convert what is stored when DM or 24/12 change; a running time is shown
        // in the new format.
        break;
    case Reg::c:
    case Reg::d: return;
    case Reg::seconds:
    case Reg::minutes:
    case Reg::hours:
    case Reg::day:
    case Reg::month:
    case Reg::year:
    case Reg::century:
        m_memory[index] = value;
        if (!was_stopped) load_time(now, rtc_ns(now) % ns_per_second);
        break;
    default: m_memory[index] = value; break;
    }
    if (was_stopped && !stopped()) {
        // After a divider reset the first update comes half a second later, which is how software
        // sets the clock to a fraction of a second. A clock stopped by SET alone has kept its
        // divider running.
        const u64 fraction = was_reset ? ns_per_second / 2 : rtc_ns(now) % ns_per_second;
        load_time(now, fraction);
    }
    update_irq();
}

u8 RtcMc146818::read_byte(u64 offset) {
    return static_cast<Port>(offset & 1) == Port::data ? read_register(m_index) : u8{0xff};
}

void RtcMc146818::write_byte(u64 offset, u8 value) {
    if (static_cast<Port>(offset & 1) == Port::index)
        m_index = value & 0x7f;
    else
        write_register(m_index, value);
}

} // namespace gnomon::platform
