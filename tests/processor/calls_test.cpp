// SPDX-License-Identifier: Apache-2.0
// Calls and returns: the host predicts them as if guests were well behaved; guests need not be.
#include "support/guest.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;

/// Assembles a function that returns `value` in EAX.
void returns(Guest& g, u64 at, u32 value) {
    g.assemble(at, [value](Code& c) {
        c.mov(eax, value);
        c.ret();
    });
}

TEST(Calls, DeeperThanAnyPredictor) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        Xbyak::Label sum, leaf, again;
        c.mov(ebp, 5);
        c.L(again);
        c.mov(ecx, 500);
        c.xor_(eax, eax);
        c.call(sum);
        c.add(rbx, rax);
        c.dec(ebp);
        c.jnz(again);
        c.hlt();
        c.L(sum);
        c.add(rax, rcx);
        c.dec(ecx);
        c.jz(leaf);
        c.push(rcx);
        c.call(sum);
        c.pop(rdx);
        c.add(rax, rdx);
        c.L(leaf);
        c.ret();
    });
    g.gpr(processor::rbx) = 0;
    ASSERT_TRUE(g.run().halted());
    EXPECT_EQ(g.gpr(processor::rbx), 5U * (500 * 501 / 2 + 499 * 500 / 2));
}

// The return address belongs to the guest, which may change it, drop it, or use one twice.
TEST(Calls, ReturnsGoWhereTheStackSays) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        Xbyak::Label again, changes, drops, twice, first, other;
        c.mov(ebp, 50);
        c.L(again);
        c.call(changes);
        c.hlt(); // never
        c.L(other);
        c.inc(rbx);
        c.call(first);
        c.add(rbx, 100);
        c.mov(r12d, 2);
        c.lea(rax, ptr[rip + twice]);
        c.push(rax);
        c.push(rax);
        c.ret();
        c.L(twice);
        c.add(rbx, 10000);
        c.dec(r12d);
        c.jz("done");
        c.ret();
        c.L("done");
        c.dec(ebp);
        c.jnz(again, Code::T_NEAR);
        c.hlt();
        c.L(changes);
        c.lea(rax, ptr[rip + other]);
        c.mov(ptr[rsp], rax);
        c.ret();
        c.L(first);
        c.call(drops);
        c.hlt(); // never
        c.L(drops);
        c.add(rsp, 8);
        c.ret();
    });
    g.gpr(processor::rbx) = 0;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::rbx), 50U * (1 + 100 + 2 * 10000));
}

// One guest CALL in two translations, of which one begins behind the other: both return.
TEST(Calls, OneCallInSeveralTranslations) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        Xbyak::Label again, callee, indirect;
        c.mov(ebp, 100);
        c.lea(r12, ptr[rip + callee]);
        c.nop();
        c.L(again);
        c.inc(rbx);
        c.call(callee);
        c.add(rbx, rax);
        c.L(indirect);
        c.inc(rbx);
        c.call(r12);
        c.add(rbx, rax);
        c.test(ebp, 1);
        c.lea(ebp, ptr[rbp - 1]);
        c.jnz(indirect);
        c.cmp(ebp, 0);
        c.jg(again);
        c.hlt();
        c.L(callee);
        c.mov(eax, 1000);
        c.ret();
    });
    g.gpr(processor::rbx) = 0;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::rbx), (101U + 51) * 1001);
}

// Two instructions that end at one place: CALL R8 is CALL RAX behind its prefix.
TEST(Calls, OverlappingCallsShareAReturnAddressOnly) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        Xbyak::Label again, both, first, second;
        c.lea(rax, ptr[rip + first]);
        c.lea(r8, ptr[rip + second]);
        c.lea(r9, ptr[rip + both]);
        c.mov(ebp, 100);
        c.L(again);
        c.mov(rdx, rbp);
        c.and_(edx, 1);
        c.add(rdx, r9);
        c.jmp(rdx);
        c.L(both);
        c.call(r8); // 41 FF D0
        c.dec(ebp);
        c.jnz(again);
        c.hlt();
        c.L(first);
        c.add(rbx, 1);
        c.ret();
        c.L(second);
        c.add(rbx, 1000);
        c.ret();
    });
    g.gpr(processor::rbx) = 0;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::rbx), 50U * 1001);
}

