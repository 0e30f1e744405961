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

/// What 16-bit addresses reach: nothing is mapped there either.
inline constexpr u64 low_begin = 0x10000, low_end = 0x20000;

inline constexpr u64 code_begin = 0x18000000;
inline constexpr u64 code_pages = 3;
inline constexpr u64 code_end = code_begin + code_pages * page_size;

/// What the guest's shadow tables say of a page of the data area. Natively all but `read_only` and
/// `absent` are plain memory.
enum class PageKind : u8 {
    plain,
    traced, ///< writes go into the guest write buffer
    mmio,   ///< every access exits, and is served by the test from RAM
    lazy,   ///< not present until an access exits, then not dirty until a write does
    code,   ///< translated code lies where the case writes
    read_only,
    absent, ///< a guard page: every access faults
    count,
};
/// Every kind has a neighbour of each kind that makes a difference to an operand across both.
inline constexpr PageKind data_kinds[] = {
    PageKind::plain,  PageKind::plain,     PageKind::traced,    PageKind::traced,
    PageKind::plain,  PageKind::mmio,      PageKind::mmio,      PageKind::traced,
    PageKind::lazy,   PageKind::plain,     PageKind::code,      PageKind::plain,
    PageKind::lazy,   PageKind::mmio,      PageKind::plain,     PageKind::read_only,
    PageKind::plain,  PageKind::absent,    PageKind::traced,    PageKind::read_only,
    PageKind::mmio,   PageKind::absent,    PageKind::code,      PageKind::read_only,
    PageKind::lazy,   PageKind::absent,    PageKind::mmio,      PageKind::read_only,
    PageKind::traced, PageKind::absent,    PageKind::read_only, PageKind::absent,
    PageKind::lazy,   PageKind::read_only, PageKind::code,      PageKind::absent,
    PageKind::plain,
};
inline constexpr u64 data_pages = sizeof data_kinds / sizeof *data_kinds;
/// The first pages, on which nothing faults.
inline constexpr u64 calm_pages = 15;
inline constexpr u64 data_begin = 0x18100000; ///< guard pages lie before and after
inline constexpr u64 data_end = data_begin + data_pages * page_size;
inline constexpr u64 data_size = data_end - data_begin;

constexpr bool in_data(u64 address) { return address >= data_begin && address < data_end; }
constexpr PageKind kind_of(u64 address) { return data_kinds[(address - data_begin) / page_size]; }

/// Selectors, and the table they name, as Linux has them: what a program sees of it by LAR, LSL,
/// VERR or VERW, by loading a segment register or by a far transfer is then the same on both sides.
inline constexpr u16 user_cs32 = 0x23, user_cs = 0x33, user_ss = 0x2b;
inline constexpr u16 kernel_cs = 0x10, tss_selector = 0x40;
/// Its last descriptor, which shows programs the number of the CPU; the guest has none.
inline constexpr u16 cpu_number_index = 15;

} // namespace gnomon::test::layout
