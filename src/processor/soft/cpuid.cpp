// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/cpuid.h"

#include <span>
#include <x86intrin.h>

namespace gnomon::processor::soft {

const CpuidLeaf* find_cpuid_leaf(const ControlBlock& cb, u32 leaf, u32 subleaf) {
    for (const CpuidLeaf& entry : std::span(cb.cpuid, cb.cpuid == nullptr ? 0 : cb.cpuid_count))
        if (entry.leaf == leaf && (!entry.has_subleaf || entry.subleaf == subleaf)) return &entry;
    return nullptr;
}

bool shows_feature(const ControlBlock& cb, const CpuidFeature& wanted) {
    const CpuidLeaf* entry = find_cpuid_leaf(cb, wanted.leaf);
    return entry != nullptr && ((entry->*wanted.reg >> wanted.bit) & 1) != 0;
}

u64 supported_xcr0(const ControlBlock& cb) {
    const CpuidLeaf* entry = find_cpuid_leaf(cb, 0xd, 0);
    const u64 shown = entry != nullptr ? entry->eax : 0;
    return shown & (xcr0::x87 | xcr0::sse | xcr0::avx);
}

u64 guest_tsc(const ControlBlock& cb) { return __rdtsc() + cb.tsc_offset; }

} // namespace gnomon::processor::soft
