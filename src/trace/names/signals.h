// SPDX-License-Identifier: Apache-2.0
/// @file Names of signals and of the codes that say where they come from.
#pragma once

#include "base/types.h"

#include <string_view>

namespace gnomon::trace {

/// "INT" for 2; empty for numbers that are no classic signal (0, and 32 upwards).
[[nodiscard]] std::string_view signal_name(u32 number);

/// "CLD_EXITED" and its like for si_code; empty if there is no name.
[[nodiscard]] std::string_view signal_code_name(i32 signo, i32 code);

} // namespace gnomon::trace
