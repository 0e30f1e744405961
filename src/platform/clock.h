// SPDX-License-Identifier: Apache-2.0
/// @file The one virtual clock of a machine, from which TSC, APIC timer, PIT, PM timer and RTC all
/// derive.
#pragma once

#include "platform/tick_rate.h"

namespace gnomon::platform {

/// Virtual time since the machine started. Monotonic; stands still while the machine is paused.
/// `tsc` and `now_ns` show the same instant: now_ns is floor(tsc * 10^9 / tsc_hz) within one tick.
class Clock {
public:
    Clock() = default;
    Clock(const Clock&) = delete;
    Clock& operator=(const Clock&) = delete;
    virtual ~Clock() = default;

    [[nodiscard]] virtual u64 now_ns() const = 0;
    /// The time-stamp counter as RDTSC shows it to a guest that has not adjusted it.
    [[nodiscard]] virtual u64 tsc() const = 0;
    [[nodiscard]] virtual u64 tsc_hz() const = 0;
};

/// A clock that moves only when it is told to: for tests and for replay.
class ManualClock final : public Clock {
public:
    explicit ManualClock(u64 tsc_hz = 2'000'000'000) : m_rate(tsc_hz) {}

    [[nodiscard]] u64 now_ns() const override { return m_now_ns; }
    [[nodiscard]] u64 tsc() const override { return m_rate.ticks(m_now_ns); }
    [[nodiscard]] u64 tsc_hz() const override { return m_rate.hz(); }

    void advance(u64 ns) { m_now_ns += ns; }
    /// Moves to `ns`, never backwards.
    void advance_to(u64 ns) {
        if (ns > m_now_ns) m_now_ns = ns;
    }

private:
    TickRate m_rate;
    u64 m_now_ns = 0;
};

} // namespace gnomon::platform
