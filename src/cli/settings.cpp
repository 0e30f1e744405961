// SPDX-License-Identifier: Apache-2.0
#include "cli/settings.h"

#include <algorithm>
#include <iterator>

namespace gnomon::cli {

void MachineSettings::complete_from(const MachineSettings& weaker) {
    const auto complete = [](auto& ours, const auto& theirs) {
        if (!ours) ours = theirs;
    };
    complete(kernel, weaker.kernel);
    complete(initrd, weaker.initrd);
    complete(append, weaker.append);
    complete(memory, weaker.memory);
    complete(disks, weaker.disks);
    complete(completions, weaker.completions);
    complete(stats, weaker.stats);
    complete(log_level, weaker.log_level);
    complete(no_reboot, weaker.no_reboot);
    complete(no_seccomp, weaker.no_seccomp);
    complete(check_shadow, weaker.check_shadow);
    complete(linear_views, weaker.linear_views);
    complete(perf_map, weaker.perf_map);
}

Result<processor::LinearViews> parse_linear_views(std::string_view text, std::string_view where) {
    if (text == "none") return processor::LinearViews::none;
    if (text == "busy") return processor::LinearViews::busy;
    if (text == "all") return processor::LinearViews::all;
    return usage_error("{} {}: use none, busy or all", where, text);
}

bool is_log_level(const std::string& name) {
    return std::find(std::begin(log_levels), std::end(log_levels), name) != std::end(log_levels);
}

} // namespace gnomon::cli
