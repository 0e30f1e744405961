// SPDX-License-Identifier: Apache-2.0
/// @file Gnomon's trace, taken outside, against that of strace -f inside the same guest in the same
/// boot: by task, in each task's order, text by text.
#pragma once

#include "trace_file.h"

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace gnomon::traces {

struct Comparison {
    size_t tasks = 0;   ///< that strace saw
    size_t calls = 0;   ///< of strace's that have their equal
    size_t signals = 0; ///< likewise
    size_t differences = 0;
    std::map<std::string, size_t> calls_by_name;
    std::map<std::string, size_t> differences_by_kind; ///< "openat: arguments", "missing: close"
    std::map<std::string, size_t> allowances;          ///< what a rule let pass, by rule
    std::vector<std::string> reports; ///< the first differences, with what was before them

    [[nodiscard]] bool same() const { return differences == 0 && calls != 0; }
};

/// Tasks that only Gnomon saw are none of strace's: strace itself, the shell, init.
/// @param report_limit how many differences to report in full.
[[nodiscard]] Comparison compare(const TraceFile& strace, const TraceFile& gnomon,
                                 size_t report_limit = 20);

/// What a tracer inside the guest (the workload's own, by ptrace) saw of its tracees: lines of
/// "PID NAME RESULT", beginning with the call in which the tracing began. @return what differs.
[[nodiscard]] std::vector<std::string> compare_tracees(std::istream& seen, const TraceFile& gnomon,
                                                       size_t& calls);

} // namespace gnomon::traces
