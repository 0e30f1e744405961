// SPDX-License-Identifier: Apache-2.0
#include "trace/summary.h"

#include <algorithm>
#include <vector>

namespace gnomon::trace {

namespace {

constexpr double nanoseconds_per_second = 1e9;

void line(Text& out, double percent, u64 nanoseconds, u64 calls, u64 errors,
          std::string_view name) {
    const auto to = fmt::appender(out);
    fmt::format_to(to, "{:6.2f} {:11.6f} {:11} {:9} ", percent,
                   static_cast<double>(nanoseconds) / nanoseconds_per_second,
                   calls == 0 ? 0 : nanoseconds / calls / 1000, calls);
    if (errors != 0)
        fmt::format_to(to, "{:9} ", errors);
    else
        fmt::format_to(to, "{:9} ", "");
    append(out, name);
    out.push_back('\n');
}

} // namespace

Summary::Counts& Summary::of(std::string_view name) {
    const auto found = m_counts.find(name);
    return found != m_counts.end() ? found->second : m_counts[std::string(name)];
}

void Summary::add(std::string_view name, u64 nanoseconds, bool error) {
    Counts& counts = of(name);
    ++counts.calls;
    counts.errors += error ? 1 : 0;
    counts.nanoseconds += nanoseconds;
}

void Summary::add(std::string_view name, const SyscallSums& sums) {
    Counts& counts = of(name);
    counts.calls += sums.calls;
    counts.errors += sums.errors;
    counts.nanoseconds += sums.time_ns;
}

void Summary::add_unreturned(std::string_view name) { ++of(name).calls; }

void Summary::print(Text& out) const {
    std::vector<const std::pair<const std::string, Counts>*> rows;
    Counts total;
    size_t width = 16;
    for (const auto& entry : m_counts) {
        rows.push_back(&entry);
        total.calls += entry.second.calls;
        total.errors += entry.second.errors;
        total.nanoseconds += entry.second.nanoseconds;
        width = std::max(width, entry.first.size());
    }
    std::stable_sort(rows.begin(), rows.end(), [](const auto* a, const auto* b) {
        return a->second.nanoseconds > b->second.nanoseconds;
    });
    const std::string rule =
        fmt::format("------ ----------- ----------- --------- --------- {:-<{}}\n", "", width);
    append(out, "% time     seconds  usecs/call     calls    errors syscall\n");
    append(out, rule);
    for (const auto* row : rows) {
        const double share = total.nanoseconds == 0
                                 ? 0.0
                                 : 100.0 * static_cast<double>(row->second.nanoseconds) /
                                       static_cast<double>(total.nanoseconds);
        line(out, share, row->second.nanoseconds, row->second.calls, row->second.errors,
             row->first);
    }
    append(out, rule);
    line(out, 100.0, total.nanoseconds, total.calls, total.errors, "total");
}

} // namespace gnomon::trace
