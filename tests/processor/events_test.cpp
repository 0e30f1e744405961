// SPDX-License-Identifier: Apache-2.0
// The processor's contract: kicks, windows, injected events and halting.
#include "processor/soft/extended_state.h"
#include "support/guest.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;
using processor::Injection;
namespace rf = processor::rflags;

TEST(ProcessorEvents, KickBeforeEnterIsNotLost) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) { c.endless(); });
    g.cpu().kick();
    const Stop stop = g.run();
    EXPECT_TRUE(stop.is(ExitReason::kicked)) << stop.text();
}

class EndlessLoops : public testing::TestWithParam<int> {};

TEST_P(EndlessLoops, AreEndedByAKickFromAnotherThread) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        Xbyak::Label again, other;
        switch (GetParam()) {
        case 0: c.endless(); break;
        case 1: // indirect jumps only
            c.lea(r10, ptr[rip + again]);
            c.L(again);
            c.inc(rax);
            c.jmp(r10);
            break;
        case 2: // calls and returns only
            c.L(again);
            c.call(other);
            c.jmp(again);
            c.L(other);
            c.ret();
            break;
        case 3: // a conditional loop that never ends
            c.L(again);
            c.xor_(eax, eax);
            c.jz(again);
            break;
        case 4: // forward jump over a page end, back by an indirect one
            c.lea(r10, ptr[rip + again]);
            c.L(again);
            c.jmp(other, Code::T_NEAR);
            c.nop(5000);
            c.L(other);
            c.jmp(r10);
            break;
        case 5: // LOOP with RCX wrapping
            c.L(again);
            c.mov(ecx, 2);
            c.db(0xe2), c.db(0xf9); // LOOP again
            c.jmp(again);
            break;
        default: break;
        }
    });
    for (int n = 0; n < 20; ++n) {
        std::thread kicker([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(300 * n));
            g.cpu().kick();
        });
        const Stop stop = g.run();
        kicker.join();
        ASSERT_TRUE(stop.is(ExitReason::kicked)) << stop.text();
        ASSERT_GE(stop.rip, place::kernel_code);
    }
}
INSTANTIATE_TEST_SUITE_P(Shapes, EndlessLoops, testing::Range(0, 6));

/// Reads a port, then counts down from the quadword at place::data, and does so again.
void read_and_spin(Guest& g, u64 short_count) {
    g.assemble(place::kernel_code, [](Code& c) {
        Xbyak::Label again, spin;
        c.L(again);
        c.in_(al, 0x60);
        c.mov(ebx, place::data);
        c.mov(rcx, ptr[rbx]);
        c.L(spin);
        c.dec(rcx);
        c.jnz(spin);
        c.jmp(again);
    });
    g.poke(place::data, short_count);
}
void answer(Guest& g, u64 data) {
    g.block().io_data = data;
    g.block().io_data_valid = true;
}

// A kick that comes while the answer to an IN is under way ends the run, and the IN is not lost.
TEST(ProcessorEvents, KickDuringIoCompletionIsNotLost) {
    Guest g;
    read_and_spin(g, 10);
    for (int n = 0; n < 4; ++n) { // until every branch is linked
        ASSERT_TRUE(g.run().is(ExitReason::io));
        answer(g, 1);
    }
    ASSERT_TRUE(g.run().is(ExitReason::io));
    g.poke(place::data, ~u64{0});
    answer(g, 0x5a);
    g.cpu().kick();
    Stop stop = g.run();
    ASSERT_TRUE(stop.is(ExitReason::kicked)) << stop.text();
    std::thread kicker([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        g.cpu().kick();
    });
    stop = g.run();
    kicker.join();
    ASSERT_TRUE(stop.is(ExitReason::kicked)) << stop.text();
    EXPECT_EQ(g.gpr(processor::rax) & 0xff, 0x5aU);
    EXPECT_GT(stop.rip, place::kernel_code);
}

// The monitor cannot inject while an instruction waits for its data, so it asks for the window:
// there may be no later kick.
TEST(ProcessorEvents, InterruptWindowOpensAfterIoCompletion) {
    Guest g;
    read_and_spin(g, 10);
    g.state().rflags |= rf::if_;
    for (int n = 0; n < 4; ++n) {
        ASSERT_TRUE(g.run().is(ExitReason::io));
        answer(g, 1);
    }
    ASSERT_TRUE(g.run().is(ExitReason::io));
    g.poke(place::data, ~u64{0});
    answer(g, 2);
    g.block().interrupt_window = true;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.is(ExitReason::interrupt_window)) << stop.text();
    EXPECT_EQ(g.gpr(processor::rax) & 0xff, 2U);
}

