// SPDX-License-Identifier: Apache-2.0
/// @file The loops that the processor benchmark times, as machine code that runs unchanged in the
/// guest and on the host.
#pragma once

#include "base/address.h"

#include <span>
#include <string_view>
#include <xbyak/xbyak.h>

namespace gnomon::bench {

/// Bytes of memory that a loop may use, at RDI; zeroed before it first runs.
inline constexpr u64 data_bytes = 64 * 1024;

/// One loop. Its code is position-independent: it finds RDI = its memory, RSI = how many turns to
/// make (at least 1), may change every register but RSP, and falls out of its end.
struct Loop {
    std::string_view name;
    void (*emit)(Xbyak::CodeGenerator&);
    bool avx = false; ///< needs AVX2 and FMA
    /// Prepares the memory, given the address that it will have; nullptr: zeroes will do.
    void (*prepare)(std::span<u8> data, u64 address) = nullptr;
    unsigned weight = 1; ///< how many times longer than the others a turn is
};

[[nodiscard]] std::span<const Loop> loops();

} // namespace gnomon::bench
