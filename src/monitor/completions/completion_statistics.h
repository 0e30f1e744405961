// SPDX-License-Identifier: Apache-2.0
/// @file What is counted of a device's completions.
#pragma once

#include "base/statistics.h"
#include "base/types.h"

#include <array>
#include <bit>
#include <string>

namespace gnomon::monitor {

/// Times by their size, with an error of at most 1/16.
class LatencyHistogram {
public:
    void add(u64 ns) { ++m_counts[bucket(ns)]; }
    /// The time that `part` of them do not exceed; 0 if there are none. @param part above 0, at
    /// most 1.
    [[nodiscard]] u64 percentile(double part) const;

private:
    static constexpr unsigned steps = 16; ///< to each power of two
    static constexpr std::size_t buckets = (64 - 4 + 1) * steps;

    /// 0 to 15 have one each; above, the highest bit and the four behind it choose.
    [[nodiscard]] static std::size_t bucket(u64 ns) {
        if (ns < steps) return ns;
        const auto shift = static_cast<unsigned>(std::bit_width(ns)) - 5;
        return std::size_t{shift + 1} * steps + (ns >> shift) % steps;
    }
    /// The largest time in it.
    [[nodiscard]] static u64 upper_end(std::size_t bucket);

    std::array<u64, buckets> m_counts{};
};

/// Why a completion was delivered when it was.
enum class Delivery : u8 {
    at_once,        ///< the device has no nominal delay, or the policy none
    late,           ///< the host was later than the nominal delay
    early_halted,   ///< at the safepoint of this name
    early_returned, ///< likewise
    early_polled,   ///< likewise
    matured,        ///< the delay has passed
    count,
};

struct DeviceStatistics {
    u64 requests = 0;
    std::array<u64, static_cast<std::size_t>(Delivery::count)> deliveries{};
    u64 cancelled = 0;
    u64 interrupts = 0; ///< handlers entered
    u64 deepest_nesting = 0;
    u64 back_offs = 0;        ///< signs of trouble that were answered with more delay
    LatencyHistogram latency; ///< from submission to the handler; without one, to the delivery

    /// Group "completions_NAME".
    [[nodiscard]] StatisticGroup report(const std::string& name) const;
};

} // namespace gnomon::monitor