TEST(ProcessorEvents, InterruptWindowOpensAfterMmioCompletion) {
    Guest g;
    g.map(0x40000000, 0xfee00000, pte::p | pte::w);
    g.assemble(place::kernel_code, [](Code& c) {
        Xbyak::Label again, spin;
        c.mov(ebx, 0x40000000);
        c.mov(edi, place::data);
        c.L(again);
        c.mov(eax, ptr[rbx]);
        c.mov(rcx, ptr[rdi]);
        c.L(spin);
        c.dec(rcx);
        c.jnz(spin);
        c.jmp(again);
    });
    g.poke(place::data, u64{10});
    g.state().rflags |= rf::if_;
    for (int n = 0; n < 4; ++n) {
        ASSERT_TRUE(g.run().is(ExitReason::mmio));
        answer(g, 1);
    }
    ASSERT_TRUE(g.run().is(ExitReason::mmio));
    g.poke(place::data, ~u64{0});
    answer(g, 0x12345678);
    g.block().interrupt_window = true;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.is(ExitReason::interrupt_window)) << stop.text();
    EXPECT_EQ(g.gpr(processor::rax), 0x12345678U);
}

TEST(ProcessorEvents, InterruptWindowOpensAfterStiAndOneInstruction) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        c.nop();
        c.sti();
        c.inc(eax);
        c.inc(eax);
        c.endless();
    });
    g.gpr(processor::rax) = 0;
    g.block().interrupt_window = true;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.is(ExitReason::interrupt_window)) << stop.text();
    EXPECT_EQ(g.gpr(processor::rax), 1U);
    EXPECT_EQ(stop.rip, place::kernel_code + 4);
}

TEST(ProcessorEvents, InterruptWindowOpensByPopfAndIret) {
    for (const bool by_iret : {false, true}) {
        Guest g;
        g.assemble(place::kernel_code, [&](Code& c) {
            Xbyak::Label there;
            if (by_iret) {
                c.push(selector::kernel_data);
                c.push(place::kernel_stack);
                c.push(static_cast<u32>(rf::if_ | rf::fixed1));
                c.push(selector::kernel_code);
                c.lea(r10, ptr[rip + there]);
                c.push(r10);
                c.iretq();
            } else {
                c.push(static_cast<u32>(rf::if_ | rf::fixed1));
                c.popf();
            }
            c.L(there);
            c.endless();
        });
        g.block().interrupt_window = true;
        const Stop stop = g.run();
        EXPECT_TRUE(stop.is(ExitReason::interrupt_window)) << by_iret << stop.text();
    }
}

TEST(ProcessorEvents, AReturnThatIsWatchedOpensTheWindow) {
    for (const bool watched : {false, true}) {
        Guest g;
        g.assemble(place::kernel_code, [&](Code& c) {
            Xbyak::Label there;
            c.push(selector::kernel_data);
            c.push(place::kernel_stack);
            c.push(static_cast<u32>(rf::if_ | rf::fixed1));
            c.push(selector::kernel_code);
            c.lea(r10, ptr[rip + there]);
            c.push(r10);
            c.iretq();
            c.L(there);
            c.mov(eax, 7);
            c.hlt();
        });
        g.gpr(processor::rax) = 0;
        g.block().return_watch = {.armed = true,
                                  .opens_window = true,
                                  .cs = selector::kernel_code,
                                  .cr3 = g.state().cr3,
                                  .rsp = watched ? place::kernel_stack : place::kernel_stack - 8};
        const Stop stop = g.run();
        EXPECT_EQ(stop.is(ExitReason::interrupt_window), watched) << stop.text();
        EXPECT_EQ(g.gpr(processor::rax), watched ? 0U : 7U) << "nothing is executed there before";
        EXPECT_EQ(g.block().return_watch.seen, watched);
    }
}

