// SPDX-License-Identifier: Apache-2.0
/// @file The size of a guest's memory as users write it: 512M, 2G, 65536K, or a number of bytes.
#pragma once

#include "base/result.h"
#include "base/types.h"

#include <string_view>

namespace gnomon::cli {

/// What a machine can have: below 1 MiB there is no place for a kernel, and the last guest-physical
/// address must fit into `guest_physical_bits`, the hole between 3 and 4 GiB included.
inline constexpr u64 smallest_memory = u64{1} << 20;
inline constexpr u64 largest_memory = (u64{1} << 40) - (u64{1} << 30);

/// Parses digits with at most one suffix K, M, G or T (powers of 1024, either case).
/// @return bytes, a multiple of 4 KiB from smallest_memory to largest_memory; otherwise a usage
/// error that begins with `what`, the option's name.
[[nodiscard]] Result<u64> parse_memory_size(std::string_view text, std::string_view what);

/// The same limits for a size that is a number already (a TOML integer).
[[nodiscard]] Result<u64> check_memory_size(u64 bytes, std::string_view shown,
                                            std::string_view what);

/// Whether the host has that much, RAM and swap together. A guest with more would run until it uses
/// it, and then be killed.
[[nodiscard]] Result<> check_host_memory(u64 bytes);

} // namespace gnomon::cli
