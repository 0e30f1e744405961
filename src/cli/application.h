// SPDX-License-Identifier: Apache-2.0
/// @file The program from its arguments to its exit status.
#pragma once

#include "cli/factories.h"

#include <span>
#include <string>

namespace gnomon::cli {

/// Does what the arguments (without the program's name) say. Errors become one line on stderr.
/// @return the process's exit status
[[nodiscard]] int run_application(std::span<const std::string> arguments,
                                  const Factories& factories);

} // namespace gnomon::cli
