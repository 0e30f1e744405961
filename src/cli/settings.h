// SPDX-License-Identifier: Apache-2.0
/// @file What the user asked for, as the command line and the configuration file give it.
#pragma once

#include "base/types.h"
#include "cli/disks.h"
#include "trace/options.h"

#include <optional>
#include <string>
#include <vector>

namespace gnomon::cli {

enum class StatisticsFormat { text, json };

/// The machine options, which `run`, `trace` and the configuration file have in common. Empty: not
/// said.
struct MachineSettings {
    std::optional<std::string> kernel;
    std::optional<std::string> initrd;
    std::optional<std::string> append;
    std::optional<u64> memory; ///< bytes
    std::optional<std::vector<DiskSettings>> disks;
    std::optional<monitor::CompletionPolicy> completions;
    std::optional<StatisticsFormat> stats;
    std::optional<std::string> log_level; ///< one of `log_levels`
    std::optional<bool> no_reboot;
    std::optional<bool> no_seccomp;  ///< run without the system-call filter
    std::optional<u64> check_shadow; ///< every n-th coherency point, 0: never
    std::optional<processor::LinearViews> linear_views;
    std::optional<std::string> perf_map; ///< a file for the places of translated code

    /// Takes from `weaker` what is not said here: the command line wins over the file.
    void complete_from(const MachineSettings& weaker);
};

inline constexpr u64 default_memory = u64{512} << 20;

/// Names of the log levels, in spdlog's order.
inline constexpr const char* log_levels[] = {"trace", "debug",    "info", "warn",
                                             "error", "critical", "off"};
/// "none", "busy" or "all". @param where it was given, for the message.
[[nodiscard]] Result<processor::LinearViews> parse_linear_views(std::string_view text,
                                                                std::string_view where);
[[nodiscard]] bool is_log_level(const std::string& name);

/// What `trace` has beyond the machine options.
struct TraceSettings {
    trace::TraceOptions options;
    std::optional<std::string> filter;  ///< -e: the list after "trace="
    std::optional<std::string> root;    ///< --root: a folder for the guest's root file system
    std::optional<std::string> busybox; ///< --busybox: the static busybox of the default root
    std::optional<std::string>
        console;                      ///< --console: a file for the kernel's messages; "-": stderr
    bool terminal = false;            ///< --tty: the command gets a terminal of its own
    std::vector<std::string> command; ///< after "--"; empty: the whole machine
};

} // namespace gnomon::cli
