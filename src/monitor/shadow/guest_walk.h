// SPDX-License-Identifier: Apache-2.0
/// @file A walk of the guest's own page tables, as shadow paging makes it at a page fault (SDM vol.
/// 3A sections 4.5-4.7).
#pragma once

#include "monitor/shadow/guest_paging.h"

namespace gnomon::monitor {

/// The bits of `entry` that must be zero in a present entry at `level` (1 ... 4).
constexpr u64 reserved_bits(u64 entry, unsigned level, bool nxe) {
    u64 mask = guest_entry::reserved_address;
    if (!nxe) mask |= guest_entry::execute_disable;
    if (level == 4) mask |= guest_entry::page_size;
    if ((entry & guest_entry::page_size) != 0 && (level == 2 || level == 3))
        mask |= (entry_span(level) - 1) & guest_entry::address_mask & ~guest_entry::large_pat;
    return mask;
}

/// Whether a present entry at `level` maps memory rather than naming a table.
constexpr bool maps_memory(u64 entry, unsigned level) {
    return level == 1 || (level < 4 && (entry & guest_entry::page_size) != 0);
}

/// The frame or large page that a memory-mapping entry names.
constexpr Gpa mapped_base(u64 entry, unsigned level) {
    return Gpa(entry & guest_entry::address_mask & ~(entry_span(level) - 1));
}

/// Whether a shadow may be made of `entry`: present, accessed and without reserved bits. An entry
/// that is not accessed gets no shadow, so that its first use exits and the bit can be set.
constexpr bool shadowable(u64 entry, unsigned level, bool nxe) {
    constexpr u64 needed = guest_entry::present | guest_entry::accessed;
    return (entry & needed) == needed && (entry & reserved_bits(entry, level, nxe)) == 0;
}

/// One memory access, as far as paging cares.
struct PagingAccess {
    bool write = false;
    bool user = false;  ///< made at CPL 3, and not an implicit supervisor access
    bool fetch = false; ///< instruction fetch
    bool implicit_supervisor = false;
};

/// Result of a walk. Arrays are indexed by level.
struct GuestWalk {
    Hva table[5] = {};       ///< page of the table used at the level
    Gpa table_gpa[5] = {};   ///< the same, guest-physical
    u64 entry[5] = {};       ///< entry read at the level
    unsigned leaf_level = 0; ///< 1, 2 (2 MiB) or 3 (1 GiB); 0: the walk failed
    u32 fault = 0;           ///< if it failed: the P and RSVD bits of the error code
    bool writable = true, user = true, execute_disable = false; ///< intersection over the levels

    [[nodiscard]] bool complete() const { return leaf_level != 0; }
};

/// Walks from the table at `root`. Tables outside RAM read as empty. Changes nothing.
[[nodiscard]] GuestWalk walk_guest(const GuestMemory& memory, Gpa root, bool nxe, Gva gva);

/// Whether a complete walk allows `access` in the mode of `state` (SDM vol. 3A section 4.6.1).
[[nodiscard]] bool access_allowed(const GuestWalk& walk, PagingAccess access,
                                  const processor::RegisterBlock& state);

/// The error code that a fault pushes: `base` holds P and RSVD.
[[nodiscard]] u32 fault_error_code(u32 base, PagingAccess access,
                                   const processor::RegisterBlock& state);

} // namespace gnomon::monitor
