// SPDX-License-Identifier: Apache-2.0
/// @file Canonical linear addresses (Intel SDM vol. 1 section 3.3.7.1) with four-level paging.
#pragma once

#include "base/types.h"

namespace gnomon {

/// Whether bits 63:47 are all equal.
constexpr bool is_canonical(u64 address) {
    return static_cast<u64>(static_cast<i64>(address << 16) >> 16) == address;
}
static_assert(is_canonical(0x7fff'ffff'ffff) && !is_canonical(0x8000'0000'0000) &&
              is_canonical(0xffff'8000'0000'0000));

} // namespace gnomon
