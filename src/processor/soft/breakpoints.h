// SPDX-License-Identifier: Apache-2.0
/// @file Debug breakpoints as DR0-DR3, DR7 and CR4.DE state them (SDM vol. 3B section 18.2.4).
#pragma once

#include "processor/registers.h"

namespace gnomon::processor::soft {

/// One enabled breakpoint, by address or, for I/O, by port.
struct Breakpoint {
    enum class Type : u8 { none, execution, write, io, access };
    u64 begin = 0, end = 0;
    Type type = Type::none;

    [[nodiscard]] constexpr bool covers(u64 address, u64 size) const {
        return address < end && begin < address + size;
    }
};

[[nodiscard]] constexpr bool any_breakpoint(const RegisterBlock& s) {
    return (s.dr[7] & 0xff) != 0;
}

/// Breakpoint `n`, 0 to 3; `none` if it is not enabled.
[[nodiscard]] constexpr Breakpoint breakpoint(const RegisterBlock& s, unsigned n) {
    using Type = Breakpoint::Type;
    if ((s.dr[7] >> (2 * n) & 3) == 0) return {};
    constexpr Type types[] = {Type::execution, Type::write, Type::io, Type::access};
    const u64 control = s.dr[7] >> (16 + 4 * n) & 15;
    const Type type = types[control & 3];
    // Without CR4.DE there are none on I/O.
    if (type == Type::io && (s.cr4 & cr4::de) == 0) return {};
    constexpr u64 lengths[] = {1, 2, 8, 4};
    const u64 length = type == Type::execution ? 1 : lengths[control >> 2];
    const u64 begin = s.dr[n] & ~(length - 1);
    return {begin, begin + length, type};
}

} // namespace gnomon::processor::soft
