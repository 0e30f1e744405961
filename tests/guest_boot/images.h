// SPDX-License-Identifier: Apache-2.0
/// @file Small kernel images made for the tests.
#pragma once

#include "base/types.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace gnomon::guest::test {

using Bytes = std::vector<std::byte>;

/// Header fields of the bzImage to make; the defaults are those of a usual kernel, but small.
struct BzImageSpec {
    u8 setup_sects = 3;
    u16 version = 0x020f;
    u8 loadflags = 1;
    u16 xloadflags = 0x7f;
    u8 relocatable = 1;
    u32 alignment = 0x200000;
    u64 preferred_address = 0x1000000;
    u32 init_size = 0x100000;
    u32 initrd_addr_max = 0x7fffffff;
    u32 command_line_size = 255;
    Bytes payload{};
};

/// A bzImage whose payload begins 0x300 bytes into the loaded part; what precedes it is 0x90.
Bytes make_bz_image(const BzImageSpec& spec);

struct ElfSegment {
    u64 physical = 0;
    u64 virtual_address = 0;
    u64 memory_size = 0;
    Bytes contents{};
};

/// An ET_EXEC file for x86-64.
Bytes make_elf(u64 entry, const std::vector<ElfSegment>& segments);

Bytes bytes_of(const std::string& text);
/// `size` bytes that compress somewhat, beginning as an ELF file does.
Bytes elf_like(std::size_t size);

template <class T>
T field(std::span<const std::byte> bytes, std::size_t offset) {
    T value{};
    if (offset + sizeof value <= bytes.size())
        __builtin_memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

template <class T>
void set_field(std::span<std::byte> bytes, std::size_t offset, T value) {
    if (offset + sizeof value <= bytes.size())
        __builtin_memcpy(bytes.data() + offset, &value, sizeof value);
}

} // namespace gnomon::guest::test
