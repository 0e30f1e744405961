// SPDX-License-Identifier: Apache-2.0
/// @file A trace as text, from strace -f -o or from gnomon trace -o, taken apart by task.
#pragma once

#include <cstddef>
#include <istream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace gnomon::traces {

/// What happened to one task: a call, a signal or its end.
struct Item {
    enum class Kind { call, signal, end };
    Kind kind = Kind::call;
    /// The whole line without the task, an interrupted call put together again:
    /// "read(3, "a", 1) = 1", "--- SIGINT {...} ---", "+++ exited with 0 +++".
    std::string text;
    size_t line = 0; ///< of the file, from 1: where a call was entered

    /// Of a call: "read"; "3, \"a\", 1"; "1". Of anything else `name` is all of it.
    [[nodiscard]] std::string_view name() const;
    [[nodiscard]] std::string_view arguments() const;
    [[nodiscard]] std::string_view result() const;
};

/// The account at the end of Gnomon's trace.
struct Balance {
    size_t entered = 0, returned = 0, never_return = 0, in_progress = 0, lost = 0, unmatched = 0;
    [[nodiscard]] bool balanced() const {
        return entered != 0 && lost == 0 && entered == returned + never_return + in_progress;
    }
};

struct TraceFile {
    std::map<int, std::vector<Item>> tasks; ///< by the kernel's number of the thread
    int first_task = 0;                     ///< whose line is the first
    std::vector<std::string> problems;      ///< lines that could not be understood
    Balance balance;                        ///< Gnomon's only
};

/// Understands both forms: "57  close(3) = 0" and "[pid 57 sh] close(3) = 0".
[[nodiscard]] TraceFile read_trace(std::istream& in);

} // namespace gnomon::traces
