// SPDX-License-Identifier: Apache-2.0
#include "host_state.h"

#include <cpuid.h>

namespace gnomon::test {

using processor::ExtendedState;
namespace xcr0 = processor::xcr0;

u64 HostState::components() {
    u32 low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    constexpr u64 known = xcr0::x87 | xcr0::sse | xcr0::avx | xcr0::avx512;
    return low & known;
}

HostState::HostState() {
    m_parts[0] = {0, 0, offsetof(ExtendedState, ymm_high)};
    struct {
        unsigned number;
        std::size_t here, size;
    } constexpr components_behind[] = {
        {2, offsetof(ExtendedState, ymm_high), sizeof ExtendedState::ymm_high},
        {5, offsetof(ExtendedState, opmask), sizeof ExtendedState::opmask},
        {6, offsetof(ExtendedState, zmm_high), sizeof ExtendedState::zmm_high},
        {7, offsetof(ExtendedState, high_zmm), sizeof ExtendedState::high_zmm},
    };
    std::size_t at = 1;
    for (const auto& c : components_behind) {
        if ((components() >> c.number & 1) == 0) continue;
        u32 a = 0, b = 0, cx = 0, d = 0;
        __cpuid_count(0xd, c.number, a, b, cx, d);
        m_parts[at++] = {c.here, b, c.size};
    }
}

} // namespace gnomon::test
