// SPDX-License-Identifier: Apache-2.0
/// @file Where a thread's time goes: from `start` on, every moment belongs to exactly one activity.
#pragma once

#include "base/host_time.h"
#include "base/types.h"

#include <algorithm>
#include <array>
#include <utility>

namespace gnomon {

/// Books time by the host's TSC, which costs some ten nanoseconds a change of activity. Activities
/// are numbers below `activities`; each layer names its own (processor/activity.h,
/// monitor/activity.h). One thread.
class TimeAccount {
public:
    static constexpr unsigned activities = 32;

    /// From now on time is booked, to `activity`. Not called twice.
    void start(unsigned activity) {
        m_ticks = {}; // of changes before
        m_start_ns = monotonic_ns();
        m_start_ticks = m_since = read_tsc();
        m_current = activity;
        m_started = true;
    }
    [[nodiscard]] bool started() const { return m_started; }
    /// CLOCK_MONOTONIC at `start`.
    [[nodiscard]] u64 start_ns() const { return m_start_ns; }

    /// From now on time is booked to `activity`; without effect before `start`. @return what it was
    /// booked to before.
    unsigned change(unsigned activity) {
        const u64 now = std::max(read_tsc(), m_since); // never back, whatever core this is
        m_ticks[m_current] += now - m_since;
        m_since = now;
        return std::exchange(m_current, activity);
    }
    /// TSC at the last change.
    [[nodiscard]] u64 changed_at() const { return m_since; }

    /// Up to the last change, in ticks of the TSC.
    [[nodiscard]] u64 ticks(unsigned activity) const { return m_ticks[activity]; }
    /// The factor from ticks to nanoseconds, as this run has shown it so far; 0 before `start`.
    [[nodiscard]] double ns_per_tick() const {
        const u64 ticks = read_tsc() - m_start_ticks;
        if (!m_started || ticks == 0) return 0;
        return static_cast<double>(monotonic_ns() - m_start_ns) / static_cast<double>(ticks);
    }

private:
    std::array<u64, activities> m_ticks{};
    u64 m_since = 0, m_start_ticks = 0, m_start_ns = 0;
    unsigned m_current = 0;
    bool m_started = false;
};

/// Books the time of a scope. Without an account it does nothing.
class TimedScope {
public:
    TimedScope(TimeAccount* account, unsigned activity)
        : m_account(account), m_before(account != nullptr ? account->change(activity) : 0) {}
    TimedScope(const TimedScope&) = delete;
    TimedScope& operator=(const TimedScope&) = delete;
    ~TimedScope() {
        if (m_account != nullptr) m_account->change(m_before);
    }

private:
    TimeAccount* m_account;
    unsigned m_before;
};

} // namespace gnomon
