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
    constexpr explicit TickRate(u64 hz) : m_hz(hz == 0 ? 1 : hz) {}

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
        return saturate(Wide{ticks} * ns_per_second / m_hz);
    }

private:
    using Wide = unsigned __int128;
    [[nodiscard]] static constexpr u64 saturate(Wide value) {
        return value > ~u64{0} ? ~u64{0} : static_cast<u64>(value);
    }
    u64 m_hz;
};

static_assert(TickRate(3).ticks(ns_per_second) == 3 && TickRate(3).ns(1) == 333'333'334 &&
              TickRate(3).passed_ns(1) == 333'333'333);
static_assert(TickRate(3).ticks(TickRate(3).ns(1)) == 1 && TickRate(1).ns(~u64{0}) == ~u64{0});

} // namespace gnomon::platform
