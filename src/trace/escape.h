// SPDX-License-Identifier: Apache-2.0
/// @file How bytes that the guest controls become text: as strace escapes them, or as JSON does.
#pragma once

#include "base/types.h"

#include <fmt/format.h>
#include <span>
#include <string_view>

namespace gnomon::trace {

/// The buffer that lines are formatted into.
using Text = fmt::memory_buffer;

inline void append(Text& out, std::string_view text) {
    out.append(text.data(), text.data() + text.size());
}

/// Appends the bytes as inside a C string: printable ASCII as it is, \" \\ \t \n \v \f \r, the rest
/// in the shortest octal that the next byte does not extend.
void append_escaped(Text& out, std::string_view bytes);

/// Appends the bytes as \x41\x42.
void append_hex_escaped(Text& out, std::string_view bytes);

/// Appends a command name: like append_escaped, without quotes around it, so that '"' stays and
/// brackets, blanks and control characters cannot imitate the trace's own.
void append_command(Text& out, std::string_view bytes);

/// Appends a JSON string with its quotes. Well-formed UTF-8 stays; any other byte is \u00XX.
void append_json(Text& out, std::string_view bytes);

} // namespace gnomon::trace
