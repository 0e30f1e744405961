// SPDX-License-Identifier: Apache-2.0
/// @file What the user asked of the trace, in strace's terms. Independent of the command line's
/// parser.
#pragma once

#include "base/types.h"

#include <string>

namespace gnomon::trace {

/// -t, -tt, -ttt
enum class TimestampStyle : u8 {
    none,
    seconds,      ///< -t: 12:34:56
    microseconds, ///< -tt: 12:34:56.123456
    epoch,        ///< -ttt: 1700000000.123456
};

struct TraceOptions {
    u32 string_limit = 32; ///< -s: bytes shown of a string or buffer, elements of an array
    u32 align_column = 40; ///< -a: the column of "= result"
    TimestampStyle timestamps = TimestampStyle::none;
    bool relative = false;     ///< -r: seconds since the line before
    bool duration = false;     ///< -T: <seconds> in the call
    bool summary = false;      ///< -c: the table instead of the lines
    bool summary_also = false; ///< -C: the table after the lines
    bool json = false;         ///< --json: JSON Lines instead of text
    bool utc = false;          ///< -t and -tt in UTC, not in the host's time zone
    std::string output;        ///< -o: a file; empty for stderr
};

} // namespace gnomon::trace
