// SPDX-License-Identifier: Apache-2.0
/// @file What the files below /proc/self say (proc(5)). Empty where the text is not of that form.
#pragma once

#include "base/types.h"

#include <optional>
#include <string_view>

namespace gnomon::cli {

/// From `stat`: user time as a part of user and system time; 0 to 1.
[[nodiscard]] std::optional<double> user_share(std::string_view stat);
/// From `status`: the most that was ever resident, in bytes.
[[nodiscard]] std::optional<u64> peak_resident(std::string_view status);
/// From `smaps`: what is resident of the mappings in whose line `name` occurs, in bytes.
[[nodiscard]] std::optional<u64> resident_of(std::string_view smaps, std::string_view name);

} // namespace gnomon::cli
