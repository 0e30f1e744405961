// SPDX-License-Identifier: Apache-2.0
/// @file Finding the translation of what comes next, as far as it exists.
#pragma once

#include "processor/soft/code_cache.h"
#include "processor/soft/mmu.h"

namespace gnomon::processor::soft {

/// What `look_up` found.
struct LookUp {
    u32 entry = 0;            ///< as entry tables have it; 0: not translated, or faults
    PageCode* page = nullptr; ///< where it would be; unknown after a hit of the fetch TLB
    Walk walk;                ///< if the fetch TLB did not tell
};

/// The linear address that is fetched from at `rip`.
[[nodiscard]] inline Gva fetch_address(const RegisterBlock& s, u64 rip) {
    return Gva(s.code64() ? rip : (s.segment[seg_cs].base + rip) & 0xffffffff);
}

/// Has branches to `rip` try `way` (CodeCache::way) first: a way of `set`.
inline void remember_way(Cpu& cpu, TlbSet set, u64 rip, u32 way) {
    cpu.jump_cache[static_cast<unsigned>(set)][jump_cache_index(rip)] = way;
}

/// The translation at state.rip for `mode`, which is that of the state, and page_base for it. Fills
/// the fetch TLB. The caller has seen that an instruction may begin at RIP.
[[nodiscard]] LookUp look_up(Cpu& cpu, Mode mode);

/// Whether code at `gva`, in the state and mode that `page` was made for, is fetched from its
/// frame. Fills the fetch TLB if so.
[[nodiscard]] bool fetches_from(Cpu& cpu, Gva gva, const PageCode& page);

/// The translation at state.rip in the mode that the state now asks for, to be jumped to from
/// translated code without the dispatch loop; 0 if the loop has something to do first: an event to
/// look at, books to close, code to translate.
[[nodiscard]] u32 chained_target(Cpu& cpu);

} // namespace gnomon::processor::soft
