// SPDX-License-Identifier: Apache-2.0
#include "cli/statistics_format.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace gnomon::cli {

namespace {

using Unit = Statistic::Unit;

/// Of the JSON: counts up when a name changes its meaning or goes.
constexpr int format_version = 1;

/// Three digits that count, and the largest unit that leaves one before the point.
std::string scaled(double value, double step, std::initializer_list<const char*> units) {
    const char* const* unit = units.begin();
    // 999.5 is where three digits would round to four.
    while (value >= (step == 1000 ? 999.5 : 1023.5) && unit + 1 != units.end()) {
        value /= step;
        ++unit;
    }
    const bool whole = unit == units.begin();
    const int decimals = whole || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    return fmt::format("{:.{}f} {}", value, decimals, *unit);
}

std::string shown(u64 value, Unit unit) {
    const auto number = static_cast<double>(value);
    switch (unit) {
    case Unit::nanoseconds: return scaled(number, 1000, {"ns", "us", "ms", "s"});
    case Unit::bytes: return scaled(number, 1024, {"B", "KiB", "MiB", "GiB"});
    case Unit::count: break;
    }
    // Aligned with those that have a prefix.
    return scaled(number, 1000, {" ", "k", "M", "G"});
}

std::string spaced(std::string name) {
    std::replace(name.begin(), name.end(), '_', ' ');
    return name;
}

std::optional<u64> time_of(const Statistic& entry) {
    if (entry.unit == Unit::nanoseconds) return entry.value;
    return entry.ns;
}

/// A table's cells; numbers to the right.
class Table {
public:
    void add(std::vector<std::string> row) {
        m_width.resize(std::max(m_width.size(), row.size()));
        for (std::size_t n = 0; n < row.size(); ++n)
            m_width[n] = std::max(m_width[n], row[n].size());
        m_rows.push_back(std::move(row));
    }
    [[nodiscard]] std::string text() const {
        std::string text;
        for (const auto& row : m_rows) {
            std::string line = fmt::format("{:<{}}", row[0], std::max<std::size_t>(m_width[0], 30));
            for (std::size_t n = 1; n < row.size(); ++n)
                line += fmt::format("  {:>{}}", row[n], std::max<std::size_t>(m_width[n], 9));
            line.erase(line.find_last_not_of(' ') + 1);
            text += line + "\n";
        }
        return text;
    }

private:
    std::vector<std::vector<std::string>> m_rows;
    std::vector<std::size_t> m_width;
};

std::string group_text(const StatisticGroup& group, std::vector<Statistic> entries, u64 wall) {
    const bool timed = std::any_of(entries.begin(), entries.end(), time_of);
    const auto has = [&](Unit unit) {
        return std::any_of(entries.begin(), entries.end(),
                           [&](const Statistic& entry) { return entry.unit == unit; });
    };
    const bool averaged =
        std::any_of(entries.begin(), entries.end(), [](const Statistic& e) { return e.ns; });
    const bool counted = has(Unit::count) || has(Unit::bytes);
    Table table;
    std::vector<std::string> head{spaced(group.name)};
    if (counted) head.insert(head.end(), !timed ? "" : has(Unit::count) ? "count" : "size");
    if (timed) head.insert(head.end(), {"time", "share"});
    if (averaged) head.emplace_back("each");
    table.add(std::move(head));
    for (const Statistic& entry : entries) {
        std::vector<std::string> row{"  " + spaced(entry.name)};
        const bool is_time = entry.unit == Unit::nanoseconds;
        if (counted) row.push_back(is_time ? "" : shown(entry.value, entry.unit));
        if (const auto ns = time_of(entry)) {
            const bool known = is_time || *ns != 0; // 0: too rare to have been sampled
            row.push_back(known ? shown(*ns, Unit::nanoseconds) : "");
            row.push_back(wall == 0 || !known || entry.is_state // of a moment, not a part of all
                              ? ""
                              : fmt::format("{:.1f} %", 100 * static_cast<double>(*ns) /
                                                            static_cast<double>(wall)));
            if (entry.ns && known) row.push_back(shown(*ns / entry.value, Unit::nanoseconds));
        }
        table.add(std::move(row));
    }
    return table.text();
}

} // namespace

std::string statistics_text(const Statistics& all) {
    const Statistic* const wall = find(all, "process", "wall");
    std::string text;
    for (const StatisticGroup& group : all) {
        std::vector<Statistic> entries = group.entries;
        std::erase_if(entries, [](const Statistic& entry) { return entry.value == 0; });
        if (entries.empty()) continue;
        const auto weight = [](const Statistic& entry) {
            return std::pair(time_of(entry).value_or(0), entry.value);
        };
        if (group.name != "process")
            std::stable_sort(
                entries.begin(), entries.end(),
                [&](const Statistic& a, const Statistic& b) { return weight(a) > weight(b); });
        if (!text.empty()) text += "\n";
        text += group_text(group, std::move(entries), wall != nullptr ? wall->value : 0);
    }
    return text;
}

std::string statistics_json(const Statistics& all) {
    nlohmann::ordered_json json{{"version", format_version}};
    for (const StatisticGroup& group : all) {
        auto& members = json[group.name] = nlohmann::ordered_json::object();
        for (const Statistic& entry : group.entries) {
            if (entry.ns)
                members[entry.name] = {{"count", entry.value}, {"ns", *entry.ns}};
            else if (entry.unit == Unit::nanoseconds)
                members[entry.name + "_ns"] = entry.value;
            else if (entry.unit == Unit::bytes)
                members[entry.name + "_bytes"] = entry.value;
            else
                members[entry.name] = entry.value;
        }
    }
    return json.dump() + "\n";
}

} // namespace gnomon::cli
