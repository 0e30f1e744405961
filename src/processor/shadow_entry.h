// SPDX-License-Identifier: Apache-2.0
/// @file The format of shadow page-table entries: the only page tables that the processor's MMU
/// walks (M2.1, M2.2).
///
/// Four levels of 512 eight-byte entries, indexed as x86-64's (SDM vol. 3A section 4.5). Table
/// pages lie in the monitor's shadow arena; a non-leaf entry holds the byte offset of the next
/// table in that arena. Leaf entries are 4 KiB, at level 1 only, and hold a guest frame. The rights
/// of a translation are the intersection over all levels.
///
///   63  51        12 11 10  9  8  7  6  5  4  3  2  1  0
///   XD  offset/frame  -  M  T  G  -  D  A  -  -  U  W  P
#pragma once

#include "base/address.h"

namespace gnomon::processor {

struct ShadowEntry {
    u64 bits = 0;

    static constexpr u64 present = 1 << 0;
    static constexpr u64 writable = 1 << 1;
    static constexpr u64 user = 1 << 2;
    static constexpr u64 accessed = 1 << 5; ///< leaf: kept by the monitor, the MMU ignores it
    static constexpr u64 dirty = 1
                                 << 6; ///< leaf: without it the MMU exits on a write (Fault::dirty)
    static constexpr u64 global = 1 << 8;
    static constexpr u64 traced = 1 << 9; ///< leaf: writes go into the guest write buffer (M2.2)
    static constexpr u64 mmio =
        1 << 10; ///< leaf: no RAM here, an access exits with ExitReason::mmio
    static constexpr u64 execute_disable = u64{1} << 63;
    static constexpr u64 address_mask = 0x000ffffffffff000;

    [[nodiscard]] constexpr bool has(u64 bit) const { return (bits & bit) != 0; }
    [[nodiscard]] constexpr u64 address() const { return bits & address_mask; }
};
static_assert(sizeof(ShadowEntry) == 8);

inline constexpr unsigned shadow_levels = 4;

/// Index of `gva` in the table at `level` (4 = root ... 1 = leaf).
constexpr unsigned shadow_index(Gva gva, unsigned level) {
    return static_cast<unsigned>(gva.value() >> (page_shift + 9 * (level - 1))) & 511;
}

/// Frames at and above this address are the monitor's own pages, in ControlBlock::monitor_pages; no
/// guest page table can name them, since they lie above the physical address width that guests are
/// shown.
inline constexpr u64 monitor_frame_base = u64{1} << 48;

} // namespace gnomon::processor