// The return address is the first byte of the next page, or its instruction crosses the page end.
TEST(Calls, ReturnToAnotherPage) {
    for (const u64 before_end : {0U, 2U}) {
        Guest g;
        constexpr u64 page_end = place::kernel_code + page_size;
        returns(g, place::data, 7);
        g.assemble(page_end - before_end - 2, [](Code& c) {
            c.call(rdx);
            c.add(rbx, 0x12345);
            c.add(rbx, rax);
            c.dec(ebp);
            c.jnz("again");
            c.hlt();
            c.L("again");
            c.jmp(rsi);
        });
        g.assemble(place::kernel_code, [&](Code& c) {
            c.mov(edx, place::data);
            c.mov(esi, static_cast<u32>(page_end - before_end - 2));
            c.mov(ebp, 20);
            c.jmp(rsi);
        });
        g.gpr(processor::rbx) = 0;
        const Stop stop = g.run();
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g.gpr(processor::rbx), 20U * (0x12345 + 7));
    }
}

// Between CALL and RET the page of the CALL gets another frame, where other code follows.
TEST(Calls, ReturnToAPageThatWasRemapped) {
    Guest g;
    constexpr u64 gva = 0x50000000, a = place::data, b = place::data + page_size;
    g.map(gva, a, pte::p);
    for (const u64 frame : {a, b})
        g.assemble(frame, [&](Code& c) {
            c.call(rdx);
            c.mov(eax, frame == a ? 1 : 2);
            c.hlt();
        });
    const u64 entry = g.entry_address(gva);
    g.assemble(place::kernel_code, [&](Code& c) { c.jmp(rcx); });
    g.assemble(place::kernel_code + 0x800, [&](Code& c) {
        c.mov(ptr[rsi], rdi);
        c.invlpg(rcx);
        c.ret();
    });
    for (const u64 frame : {a, b, a, b, b, a}) {
        g.start_kernel();
        g.gpr(processor::rcx) = gva;
        g.gpr(processor::rdx) = place::kernel_code + 0x800;
        g.gpr(processor::rsi) = entry;
        g.gpr(processor::rdi) = frame | pte::p;
        const Stop stop = g.run();
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g.gpr(processor::rax), frame == a ? 1U : 2U);
    }
}

// The callee rewrites what it returns to.
TEST(Calls, ReturnToCodeThatTheCalleeChanged) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        Xbyak::Label again, callee, back;
        c.mov(ebp, 100);
        c.lea(rcx, ptr[rip + back]);
        c.L(again);
        c.call(callee);
        c.L(back);
        c.mov(eax, u32{0x11111111});
        c.add(rbx, rax);
        c.dec(ebp);
        c.jnz(again);
        c.hlt();
        c.L(callee);
        c.mov(dword[rcx + 1], ebp);
        c.ret();
    });
    g.gpr(processor::rbx) = 0;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::rbx), 100U * 101 / 2);
}

// The function changes between two calls: what the CALL was linked to is gone with it.
TEST(Calls, CallOfAFunctionThatHasChanged) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        Xbyak::Label again, callee;
        c.mov(ebp, 100);
        c.lea(rcx, ptr[rip + callee]);
        c.L(again);
        c.mov(dword[rcx + 1], ebp);
        c.call(callee);
        c.add(rbx, rax);
        c.dec(ebp);
        c.jnz(again);
        c.hlt();
        c.L(callee);
        c.mov(eax, u32{0x11111111});
        c.ret();
    });
    g.gpr(processor::rbx) = 0;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::rbx), 100U * 101 / 2);
}

// The same frames are called in ring 3 as in ring 0: each mode has its own returns.
TEST(Calls, ReturnsBelongToTheirMode) {
    Guest g;
    constexpr u64 at = place::user_code;
    g.assemble(at, [](Code& c) {
        Xbyak::Label again, callee;
        c.mov(ebp, 20);
        c.L(again);
        c.call(callee);
        c.add(rbx, rax);
        c.dec(ebp);
        c.jnz(again);
        c.ud2();
        c.L(callee);
        c.mov(eax, 3);
        c.ret();
    });
    for (unsigned n = 0; n < 6; ++n) {
        if (n % 2 == 0)
            g.start_kernel(at);
        else
            g.start_user(at);
        g.gpr(processor::rbx) = 0;
        const Stop stop = g.run();
        ASSERT_TRUE(stop.is(Vector::ud)) << stop.text();
        EXPECT_EQ(g.gpr(processor::rbx), 60U);
    }
}