TEST(ProcessorEvents, NoWindowWithInterruptsOff) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(ecx, 100000);
        Xbyak::Label again;
        c.L(again);
        c.dec(ecx);
        c.jnz(again);
        c.hlt();
    });
    g.block().interrupt_window = true;
    EXPECT_TRUE(g.run().halted());
}

TEST(ProcessorEvents, ExternalInterruptPushesTheInterruptedState) {
    Guest g;
    g.assemble(place::user_code, [](Code& c) { c.endless(); });
    g.start_user();
    g.state().rflags |= rf::if_ | rf::cf | rf::sf;
    g.block().injection.kind = Injection::Kind::external_interrupt;
    g.block().injection.vector = 0x41;
    const Stop stop = g.run();
    ASSERT_EQ(stop.kind, Stop::Kind::event) << stop.text();
    EXPECT_EQ(stop.vector, 0x41);
    EXPECT_EQ(stop.rip, place::user_code);
    EXPECT_EQ(stop.cs, selector::user_code);
    EXPECT_EQ(stop.ss, selector::user_data);
    EXPECT_EQ(stop.rsp, place::user_stack);
    EXPECT_EQ(stop.rflags, rf::if_ | rf::cf | rf::sf | rf::fixed1);
    EXPECT_EQ(g.state().rflags & (rf::if_ | rf::tf), 0U);
    EXPECT_EQ(g.gpr(processor::rsp), place::kernel_stack - 40);
    EXPECT_EQ(g.block().injection.kind, Injection::Kind::none);
}

TEST(ProcessorEvents, NmiBlocksNmisUntilIret) {
    Guest g;
    constexpr u64 handler = place::kernel_code + 0x800;
    g.set_gate(2, handler, 0, 1);
    g.assemble(place::kernel_code, [](Code& c) { c.hlt(); });
    g.assemble(handler, [](Code& c) {
        c.mov(edi, 0x1234);
        c.hlt();
        c.iretq();
    });
    g.block().injection.kind = Injection::Kind::nmi;
    g.block().injection.vector = 2;
    ASSERT_TRUE(g.run().halted());
    EXPECT_EQ(g.gpr(processor::rdi), 0x1234U);
    EXPECT_TRUE(g.block().nmi_blocked);
    EXPECT_EQ(g.gpr(processor::rsp), place::interrupt_stack - 40);
    const Stop back = g.run();
    ASSERT_TRUE(back.halted()) << back.text();
    EXPECT_FALSE(g.block().nmi_blocked);
    EXPECT_EQ(back.rip, place::kernel_code + 1);
}

TEST(ProcessorEvents, InjectedExceptionHasItsErrorCodeAndCr2) {
    Guest g;
    g.assemble(place::user_code, [](Code& c) { c.endless(); });
    g.start_user();
    g.inject(Vector::pf, 0x6, 0xdeadb000);
    const Stop stop = g.run();
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.error_code, 6U);
    EXPECT_EQ(g.state().cr2, 0xdeadb000U);
    EXPECT_EQ(stop.rflags & rf::rf, rf::rf) << "faults push RF";
}

// Nothing of IDT, GDT, TSS and stack is in the shadow when the event comes: each page faults once
// and the delivery is tried again, as one event.
TEST(ProcessorEvents, DeliveryThatPageFaultsIsRetried) {
    GuestOptions options;
    options.shadow.prefetch = 0;
    Guest g(options);
    g.assemble(place::user_code, [](Code& c) { c.endless(); });
    g.start_user();
    g.state().rflags |= rf::if_;
    g.block().injection.kind = Injection::Kind::external_interrupt;
    g.block().injection.vector = 0x80;
    u64 during = 0;
    for (;;) {
        const Exit exit = g.cpu().enter();
        if (exit.reason != ExitReason::page_fault) {
            ASSERT_EQ(exit.reason, ExitReason::halt);
            break;
        }
        during += exit.during_delivery;
        if (exit.during_delivery) {
            ASSERT_EQ(g.block().injection.vector, 0x80);
            ASSERT_EQ(g.state().rip, place::user_code) << "nothing may have changed";
            ASSERT_EQ(g.gpr(processor::rsp), place::user_stack);
        }
        ASSERT_TRUE(g.handle(exit));
    }
    EXPECT_GE(during, 4U) << "IDT, GDT, TSS and stack lie on four pages";
    EXPECT_EQ(g.gpr(processor::rsp), place::kernel_stack - 40);
    EXPECT_EQ(g.peek(place::kernel_stack - 40), place::user_code);
}

