// SPDX-License-Identifier: Apache-2.0
/// @file strace's -c: calls, errors and time by name.
#pragma once

#include "trace/escape.h"
#include "trace/event.h"

#include <map>
#include <string>
#include <string_view>

namespace gnomon::trace {

/// Counts calls; time is the wall time from entering to returning, in the events' clock.
class Summary {
public:
    void add(std::string_view name, u64 nanoseconds, bool error);
    /// All calls of a number.
    void add(std::string_view name, const SyscallSums& sums);
    /// A call that did not return: counted, without time.
    void add_unreturned(std::string_view name);
    /// Appends the table, most expensive first.
    void print(Text& out) const;

private:
    struct Counts {
        u64 calls = 0;
        u64 errors = 0;
        u64 nanoseconds = 0;
    };
    std::map<std::string, Counts, std::less<>> m_counts;

    Counts& of(std::string_view name);
};

} // namespace gnomon::trace
