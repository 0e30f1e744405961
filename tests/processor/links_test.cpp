// SPDX-License-Identifier: Apache-2.0
// Branches between pages: what is jumped to without a look at the TLB is what a fetch would find.
#include "support/guest.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;

constexpr u64 here = 0x50000000, there = here + 0x5000; ///< pages that the tests map
constexpr u64 jumps = place::data;                      ///< frame of the code at `here`
constexpr u64 first = place::data + 0x1000, second = place::data + 0x2000; ///< frames for `there`
constexpr u64 other_root = 0x300000;

void jump(Code& c, u64 from, u64 to) {
    c.db(0xe9);
    c.dd(static_cast<u32>(to - (from + c.getSize() + 4)));
}

/// Code at `here` that jumps to `there`, of which two frames have what tells them apart.
class LinkGuest : public Guest {
public:
    explicit LinkGuest(const GuestOptions& options = {}) : Guest(options) {
        map(here, jumps, pte::p | pte::w);
        map(there, first, pte::p | pte::w);
        assemble(jumps, [](Code& c) { jump(c, here, there); });
        for (const u64 frame : {first, second})
            assemble(frame, [frame](Code& c) {
                c.mov(eax, static_cast<u32>(frame));
                c.lea(rbx, ptr[rip]); // where it runs
                c.hlt();
            });
        // What changes a table entry, and goes on.
        assemble(place::kernel_code, [](Code& c) {
            c.mov(ptr[rdi], rsi);
            c.invlpg(rdx);
            c.jmp(rcx);
        });
    }
    Stop go(u64 rip = here) {
        start_kernel(rip);
        const Stop stop = run();
        EXPECT_EQ(cpu().check_translations(), "");
        return stop;
    }
    /// The frame whose code ran.
    u64 frame_met(u64 rip = here) {
        gpr(processor::rax) = 0;
        const Stop stop = go(rip);
        EXPECT_TRUE(stop.halted()) << stop.text();
        return gpr(processor::rax);
    }
    Stop remap_and_go(u64 page, u64 entry) {
        start_kernel();
        gpr(processor::rdi) = entry_address(page);
        gpr(processor::rsi) = entry;
        gpr(processor::rdx) = page;
        gpr(processor::rcx) = here;
        return run();
    }
};

TEST(PageLinks, FollowTheGuestsTables) {
    LinkGuest g;
    for (int round = 0; round < 4; ++round)
        EXPECT_EQ(g.frame_met(), first);
    EXPECT_GT(g.cpu().statistics().links, 0U);
    ASSERT_TRUE(g.remap_and_go(there, second | pte::p | pte::w).halted());
    EXPECT_EQ(g.gpr(processor::rax), second);
    for (int round = 0; round < 3; ++round)
        EXPECT_EQ(g.frame_met(), second);

    for (const u64 entry : {u64{0}, second | pte::p | pte::nx}) {
        Stop stop = g.remap_and_go(there, entry);
        EXPECT_TRUE(stop.is(Vector::pf)) << stop.text();
        EXPECT_EQ(stop.rip, there);
        stop = g.go();
        EXPECT_TRUE(stop.is(Vector::pf)) << stop.text();
        EXPECT_EQ(stop.rip, there);
    }
    ASSERT_TRUE(g.remap_and_go(there, first | pte::p).halted());
    EXPECT_EQ(g.gpr(processor::rax), first);
}

TEST(PageLinks, OneTranslationRunsAtManyAddresses) {
    LinkGuest g;
    constexpr u64 distance = 0x8000;
    g.map(here + distance, jumps, pte::p);
    g.map(there + distance, first, pte::p);
    for (int round = 0; round < 4; ++round)
        for (const u64 moved : {u64{0}, distance}) {
            EXPECT_EQ(g.frame_met(here + moved), first);
            EXPECT_EQ(g.gpr(processor::rbx), there + moved + 12);
        }
    // Only one of the two goes.
    g.start_kernel();
    g.gpr(processor::rdi) = g.entry_address(there + distance);
    g.gpr(processor::rsi) = 0;
    g.gpr(processor::rdx) = there + distance;
    g.gpr(processor::rcx) = here + distance;
    const Stop stop = g.run();
    EXPECT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.rip, there + distance);
    EXPECT_EQ(g.frame_met(), first);
    EXPECT_EQ(g.gpr(processor::rbx), there + 12);
}