TEST(ProcessorEvents, FaultWhileDeliveringBecomesDoubleFaultThenShutdown) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) { c.ud2(); });
    g.poke(place::idt + 16 * 6 + 5, u8{0x0e}); // #UD's gate is not present
    Stop stop = g.run();
    EXPECT_TRUE(stop.is(Vector::np)) << stop.text();
    EXPECT_EQ(stop.error_code, 6U * 8 + 2 + 1);

    Guest h;
    h.set_gate(8, place::stubs + 16 * 8, 0, 1);
    h.assemble(place::kernel_code, [](Code& c) {
        c.mov(rsp, 0x70000000);
        c.ud2();
    });
    stop = h.run();
    ASSERT_TRUE(stop.is(Vector::df)) << stop.text();
    EXPECT_EQ(h.peek<u16>(stop.rip), 0x0b0f) << "the UD2 is what is pushed";

    Guest t;
    t.assemble(place::kernel_code, [](Code& c) { c.ud2(); });
    t.state().idtr.limit = 0;
    stop = t.run();
    EXPECT_TRUE(stop.is(ExitReason::triple_fault)) << stop.text();
}

TEST(ProcessorEvents, HaltLeavesRipBehind) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        c.hlt();
        c.mov(eax, 7);
        c.hlt();
    });
    Stop stop = g.run();
    ASSERT_TRUE(stop.halted());
    EXPECT_EQ(stop.rip, place::kernel_code + 1);
    stop = g.run();
    ASSERT_TRUE(stop.halted());
    EXPECT_EQ(g.gpr(processor::rax), 7U);
}

TEST(ProcessorEvents, HaltAndPrivilegedInstructionsFaultInRing3) {
    const std::vector<std::vector<u8>> privileged = {
        {0xf4},       {0xfa},      {0x0f, 0x30}, {0x0f, 0x22, 0xd8}, {0x0f, 0x01, 0x3b},
        {0x0f, 0x09}, {0xe4, 0x60}};
    for (const auto& bytes : privileged) {
        Guest g;
        g.assemble(place::user_code, [&](Code& c) {
            for (const u8 b : bytes)
                c.db(b);
        });
        g.start_user();
        const Stop stop = g.run();
        EXPECT_TRUE(stop.is(Vector::gp)) << fmt::format("{:#x}: ", bytes[0]) << stop.text();
        EXPECT_EQ(stop.rip, place::user_code);
    }
}

TEST(ProcessorEvents, SoftwareInterruptExitsWhereAsked) {
    Guest g;
    g.assemble(place::user_code, [](Code& c) {
        c.db(0xcd), c.db(0x55); // INT 0x55: allowed by its gate
        c.db(0xcd), c.db(0x80);
    });
    g.set_gate(0x55, place::stubs + 16 * 0x55, 3);
    g.start_user();
    g.block().int_intercept.set(0x55);
    Stop stop = g.run();
    ASSERT_TRUE(stop.is(ExitReason::software_interrupt)) << stop.text();
    EXPECT_EQ(stop.exit.index, 0x55U);
    EXPECT_EQ(stop.rip, place::user_code);
    auto& injection = g.block().injection;
    injection.kind = Injection::Kind::software_interrupt;
    injection.vector = 0x55;
    injection.instruction_length = stop.exit.instruction_length;
    stop = g.run();
    ASSERT_EQ(stop.kind, Stop::Kind::event);
    EXPECT_EQ(stop.vector, 0x55);
    EXPECT_EQ(stop.rip, place::user_code + 2);
    g.start_user(place::user_code + 2);
    stop = g.run(); // not intercepted: the gate's DPL forbids it
    ASSERT_TRUE(stop.is(Vector::gp)) << stop.text();
    EXPECT_EQ(stop.error_code, 0x80U * 8 + 2);
}

