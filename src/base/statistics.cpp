// SPDX-License-Identifier: Apache-2.0
#include "base/statistics.h"

#include <algorithm>

namespace gnomon {

namespace {

/// The element of that name; a new one at the end if there is none.
template <class T>
T& named(std::vector<T>& in, const std::string& name) {
    const auto there =
        std::find_if(in.begin(), in.end(), [&](const T& item) { return item.name == name; });
    if (there != in.end()) return *there;
    T& made = in.emplace_back();
    made.name = name;
    return made;
}

} // namespace

void accumulate(Statistics& to, const Statistics& more) {
    for (const StatisticGroup& group : more) {
        std::vector<Statistic>& entries = named(to, group.name).entries;
        for (const Statistic& entry : group.entries) {
            Statistic& sum = named(entries, entry.name);
            sum.unit = entry.unit;
            sum.is_state = entry.is_state;
            sum.value = entry.is_state ? std::max(sum.value, entry.value) : sum.value + entry.value;
            if (entry.ns) sum.ns = sum.ns.value_or(0) + *entry.ns;
        }
    }
}

const Statistic* find(const Statistics& in, const std::string& group, const std::string& name) {
    for (const StatisticGroup& g : in) {
        if (g.name != group) continue;
        for (const Statistic& entry : g.entries)
            if (entry.name == name) return &entry;
    }
    return nullptr;
}

} // namespace gnomon
