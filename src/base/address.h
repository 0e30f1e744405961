// SPDX-License-Identifier: Apache-2.0
/// @file The address spaces of a virtual machine as distinct types, so that one cannot be used as
/// another.
#pragma once

#include "base/types.h"

#include <compare>
#include <fmt/format.h>

namespace gnomon {

/// A byte address in the space named by Tag. Arithmetic wraps modulo 2^64 as the hardware's does; a
/// caller that must not wrap asks `range_fits` first.
template <class Tag>
class Address {
public:
    constexpr Address() = default;
    constexpr explicit Address(u64 value) : m_value(value) {}

    [[nodiscard]] constexpr u64 value() const { return m_value; }
    [[nodiscard]] constexpr Address page() const { return Address(m_value & ~page_offset_mask); }
    [[nodiscard]] constexpr u64 page_offset() const { return m_value & page_offset_mask; }
    [[nodiscard]] constexpr u64 frame_number() const { return m_value >> page_shift; }
    /// Whether [this, this + size) does not wrap around the end of the space.
    [[nodiscard]] constexpr bool range_fits(u64 size) const {
        return size == 0 || m_value + (size - 1) >= m_value;
    }

    friend constexpr Address operator+(Address a, u64 offset) {
        return Address(a.m_value + offset);
    }
    friend constexpr Address operator-(Address a, u64 offset) {
        return Address(a.m_value - offset);
    }
    friend constexpr u64 operator-(Address a, Address b) { return a.m_value - b.m_value; }
    constexpr Address& operator+=(u64 offset) {
        m_value += offset;
        return *this;
    }
    friend constexpr auto operator<=>(Address, Address) = default;

private:
    u64 m_value = 0;
};

using Gpa = Address<struct GpaTag>; ///< guest-physical address
using Gva = Address<struct GvaTag>; ///< guest-virtual (linear) address

/// An address in this process. Never formed from guest input without a bounds check.
using Hva = std::byte*;

static_assert((Gpa(0x1fff) + 1).value() == 0x2000 && Gpa(0x2000) - Gpa(0x1000) == 0x1000);
static_assert(!Gpa(~u64{0}).range_fits(2) && Gpa(~u64{0}).range_fits(1));

} // namespace gnomon

template <>
struct fmt::formatter<gnomon::Gpa> : fmt::formatter<std::string_view> {
    auto format(gnomon::Gpa a, format_context& ctx) const {
        return fmt::format_to(ctx.out(), "gpa:{:#x}", a.value());
    }
};
template <>
struct fmt::formatter<gnomon::Gva> : fmt::formatter<std::string_view> {
    auto format(gnomon::Gva a, format_context& ctx) const {
        return fmt::format_to(ctx.out(), "gva:{:#x}", a.value());
    }
};
