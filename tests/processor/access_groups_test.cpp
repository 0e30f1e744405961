// SPDX-License-Identifier: Apache-2.0
// Accesses that one look into the TLB serves: what each of them does alone must not change.
#include "support/guest.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;

constexpr u64 first = 0x50000000, second = first + page_size;
constexpr u64 frames = place::data, rw = pte::p | pte::w;

/// Runs `emit` with RBX = `address` until it halts or an exception comes.
Stop run_at(Guest& g, u64 address, const std::function<void(Code&)>& emit) {
    g.assemble(place::kernel_code, emit);
    g.start_kernel();
    g.gpr(processor::rbx) = address;
    return g.run();
}

void three_stores(Code& c) {
    c.mov(qword[rbx], 1);
    c.mov(qword[rbx + 8], 2);
    c.mov(qword[rbx + 16], 3);
    c.hlt();
}

TEST(AccessGroups, AcrossAPageEnd) {
    Guest g;
    g.map(first, frames, rw);
    g.map(second, frames + 4 * page_size, rw);
    for (u64 before_end = 1; before_end < 24; ++before_end)
        for (int n = 0; n < 3; ++n) {
            const u64 at = second - before_end;
            const Stop stop = run_at(g, at, three_stores);
            ASSERT_TRUE(stop.halted()) << stop.text();
            for (u64 i = 0; i < 24; ++i) {
                const u64 gva = at + i;
                const u64 gpa =
                    gva < second ? frames + (gva - first) : frames + 4 * page_size + (gva - second);
                EXPECT_EQ(g.peek<u8>(gpa), i % 8 == 0 ? i / 8 + 1 : 0);
            }
        }
}

TEST(AccessGroups, OnlyTheAccessThatIsForbiddenFaults) {
    Guest g;
    g.map(first, frames, rw);
    // At the page's end, and in the middle of it once it may not be written.
    for (const u64 done : {0U, 1U, 2U}) {
        const u64 at = second - 8 * done;
        const Stop stop = run_at(g, at, three_stores);
        ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
        EXPECT_EQ(g.state().cr2, second);
        EXPECT_EQ(stop.rip, place::kernel_code + (done == 0 ? 0 : done == 1 ? 7 : 15));
        for (u64 n = 0; n < done; ++n)
            EXPECT_EQ(g.peek(frames + page_size - 8 * (done - n)), n + 1);
    }
    g.map(second, frames + page_size, pte::p);
    g.poke<u64>(frames + page_size + 0x108, 77);
    for (int n = 0; n < 3; ++n) {
        const Stop stop = run_at(g, second + 0x100, [](Code& c) {
            c.mov(rax, ptr[rbx + 8]);
            c.inc(rax);
            c.mov(ptr[rbx + 16], rax);
            c.hlt();
        });
        ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
        EXPECT_EQ(g.gpr(processor::rax), 78U);
        EXPECT_EQ(stop.rip, place::kernel_code + 7);
        EXPECT_EQ(g.state().cr2, second + 0x110);
    }
}

// What a group asks for in advance must not be asked of a page that is only read in the end.
TEST(AccessGroups, AWriteThatIsNotReachedIsNoWrite) {
    Guest g;
    g.map(first, frames, pte::p);
    const Stop stop = run_at(g, first, [](Code& c) {
        Xbyak::Label again, out;
        c.mov(ebp, 1000);
        c.L(again);
        c.mov(rax, ptr[rbx]);
        c.mov(rdx, ptr[rbx + 8]);
        c.test(rax, rax);
        c.jz(out);
        c.mov(ptr[rbx + 16], rax);
        c.L(out);
        c.dec(ebp);
        c.jnz(again);
        c.hlt();
    });
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.peek(g.entry_address(first)) & pte::d, 0U);
    EXPECT_LT(g.cpu().statistics().slow_accesses, 20U) << "the TLB served the reads";
}

