// SPDX-License-Identifier: Apache-2.0
/// @file Which bytes of a memory operand an AVX-512 instruction accesses under a mask.
#pragma once

#include "base/types.h"

namespace gnomon::processor::soft {

/// The memory operand of an instruction that accesses only what its opmask selects (SDM vol. 2A
/// section 2.6.4, "fault suppression"): what is left out cannot fault.
struct MaskedElements {
    u8 mask = 0;    ///< number of the opmask register; 0: all of the operand is accessed
    u8 element = 0; ///< bytes of one
    u8 lanes = 0;   ///< bits of the mask that count: lane n has element n, modulo the operand's
    /// Elements lie side by side, as many as lanes are selected (VPCOMPRESS, VPEXPAND).
    bool packed = false;
    /// The operand must be accessible as a whole all the same (VEXTRACT to memory).
    bool whole = false;

    /// The bytes accessed of an operand of `size` (1 to 64) bytes, bit 0 for the first.
    [[nodiscard]] constexpr u64 bytes(u64 content, unsigned size) const {
        const auto low = [](unsigned bits) { return bits >= 64 ? ~u64{0} : (u64{1} << bits) - 1; };
        u64 selected = content & low(lanes);
        const unsigned count = size / element;
        if (packed) {
            unsigned elements = 0;
            for (; selected != 0; selected &= selected - 1)
                ++elements;
            return low(elements * element);
        }
        u64 all = 0;
        for (unsigned lane = 0; lane < lanes; ++lane)
            if ((selected >> lane & 1) != 0) all |= low(element) << (lane % count * element);
        return all;
    }
};

} // namespace gnomon::processor::soft
