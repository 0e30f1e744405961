// SPDX-License-Identifier: Apache-2.0
/// @file Exact conversion between virtual nanoseconds and the ticks of a fixed frequency.
#pragma once

#include "base/types.h"

namespace gnomon::platform {

inline constexpr u64 ns_per_second = 1'000'000'000;

/// A frequency. The conversions never lose time: `ticks` rounds down, `ns` rounds up, so that
/// `ticks(ns(t)) >= t` and a timer that waits until `ns(t)` finds tick t reached; time that has
/// passed is `passed_ns`, which rounds down. Results that do not fit saturate at 2^64-1, which as a
/// deadline means never (584 years).
class TickRate {
public:
    /// @param hz at least 1 (0 is taken as 1).
    constexpr explicit TickRate(u64 hz)
        : m_hz(hz == 0 ? 1 : hz), m_whole_ns(ns_per_second / m_hz),
          m_part_ns(static_cast<u64>((Wide{ns_per_second % m_hz} << 64) / m_hz)) {}

    [[nodiscard]] constexpr u64 hz() const { return m_hz; }
    /// The number of whole ticks in `ns` nanoseconds.
    [[nodiscard]] constexpr u64 ticks(u64 ns) const {
        return saturate(Wide{ns} * m_hz / ns_per_second);
    }
    /// The first nanosecond at which `ticks` ticks have passed.
    [[nodiscard]] constexpr u64 ns(u64 ticks) const {
        return saturate((Wide{ticks} * ns_per_second + (m_hz - 1)) / m_hz);
    }
    /// The number of whole nanoseconds in `ticks` ticks.
    [[nodiscard]] constexpr u64 passed_ns(u64 ticks) const {
        // A division of 128 bits costs more than all else of reading a clock. With the period
        // rounded down to 2^-64 ns the result is less than one too small.
        const Wide about = Wide{ticks} * m_whole_ns + (Wide{ticks} * m_part_ns >> 64);
        const Wide left = Wide{ticks} * ns_per_second - about * m_hz;
        return saturate(about + (left >= m_hz ? 1 : 0));
    }

private:
    using Wide = unsigned __int128;
    [[nodiscard]] static constexpr u64 saturate(Wide value) {
        return value > ~u64{0} ? ~u64{0} : static_cast<u64>(value);
    }
    u64 m_hz;
    u64 m_whole_ns, m_part_ns; ///< the period, in ns and 2^-64 ns
};

static_assert(TickRate(3).ticks(ns_per_second) == 3 && TickRate(3).ns(1) == 333'333'334 &&
              TickRate(3).passed_ns(1) == 333'333'333 && TickRate(3).passed_ns(3) == ns_per_second);
static_assert(TickRate(2'999'999'999).passed_ns(~u64{0}) == 6'148'914'693'286'155'436 &&
              TickRate(1).passed_ns(~u64{0}) == ~u64{0});
static_assert(TickRate(3).ticks(TickRate(3).ns(1)) == 1 && TickRate(1).ns(~u64{0}) == ~u64{0});

} // namespace gnomon::platform
