// SPDX-License-Identifier: Apache-2.0
/// @file What CPUID shows the guest: the table in the control block, and the features that follow
/// from it.
#pragma once

#include "processor/control_block.h"

namespace gnomon::processor::soft {

/// The table's entry for `leaf` and `subleaf`, or nullptr.
[[nodiscard]] const CpuidLeaf* find_cpuid_leaf(const ControlBlock& cb, u32 leaf, u32 subleaf = 0);

/// One feature bit.
struct CpuidFeature {
    u32 leaf;
    u32 CpuidLeaf::*reg;
    unsigned bit;
};

namespace cpuid_feature {
inline constexpr CpuidFeature vme{1, &CpuidLeaf::edx, 1}, de{1, &CpuidLeaf::edx, 2},
    pse{1, &CpuidLeaf::edx, 3}, tsc{1, &CpuidLeaf::edx, 4}, pae{1, &CpuidLeaf::edx, 6},
    mce{1, &CpuidLeaf::edx, 7}, sep{1, &CpuidLeaf::edx, 11}, pge{1, &CpuidLeaf::edx, 13},
    fxsr{1, &CpuidLeaf::edx, 24}, sse{1, &CpuidLeaf::edx, 25}, pcid{1, &CpuidLeaf::ecx, 17},
    xsave{1, &CpuidLeaf::ecx, 26}, fsgsbase{7, &CpuidLeaf::ebx, 0}, smep{7, &CpuidLeaf::ebx, 7},
    invpcid{7, &CpuidLeaf::ebx, 10}, smap{7, &CpuidLeaf::ebx, 20}, umip{7, &CpuidLeaf::ecx, 2},
    rdpid{7, &CpuidLeaf::ecx, 22}, syscall{0x80000001, &CpuidLeaf::edx, 11},
    nx{0x80000001, &CpuidLeaf::edx, 20}, rdtscp{0x80000001, &CpuidLeaf::edx, 27},
    long_mode{0x80000001, &CpuidLeaf::edx, 29};
}

/// Whether the guest is shown `wanted`, in subleaf 0 of its leaf.
[[nodiscard]] bool shows_feature(const ControlBlock& cb, const CpuidFeature& wanted);

/// XCR0 bits that the guest may set: those shown in leaf 0xD that the processor implements.
[[nodiscard]] u64 supported_xcr0(const ControlBlock& cb);

/// The guest's time-stamp counter now.
[[nodiscard]] u64 guest_tsc(ControlBlock& cb);

} // namespace gnomon::processor::soft
