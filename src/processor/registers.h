// SPDX-License-Identifier: Apache-2.0
/// @file The register block of a virtual processor: the architectural state that software can name.
/// Bit names follow the Intel SDM, volume 3A chapter 2 (CR0, CR4, EFER, RFLAGS) and volume 1
/// chapter 13 (XCR0).
#pragma once

#include "base/types.h"

#include <array>

namespace gnomon::processor {

/// General-purpose registers in encoding order.
enum Gpr : unsigned {
    rax,
    rcx,
    rdx,
    rbx,
    rsp,
    rbp,
    rsi,
    rdi,
    r8,
    r9,
    r10,
    r11,
    r12,
    r13,
    r14,
    r15, // clang-format off
}; // clang-format on

namespace rflags {
inline constexpr u64 cf = 1 << 0, fixed1 = 1 << 1, pf = 1 << 2, af = 1 << 4, zf = 1 << 6,
                     sf = 1 << 7, tf = 1 << 8, if_ = 1 << 9, df = 1 << 10, of = 1 << 11,
                     iopl = 3 << 12, nt = 1 << 14, rf = 1 << 16, vm = 1 << 17, ac = 1 << 18,
                     vif = 1 << 19, vip = 1 << 20, id = 1 << 21;
/// The flags that ALU instructions compute; while translated code runs they live in the host's
/// RFLAGS.
inline constexpr u64 arithmetic = cf | pf | af | zf | sf | of;
} // namespace rflags

namespace cr0 {
inline constexpr u64 pe = 1 << 0, mp = 1 << 1, em = 1 << 2, ts = 1 << 3, et = 1 << 4, ne = 1 << 5,
                     wp = 1 << 16, am = 1 << 18, nw = 1 << 29, cd = 1 << 30, pg = u64{1} << 31;
}
namespace cr4 {
inline constexpr u64 vme = 1 << 0, pvi = 1 << 1, tsd = 1 << 2, de = 1 << 3, pse = 1 << 4,
                     pae = 1 << 5, mce = 1 << 6, pge = 1 << 7, pce = 1 << 8, osfxsr = 1 << 9,
                     osxmmexcpt = 1 << 10, umip = 1 << 11, la57 = 1 << 12, fsgsbase = 1 << 16,
                     pcide = 1 << 17, osxsave = 1 << 18, smep = 1 << 20, smap = 1 << 21;
}
namespace efer {
inline constexpr u64 sce = 1 << 0, lme = 1 << 8, lma = 1 << 10, nxe = 1 << 11;
}
namespace xcr0 {
inline constexpr u64 x87 = 1 << 0, sse = 1 << 1, avx = 1 << 2, opmask = 1 << 5, zmm_high = 1 << 6,
                     high_zmm = 1 << 7;
/// The state that AVX-512 adds: all of it or none.
inline constexpr u64 avx512 = opmask | zmm_high | high_zmm;
} // namespace xcr0

/// Exception vectors (SDM vol. 3A table 6-1).
enum class Vector : u8 {
    de = 0,
    db = 1,
    nmi = 2,
    bp = 3,
    of = 4,
    br = 5,
    ud = 6,
    nm = 7,
    df = 8,
    ts = 10,
    np = 11,
    ss = 12,
    gp = 13,
    pf = 14,
    mf = 16,
    ac = 17,
    mc = 18,
    xm = 19, // clang-format off
}; // clang-format on

/// Page-fault error code bits (SDM vol. 3A section 4.7).
namespace pf_error {
inline constexpr u32 present = 1 << 0, write = 1 << 1, user = 1 << 2, reserved = 1 << 3,
                     fetch = 1 << 4;
}

enum SegmentName : unsigned { seg_es, seg_cs, seg_ss, seg_ds, seg_fs, seg_gs, segment_count };

/// Access rights in the format of the VMX guest-state area (SDM vol. 3C section 24.4.1):
/// type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16.
struct Segment {
    u64 base = 0;
    u32 limit = 0; ///< in bytes, granularity applied
    u32 rights = 0;
    u16 selector = 0;
    u16 reserved[3] = {};

    static constexpr u32 accessed = 1 << 0, writable = 1 << 1, readable = 1 << 1,
                         expand_down = 1 << 2, conforming = 1 << 2, code = 1 << 3, s = 1 << 4,
                         present = 1 << 7, l = 1 << 13, db = 1 << 14, g = 1 << 15,
                         unusable = 1 << 16;
    [[nodiscard]] constexpr unsigned type() const { return rights & 15; }
    [[nodiscard]] constexpr unsigned dpl() const { return (rights >> 5) & 3; }
    [[nodiscard]] constexpr bool has(u32 bit) const { return (rights & bit) != 0; }
};
static_assert(sizeof(Segment) == 24);

/// GDTR or IDTR.
struct DescriptorTable {
    u64 base = 0;
    u32 limit = 0;
    u32 reserved = 0;
};

/// x87, SSE, AVX and AVX-512 state in the standard XSAVE format (SDM vol. 1 section 13.4): legacy
/// region, header, then the extended components as CPUID leaf 0xD places them for guests, without
/// gaps. That is also the compacted format of all of them.
struct alignas(64) ExtendedState {
    u8 legacy[512] = {};
    u8 header[64] = {};
    u8 ymm_high[16][16] = {}; ///< the upper halves of YMM0-15
    u8 opmask[8][8] = {};     ///< k0-k7
    u8 zmm_high[16][32] = {}; ///< the upper halves of ZMM0-15
    u8 high_zmm[16][64] = {}; ///< ZMM16-31

    static constexpr unsigned fcw = 0, fsw = 2, ftw = 4, fop = 6, fip = 8, fdp = 16, mxcsr = 24,
                              mxcsr_mask = 28, st0 = 32, xmm0 = 160;
};
static_assert(sizeof(ExtendedState) == 2432);

/// All state of one virtual processor that a guest can see. Plain data; owned by the ControlBlock.
struct RegisterBlock {
    u64 gpr[16] = {};
    u64 rip = 0;
    u64 rflags = rflags::fixed1;
    Segment segment[segment_count];
    Segment ldtr, tr;
    DescriptorTable gdtr, idtr;
    u64 cr0 = cr0::et | cr0::nw | cr0::cd, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
    u64 efer = 0;
    u64 xcr0 = xcr0::x87;
    u64 dr[8] = {0, 0, 0, 0, 0, 0, 0xffff0ff0, 0x400}; ///< DR4 and DR5 unused
    // The system-call part of the register block. The vectors are what the processor obeys: with
    // the interposer's hook in place they are the hooked vectors, not the guest's own (M1.1).
    u64 star = 0, lstar = 0, cstar = 0, fmask = 0;
    u64 sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
    u64 kernel_gs_base = 0;
    u64 tsc_aux = 0;
    u64 pat = 0x0007040600070406;
    ExtendedState extended;

    [[nodiscard]] constexpr unsigned cpl() const { return segment[seg_ss].dpl(); }
    [[nodiscard]] constexpr bool long_mode() const { return (efer & efer::lma) != 0; }
    [[nodiscard]] constexpr bool code64() const {
        return long_mode() && segment[seg_cs].has(Segment::l);
    }
};

} // namespace gnomon::processor
