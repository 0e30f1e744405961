// SPDX-License-Identifier: Apache-2.0
/// @file What IDENTIFY DEVICE says.
#pragma once

#include "platform/ide/drive.h"

#include <array>

namespace gnomon::platform::ide {

/// How many blocks of 512 bytes, with 64 ranges each, DATA SET MANAGEMENT takes.
inline constexpr u32 most_trim_blocks = 8;

/// The 256 words of ATA/ATAPI-7 volume 1, section 6.17, and of ACS-2, section 7.12, for what is
/// newer (TRIM, rotation rate), as little-endian bytes.
[[nodiscard]] std::array<u8, sector_bytes> identify_device(const Drive& drive);

} // namespace gnomon::platform::ide
