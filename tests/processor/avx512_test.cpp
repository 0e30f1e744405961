// SPDX-License-Identifier: Apache-2.0
// AVX-512 as a system sees it: when its instructions are refused, and where its state is while
// other things run. What the instructions do is compared with the host's in tests/instructions.
#include "support/guest.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;
using processor::ExtendedState;
using processor::soft::Feature;
namespace xcr0 = processor::xcr0;
namespace cr0 = processor::cr0;
namespace cr4 = processor::cr4;

constexpr u64 avx = xcr0::x87 | xcr0::sse | xcr0::avx;
constexpr u64 all = avx | xcr0::avx512;
constexpr u64 image = place::data, image_size = 32 * 64 + 8 * 8;

class Avx512 : public testing::Test {
protected:
    void SetUp() override {
        if (!g.cpu().features().has(Feature::avx512)) GTEST_SKIP() << "the host has no AVX-512";
        g.state().cr4 |= cr4::osxsave;
        g.state().xcr0 = all;
    }
    /// Whether the guest's components of AVX-512 are kept at all.
    [[nodiscard]] bool in_use() { return (g.state().extended.header[0] & xcr0::avx512) != 0; }

    /// Every register gets what follows from `seed`.
    static void load_registers(Code& c, u32 seed) {
        for (int i = 0; i < 32; ++i) {
            c.mov(eax, seed * 1000 + static_cast<u32>(i));
            c.vpbroadcastd(Xbyak::Zmm(i), eax);
            c.mov(eax, seed);
            c.vpinsrd(xmm0, xmm0, eax, 1);
        }
        // The lanes differ.
        for (int i = 0; i < 32; ++i) {
            c.mov(rdi, image + 0x800);
            c.vpaddd(Xbyak::Zmm(i), Xbyak::Zmm(i), c.ptr[rdi]);
        }
        for (int i = 0; i < 8; ++i) {
            c.mov(rax, u64{seed} * 0x0123456789abcdef + static_cast<u64>(i));
            c.kmovq(Xbyak::Opmask(i), rax);
        }
    }
    static void store_registers(Code& c) {
        c.mov(edi, image);
        for (int i = 0; i < 32; ++i)
            c.vmovdqu64(c.ptr[rdi + 64 * i], Xbyak::Zmm(i));
        for (int i = 0; i < 8; ++i)
            c.kmovq(c.ptr[rdi + 2048 + 8 * i], Xbyak::Opmask(i));
    }
    [[nodiscard]] std::array<u8, image_size> stored() const {
        return g.peek<std::array<u8, image_size>>(image);
    }
    /// What C++ may do to the host's registers: its C library uses ZMM16-31 and the opmasks.
    static void disturb_host() {
        asm volatile("vpternlogd $0xff, %%zmm16, %%zmm16, %%zmm16\n\t"
                     "vpternlogd $0xff, %%zmm31, %%zmm31, %%zmm31\n\t"
                     "vpternlogd $0xff, %%zmm2, %%zmm2, %%zmm2\n\t"
                     "kxnorq %%k0, %%k0, %%k0\n\t"
                     "kxnorq %%k1, %%k1, %%k1\n\t"
                     "kxnorq %%k7, %%k7, %%k7"
                     :
                     :
                     : "xmm2"); // the others are unknown to the compiler
    }

    Guest g;
};

TEST_F(Avx512, IsRefusedUntilItsStateIsEnabled) {
    const struct {
        const char* what;
        std::function<void(Code&)> emit;
        bool of_avx512;
    } instructions[] = {
        {"EVEX, ZMM", [](Code& c) { c.vpaddd(zmm1, zmm2, zmm3); }, true},
        {"EVEX, XMM", [](Code& c) { c.vpaddd(xmm17, xmm2, xmm3); }, true},
        {"EVEX, memory", [](Code& c) { c.vmovdqu8(c.ptr[rdi], ymm16); }, true},
        {"opmask", [](Code& c) { c.kmovq(k1, rax); }, true},
        {"gather", [](Code& c) { c.vpgatherdd(zmm1 | k1, c.ptr[rdi + zmm2]); }, true},
        {"scatter", [](Code& c) { c.vpscatterdd(c.ptr[rdi + zmm2] | k1, zmm1); }, true},
        {"VEX", [](Code& c) { c.vpaddd(ymm1, ymm2, ymm3); }, false},
    };
    const struct {
        u64 xcr0;
        bool osxsave, ts;
        bool avx512, vex; ///< whether they are executed
    } states[] = {
        {all, true, false, true, true},         {avx, true, false, false, true},
        {all, true, false, true, true}, // again, by translations that are there
        {xcr0::x87, true, false, false, false}, {all, false, false, false, false},
        {all, true, true, false, false},        {avx, true, true, false, false},
    };
    for (const auto& i : instructions) {
        const u64 end = g.assemble(place::kernel_code, [&](Code& c) {
            c.nop();
            i.emit(c);
            c.hlt();
        });
        static_cast<void>(end);
        for (const auto& s : states) {
            SCOPED_TRACE(testing::Message() << i.what << ", XCR0 " << s.xcr0 << ", OSXSAVE "
                                            << s.osxsave << ", TS " << s.ts);
            g.start_kernel();
            g.gpr(processor::rdi) = image;
            g.state().xcr0 = s.xcr0;
            g.state().cr4 = (g.state().cr4 & ~cr4::osxsave) | (s.osxsave ? cr4::osxsave : 0);
            g.state().cr0 = (g.state().cr0 & ~cr0::ts) | (s.ts ? cr0::ts : 0);
            const Stop stop = g.run();
            if (i.of_avx512 ? s.avx512 : s.vex) {
                EXPECT_TRUE(stop.halted()) << stop.text();
                continue;
            }
            EXPECT_TRUE(stop.is(s.ts ? Vector::nm : Vector::ud)) << stop.text();
            EXPECT_EQ(stop.rip, place::kernel_code + 1);
        }
    }
}

