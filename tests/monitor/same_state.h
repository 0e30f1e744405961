// SPDX-License-Identifier: Apache-2.0
/// @file Register blocks at random, and compared.
#pragma once

#include "support/guest.h"

#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <string>

namespace gnomon::test {

/// The state of a guest that may be hooked and of one that is not, as far as software can see it.
inline void expect_same_state(Guest& hooked, Guest& plain, const std::string& what) {
    auto &a = hooked.state(), &b = plain.state();
    for (unsigned n = 0; n < 16; ++n)
        EXPECT_EQ(a.gpr[n], b.gpr[n]) << what << " register " << n;
    EXPECT_EQ(a.rip, b.rip) << what;
    EXPECT_EQ(a.rflags, b.rflags) << what;
    for (unsigned n = 0; n < processor::segment_count; ++n) {
        EXPECT_EQ(a.segment[n].selector, b.segment[n].selector) << what << n;
        EXPECT_EQ(a.segment[n].base, b.segment[n].base) << what << n;
        EXPECT_EQ(a.segment[n].limit, b.segment[n].limit) << what << n;
        EXPECT_EQ(a.segment[n].rights, b.segment[n].rights) << what << n;
    }
    EXPECT_EQ(a.kernel_gs_base, b.kernel_gs_base) << what;
    EXPECT_EQ(a.cr2, b.cr2) << what;
    EXPECT_EQ(a.dr[6], b.dr[6]) << what;
    EXPECT_EQ(std::memcmp(&a.extended, &b.extended, sizeof a.extended), 0) << what;
}

/// All that a program can set; RAX = `number`.
inline void randomize(processor::RegisterBlock& s, u64 seed, u64 number, u64 fmask, bool trap) {
    namespace rf = processor::rflags;
    std::mt19937_64 random(seed);
    for (u64& r : s.gpr)
        r = random();
    s.gpr[processor::rax] = number;
    constexpr u64 writable =
        rf::arithmetic | rf::df | rf::ac | rf::id | rf::if_ | rf::nt | rf::iopl;
    s.rflags = (random() & writable) | rf::fixed1 | (trap ? rf::tf : 0);
    s.fmask = fmask;
    s.segment[processor::seg_fs].base = random() >> 20;
    s.segment[processor::seg_gs].base = random() >> 20;
    s.kernel_gs_base = random() >> 20;
    for (unsigned n = 160; n < 416; ++n)
        s.extended.legacy[n] = static_cast<u8>(random());
    for (auto& half : s.extended.ymm_high)
        for (u8& b : half)
            b = static_cast<u8>(random());
    s.extended.header[0] = 7;
}

} // namespace gnomon::test
