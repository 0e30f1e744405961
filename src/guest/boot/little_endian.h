// SPDX-License-Identifier: Apache-2.0
/// @file Bounds-checked little-endian access to file contents and to table images under
/// construction.
#pragma once

#include "base/types.h"

#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace gnomon::guest {

/// The T at `offset` bytes into `bytes`, or nothing unless all of it lies inside. Host order is
/// little-endian (the host is x86-64 too), so a copy is a conversion.
template <class T>
requires std::is_trivially_copyable_v<T>
[[nodiscard]] std::optional<T> read_at(std::span<const std::byte> bytes, u64 offset) {
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

/// Stores `value` at `offset`; false, with nothing stored, unless all of it fits.
template <class T>
requires std::is_trivially_copyable_v<T>
[[nodiscard]] bool write_at(std::span<std::byte> bytes, u64 offset, const T& value) {
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return false;
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    return true;
}

/// Whether [offset, offset + size) lies inside something of `total` bytes, without overflow.
[[nodiscard]] constexpr bool range_within(u64 offset, u64 size, u64 total) {
    return offset <= total && size <= total - offset;
}

} // namespace gnomon::guest