TEST(AccessGroups, NonCanonicalAddresses) {
    Guest g;
    for (const u64 done : {0U, 1U, 2U}) {
        g.map(0x7ffffffff000, frames, rw);
        const Stop stop = run_at(g, 0x800000000000 - 8 * done, three_stores);
        ASSERT_TRUE(stop.is(Vector::gp)) << stop.text();
        EXPECT_EQ(stop.rip, place::kernel_code + (done == 0 ? 0 : done == 1 ? 7 : 15));
    }
    // On the stack it is #SS, which needs another one.
    g.set_gate(static_cast<u8>(Vector::ss), place::stubs + 16 * static_cast<u64>(Vector::ss), 0, 1);
    const Stop stop = run_at(g, 0x800000000000, [](Code& c) {
        c.mov(rsp, rbx);
        c.pop(rax);
        c.pop(rdx);
        c.hlt();
    });
    EXPECT_TRUE(stop.is(Vector::ss)) << stop.text();
}

// Code that a group writes to is translated afresh, though its page was written before.
TEST(AccessGroups, CodeIsChangedByAGroup) {
    Guest g;
    constexpr u64 function = frames + 2 * page_size;
    g.assemble(function, [](Code& c) {
        c.mov(eax, 0);
        c.mov(edx, 0);
        c.lea(rax, ptr[rax + rdx]);
        c.ret();
    });
    const Stop stop = run_at(g, function, [](Code& c) {
        Xbyak::Label again;
        c.mov(ebp, 100);
        c.L(again);
        c.mov(dword[rbx + 0x100], ebp); // beside the code
        c.mov(dword[rbx + 1], ebp);
        c.mov(dword[rbx + 6], ebp);
        c.call(rbx);
        c.add(rsi, rax);
        c.dec(ebp);
        c.jnz(again);
        c.hlt();
    });
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::rsi), 100U * 101);
}

// The address changes its meaning between two accesses of one block.
TEST(AccessGroups, DoNotReachOverAnInvalidation) {
    Guest g;
    g.map(first, frames, rw);
    g.poke<u64>(frames, 10);
    g.poke<u64>(frames + page_size, 20);
    for (int n = 0; n < 3; ++n) {
        g.map(first, frames, rw);
        g.cpu().invalidate_tlb();
        const u64 entry = g.entry_address(first);
        const Stop stop = run_at(g, first, [&](Code& c) {
            c.mov(ecx, static_cast<u32>(entry));
            c.mov(eax, static_cast<u32>((frames + page_size) | rw));
            c.mov(rsi, ptr[rbx]);
            c.mov(ptr[rcx], rax);
            c.invlpg(rbx);
            c.mov(rdi, ptr[rbx]);
            c.mov(rax, static_cast<u32>(frames | rw));
            c.mov(ptr[rcx], rax);
            c.invlpg(rbx);
            c.hlt();
        });
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g.gpr(processor::rsi), 10U);
        EXPECT_EQ(g.gpr(processor::rdi), 20U);
    }
}

// Every access to a page table is recorded, also by several stores to it.
TEST(AccessGroups, PageTablesAreTraced) {
    GuestOptions options;
    options.strict = true;
    Guest g(options);
    g.map(first, frames, rw);
    g.map(second, frames + page_size, rw);
    g.poke<u64>(frames, 1);
    g.poke<u64>(frames + page_size, 2);
    const u64 entry = g.entry_address(first);
    const Stop stop = run_at(g, first, [&](Code& c) {
        Xbyak::Label again;
        c.mov(ecx, static_cast<u32>(entry));
        c.mov(ebp, 9);
        c.L(again);
        c.mov(rax, ptr[rbx]);
        c.lea(rdx, ptr[rbx + page_size]);
        c.mov(rdx, ptr[rdx]);
        c.mov(rsi, ptr[rcx]); // both entries change places
        c.mov(rdi, ptr[rcx + 8]);
        c.mov(ptr[rcx], rdi);
        c.mov(ptr[rcx + 8], rsi);
        c.mov_from_cr(rdi, 3);
        c.mov_to_cr(3, rdi);
        c.dec(ebp);
        c.jnz(again);
        c.mov(rax, ptr[rbx]);
        c.hlt();
    });
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::rax), 2U);
    EXPECT_EQ(g.strict_violations, "");
}

