// SPDX-License-Identifier: Apache-2.0
/// @file Statistics as layers hand them up: named numbers in named groups.
#pragma once

#include "base/types.h"

#include <optional>
#include <string>
#include <vector>

namespace gnomon {

/// One number. Names are words in small letters joined by underscores; users' scripts rely on them.
struct Statistic {
    enum class Unit : u8 { count, nanoseconds, bytes };
    std::string name{}; ///< unique in its group
    u64 value = 0;
    Unit unit = Unit::count;
    std::optional<u64> ns{}; ///< the time that what is counted has taken, where that was measured
    bool is_state = false;   ///< how things stand at the end, rather than what has happened
};

struct StatisticGroup {
    std::string name{};
    std::vector<Statistic> entries{};
};

using Statistics = std::vector<StatisticGroup>;

/// Adds `more` to what is in `to`, by name: of numbers that are a state the larger one is kept.
void accumulate(Statistics& to, const Statistics& more);

/// The number of that name, or nullptr.
[[nodiscard]] const Statistic* find(const Statistics& in, const std::string& group,
                                    const std::string& name);

} // namespace gnomon