TEST(ProcessorEvents, SoftwareInterruptExitsBehindItsDeliveryWhereAsked) {
    Guest g;
    g.assemble(place::user_code, [](Code& c) {
        c.db(0xcd), c.db(0x55);
        c.db(0xcd), c.db(0x56);
    });
    g.set_gate(0x55, place::stubs + 16 * 0x55, 3);
    g.block().int_delivery_exit.set(0x55);
    g.block().int_delivery_exit.set(0x56);
    g.start_user();
    Stop stop = g.run();
    ASSERT_TRUE(stop.is(ExitReason::software_interrupt_delivered)) << stop.text();
    EXPECT_EQ(stop.exit.index, 0x55U);
    EXPECT_EQ(stop.exit.value, place::user_code + 2);
    EXPECT_EQ(stop.exit.gva, Gva(place::user_stack));
    EXPECT_TRUE(stop.exit.from_user);
    EXPECT_EQ(stop.rip, place::stubs + 16 * 0x55);
    stop = g.run();
    ASSERT_EQ(stop.kind, Stop::Kind::event);
    EXPECT_EQ(stop.vector, 0x55);
    g.start_user(place::user_code + 2); // the gate's DPL forbids it
    stop = g.run();
    ASSERT_TRUE(stop.is(Vector::gp)) << stop.text();
    EXPECT_EQ(g.exits(ExitReason::software_interrupt_delivered), 1U);
}

// RF is never in the frame of an INT n: it is cleared as that begins (SDM vol. 3B 18.3.1.1).
TEST(ProcessorEvents, ResumeFlagIsNotInTheFrameOfAnInterruptInstruction) {
    for (const bool nop : {false, true}) {
        Guest g;
        g.set_gate(0x55, place::stubs + 16 * 0x55, 3);
        g.assemble(place::user_code, [&](Code& c) {
            if (nop) c.nop();
            c.db(0xcd), c.db(0x55);
        });
        g.start_user();
        g.state().rflags |= rf::rf;
        const Stop stop = g.run();
        ASSERT_EQ(stop.vector, 0x55) << stop.text();
        EXPECT_EQ(stop.rflags & rf::rf, 0U);
    }
}

// Breakpoints that MOV SS meets wait for the next instruction, also if that one has to be begun
// twice, and are not lost if it leaves the processor.
TEST(ProcessorEvents, TrapsHeldByMovSsSurviveARestart) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(edx, place::data);
        c.mov(ss, word[rdx]);
        c.mov(eax, ptr[rbx]); // the shadow has no entry for it yet
        c.inc(eax);
        c.endless();
    });
    g.poke<u16>(place::data, selector::kernel_data);
    g.gpr(processor::rbx) = place::data + 5 * page_size;
    g.state().dr[0] = place::data;
    g.state().dr[7] = 0x401 | u64{7} << 16; // two bytes, read or written
    const Stop stop = g.run();
    ASSERT_TRUE(stop.is(Vector::db)) << stop.text();
    EXPECT_EQ(g.state().dr[6] & 0x400f, 1U);
    EXPECT_EQ(g.peek<u8>(stop.rip - 1) << 8 | g.peek<u8>(stop.rip - 2), 0x038b)
        << "the trap is behind the MOV";
}

TEST(ProcessorEvents, SingleStepTrapsAfterEachInstruction) {
    Guest g;
    g.assemble(place::user_code, [](Code& c) {
        c.inc(eax);
        c.inc(eax);
        c.endless();
    });
    g.start_user();
    g.gpr(processor::rax) = 0;
    g.state().rflags |= rf::tf;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.is(Vector::db)) << stop.text();
    EXPECT_EQ(stop.rip, place::user_code + 2);
    EXPECT_EQ(g.gpr(processor::rax), 1U);
    EXPECT_NE(g.state().dr[6] & 0x4000, 0U);
}

/// Every bit of MXCSR that the host has, AMD's misaligned-exception mask among them.
TEST(ProcessorState, MxcsrOutlivesExits) {
    const u32 wanted = processor::soft::mxcsr_mask() & ~u32{0x3f}; // no flag of an exception
    Guest g;
    g.assemble(place::kernel_code, [wanted](Code& c) {
        c.mov(rdi, place::data);
        c.mov(dword[rdi], wanted);
        c.ldmxcsr(ptr[rdi]);
        c.hlt();
        c.stmxcsr(ptr[rdi]);
        c.mov(eax, ptr[rdi]);
        c.hlt();
    });
    Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(static_cast<u32>(g.state().gpr[0]), wanted);
}

} // namespace
} // namespace gnomon::test