TEST_F(Avx512, RegistersSurviveExitsAndHelpers) {
    std::array<u32, 16> lanes{};
    for (u32 n = 0; n < lanes.size(); ++n)
        lanes[n] = n << 24;
    const auto program = [](Code& c, bool disturbed) {
        load_registers(c, 7);
        if (disturbed) {
            c.out_(0x80, al);         // an exit
            c.mov(eax, 1), c.cpuid(); // a helper
            c.mov(ebx, image + 0x2000);
            c.db(0x0f), c.db(0xae), c.db(0x03);     // FXSAVE [RBX]: one that sees the registers
            c.db(0x0f), c.db(0xae), c.db(0x0b);     // FXRSTOR
            c.vmovdqu64(c.ptr[rbx + 0xfe0], zmm31); // across pages
            c.vmovdqu8(c.ptr[rbx + 0xfe0] | k1, zmm30);
            c.out_(0x80, al);
        }
        store_registers(c);
        c.hlt();
    };
    g.poke(image + 0x800, lanes);
    g.assemble(place::kernel_code, [&](Code& c) { program(c, false); });
    ASSERT_TRUE(g.run().halted());
    const auto expected = stored();
    EXPECT_NE(expected, (std::array<u8, image_size>{}));

    g.poke(image, std::array<u8, image_size>{});
    g.poke(image + 0x800, lanes);
    g.start_kernel();
    g.assemble(place::kernel_code, [&](Code& c) { program(c, true); });
    unsigned exits = 0;
    for (;;) {
        disturb_host();
        const Stop stop = g.run();
        if (stop.halted()) break;
        ASSERT_TRUE(stop.is(ExitReason::io)) << stop.text();
        ++exits;
    }
    EXPECT_EQ(exits, 2U);
    EXPECT_EQ(stored(), expected);
}

/// A guest that does not use it does not pay for it; once it does, it finds zeros.
TEST_F(Avx512, IsInItsInitialStateWhenFirstUsed) {
    g.assemble(place::kernel_code, [](Code& c) {
        c.vpaddd(ymm1, ymm1, ymm1);
        c.out_(0x80, al);
        store_registers(c);
        c.hlt();
    });
    ASSERT_TRUE(g.run().is(ExitReason::io));
    EXPECT_FALSE(in_use());
    disturb_host();
    // The store would begin the use: so the content that it finds is not the host's.
    g.poke(image, std::array<u8, image_size>{1, 2, 3});
    ASSERT_TRUE(g.run().halted());
    EXPECT_TRUE(in_use());
    const auto found = stored();
    for (std::size_t at = 16 * 64; at < found.size(); ++at)
        ASSERT_EQ(found[at], 0) << at;
    for (unsigned i = 0; i < 16; ++i)
        for (unsigned byte = 32; byte < 64; ++byte)
            ASSERT_EQ(found[64 * i + byte], 0) << i;
}

/// Where AVX-512 is refused it is not used.
TEST_F(Avx512, RefusedInstructionsDoNotBeginItsUse) {
    g.assemble(place::kernel_code, [](Code& c) { c.vpaddd(zmm1, zmm2, zmm3); });
    g.state().xcr0 = avx;
    ASSERT_TRUE(g.run().is(Vector::ud));
    EXPECT_FALSE(in_use());
}

TEST_F(Avx512, StateIsTheMonitorsToGiveAndToTakeAway) {
    g.assemble(place::kernel_code, [](Code& c) {
        c.out_(0x80, al);
        c.out_(0x80, al);
        store_registers(c);
        c.hlt();
    });
    ASSERT_TRUE(g.run().is(ExitReason::io));
    ExtendedState& e = g.state().extended;
    e.high_zmm[3][5] = 0x55;
    e.zmm_high[2][31] = 0x66;
    e.opmask[6][7] = 0x77;
    e.header[0] |= static_cast<u8>(xcr0::avx512);
    ASSERT_TRUE(g.run().is(ExitReason::io));
    EXPECT_EQ(e.high_zmm[3][5], 0x55);
    // Without its bit in XSTATE_BV a component is in its initial state, whatever the bytes are.
    e.header[0] &= static_cast<u8>(~xcr0::high_zmm);
    disturb_host();
    ASSERT_TRUE(g.run().halted());
    const auto found = stored();
    EXPECT_EQ(found[64 * 19 + 5], 0);
    EXPECT_EQ(found[64 * 2 + 63], 0x66);
    EXPECT_EQ(found[2048 + 8 * 6 + 7], 0x77);
}

/// XRSTOR of content begins its use too.
TEST_F(Avx512, IsUsedByXrstorAlone) {
    ExtendedState given;
    given.header[0] = static_cast<u8>(xcr0::high_zmm);
    given.high_zmm[1][9] = 0x99;
    g.poke(image + 0x2000, given);
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(eax, static_cast<u32>(all)), c.xor_(edx, edx);
        c.mov(ebx, image + 0x2000);
        c.db(0x0f), c.db(0xae), c.db(0x2b); // XRSTOR [RBX]
        c.out_(0x80, al);
        c.vmovdqu64(zmm1, zmm17);
        c.mov(edi, image);
        c.vmovdqu64(c.ptr[rdi], zmm1);
        c.hlt();
    });
    ASSERT_TRUE(g.run().is(ExitReason::io));
    EXPECT_TRUE(in_use());
    disturb_host();
    ASSERT_TRUE(g.run().halted());
    EXPECT_EQ(g.peek<u8>(image + 9), 0x99);
}

} // namespace
} // namespace gnomon::test