// The first instruction of the function crosses the end of the CALL's page, and the page behind it
// is now this, now that frame. Met first by CALL itself, or by a jump before the CALL is
// translated.
TEST(Calls, CallOfAFunctionThatCrossesThePageEnd) {
    for (const bool met_before : {false, true}) {
        SCOPED_TRACE(met_before);
        Guest g;
        constexpr u64 gva = 0x50000000, a = place::data, b = place::data + page_size,
                      caller = place::data + 2 * page_size, function = gva + page_size - 2;
        for (const u64 frame : {a, b})
            g.assemble(frame, [&](Code& c) {
                for (const unsigned byte :
                     {frame == a ? 0x10U : 0x20U, 0U, 0U}) // of MOV EAX, imm32
                    c.db(static_cast<u8>(byte));
                c.ret();
            });
        g.map(gva, caller, pte::p);
        g.map(gva + page_size, a, pte::p);
        const u64 entry = g.entry_address(gva + page_size);
        g.assemble(caller, [&](Code& c) {
            Xbyak::Label again;
            c.L(again);
            const auto behind = static_cast<u32>(c.getSize()) + 5;
            c.db(0xe8), c.dd(static_cast<u32>(page_size) - 2 - behind);
            c.add(rbx, rax);
            c.xor_(ptr[rsi], rdi); // the other frame
            c.invlpg(rcx);
            c.dec(ebp);
            c.jnz(again);
            c.hlt();
        });
        g.assemble(caller + page_size - 2, [](Code& c) { c.db(0xb8), c.db(1); });
        g.assemble(place::kernel_code, [&](Code& c) {
            if (met_before) {
                c.mov(eax, static_cast<u32>(function));
                c.call(rax);
            }
            c.mov(eax, static_cast<u32>(gva));
            c.jmp(rax);
        });
        g.gpr(processor::rbx) = 0;
        g.gpr(processor::rbp) = 100;
        g.gpr(processor::rcx) = gva + page_size;
        g.gpr(processor::rsi) = entry;
        g.gpr(processor::rdi) = a ^ b;
        const Stop stop = g.run();
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g.gpr(processor::rbx), 50U * (0x1001 + 0x2001));
    }
}

// A CALL returns to an instruction across the page end, whose second frame changes.
TEST(Calls, ReturnAcrossThePageEnd) {
    Guest g;
    constexpr u64 gva = 0x50000000, a = place::data, b = place::data + page_size,
                  caller = place::data + 2 * page_size;
    for (const u64 frame : {a, b})
        g.assemble(frame, [&](Code& c) {
            for (const unsigned byte :
                 {frame == a ? 0x10U : 0x20U, 0U, 0U}) // the rest of MOV EAX, imm32
                c.db(static_cast<u8>(byte));
            c.add(rbx, rax);
            c.dec(ebp);
            c.jz("done");
            c.jmp(r12);
            c.L("done");
            c.hlt();
        });
    g.map(gva, caller, pte::p);
    g.map(gva + page_size, a, pte::p);
    g.assemble(caller + page_size - 4, [](Code& c) {
        c.call(rdx);
        c.db(0xb8), c.db(1);
    });
    g.assemble(place::kernel_code, [&](Code& c) { c.jmp(r12); });
    g.assemble(place::kernel_code + 0x800, [&](Code& c) {
        c.xor_(ptr[rsi], rdi); // the other frame
        c.invlpg(rcx);
        c.ret();
    });
    g.gpr(processor::r12) = gva + page_size - 4;
    g.gpr(processor::rbx) = 0;
    g.gpr(processor::rbp) = 100;
    g.gpr(processor::rcx) = gva + page_size;
    g.gpr(processor::rdx) = place::kernel_code + 0x800;
    g.gpr(processor::rsi) = g.entry_address(gva + page_size);
    g.gpr(processor::rdi) = a ^ b;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::rbx), 50U * (0x1001 + 0x2001));
}

} // namespace
} // namespace gnomon::test