TEST(PageLinks, EachAddressSpaceHasItsOwnTargets) {
    LinkGuest g;
    // Under the other root the same page jumps to another one.
    g.poke(other_root, g.peek(place::pml4));
    g.poke(other_root, u64{0});
    g.map(here, jumps, pte::p | pte::w, other_root);
    g.map(there, second, pte::p | pte::w, other_root);
    for (const u64 page :
         {place::kernel_code, place::kernel_stack, place::kernel_stack - page_size})
        g.map(page, page, pte::p | pte::w, other_root);
    constexpr u64 load_root = place::kernel_code + 0x100;
    g.assemble(load_root, [](Code& c) {
        c.mov_to_cr(3, rax);
        c.jmp(rcx);
    });
    for (int round = 0; round < 5; ++round)
        for (const auto& [root, frame] :
             {std::pair(place::pml4, first), std::pair(other_root, second)}) {
            g.start_kernel(load_root);
            g.gpr(processor::rax) = root;
            g.gpr(processor::rcx) = here;
            const Stop stop = g.run();
            ASSERT_TRUE(stop.halted()) << stop.text();
            EXPECT_EQ(g.gpr(processor::rax), frame);
            EXPECT_EQ(g.cpu().check_translations(), "");
        }
}

/// A root that was never active knows of no page, not even at address 0.
TEST(PageLinks, NothingIsKnownToRunAtAddressZero) {
    LinkGuest g;
    constexpr u64 load_root = place::kernel_code + 0x100;
    g.poke(other_root, g.peek(place::pml4));
    g.map(0, second, pte::p | pte::w);
    g.assemble(load_root, [](Code& c) {
        c.mov_to_cr(3, rax);
        c.jmp(rcx);
    });
    // Branches to `at` and to 0 try the same block first.
    constexpr u64 at = 0x50010000;
    static_assert(at % processor::soft::jump_cache_size == 0);
    g.map(at, first, pte::p | pte::w);
    const auto go = [&](u64 root, u64 rip) {
        g.start_kernel(load_root);
        g.gpr(processor::rax) = root;
        g.gpr(processor::rcx) = rip;
        const Stop stop = g.run();
        EXPECT_TRUE(stop.halted()) << stop.text();
        return g.gpr(processor::rax);
    };
    EXPECT_EQ(go(place::pml4, at), first);
    EXPECT_EQ(go(place::pml4, at), first);
    EXPECT_EQ(go(other_root, 0), second);
}

/// Address spaces that share a kernel share what is known of its code; others do not.
TEST(PageLinks, ANewAddressSpaceKnowsTheKernelsCode) {
    Guest g;
    constexpr u64 kernel = 0xffffffff80400000, pages = 20, slot = 8 * 511;
    constexpr u64 frames[] = {place::data, place::data + pages * page_size};
    constexpr u64 load_root = place::kernel_code + 0x100;
    g.assemble(load_root, [](Code& c) {
        c.mov_to_cr(3, rax);
        c.jmp(rcx);
    });
    // Each page adds to RBX and goes on in the next one; the last one halts.
    for (unsigned kind = 0; kind < 2; ++kind)
        for (u64 n = 0; n < pages; ++n)
            g.assemble(frames[kind] + n * page_size, [&](Code& c) {
                c.add(rbx, kind == 0 ? 1 : 100);
                if (n + 1 == pages)
                    c.hlt();
                else
                    jump(c, kernel + n * page_size, kernel + (n + 1) * page_size);
            });
    for (u64 n = 0; n < pages; ++n)
        g.map(kernel + n * page_size, frames[0] + n * page_size, pte::p | pte::w | pte::g);
    // Two roots with the same kernel, and one with its own.
    constexpr u64 roots[] = {place::pml4, 0x300000, 0x301000, 0x302000};
    for (const u64 root : {roots[1], roots[2], roots[3]})
        g.poke(root, g.peek(place::pml4));
    for (const u64 root : {roots[1], roots[2]})
        g.poke(root + slot, g.peek(place::pml4 + slot));
    for (u64 n = 0; n < pages; ++n)
        g.map(kernel + n * page_size, frames[1] + n * page_size, pte::p, roots[3]);
    const auto walks = [&](u64 root, u64 expected) {
        const u64 before = g.cpu().statistics().fetch_walks;
        for (int round = 0; round < 3; ++round) {
            g.start_kernel(load_root);
            g.gpr(processor::rax) = root;
            g.gpr(processor::rbx) = 0;
            g.gpr(processor::rcx) = kernel;
            const Stop stop = g.run();
            EXPECT_TRUE(stop.halted()) << stop.text();
            EXPECT_EQ(g.gpr(processor::rbx), expected);
            EXPECT_EQ(g.cpu().check_translations(), "");
        }
        return g.cpu().statistics().fetch_walks - before;
    };
    EXPECT_GE(walks(roots[0], pages), pages);
    EXPECT_LT(walks(roots[1], pages), pages);
    EXPECT_GE(walks(roots[3], 100 * pages), pages);
    EXPECT_LT(walks(roots[2], pages), pages);
    // What is lent is taken back like everything else.
    g.start_kernel(place::kernel_code);
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(ptr[rdi], rsi);
        c.invlpg(rdx);
        c.hlt();
    });
    g.gpr(processor::rdi) = g.entry_address(kernel + page_size);
    g.gpr(processor::rsi) = (frames[1] + page_size) | pte::p;
    g.gpr(processor::rdx) = kernel + page_size;
    ASSERT_TRUE(g.run().halted());
    for (const u64 root : {roots[0], roots[1], roots[2]})
        walks(root, pages - 1 + 100);
}

