// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/view_guess.h"

#include "processor/soft/code_cache.h"
#include "processor/soft/frame.h"
#include "processor/soft/linear_view.h"

namespace gnomon::processor::soft {

namespace {

/// After that many a place is taken for one that meets several regions in turn.
constexpr u8 most_changes = 4;

template <class T>
const T* behind_sets(const Cpu& cpu, u64 offset) {
    // SAFETY: a window shows them at this distance from the sets (cpu_windows.h).
    return reinterpret_cast<const T*>(reinterpret_cast<const u8*>(cpu.context) +
                                      (offset - context_offset));
}

} // namespace

void resolve_guess(Cpu& cpu, Gva address, GuessSite& site) {
    ++cpu.statistics.view_guesses;
    cpu.next_host = site.cont;
    cpu.next_r13 = address.value();
    const u64 region = address.value() >> view_region_shift;
    if (region >= view_region_count) {
        // No user's address: has the access fault. What lies within a page stays as it is, since
        // alignment comes first.
        cpu.next_r14 = cpu.view_void - address.page().value();
        return;
    }
    cpu.next_r14 = behind_sets<u64>(cpu, view_deltas_offset)[region];
    CodeCache& cache = *cpu.code_cache;
    const auto piece = static_cast<u32>(address.value() >> view_piece_shift);
    const auto& guesses = *behind_sets<ViewGuesses>(cpu, view_guesses_offset);
    for (unsigned n = 0; n < view_guess_count && site.changes < most_changes; ++n) {
        if (guesses.piece[n] != piece) continue;
        ++site.changes;
        cache.patch_displacement(site.piece, frame_guess_piece(n));
        cache.patch_displacement(site.delta, frame_guess_delta(n));
        cache.likely_guess = n;
        return;
    }
    if (++site.changes > most_changes) cache.patch(site.jump, site.general);
}

} // namespace gnomon::processor::soft
