// SPDX-License-Identifier: Apache-2.0
/// @file What a reader of guest data structures needs: the guest's virtual memory, seen in one
/// address space.
#pragma once

#include "base/address.h"

#include <optional>
#include <span>
#include <string>
#include <type_traits>

namespace gnomon::guest::linux_ {

/// The guest's virtual memory under one CR3. Reading has no effect that the guest could notice: no
/// accessed bit, no fault. Contents are the guest's to change at any time, so two reads of one
/// address may differ; callers copy once and judge the copy.
class GuestVirtualMemory {
public:
    virtual ~GuestVirtualMemory() = default;

    /// Copies [address, address + out.size()). False if any byte of it is not mapped to RAM; `out`
    /// is then unspecified.
    [[nodiscard]] virtual bool read(Gva address, std::span<std::byte> out) const = 0;

    template <class T>
    requires std::is_trivially_copyable_v<T>
    [[nodiscard]] std::optional<T> read_object(Gva address) const {
        T value;
        if (!read(address, std::as_writable_bytes(std::span(&value, 1)))) return std::nullopt;
        return value;
    }

    /// A NUL-terminated string, without its terminator.
    struct String {
        std::string text;
        bool terminated = false; ///< false: cut at the limit
    };
    /// At most `limit` bytes. nullopt if an unmapped page comes before the terminator and the
    /// limit. Pages behind the terminator are not looked at, as the kernel's strncpy_from_user does
    /// not either.
    [[nodiscard]] std::optional<String> read_string(Gva address, std::size_t limit) const;

protected:
    GuestVirtualMemory() = default;
    GuestVirtualMemory(const GuestVirtualMemory&) = default;
    GuestVirtualMemory& operator=(const GuestVirtualMemory&) = default;
};

} // namespace gnomon::guest::linux_
