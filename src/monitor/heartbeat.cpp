// SPDX-License-Identifier: Apache-2.0
#include "monitor/heartbeat.h"

#include "platform/tick_rate.h"

#include <algorithm>

namespace gnomon::monitor {

Heartbeat::Heartbeat(u64 tsc_hz)
    : m_spacing(platform::TickRate(tsc_hz).ticks(interval_ns / 2)),
      m_shortest(platform::TickRate(tsc_hz).ticks(3 * interval_ns)) {}

void Heartbeat::beat(u64 tsc) {
    if (tsc - m_last < m_spacing) return;
    m_last = tsc;
    m_beats[m_next++ % kept].store(tsc, std::memory_order_relaxed);
}

std::optional<u64> Heartbeat::stopped_since(u64 now) {
    // By value, so that a beat which is just being stored does no harm.
    std::array<u64, kept + 1> times{};
    for (std::size_t i = 0; i < kept; ++i)
        times[i] = m_beats[i].load(std::memory_order_relaxed);
    times[kept] = now;
    std::sort(times.begin(), times.end());
    u64 begin = 0, longest = 0;
    for (std::size_t i = 1; i < times.size() && times[i] <= now; ++i) {
        if (times[i - 1] == 0) continue;
        const u64 from = std::max(times[i - 1], m_accounted);
        if (times[i] > from && times[i] - from > longest) {
            longest = times[i] - from;
            begin = from;
        }
    }
    m_accounted = now;
    if (longest < m_shortest) return std::nullopt;
    return begin;
}

} // namespace gnomon::monitor