/// The same code at the same address, in ring 0 and in ring 3.
TEST(PageLinks, EachPrivilegeHasItsOwnTranslations) {
    Guest g;
    constexpr u64 at = place::user_code, target = place::user_code + 0x4000;
    g.assemble(at, [](Code& c) { c.jmp(rcx); });
    g.assemble(target, [](Code& c) {
        c.mov(rax, ptr[rbx]); // a supervisor's page
        c.mov(edx, 1);
        c.hlt();
    });
    const auto prepare = [&] {
        g.gpr(processor::rcx) = target;
        g.gpr(processor::rbx) = place::gdt;
        g.gpr(processor::rdx) = 0;
    };
    for (int round = 0; round < 4; ++round) {
        g.start_kernel(at);
        prepare();
        Stop stop = g.run();
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g.gpr(processor::rdx), 1U);
        g.start_user(at);
        prepare();
        stop = g.run();
        EXPECT_TRUE(stop.is(Vector::pf)) << stop.text();
        EXPECT_EQ(stop.rip, target);
        EXPECT_EQ(g.gpr(processor::rdx), 0U);
    }
}

TEST(PageLinks, FollowWhatIsWrittenToTheTarget) {
    LinkGuest g;
    // To `there`, which writes what it returns next time.
    g.assemble(first, [](Code& c) {
        c.mov(eax, 1);
        c.mov(ebx, static_cast<u32>(there));
        c.inc(dword[rbx + 1]);
        c.hlt();
    });
    for (u64 round = 1; round < 50; ++round)
        EXPECT_EQ(g.frame_met(), round);
    EXPECT_GT(g.cpu().statistics().code_invalidations, 40U);
}

TEST(PageLinks, AsManyPagesAsThereArePlacesFor) {
    for (const unsigned limit : {2U, 3U, 7U}) {
        GuestOptions options;
        options.code_pages = limit;
        Guest g(options);
        constexpr unsigned pages = 20;
        // Each page goes on in the next one, by an instruction that lies in both, and by a jump.
        for (unsigned n = 0; n < pages; ++n) {
            const u64 page = place::data + 2 * n * page_size, end = page + page_size - 2;
            g.assemble(page, [&](Code& c) {
                c.inc(r8d);
                jump(c, page, end);
            });
            g.assemble(end, [&](Code& c) {
                c.mov(eax, n);
                c.add(r9d, eax);
                jump(c, end, n + 1 < pages ? page + 2 * page_size : place::kernel_code + 0x800);
            });
        }
        g.assemble(place::kernel_code, [](Code& c) {
            c.xor_(r8d, r8d);
            c.xor_(r9d, r9d);
            jump(c, place::kernel_code, place::data);
        });
        g.assemble(place::kernel_code + 0x800, [](Code& c) { c.hlt(); });
        for (int round = 0; round < 2; ++round) {
            g.start_kernel();
            const Stop stop = g.run();
            ASSERT_TRUE(stop.halted()) << stop.text();
            EXPECT_EQ(g.gpr(processor::r8), pages);
            EXPECT_EQ(g.gpr(processor::r9), pages * (pages - 1) / 2);
            EXPECT_EQ(g.cpu().check_translations(), "");
        }
        EXPECT_GT(g.cpu().statistics().cache_flushes, pages / limit) << limit;
    }
}

