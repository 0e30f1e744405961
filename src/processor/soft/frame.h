// SPDX-License-Identifier: Apache-2.0
/// @file What lies on the host's stack while translated code runs.
#pragma once

#include "processor/soft/cpu.h"

#include <cstddef>

namespace gnomon::processor::soft {

/// What lies at RSP while translated code runs: where an instruction needs the fewest bytes to name
/// it, what is named most. Made anew each time that translated code is entered.
struct alignas(16) Frame {
    u64 high[3] = {}; ///< the guest's R13, R14 and R15; in cb.state.gpr while C++ runs
    u32 guess_piece[view_guess_count] = {}; ///< of ViewGuesses
    u64 guess_delta[view_guess_count] = {};
    /// By access group of the block: the host address of its first byte, or the delta of its
    /// region.
    u64 group[access_group_count] = {};
};
/// Byte offset of a Frame member: what translated code adds to RSP.
#define GNOMON_FRAME(member) static_cast<u32>(offsetof(::gnomon::processor::soft::Frame, member))

/// Where translated code finds guess `n`.
constexpr u8 frame_guess_piece(unsigned n) {
    return static_cast<u8>(GNOMON_FRAME(guess_piece) + sizeof(u32) * n);
}
constexpr u8 frame_guess_delta(unsigned n) {
    return static_cast<u8>(GNOMON_FRAME(guess_delta) + sizeof(u64) * n);
}
static_assert(frame_guess_delta(view_guess_count) < 128, "displacements of 8 bits reach it");
/// Likewise the guest's R13, R14 or R15.
constexpr u32 frame_high(unsigned guest) { return GNOMON_FRAME(high) + 8 * (guest - 13); }
constexpr u32 frame_group(unsigned group) { return GNOMON_FRAME(group) + 8 * group; }

} // namespace gnomon::processor::soft
