// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/cpuid.h"

#include <atomic>
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
    return shown & (xcr0::x87 | xcr0::sse | xcr0::avx | xcr0::avx512);
}

u64 guest_tsc(ControlBlock& cb) {
    const std::atomic_ref offset(cb.tsc_offset);
    const std::atomic_ref read(cb.tsc_read);
    for (;;) {
        const u64 before = offset.load(std::memory_order_relaxed);
        const u64 host = __rdtsc();
        read.store(host, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst);
        // A handler that changed the offset meanwhile did not know of this reading.
        if (offset.load(std::memory_order_relaxed) == before) return host + before;
    }
}

} // namespace gnomon::processor::soft
