// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/page_walk.h"

#include "base/canonical.h"

#include <algorithm>
#include <array>
#include <atomic>

namespace gnomon::guest::linux_ {

namespace {

// Paging-structure entries (SDM 3A, tables 4-15 to 4-20).
constexpr u64 entry_present = u64{1} << 0;
constexpr u64 entry_writable = u64{1} << 1;
constexpr u64 entry_user = u64{1} << 2;
constexpr u64 entry_page_size = u64{1} << 7;
constexpr u64 entry_execute_disable = u64{1} << 63;
constexpr u64 entry_address = 0x000f'ffff'ffff'f000;
constexpr u64 entry_pat_of_large_page = u64{1} << 12;
constexpr u64 beyond_physical_width = entry_address & ~((u64{1} << guest_physical_bits) - 1);
constexpr u64 page_table_isolation_pair = u64{1} << page_shift;

struct Level {
    unsigned shift;
    bool may_be_leaf; ///< PS = 1 means a page here; it is reserved in a PML4 entry and the PAT bit
                      ///< in a PTE
};
constexpr std::array<Level, 4> levels{{{39, false}, {30, true}, {21, true}, {12, false}}};

/// The entry as one load: the guest may be writing it.
std::optional<u64> read_entry(const GuestMemory& memory, Gpa address) {
    const Hva host = memory.hva(address, sizeof(u64));
    if (host == nullptr) return std::nullopt;
    // SAFETY: in bounds by `hva`, and aligned because tables are page-aligned and so is the
    // mapping.
    return std::atomic_ref<u64>(*reinterpret_cast<u64*>(host)).load(std::memory_order_relaxed);
}

} // namespace

std::optional<PageTranslation> walk(const GuestMemory& memory, u64 cr3, Gva address) {
    if (!is_canonical(address.value())) return std::nullopt;
    PageTranslation result{.address = Gpa{},
                           .page_bytes = 0,
                           .writable = true,
                           .user = true,
                           .execute_disabled = false};
    u64 table = cr3 & entry_address;
    for (const Level& level : levels) {
        const u64 index = (address.value() >> level.shift) & 511;
        const auto entry = read_entry(memory, Gpa(table + index * sizeof(u64)));
        if (!entry || (*entry & entry_present) == 0 || (*entry & beyond_physical_width) != 0)
            return std::nullopt;
        result.writable &= (*entry & entry_writable) != 0;
        result.user &= (*entry & entry_user) != 0;
        result.execute_disabled |= (*entry & entry_execute_disable) != 0;

        const bool last = level.shift == page_shift;
        const bool large = !last && (*entry & entry_page_size) != 0;
        if (large && !level.may_be_leaf) return std::nullopt; // reserved in a PML4 entry
        if (last || large) {
            const u64 offset_mask = (u64{1} << level.shift) - 1;
            u64 frame = *entry & entry_address;
            if (large) {
                frame &= ~entry_pat_of_large_page;
                if ((frame & offset_mask) != 0) return std::nullopt; // reserved
            }
            result.page_bytes = offset_mask + 1;
            result.address = Gpa(frame | (address.value() & offset_mask));
            return result;
        }
        table = *entry & entry_address;
    }
    return std::nullopt;
}

std::optional<Gpa> translate(const GuestMemory& memory, u64 cr3, Gva address) {
    const auto translation = walk(memory, cr3, address);
    if (!translation) return std::nullopt;
    return translation->address;
}

std::optional<u64> kernel_cr3(const GuestMemory& memory, u64 cr3, Gva probe) {
    if (translate(memory, cr3, probe)) return cr3;
    const u64 lower = cr3 & ~page_table_isolation_pair;
    if (lower != cr3 && translate(memory, lower, probe)) return lower;
    return std::nullopt;
}

bool PageTableReader::read(Gva address, std::span<std::byte> out) const {
    if (!address.range_fits(out.size())) return false;
    while (!out.empty()) {
        const auto translation = walk(m_memory, m_cr3, address);
        if (!translation || (m_access == Access::user && !translation->user)) return false;
        // By 4 KiB whatever the page's size: a large page may straddle the end of RAM.
        const u64 size = std::min<u64>(out.size(), page_size - address.page_offset());
        if (!m_memory.read(translation->address, out.first(size))) return false;
        out = out.subspan(size);
        address += size;
    }
    return true;
}

} // namespace gnomon::guest::linux_
