// SPDX-License-Identifier: Apache-2.0
/// @file System instructions that translated code does by itself (emit_system.cpp).
#include "support/guest.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

namespace rflags = processor::rflags;
using processor::Vector;
using namespace Xbyak::util;

void swapgs(Code& c) { c.db(0x0f), c.db(0x01), c.db(0xf8); }
void clac(Code& c) { c.db(0x0f), c.db(0x01), c.db(0xca); }
void stac(Code& c) { c.db(0x0f), c.db(0x01), c.db(0xcb); }

/// R14 and R13, which live in the frame, take part as well as registers that do not.
TEST(SystemInLine, FlagsAreChangedOneByOne) {
    for (const u64 arithmetic : {u64{0}, rflags::arithmetic, rflags::arithmetic & ~u64{1}, u64{1},
                                 u64{0x800}, u64{0x844}}) {
        Guest g;
        g.assemble(place::kernel_code, [arithmetic](Code& c) {
            c.mov(rsp, place::kernel_stack);
            c.push(static_cast<u32>(arithmetic | rflags::fixed1));
            c.popfq();
            c.std();
            c.sti();
            c.pushfq();
            c.cli();
            c.pushfq();
            c.cld();
            c.pushfq();
            c.cli();
            c.sti();
            c.sti();
            c.pushfq();
            c.cli();
            swapgs(c);
            c.mov(r14w, r14w);
            c.db(0x41), c.db(0x8c), c.db(0xd6); // MOV R14D, SS
            c.db(0x66), c.db(0x8c), c.db(0xd3); // MOV BX, SS
            c.pushfq();
            c.pop(r12);
            c.pop(r11);
            c.pop(r10);
            c.pop(r9);
            c.pop(r8);
            c.hlt();
        });
        g.state().segment[processor::seg_gs].base = 0x1111;
        g.state().kernel_gs_base = 0xffff888800000000;
        g.gpr(processor::rbx) = ~u64{0};
        g.gpr(processor::r14) = ~u64{0};
        const Stop stop = g.run();
        ASSERT_TRUE(stop.halted()) << stop.text();
        const u64 always = arithmetic | rflags::fixed1;
        EXPECT_EQ(g.gpr(processor::r8), always | rflags::if_ | rflags::df);
        EXPECT_EQ(g.gpr(processor::r9), always | rflags::df);
        EXPECT_EQ(g.gpr(processor::r10), always);
        EXPECT_EQ(g.gpr(processor::r11), always | rflags::if_);
        EXPECT_EQ(g.gpr(processor::r12), always);
        const u64 ss = g.state().segment[processor::seg_ss].selector;
        EXPECT_EQ(g.gpr(processor::r14), ss);
        EXPECT_EQ(g.gpr(processor::rbx), (~u64{0} & ~u64{0xffff}) | ss);
        EXPECT_EQ(g.state().segment[processor::seg_gs].base, 0xffff888800000000);
        EXPECT_EQ(g.state().kernel_gs_base, 0x1111U);
    }
}

TEST(SystemInLine, StiHoldsAnInterruptBackForOneInstruction) {
    for (const bool waits_before : {false, true}) {
        Guest g;
        g.assemble(place::kernel_code, [](Code& c) {
            c.xor_(eax, eax);
            c.mov(ecx, 3);
            Xbyak::Label again;
            c.L(again);
            c.cli();
            c.sti();
            c.inc(eax);
            c.inc(eax);
            c.dec(ecx);
            c.jnz(again);
            c.cli();
            c.hlt();
        });
        g.block().interrupt_window = waits_before;
        const Stop stop = g.run();
        if (!waits_before) {
            EXPECT_TRUE(stop.halted()) << stop.text();
            EXPECT_EQ(g.gpr(processor::rax), 6U);
            continue;
        }
        EXPECT_TRUE(stop.is(processor::ExitReason::interrupt_window)) << stop.text();
        EXPECT_EQ(g.gpr(processor::rax), 1U);
    }
}

