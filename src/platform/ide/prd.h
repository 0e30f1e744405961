// SPDX-License-Identifier: Apache-2.0
/// @file Physical region descriptors: where in guest memory a bus master's data are (SFF-8038i,
/// section 1.1; Intel 82371SB, "Bus Master Function").
#pragma once

#include "platform/dma.h"

#include <vector>

namespace gnomon::platform::ide {

/// A piece of guest RAM and where it is in this process.
struct Region {
    Gpa gpa;
    u64 size = 0; ///< in bytes
    Hva host = nullptr;
};

/// An entry of the table, as it lies in memory.
struct PrdEntry {
    u32 base = 0;  ///< bit 0 is ignored
    u16 count = 0; ///< in bytes, bit 0 is ignored; 0: 64 KiB
    u16 flags = 0;
    static constexpr u16 end_of_table = 1 << 15;
};
static_assert(sizeof(PrdEntry) == 8);

enum class PrdResult : u8 {
    exhausted,   ///< there is room for all, and none is left
    left_over,   ///< there is room for more
    too_short,   ///< the table ends too early
    unreachable, ///< what it needs, or the table itself, is not RAM; or the function is no master
};

/// A table cannot cross a multiple of this, and neither can a region.
inline constexpr u64 prd_boundary = u64{64} << 10;

/// The regions for `length` bytes in order, neighbours joined. A region's address counts in 16 bits
/// only, as the specification says of the incrementer: what would cross a boundary of 64 KiB goes
/// on at the beginning of the same 64 KiB. A table ends at such a boundary, whatever its last entry
/// says; so it has 8192 entries at most, and one that leads back to itself does not exist.
/// Entries behind those that `length` needs are not looked at.
/// @param table bits 1:0 are ignored. @param length in bytes, an even number, not 0.
/// @param out is replaced; of no meaning unless the result is exhausted or left_over.
[[nodiscard]] PrdResult walk_prds(const Dma& dma, u32 table, u64 length, std::vector<Region>& out);

} // namespace gnomon::platform::ide
