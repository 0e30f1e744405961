// SPDX-License-Identifier: Apache-2.0
// Several processors in one process share nothing.
#include "support/guest.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;

/// A loop over integers, vectors and x87 that leaves by OUT now and then; the result depends on
/// all.
void program(Code& c, u32 seed) {
    Xbyak::Label again;
    c.mov(eax, seed);
    c.mov(ecx, 2000);
    c.cvtsi2sd(xmm3, eax);
    c.vpxor(ymm4, ymm4, ymm4);
    c.vmovd(xmm5, eax);
    c.vpbroadcastd(ymm5, xmm5);
    c.fld1();
    c.L(again);
    c.imul(rax, rax, 1103515245);
    c.add(rax, 12345);
    c.addsd(xmm3, xmm3);
    c.vpaddd(ymm4, ymm4, ymm5);
    c.fadd(st0, st0);
    c.fsqrt();
    c.test(ecx, 63);
    Xbyak::Label no_exit;
    c.jnz(no_exit);
    c.out_(0x80, al);
    c.L(no_exit);
    c.dec(ecx);
    c.jnz(again);
    c.mov(edi, place::data);
    c.vmovdqu(ptr[rdi], ymm4);
    c.movsd(ptr[rdi + 0x20], xmm3);
    c.fstp(qword[rdi + 0x28]);
    c.mov(ptr[rdi + 0x30], rax);
    c.hlt();
}

std::array<u64, 7> result(Guest& g) { return g.peek<std::array<u64, 7>>(place::data); }

std::array<u64, 7> alone(u32 seed) {
    Guest g;
    g.assemble(place::kernel_code, [&](Code& c) { program(c, seed); });
    for (;;)
        if (const Stop stop = g.run(); stop.halted())
            return result(g);
        else if (!stop.is(ExitReason::io)) {
            ADD_FAILURE() << stop.text();
            return {};
        }
}

TEST(SeveralProcessors, AlternateInOneThread) {
    Guest a, b;
    a.assemble(place::kernel_code, [](Code& c) { program(c, 17); });
    b.assemble(place::kernel_code, [](Code& c) { program(c, 4711); });
    bool a_runs = true, b_runs = true;
    unsigned turns = 0;
    while (a_runs || b_runs) {
        if (a_runs) a_runs = a.run().is(ExitReason::io);
        if (b_runs) b_runs = b.run().is(ExitReason::io);
        ++turns;
    }
    EXPECT_GT(turns, 20U);
    EXPECT_EQ(result(a), alone(17));
    EXPECT_EQ(result(b), alone(4711));
    EXPECT_NE(result(a), result(b));
}

TEST(SeveralProcessors, RunInTwoThreads) {
    const auto expected_a = alone(3), expected_b = alone(5);
    Guest a, b;
    const auto work = [](Guest& g, u32 seed, const std::array<u64, 7>& expected) {
        g.assemble(place::kernel_code, [&](Code& c) { program(c, seed); });
        for (int n = 0; n < 50; ++n) {
            g.start_kernel();
            Stop stop;
            do {
                stop = g.run();
            } while (stop.is(ExitReason::io));
            ASSERT_TRUE(stop.halted()) << stop.text();
            ASSERT_EQ(result(g), expected);
            const u16 fcw = 0x37f; // the stack keeps what FLD1 pushed only while the loop runs
            std::memcpy(g.state().extended.legacy, &fcw, sizeof fcw);
        }
    };
    std::thread other([&] { work(b, 5, expected_b); });
    work(a, 3, expected_a);
    other.join();
}

TEST(SeveralProcessors, OneProcessorMovesBetweenThreads) {
    const auto expected = alone(9);
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) { program(c, 9); });
    for (bool runs = true; runs;)
        std::thread([&] { runs = g.run().is(ExitReason::io); }).join();
    EXPECT_EQ(result(g), expected);
}

// The second may be given the first one's address: what the thread remembers must not fool it.
TEST(SeveralProcessors, OneAfterTheOther) {
    for (u32 n = 0; n < 5; ++n) {
        auto g = std::make_unique<Guest>();
        g->assemble(place::kernel_code, [n](Code& c) {
            c.mov(eax, n);
            c.hlt();
        });
        ASSERT_TRUE(g->run().halted());
        EXPECT_EQ(g->gpr(processor::rax), n);
    }
}

// Host state that belongs to the caller survives: MXCSR, the x87 control word and the vector state.
TEST(SeveralProcessors, GuestControlWordsDoNotLeakIntoTheHost) {
    Guest g;
    g.poke<u32>(place::data, 0x9fc0); // DAZ, FTZ
    g.poke<u16>(place::data + 4, 0x0c7f);
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(ebx, place::data);
        c.ldmxcsr(ptr[rbx]);
        c.db(0xd9), c.db(0x6b), c.db(0x04); // FLDCW [rbx + 4]
        c.hlt();
    });
    u32 mxcsr_before = 0, mxcsr_after = 0;
    u16 fcw_before = 0, fcw_after = 0;
    asm volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr_before), "=m"(fcw_before));
    ASSERT_TRUE(g.run().halted());
    asm volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr_after), "=m"(fcw_after));
    EXPECT_EQ(mxcsr_before, mxcsr_after);
    EXPECT_EQ(fcw_before, fcw_after);
    u32 guest_mxcsr = 0;
    std::memcpy(&guest_mxcsr, g.state().extended.legacy + processor::ExtendedState::mxcsr, 4);
    EXPECT_EQ(guest_mxcsr, 0x9fc0U);
}

} // namespace
} // namespace gnomon::test
