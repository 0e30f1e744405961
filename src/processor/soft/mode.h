// SPDX-License-Identifier: Apache-2.0
/// @file The mode of a translation: every bit of processor state that alters what an instruction is
/// translated to.
#pragma once

#include "processor/soft/cpu.h"

namespace gnomon::processor::soft {

/// Part of a translation's key, with the physical frame and the offset in it.
struct Mode {
    u32 bits = 0;

    static constexpr u32 set_mask = 3;    ///< TlbSet
    static constexpr u32 code64 = 1 << 2; ///< else 32-bit compatibility mode
    static constexpr u32 single =
        1 << 3; ///< blocks of one instruction (TF, interrupt shadow, CS with a base or a limit)
    static constexpr u32 fpu = 1 << 4;           ///< x87 and MMX usable: CR0.EM = 0 and TS = 0
    static constexpr u32 task_switched = 1 << 5; ///< CR0.TS: #NM rather than #UD
    static constexpr u32 sse = 1 << 6;           ///< CR4.OSFXSR, CR0.EM = 0, TS = 0
    static constexpr u32 avx = 1 << 7;           ///< CR4.OSXSAVE, XCR0.AVX and SSE, TS = 0
    static constexpr u32 flat =
        1 << 8; ///< bases of ES, CS, SS, DS are 0 (always so in 64-bit mode)
    static constexpr u32 code16 = 1 << 9;   ///< 16-bit code segment
    static constexpr u32 stack16 = 1 << 10; ///< SS.B = 0 outside 64-bit mode
    /// Data accesses take the slow path, to be checked: one of ES, CS, SS and DS is restricted
    /// (outside 64-bit mode), or alignment is checked.
    static constexpr u32 checked = 1 << 11;
    static constexpr u32 checked_fs = 1 << 12; ///< likewise for accesses by way of FS
    static constexpr u32 checked_gs = 1 << 13; ///< and of GS
    static constexpr u32 avx512 = 1 << 16; ///< avx, and XCR0 has the three components of AVX-512
    /// User code whose data accesses go by way of the linear view (linear_view.h).
    static constexpr u32 viewed = 1 << 14;
    /// An execution hook lies in the page, by the address that it is run at. Translations know the
    /// frame only: without this bit, one made under an alias of the page would have no check.
    static constexpr u32 hooked = 1 << 15;

    [[nodiscard]] constexpr TlbSet set() const { return static_cast<TlbSet>(bits & set_mask); }
    [[nodiscard]] constexpr bool has(u32 bit) const { return (bits & bit) != 0; }
    friend constexpr bool operator==(Mode, Mode) = default;

    [[nodiscard]] static Mode of(const Cpu& cpu);
    /// That of the code at a place in another page, in the same state.
    [[nodiscard]] Mode at(const Cpu& cpu, Gva place) const;
};

} // namespace gnomon::processor::soft
