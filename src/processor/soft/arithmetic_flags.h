// SPDX-License-Identifier: Apache-2.0
/// @file The arithmetic flags of instructions that helpers carry out in C++ (SDM vol. 1
/// section 3.4.3.1).
#pragma once

#include "processor/registers.h"

#include <bit>

namespace gnomon::processor::soft {

/// SF, ZF and PF of a byte result.
[[nodiscard]] constexpr u64 byte_result_flags(u8 result) {
    return ((result & 0x80) != 0 ? rflags::sf : 0) | (result == 0 ? rflags::zf : 0) |
           (std::popcount(result) % 2 == 0 ? rflags::pf : 0);
}

/// All six arithmetic flags as CMP left, right sets them; T is the unsigned type of the operand
/// size.
template <class T>
[[nodiscard]] constexpr u64 compare_flags(T left, T right) {
    constexpr u64 sign = u64{1} << (8 * sizeof(T) - 1);
    const u64 a = left;
    const u64 b = right;
    const u64 result = static_cast<T>(a - b);
    return (a < b ? rflags::cf : 0) | (result == 0 ? rflags::zf : 0) |
           ((result & sign) != 0 ? rflags::sf : 0) |
           (((a ^ b) & (a ^ result) & sign) != 0 ? rflags::of : 0) |
           ((a ^ b ^ result) & rflags::af) |
           (std::popcount(static_cast<u8>(result)) % 2 == 0 ? rflags::pf : 0);
}

/// `flags` with the bits of `mask` taken from `value`.
[[nodiscard]] constexpr u64 replace_flags(u64 flags, u64 mask, u64 value) {
    return (flags & ~mask) | (value & mask);
}

} // namespace gnomon::processor::soft