/// The place for the frame's base can tell of one of the pages only.
TEST(PageLinks, AnInstructionAcrossTwoPagesThatShowOneFrame) {
    LinkGuest g;
    constexpr u64 frame = place::data + 0x3000, next = here + page_size;
    g.map(here, frame, pte::p);
    g.map(next, frame, pte::p);
    constexpr u64 at = 0xffe;
    constexpr u8 begin[] = {0x48, 0x8d}, end[] = {0x1d, 0, 0, 0, 0, 0xf4}; // LEA RBX, [RIP]; HLT
    g.poke(frame + at, begin);
    g.poke(frame, end);
    for (int round = 0; round < 4; ++round) {
        const Stop stop = g.go(here + at);
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g.gpr(processor::rbx), next + 5);
    }
}

/// Flags go with the branch whichever block it tries first: one that needs none of them must not
/// take them from the right one, nor from the frame of a fault.
TEST(PageLinks, FlagsSurviveABlockThatIsNotTheRightOne) {
    LinkGuest g;
    constexpr u64 careless = 0x50010000, careful = 0x50020000, absent = 0x50030000;
    static_assert((careful - careless) % processor::soft::jump_cache_size == 0);
    static_assert((absent - careless) % processor::soft::jump_cache_size == 0);
    g.map(careless, first, pte::p | pte::w);
    g.map(careful, second, pte::p | pte::w);
    g.assemble(first, [](Code& c) {
        c.xor_(eax, eax);
        c.hlt();
    });
    g.assemble(second, [](Code& c) {
        c.lahf();
        c.seto(al);
        c.hlt();
    });
    g.assemble(place::kernel_code + 0x200, [](Code& c) {
        c.mov(edx, 0x7fffffff);
        c.add(edx, edx); // CF = 0, PF = 0, AF = 1, ZF = 0, SF = 1, OF = 1
        c.jmp(rcx);
    });
    const auto go = [&](u64 target) {
        g.start_kernel(place::kernel_code + 0x200);
        g.gpr(processor::rcx) = target;
        return g.run();
    };
    for (int round = 0; round < 4; ++round) {
        ASSERT_TRUE(go(careless).halted());
        ASSERT_TRUE(go(careful).halted());
        EXPECT_EQ(g.gpr(processor::rax) & 0xffff, 0x9201U) << "round " << round;
        ASSERT_TRUE(go(careless).halted());
        const Stop stop = go(absent);
        ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
        EXPECT_EQ(stop.rflags & processor::rflags::arithmetic, 0x890U) << "round " << round;
    }
}

/// The branch is refused, and has not happened: its site is found whatever the block was jumped to.
TEST(PageLinks, RefusedTargetsAreFaultsOfTheBranch) {
    Guest g;
    constexpr u64 bad = u64{1} << 47; // not canonical
    static_assert(bad % processor::soft::jump_cache_size == 0);
    const u64 after_call = g.assemble(place::kernel_code, [](Code& c) { c.call(rcx); });
    g.assemble(after_call, [](Code& c) { c.hlt(); });
    g.assemble(place::kernel_code + 0x100, [](Code& c) { c.jmp(rcx); });
    g.assemble(place::kernel_code + 0x200, [](Code& c) {
        c.push(rcx);
        c.ret();
    });
    g.assemble(place::data + 0x4000, [](Code& c) { c.hlt(); });
    for (const u64 routine : {u64{0}, u64{0x100}, u64{0x200}})
        for (int round = 0; round < 3; ++round) {
            g.start_kernel(place::kernel_code + routine);
            const u64 stack = g.gpr(processor::rsp);
            g.gpr(processor::rcx) = place::data + 0x4000;
            Stop stop = g.run();
            ASSERT_TRUE(stop.halted()) << stop.text();
            g.start_kernel(place::kernel_code + routine);
            g.gpr(processor::rcx) = bad;
            stop = g.run();
            EXPECT_TRUE(stop.is(Vector::gp)) << stop.text();
            EXPECT_EQ(stop.rip, place::kernel_code + routine + (routine == 0x200 ? 1 : 0));
            EXPECT_EQ(stop.rsp, stack - (routine == 0x200 ? 8 : 0));
        }
}

} // namespace
} // namespace gnomon::test