// The offset counts, the upper halves are cleared, and the flags stay.
TEST(SystemInLine, TheTimeStampCounterIsRead) {
    for (const u64 offset : {u64{0}, u64{1} << 32, ~u64{0} << 20}) {
        Guest g;
        g.assemble(place::kernel_code, [](Code& c) {
            c.mov(rax, ~u64{0});
            c.mov(rdx, rax);
            c.mov(ecx, 77);
            c.mov(r14, 88);
            c.stc();
            c.rdtsc();
            c.mov(r8, rax);
            c.mov(r9, rdx);
            c.adc(ecx, 0);
            c.rdtsc();
            c.hlt();
        });
        g.block().tsc_offset = offset;
        const u64 begin = __builtin_ia32_rdtsc();
        const Stop stop = g.run();
        const u64 end = __builtin_ia32_rdtsc();
        ASSERT_TRUE(stop.halted()) << stop.text();
        const u64 first = g.gpr(processor::r8) + (g.gpr(processor::r9) << 32) - offset;
        const u64 second = g.gpr(processor::rax) + (g.gpr(processor::rdx) << 32) - offset;
        EXPECT_GE(first, begin);
        EXPECT_GE(second, first);
        EXPECT_LE(second, end);
        EXPECT_EQ(g.block().tsc_read, second);
        EXPECT_EQ(g.gpr(processor::r8) >> 32 | g.gpr(processor::r9) >> 32, 0U);
        EXPECT_EQ(g.gpr(processor::rcx), 78U);
        EXPECT_EQ(g.gpr(processor::r14), 88U);
        EXPECT_EQ(g.cpu().statistics().helper_calls, 1U) << "HLT alone";
    }
}

class Smap : public testing::Test {
protected:
    static constexpr u64 user_page = 0x50000000;
    static constexpr u32 turns = 200;

    Smap() {
        g.map(user_page, place::data, pte::p | pte::w | pte::u);
        g.poke<u64>(place::data, 5);
        g.state().cr4 |= processor::cr4::smap;
        g.assemble(place::kernel_code, [](Code& c) {
            Xbyak::Label again;
            c.xor_(r8d, r8d);
            c.mov(ecx, turns);
            c.mov(ebx, static_cast<u32>(user_page));
            c.L(again);
            clac(c); // which it is already
            c.stc();
            stac(c);
            c.mov(rax, ptr[rbx]);
            c.adc(r8, rax);
            c.stc();
            clac(c);
            c.adc(r8, 0);
            c.dec(ecx);
            c.jnz(again);
            c.hlt();
            c.mov(rax, ptr[rbx]);
        });
    }
    Guest g;
};

TEST_F(Smap, OpensAndClosesUserPages) {
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r8), u64{turns} * 7);
    EXPECT_LT(g.cpu().statistics().dispatches, turns);
    EXPECT_EQ(g.state().rflags & rflags::ac, 0U);
    const Stop closed = g.run();
    EXPECT_TRUE(closed.is(Vector::pf)) << closed.text();
}

// The supervisor's set, of a time with SMAP, is not the one that AC = 0 leads to without.
TEST_F(Smap, ClacClosesNothingWithoutSmap) {
    ASSERT_TRUE(g.run().halted());
    u64 behind = 0;
    g.assemble(place::kernel_code, [&behind](Code& c) {
        c.mov(ebx, static_cast<u32>(user_page));
        clac(c);
        behind = place::kernel_code + c.getSize();
        c.mov(rax, ptr[rbx]);
        c.hlt();
    });
    g.cpu().invalidate_code(Gpa(place::kernel_code), page_size);
    g.start_kernel(behind); // so that there is a translation for that set to go to
    ASSERT_TRUE(g.run().is(Vector::pf));
    g.start_kernel();
    g.state().cr4 &= ~processor::cr4::smap;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::rax), 5U);
}

TEST_F(Smap, OtherModesOfTheOtherSetAreNotUsed) {
    ASSERT_TRUE(g.run().halted());
    // The set that STAC goes to holds translations with SSE usable: an SSE instruction there must
    // not run once it is not.
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(ebx, static_cast<u32>(user_page));
        stac(c);
        c.movups(xmm0, ptr[rbx]);
        c.hlt();
    });
    g.cpu().invalidate_code(Gpa(place::kernel_code), page_size);
    g.start_kernel();
    ASSERT_TRUE(g.run().halted());
    g.start_kernel();
    g.state().rflags &= ~rflags::ac;
    g.state().cr0 |= processor::cr0::ts;
    const Stop stop = g.run();
    EXPECT_TRUE(stop.is(Vector::nm)) << stop.text();
}

} // namespace
} // namespace gnomon::test
