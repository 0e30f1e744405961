// SPDX-License-Identifier: Apache-2.0
/// @file What helpers of vector instructions share.
#pragma once

#include "processor/soft/cpu.h"

namespace gnomon::processor::soft {

/// What every VEX instruction, or one whose state is that of `needed`, checks first; true if
/// `result` is to be returned.
inline bool avx_refused(Cpu& cpu, HelperResult& result, u64 needed = xcr0::sse | xcr0::avx) {
    if ((cpu.cb.state.cr4 & cr4::osxsave) == 0 || (cpu.cb.state.xcr0 & needed) != needed)
        result = cpu.raise(Vector::ud);
    else if ((cpu.cb.state.cr0 & cr0::ts) != 0)
        result = cpu.raise(Vector::nm);
    else
        return false;
    return true;
}

inline bool sign_bit(const u8* element, unsigned size) { return (element[size - 1] & 0x80) != 0; }

/// Which elements of a register have their sign bit set, bit 0 for the lowest.
inline u32 element_mask(const u8* mask, unsigned elements, unsigned size) {
    u32 enabled = 0;
    for (unsigned i = 0; i < elements; ++i)
        if (sign_bit(mask + i * size, size)) enabled |= 1U << i;
    return enabled;
}

} // namespace gnomon::processor::soft
