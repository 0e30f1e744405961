// SPDX-License-Identifier: Apache-2.0
/// @file How long a virtual CPU has run: GuestView::run_ns.
#pragma once

#include "base/host_time.h"
#include "platform/clock.h"

#include <algorithm>
#include <functional>

namespace gnomon::monitor {

/// Reading the CPU time of a thread is a system call, of half a microsecond where it was measured,
/// so that readings are kept for a while. Threads: the virtual CPU's.
class RunClock {
public:
    static constexpr u64 kept_ns = 1'000'000;

    /// @param clock the virtual clock; outlives it. @param cpu_time CPU time of the virtual CPU's
    /// thread in ns.
    RunClock(const platform::Clock& clock, std::function<u64()> cpu_time)
        : m_clock(clock), m_cpu_time(std::move(cpu_time)) {}

    /// The CPU was halted, and the thread slept, for so long of the virtual clock.
    void slept(u64 ns) { m_slept_ns += ns; }

    [[nodiscard]] u64 run_ns() {
        const u64 now = m_clock.now_ns(), busy = m_cpu_time() + m_slept_ns;
        if (m_read) // going to sleep and waking up costs some CPU time, which would count twice
            m_run_ns += std::min(busy - m_busy_ns, now - m_now_ns);
        m_read = true;
        m_busy_ns = busy;
        m_now_ns = now;
        return m_run_ns;
    }
    [[nodiscard]] u64 bound_ns() {
        const u64 now = m_clock.now_ns();
        return !m_read || now - m_now_ns > kept_ns ? run_ns() : m_run_ns + (now - m_now_ns);
    }

private:
    const platform::Clock& m_clock;
    std::function<u64()> m_cpu_time;
    u64 m_slept_ns = 0;
    bool m_read = false;
    u64 m_now_ns = 0, m_busy_ns = 0, m_run_ns = 0; ///< at the last reading
};

} // namespace gnomon::monitor
