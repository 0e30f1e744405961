// SPDX-License-Identifier: Apache-2.0
/// @file Names of the helpers, for statistics.
#pragma once

#include "processor/soft/helpers.h"

#include <span>

namespace gnomon::processor::soft {

struct HelperKind {
    Helper helper; ///< nullptr: any that has no name here
    const char* name;
};

/// All kinds, by index; at most helper_kind_limit.
[[nodiscard]] std::span<const HelperKind> helper_kinds();
/// Index of the helper's kind; 0 if it has no name.
[[nodiscard]] u8 helper_kind(Helper helper);

} // namespace gnomon::processor::soft
