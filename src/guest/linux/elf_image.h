// SPDX-License-Identifier: Apache-2.0
/// @file A read-only view of a Linux kernel as its build leaves it: an x86-64 ELF executable
/// ("vmlinux").
///
/// Only what knowledge of the guest needs: which bytes stand at which link-time address, and a
/// section by its name. Loading a kernel into guest memory is elsewhere. (System V gABI, chapters 4
/// and 5.)
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace gnomon::guest::linux_ {

/// The image may come from anybody: every offset and size in it is checked before use.
/// Threads: immutable after `parse`. Ownership: refers to the bytes given to `parse`, which must
/// outlive it.
class ElfImage {
public:
    /// One PT_LOAD segment.
    struct Segment {
        Gva address;                      ///< link-time virtual address
        u64 memory_size = 0;              ///< in bytes; never less than `bytes.size()`
        std::span<const std::byte> bytes; ///< the part that the file holds
        bool executable = false;

        [[nodiscard]] bool contains(Gva a) const { return a - address < memory_size; }
    };
    struct Section {
        Gva address;                      ///< link-time virtual address; zero if it is not loaded
        std::span<const std::byte> bytes; ///< empty for SHT_NOBITS
    };

    /// Fails when the bytes are not a whole ELF64 little-endian x86-64 image with loadable
    /// segments.
    [[nodiscard]] static Result<ElfImage> parse(std::span<const std::byte> file);

    [[nodiscard]] const std::vector<Segment>& segments() const { return m_segments; }
    /// The first section of that name, if the image has a section table that says so.
    [[nodiscard]] std::optional<Section> section(std::string_view name) const;
    /// The `size` file bytes of link-time addresses [address, address + size), if one segment has
    /// them all.
    [[nodiscard]] std::optional<std::span<const std::byte>> at(Gva address, u64 size) const;
    /// Like `at`, but as many bytes as there are, at most `size`. Empty if there are none.
    [[nodiscard]] std::span<const std::byte> at_most(Gva address, u64 size) const;

private:
    ElfImage() = default;

    std::span<const std::byte> m_file;
    std::vector<Segment> m_segments;
};

} // namespace gnomon::guest::linux_
