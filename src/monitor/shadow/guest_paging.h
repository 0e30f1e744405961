// SPDX-License-Identifier: Apache-2.0
/// @file The format of the guest's own page-table entries (SDM vol. 3A section 4.5, 4-level
/// paging), and the part of the processor's mode on which the meaning of an entry depends.
#pragma once

#include "base/guest_memory.h"
#include "processor/registers.h"

#include <atomic>

namespace gnomon::monitor {

/// Bits of a guest paging-structure entry.
namespace guest_entry {
inline constexpr u64 present = 1 << 0, writable = 1 << 1, user = 1 << 2, accessed = 1 << 5,
                     dirty = 1 << 6, page_size = 1 << 7, global = 1 << 8, large_pat = 1 << 12,
                     execute_disable = u64{1} << 63;
inline constexpr u64 address_mask = 0x000ffffffffff000;
/// Address bits beyond the width that the guest is shown: reserved, must be zero.
inline constexpr u64 reserved_address = address_mask & ~((u64{1} << guest_physical_bits) - 1);
} // namespace guest_entry

/// Number of entries in one paging structure.
inline constexpr unsigned table_entries = 512;

/// Bytes that one entry of a table at `level` (1 ... 4) maps.
constexpr u64 entry_span(unsigned level) { return page_size << (9 * (level - 1)); }

/// What of CR0, CR4 and EFER changes the meaning of guest entries, and so the content of shadow
/// tables. WP, SMEP and SMAP are not here: the processor's MMU applies them itself, to rights that
/// the shadow copies unchanged.
struct PagingRole {
    enum class Mode : u8 {
        unpaged,     ///< CR0.PG = 0: linear addresses are physical addresses
        four_level,  ///< IA-32e paging
        unsupported, ///< 32-bit, PAE or 5-level paging: nothing is mapped, every access is a page
                     ///< fault
    };
    Mode mode = Mode::unpaged;
    bool nxe = false; ///< EFER.NXE: bit 63 of an entry is XD; else it is reserved

    friend constexpr bool operator==(const PagingRole&, const PagingRole&) = default;

    [[nodiscard]] static constexpr PagingRole of(u64 cr0, u64 cr4, u64 efer) {
        if ((cr0 & processor::cr0::pg) == 0) return {Mode::unpaged, false};
        const bool four_level =
            (efer & processor::efer::lma) != 0 && (cr4 & processor::cr4::la57) == 0;
        return {four_level ? Mode::four_level : Mode::unsupported,
                (efer & processor::efer::nxe) != 0};
    }
    [[nodiscard]] static constexpr PagingRole of(const processor::RegisterBlock& state) {
        return of(state.cr0, state.cr4, state.efer);
    }
};

/// The table that CR3 names; bits 11:0 (PCID, PWT, PCD) and 63 (no invalidation) do not count.
constexpr Gpa root_of_cr3(u64 cr3) { return Gpa(cr3 & guest_entry::address_mask); }

/// Atomic view of entry `slot` of the guest table whose page lies at `table` (page-aligned, all of
/// it RAM). The guest's other processors and devices may write it at any time.
inline std::atomic_ref<u64> guest_entry_at(Hva table, unsigned slot) {
    // SAFETY: GuestMemory maps whole pages, so an 8-byte aligned word inside one is aligned and in
    // bounds.
    return std::atomic_ref<u64>(reinterpret_cast<u64*>(table)[slot & (table_entries - 1)]);
}

} // namespace gnomon::monitor
