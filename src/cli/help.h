// SPDX-License-Identifier: Apache-2.0
/// @file What --help and --version print.
#pragma once

#include <string>

namespace gnomon::cli {

[[nodiscard]] std::string version_text(); ///< "gnomon 0.1.0", without a newline
[[nodiscard]] std::string general_help();
[[nodiscard]] std::string run_help();
[[nodiscard]] std::string trace_help();

} // namespace gnomon::cli
