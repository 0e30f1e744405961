// SPDX-License-Identifier: Apache-2.0
/// @file The addresses at which a case runs: the same natively and in the guest, so that pointers
/// are the same on both sides.
///
/// All lie below 4 GiB, for 32-bit addressing and absolute displacements, within a reservation that
/// natively holds nothing else: whatever a case accesses by mistake there faults and harms nobody.
#pragma once

#include "base/types.h"

namespace gnomon::test::layout {

inline constexpr u64 reserve_begin = 0x10000000, reserve_end = 0x20000000;

inline constexpr u64 code_begin = 0x18000000;
inline constexpr u64 code_pages = 3;
inline constexpr u64 code_end = code_begin + code_pages * page_size;

/// What the guest's shadow tables say of a page of the data area. Natively all but `read_only` are
/// plain memory.
enum class PageKind : u8 {
    plain,
    traced, ///< writes go into the guest write buffer
    mmio,   ///< every access exits, and is served by the test from RAM
    lazy,   ///< not present until an access exits, then not dirty until a write does
    code,   ///< translated code lies where the case writes
    read_only,
};
inline constexpr PageKind data_kinds[] = {
    PageKind::plain, PageKind::plain, PageKind::traced,    PageKind::traced, PageKind::plain,
    PageKind::mmio,  PageKind::mmio,  PageKind::traced,    PageKind::lazy,   PageKind::plain,
    PageKind::code,  PageKind::plain, PageKind::read_only, PageKind::plain,
};
inline constexpr u64 data_pages = sizeof data_kinds / sizeof *data_kinds;
inline constexpr u64 data_begin = 0x18100000; ///< guard pages lie before and after
inline constexpr u64 data_end = data_begin + data_pages * page_size;
inline constexpr u64 data_size = data_end - data_begin;

constexpr bool in_data(u64 address) { return address >= data_begin && address < data_end; }
constexpr PageKind kind_of(u64 address) { return data_kinds[(address - data_begin) / page_size]; }

/// Selectors as a 64-bit Linux process has them.
inline constexpr u16 user_cs = 0x33, user_ss = 0x2b;

} // namespace gnomon::test::layout
