// SPDX-License-Identifier: Apache-2.0
/// @file The format of paging-structure entries, and the rules by which a translation allows an
/// access (SDM vol. 3A sections 4.5-4.7), as the bare-metal guest understands them. It shares no
/// code with Gnomon.
#pragma once

#include <initializer_list>

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long;

namespace histories {

inline constexpr u64 page_size = 4096;
inline constexpr unsigned table_slots = 512;

// Bits of an entry.
inline constexpr u64 bit_p = 1, bit_w = 2, bit_u = 4, bit_a = 32, bit_d = 64, bit_ps = 128,
                     bit_g = 256, bit_xd = u64{1} << 63;
inline constexpr u64 address_bits = 0x000ffffffffff000;

/// Bytes that an entry of a table at `level` (1 ... 4) maps.
constexpr u64 span_of(unsigned level) { return page_size << (9 * (level - 1)); }
constexpr unsigned index_of(u64 va, unsigned level) {
    return static_cast<unsigned>(va >> (12 + 9 * (level - 1))) & (table_slots - 1);
}
constexpr u64 canonical(u64 va) { return static_cast<u64>(static_cast<long>(va << 16) >> 16); }

/// The bits of CR0, CR4 and EFER on which accesses depend.
struct Controls {
    bool wp = true, smep = false, smap = false, nxe = true, pge = true, pcide = false;
};

/// Bits that must be zero in a present entry. @param width MAXPHYADDR.
constexpr u64 reserved_bits(u64 entry, unsigned level, const Controls& controls, unsigned width) {
    u64 mask = address_bits & ~((u64{1} << width) - 1);
    if (!controls.nxe) mask |= bit_xd;
    if (level == 4) mask |= bit_ps;
    if ((level == 3 || level == 2) && (entry & bit_ps) != 0)
        mask |= (span_of(level) - 1) & address_bits & ~u64{0x1000}; // bit 12 is PAT
    return mask;
}
constexpr bool is_leaf(u64 entry, unsigned level) {
    return level == 1 || (level < 4 && (entry & bit_ps) != 0);
}

struct Access {
    bool write = false, fetch = false;
    bool user = false; ///< CPL 3
    bool ac = false;   ///< RFLAGS.AC
};

// Page-fault error code.
inline constexpr u32 error_p = 1, error_w = 2, error_u = 4, error_rsvd = 8, error_i = 16;

/// Rights that a translation gives: the intersection over its levels.
struct Rights {
    bool w = true, u = true, x = true;
};

constexpr bool allows(Rights rights, Access access, const Controls& c) {
    if (access.user) return rights.u && (!access.write || rights.w) && (!access.fetch || rights.x);
    if (access.fetch) return rights.x && !(rights.u && c.smep);
    if (rights.u && c.smap && !access.ac) return false;
    return !access.write || rights.w || !c.wp;
}
/// @param base P and RSVD.
constexpr u32 error_code(u32 base, Access access, const Controls& c) {
    return base | (access.write ? error_w : 0) | (access.user ? error_u : 0) |
           (access.fetch && (c.nxe || c.smep) ? error_i : 0);
}

} // namespace histories
