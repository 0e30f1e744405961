// SPDX-License-Identifier: Apache-2.0
/// @file When the process last ran, for the moment in which it finds that it has been stopped.
///
/// SIGSTOP cannot be caught, and nobody tells a process how long it stood still. So a thread notes
/// the time while the process runs; a gap between its notes that ends with a SIGCONT is the stop.
#pragma once

#include "base/types.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <optional>

namespace gnomon::monitor {

/// Times are readings of the host's TSC.
class Heartbeat {
public:
    /// How often to call `beat`, in ns. Stops shorter than three of these are not told from the
    /// scheduler's delays.
    static constexpr u64 interval_ns = 50'000'000;

    /// @param tsc_hz the host's TSC frequency.
    explicit Heartbeat(u64 tsc_hz);

    /// The process runs now. One thread; calling it more often than needed does nothing.
    void beat(u64 tsc);

    /// To be called once for each SIGCONT, on the thread that takes it: since when the process did
    /// not run, if it was stopped. Counts no time twice. A beat may already have come after the
    /// stop. Async-signal-safe.
    [[nodiscard]] std::optional<u64> stopped_since(u64 now);

private:
    static constexpr std::size_t kept = 16;
    u64 m_spacing;  ///< of the beats that are kept
    u64 m_shortest; ///< stop
    u64 m_last = 0; ///< of the beating thread
    std::size_t m_next = 0;
    std::array<std::atomic<u64>, kept> m_beats{}; ///< in any order; 0: none yet
    u64 m_accounted = 0; ///< of the thread that asks: what was before this has been asked for
};

} // namespace gnomon::monitor
