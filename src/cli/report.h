// SPDX-License-Identifier: Apache-2.0
/// @file Gnomon's own words to its user, on stderr.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>

namespace gnomon::cli {

/// The text without what could end the line or command a terminal: ASCII control characters become
/// \xHH. Names of files and the like come from anywhere, such as a folder that is to be packed.
[[nodiscard]] std::string one_line(std::string_view text);

/// One line "gnomon: MESSAGE". The name is in colour on a terminal, unless NO_COLOR is set; the
/// message is printed as `one_line` gives it.
void report(std::string_view message);

/// Reports the error, and its details in lines of their own. @return the exit status that goes with
/// it: 2 for usage, otherwise 1.
[[nodiscard]] int report_error(const Error& error);

/// What takes long is happening now: a line that is there until the object is gone, and only on a
/// terminal.
class Progress {
public:
    explicit Progress(std::string_view what);
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    ~Progress();

private:
    bool m_shown;
};

/// Sends the log (spdlog's default logger) to stderr from `level` on, a name from `log_levels`.
void set_up_log(const std::string& level);

} // namespace gnomon::cli