// PUSH and POP, RSP-relative locals and RSP itself, in one frame that crosses a page end or not.
TEST(AccessGroups, StackFrames) {
    Guest g;
    g.map(first, frames, rw);
    g.map(second, frames + 4 * page_size, rw);
    for (u64 top = second - 64; top <= second + 256; top += 4) {
        const Stop stop = run_at(g, top, [](Code& c) {
            Xbyak::Label callee;
            c.mov(rsp, rbx);
            c.mov(r13d, 0x1111);
            c.mov(ebp, 0x2222);
            c.push(rsp);
            c.push(r13);
            c.push(rbp);
            c.push(0x33);
            c.sub(rsp, 40);
            c.mov(qword[rsp + 8], 7);
            c.mov(rbp, rsp);
            c.call(callee);
            c.add(rax, ptr[rbp + 8]);
            c.add(rsp, 40);
            c.pop(rdx);
            c.pop(rsi);
            c.pop(rdi);
            c.pop(rsp);
            c.hlt();
            c.L(callee);
            c.push(rbp);
            c.mov(rbp, rsp);
            c.mov(rax, ptr[rbp + 16 + 8]);
            c.add(qword[rbp + 16 + 8], 5);
            c.leave();
            c.ret();
        });
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g.gpr(processor::rax), 7U + 12);
        EXPECT_EQ(g.gpr(processor::rdx), 0x33U);
        EXPECT_EQ(g.gpr(processor::rsi), 0x2222U);
        EXPECT_EQ(g.gpr(processor::rdi), 0x1111U);
        EXPECT_EQ(g.gpr(processor::rsp), top);
    }
}

// LEA tells what a register holds; the group has an index beside it.
TEST(AccessGroups, TablesAtRip) {
    Guest g;
    const auto code = [](Code& c) {
        Xbyak::Label table;
        c.lea(rdx, ptr[rip + table]);
        c.mov(ecx, 3);
        c.mov(rax, ptr[rdx + rcx * 8]);
        c.add(rax, ptr[rdx + rcx * 8 + 8]);
        c.mov(rsi, ptr[rip + table]);
        c.add(rsi, ptr[rdx + 8]);
        c.hlt();
        c.align(256);
        c.L(table);
        for (u64 n = 0; n < 8; ++n)
            c.dq(u64{1} << (8 * n));
    };
    for (int n = 0; n < 2; ++n) {
        const Stop stop = run_at(g, 0, code);
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g.gpr(processor::rax), 0x101000000U);
        EXPECT_EQ(g.gpr(processor::rsi), 0x101U);
    }
}

// An instruction that may not be executed does not touch memory.
TEST(AccessGroups, AnUnitThatIsOffComesBeforeThePage) {
    Guest g;
    g.state().cr0 |= processor::cr0::ts;
    const Stop stop = run_at(g, first, [](Code& c) {
        c.movss(xmm0, ptr[rbx]);
        c.movss(xmm1, ptr[rbx + 4]);
        c.hlt();
    });
    EXPECT_TRUE(stop.is(Vector::nm)) << stop.text();
}

// One group, or two whose pages share a place in the TLB.
TEST(AccessGroups, NeedOneLookEach) {
    Guest g;
    const auto code = [](Code& c) {
        Xbyak::Label again;
        c.mov(ebp, 1000);
        c.lea(rdx, ptr[rbx + 512 * page_size]);
        c.L(again);
        c.mov(rax, ptr[rbx]);
        c.mov(rsi, ptr[rdx]);
        c.add(rax, ptr[rbx + 8]);
        c.add(rsi, ptr[rdx + 8]);
        c.dec(ebp);
        c.jnz(again);
        c.hlt();
    };
    g.map(first, frames, rw);
    g.map(first + 512 * page_size, frames + page_size, rw);
    g.poke<u64>(frames, 1);
    g.poke<u64>(frames + 8, 2);
    g.poke<u64>(frames + page_size, 3);
    g.poke<u64>(frames + page_size + 8, 4);
    ASSERT_TRUE(run_at(g, first, code).halted());
    EXPECT_EQ(g.gpr(processor::rax), 3U);
    EXPECT_EQ(g.gpr(processor::rsi), 7U);
    const u64 slow = g.cpu().statistics().slow_accesses;
    EXPECT_LE(slow, 2010U) << "two a turn, where four would be without groups";
}

} // namespace
} // namespace gnomon::test
