// SPDX-License-Identifier: Apache-2.0
// The processor's contract: hooks, intercepts, and translations that follow what they were made of.
#include "support/guest.h"

#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;
using processor::Injection;
namespace rf = processor::rflags;

TEST(ExecutionHook, ExitsOnceAndStepsOver) {
    Guest g;
    constexpr u64 function = place::kernel_code + 0x100;
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(ecx, 3);
        Xbyak::Label again;
        c.L(again);
        c.mov(r10d, static_cast<u32>(function));
        c.call(r10);
        c.dec(ecx);
        c.jnz(again);
        c.hlt();
    });
    g.assemble(function, [](Code& c) {
        c.inc(eax);
        c.ret();
    });
    g.gpr(processor::rax) = 0;
    g.block().execution_hook[2] = Gva(function);
    for (unsigned n = 0; n < 3; ++n) {
        const Stop stop = g.run();
        ASSERT_TRUE(stop.is(ExitReason::execution_hook)) << stop.text();
        EXPECT_EQ(stop.exit.index, 2U);
        EXPECT_EQ(stop.rip, function);
        EXPECT_EQ(g.gpr(processor::rax), n) << "not yet executed";
        g.block().execution_hook_armed = false;
    }
    ASSERT_TRUE(g.run().halted());
    EXPECT_EQ(g.gpr(processor::rax), 3U);
}

TEST(ExecutionHook, InTheMiddleOfCodeThatHasRunAndRemovedAgain) {
    Guest g;
    const auto emit = [](Code& c) {
        c.inc(eax);
        c.inc(eax);
        c.hlt();
    };
    g.assemble(place::kernel_code, emit);
    ASSERT_TRUE(g.run().halted());
    g.start_kernel();
    g.gpr(processor::rax) = 0;
    g.block().execution_hook[0] = Gva(place::kernel_code + 2);
    Stop stop = g.run();
    ASSERT_TRUE(stop.is(ExitReason::execution_hook)) << stop.text();
    EXPECT_EQ(g.gpr(processor::rax), 1U);
    g.block().execution_hook[0] = Gva();
    ASSERT_TRUE(g.run().halted());
    EXPECT_EQ(g.gpr(processor::rax), 2U);
}

// Translations are found by frame: one made under another address of it must not serve the hooked
// one, and none of the hooked address may stop the other.
TEST(ExecutionHook, IsMetUnderItsAddressHoweverTheFrameWasRunBefore) {
    constexpr u64 alias = 0x50000000, second_alias = alias + page_size;
    for (const bool alias_first : {true, false}) {
        Guest g;
        g.map(alias, place::kernel_code + 0x1000, pte::p | pte::w);
        g.map(second_alias, place::kernel_code + 0x1000, pte::p | pte::w);
        const auto function = [](Code& c) {
            Xbyak::Label begin;
            c.inc(eax);
            c.inc(eax);
            c.ret();
        };
        g.assemble(place::kernel_code + 0x1800, function);
        g.assemble(place::kernel_code, [](Code& c) {
            Xbyak::Label again;
            c.mov(ebp, 3);
            c.L(again);
            c.call(rbx);
            c.dec(ebp);
            c.jnz(again);
            c.hlt();
        });
        g.block().execution_hook[1] = Gva(place::kernel_code + 0x1800);
        g.block().execution_hook[2] = Gva(second_alias + 0x802); // the second INC
        const auto hits = [&](u64 address) {
            g.start_kernel();
            g.gpr(processor::rbx) = address + 0x800;
            unsigned count = 0;
            for (;;) {
                const Stop stop = g.run();
                if (stop.halted()) return count;
                if (!stop.is(ExitReason::execution_hook)) return ~0U;
                ++count;
                g.block().execution_hook_armed = false;
            }
        };
        if (alias_first) {
            EXPECT_EQ(hits(alias), 0U);
        }
        EXPECT_EQ(hits(place::kernel_code + 0x1000), 3U);
        EXPECT_EQ(hits(alias), 0U);
        EXPECT_EQ(hits(second_alias), 3U);
        EXPECT_EQ(hits(place::kernel_code + 0x1000), 3U);
    }
}

// Stepping over the hook is about the instruction at it, whatever comes first.
TEST(ExecutionHook, IsSteppedOverBeforeAnythingIsDelivered) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        c.inc(eax);
        c.inc(eax);
        c.endless();
    });
    g.gpr(processor::rax) = 0;
    g.state().rflags |= rf::if_;
    g.block().execution_hook[0] = Gva(place::kernel_code);
    ASSERT_TRUE(g.run().is(ExitReason::execution_hook));
    g.block().execution_hook_armed = false;
    g.block().interrupt_window = true;
    Stop stop = g.run();
    ASSERT_TRUE(stop.is(ExitReason::interrupt_window)) << stop.text();
    EXPECT_GE(g.gpr(processor::rax), 1U) << "the hooked instruction came first";
    EXPECT_TRUE(g.block().execution_hook_armed);
    // Disarmed, but not at the hook any more: it counts as armed.
    g.block().execution_hook_armed = false;
    g.block().interrupt_window = false;
    g.block().injection.kind = Injection::Kind::external_interrupt;
    g.block().injection.vector = 0x40;
    stop = g.run();
    EXPECT_EQ(stop.vector, 0x40) << stop.text();
    EXPECT_TRUE(g.block().execution_hook_armed);
}

TEST(ExecutionHook, IsReportedOnceThoughItsInstructionIsRestarted) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(eax, ptr[rbx]); // the shadow has no entry for it yet
        c.hlt();
    });
    g.gpr(processor::rbx) = place::data + 5 * page_size;
    g.block().execution_hook[0] = Gva(place::kernel_code);
    ASSERT_TRUE(g.run().is(ExitReason::execution_hook));
    g.block().execution_hook_armed = false;
    const u64 faults = g.exits(ExitReason::page_fault);
    const Stop stop = g.run();
    EXPECT_TRUE(stop.halted()) << stop.text();
    EXPECT_GT(g.exits(ExitReason::page_fault), faults);
}

TEST(ExecutionHook, DoesNotConcernRing3) {
    Guest g;
    g.assemble(place::user_code, [](Code& c) {
        c.inc(eax);
        c.ud2();
    });
    g.start_user();
    g.block().execution_hook[0] = Gva(place::user_code);
    EXPECT_TRUE(g.run().is(Vector::ud));
}

TEST(MsrIntercepts, OnlyInterceptedAndUnknownRegistersExit) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        for (const u32 index : {0xc0000084U, 0xc0000082U, 0x1b2U}) { // FMASK, LSTAR, unknown
            c.mov(ecx, index);
            c.mov(eax, 0x200);
            c.xor_(edx, edx);
            c.wrmsr();
            c.rdmsr();
        }
        c.hlt();
    });
    g.block().msr_read_intercept.set(0xc0000082);
    Stop stop = g.run();
    ASSERT_TRUE(stop.is(ExitReason::msr_read)) << stop.text();
    EXPECT_EQ(stop.exit.index, 0xc0000082U);
    EXPECT_EQ(g.state().fmask, 0x200U);
    EXPECT_EQ(g.state().lstar, 0x200U) << "writes were not intercepted";
    g.advance(stop.exit);
    g.block().msr_read_intercept.set(0xc0000082, false);
    stop = g.run();
    ASSERT_TRUE(stop.is(ExitReason::msr_write)) << stop.text();
    EXPECT_EQ(stop.exit.index, 0x1b2U);
    EXPECT_EQ(stop.exit.value, 0x200U);
    g.advance(stop.exit);
    ASSERT_TRUE(g.run().is(ExitReason::msr_read));
}

/// Calls a function on each of `pages` pages; each adds its number to RAX.
void many_pages(Guest& g, unsigned pages) {
    for (unsigned n = 0; n < pages; ++n)
        g.assemble(place::data + n * page_size, [n](Code& c) {
            for (unsigned i = 0; i < 40; ++i)
                c.add(rax, static_cast<u32>(n + i));
            c.ret();
        });
    g.assemble(place::kernel_code, [pages](Code& c) {
        Xbyak::Label again;
        c.xor_(eax, eax);
        c.mov(r8d, place::data);
        c.mov(ecx, pages);
        c.L(again);
        c.call(r8);
        c.add(r8, static_cast<u32>(page_size));
        c.dec(ecx);
        c.jnz(again);
        c.hlt();
    });
}

TEST(CodeCache, FullCacheIsFlushedAndTheGuestGoesOn) {
    GuestOptions options;
    options.code_cache_bytes = 256 * 1024;
    Guest g(options);
    constexpr unsigned pages = 400;
    many_pages(g, pages);
    u64 expected = 0;
    for (unsigned n = 0; n < pages; ++n)
        for (unsigned i = 0; i < 40; ++i)
            expected += n + i;
    for (int round = 0; round < 3; ++round) {
        g.start_kernel();
        const Stop stop = g.run();
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g.gpr(processor::rax), expected);
    }
    EXPECT_GT(g.cpu().statistics().cache_flushes, 2U);
}

TEST(CodeCache, SelfModifyingCodeRunsWhatIsInMemory) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        Xbyak::Label again, target;
        c.xor_(r8d, r8d);
        c.mov(ecx, 200);
        c.lea(rbx, ptr[rip + target]);
        c.L(again);
        c.mov(dword[rbx + 1], ecx); // the immediate of the MOV below, in the block that runs
        c.L(target);
        c.mov(eax, u32{0x11111111});
        c.add(r8, rax);
        c.dec(ecx);
        c.jnz(again);
        c.hlt();
    });
    // `mov dword[..], ecx` is a register store: 89 /r.
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r8), 200U * 201 / 2);
    EXPECT_GT(g.cpu().statistics().code_invalidations, 100U);
}

TEST(CodeCache, CodeWrittenThroughAnotherMappingOrByAString) {
    Guest g;
    constexpr u64 function = place::kernel_code + 0x2000, alias = 0x50000000;
    g.map(alias, function, pte::p | pte::w);
    g.assemble(function, [](Code& c) {
        c.mov(eax, 1);
        c.ret();
    });
    g.assemble(place::data, [](Code& c) {
        c.mov(eax, 3);
        c.ret();
    });
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(r10d, static_cast<u32>(function));
        c.call(r10);
        c.mov(r11, rax);
        c.mov(ebx, static_cast<u32>(alias));
        c.mov(byte[rbx + 1], 2);
        c.call(r10);
        c.mov(r12, rax);
        c.mov(esi, place::data);
        c.mov(edi, static_cast<u32>(function));
        c.mov(ecx, 6);
        c.rep();
        c.movsb();
        c.call(r10);
        c.hlt();
    });
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r11), 1U);
    EXPECT_EQ(g.gpr(processor::r12), 2U);
    EXPECT_EQ(g.gpr(processor::rax), 3U);
}

TEST(CodeCache, InstructionAcrossAPageEndFollowsBothPages) {
    Guest g;
    constexpr u64 at = place::data + page_size - 2; // MOV EAX, imm32: two bytes here, three there
    g.assemble(at, [](Code& c) {
        c.mov(eax, 0x01020304);
        c.ret();
    });
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(r10d, static_cast<u32>(at));
        c.call(r10);
        c.mov(r11, rax);
        c.mov(byte[r10 + 4], 0x77); // on the second page
        c.call(r10);
        c.mov(r12, rax);
        c.mov(byte[r10 + 1], 0x66); // on the first
        c.call(r10);
        c.hlt();
    });
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r11), 0x01020304U);
    EXPECT_EQ(g.gpr(processor::r12), 0x77020304U);
    EXPECT_EQ(g.gpr(processor::rax), 0x77020366U);
}

TEST(CodeCache, SecondPageRemappedUnderAStraddlingInstruction) {
    Guest g;
    constexpr u64 first = 0x50000000, second = first + page_size, at = second - 2;
    constexpr u64 a = place::data, b = place::data + page_size, c2 = place::data + 2 * page_size;
    g.map(first, a, pte::p | pte::w);
    g.map(second, b, pte::p | pte::w);
    const u8 head[] = {0xb8, 0x04};
    const u8 tail_b[] = {0x03, 0x02, 0x01, 0xc3}, tail_c[] = {0x33, 0x22, 0x11, 0xc3};
    g.poke(a + page_size - 2, head);
    g.poke(b, tail_b);
    g.poke(c2, tail_c);
    const u64 entry = g.entry_address(second);
    g.assemble(place::kernel_code, [&](Code& c) {
        c.mov(r10d, static_cast<u32>(at));
        c.call(r10);
        c.mov(r11, rax);
        c.mov(ebx, static_cast<u32>(entry));
        c.mov(rax, c2 | pte::p | pte::w);
        c.mov(ptr[rbx], rax);
        c.lea(r9, ptr[r10 + 2]);
        c.invlpg(r9);
        c.call(r10);
        c.hlt();
    });
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r11), 0x01020304U);
    EXPECT_EQ(g.gpr(processor::rax), 0x11223304U);
}

// A loop over a page end: MOV EAX, imm32 with two bytes on the first page is reached by falling
// into it and by a branch; `change` is done in each turn, with EDX counting them.
class StraddlingLoop : public testing::Test {
protected:
    static constexpr u64 first = 0x50000000, second = first + page_size, head = second - 64;
    static constexpr u64 a = place::data, b = place::data + page_size, other = b + page_size;
    static constexpr u64 alias = 0x60000000;
    static constexpr u32 turns = 200;

    template <class Change>
    void prepare(Change&& change, bool by_branch) {
        g.map(first, a, pte::p | pte::w);
        g.map(second, b, pte::p | pte::w);
        g.map(alias, b, pte::p | pte::w);
        g.assemble(a + page_size - 64, [&](Code& c) {
            Xbyak::Label straddling;
            if (by_branch) {
                c.test(ecx, ecx);
                c.jnz(straddling, Xbyak::CodeGenerator::T_NEAR);
            }
            while (c.getSize() < 62)
                c.nop();
            c.L(straddling);
            c.mov(eax, 0x01020304);
            c.add(r8, rax);
            change(c);
            c.mov(r10d, static_cast<u32>(head));
            c.inc(edx);
            c.dec(ecx);
            Xbyak::Label end;
            c.jz(end);
            c.jmp(r10);
            c.L(end);
            c.hlt();
        });
        g.assemble(place::kernel_code, [&](Code& c) {
            c.xor_(r8d, r8d);
            c.xor_(edx, edx);
            c.mov(ecx, turns);
            c.mov(r10d, static_cast<u32>(head));
            c.jmp(r10);
        });
    }
    void run() {
        const Stop stop = g.run();
        ASSERT_TRUE(stop.halted()) << stop.text();
    }
    Guest g;
};

TEST_F(StraddlingLoop, NeedsNoDispatch) {
    for (const bool by_branch : {false, true}) {
        prepare([](Code&) {}, by_branch);
        run();
        EXPECT_EQ(g.gpr(processor::r8), u64{turns} * 0x01020304);
        EXPECT_LT(g.cpu().statistics().dispatches, turns);
        g.start_kernel();
    }
}

TEST_F(StraddlingLoop, FollowsWritesToTheSecondPage) {
    for (const bool by_branch : {false, true}) {
        prepare(
            [](Code& c) {
                c.mov(ebx, static_cast<u32>(alias));
                c.mov(byte[rbx + 2], dl); // the topmost byte of the immediate
            },
            by_branch);
        run();
        u64 expected = 0x01020304;
        for (u64 turn = 0; turn + 1 < turns; ++turn)
            expected += (turn & 0xff) << 24 | 0x020304;
        EXPECT_EQ(g.gpr(processor::r8), expected);
        g.start_kernel();
    }
}

TEST_F(StraddlingLoop, FollowsTheSecondPagesMapping) {
    for (const bool by_branch : {false, true}) {
        g.map(second, b, pte::p | pte::w);
        prepare(
            [entry = g.entry_address(second)](Code& c) {
                c.mov(ebx, static_cast<u32>(entry));
                c.xor_(dword[rbx], static_cast<u32>(b ^ other));
                c.mov(ebx, static_cast<u32>(second));
                c.invlpg(rbx);
            },
            by_branch);
        // The other frame is the same but for the immediate.
        for (u64 n = 0; n < page_size; n += 8)
            g.poke(other + n, g.peek<u64>(b + n));
        const u8 immediate[] = {0x33, 0x22, 0x11};
        g.poke(other, immediate);
        run();
        EXPECT_EQ(g.gpr(processor::r8), u64{turns / 2} * (0x01020304 + 0x11223304));
        g.start_kernel();
    }
}

TEST(CodeCache, InvalidateCodeAfterAWriteByTheMonitor) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(eax, 1);
        c.hlt();
    });
    ASSERT_TRUE(g.run().halted());
    g.poke<u8>(place::kernel_code + 1, 9);
    g.cpu().invalidate_code(Gpa(place::kernel_code), 8);
    g.start_kernel();
    ASSERT_TRUE(g.run().halted());
    EXPECT_EQ(g.gpr(processor::rax), 9U);
}

TEST(CodeCache, RemappedCodePageRunsTheNewFrame) {
    Guest g;
    constexpr u64 gva = 0x50000000;
    g.map(gva, place::data, pte::p);
    g.assemble(place::data, [](Code& c) {
        c.mov(eax, 1);
        c.ret();
    });
    g.assemble(place::data + page_size, [](Code& c) {
        c.mov(eax, 2);
        c.ret();
    });
    const u64 entry = g.entry_address(gva);
    g.assemble(place::kernel_code, [&](Code& c) {
        c.mov(r10d, static_cast<u32>(gva));
        c.call(r10);
        c.mov(r11, rax);
        c.mov(ebx, static_cast<u32>(entry));
        c.mov(rax, (place::data + page_size) | pte::p);
        c.mov(ptr[rbx], rax);
        c.invlpg(r10);
        c.call(r10);
        c.hlt();
    });
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r11), 1U);
    EXPECT_EQ(g.gpr(processor::rax), 2U);
}

// Under the control block's own rules, without shadow paging's help: a changed leaf is seen once
// the translation has been invalidated, one page at a time or all.
TEST(Tlb, InvalidationMakesTheProcessorWalkAgain) {
    for (const bool all : {false, true}) {
        Guest g;
        constexpr u64 gva = 0x50000000, other = 0x50001000;
        g.map(gva, place::data, pte::p | pte::w);
        g.map(other, place::data, pte::p | pte::w);
        g.poke<u64>(place::data, 1);
        g.poke<u64>(place::data + page_size, 2);
        g.assemble(place::kernel_code, [](Code& c) {
            c.mov(ebx, static_cast<u32>(gva));
            c.mov(rax, ptr[rbx]);
            c.hlt();
        });
        ASSERT_TRUE(g.run().halted());
        ASSERT_EQ(g.gpr(processor::rax), 1U);
        u64 table = g.block().shadow_root;
        for (unsigned level = 4; level > 1; --level) {
            u64 e = 0;
            std::memcpy(
                &e, g.block().shadow_arena + table + 8 * processor::shadow_index(Gva(gva), level),
                8);
            table = processor::ShadowEntry{e}.address();
        }
        const Hva leaf = g.block().shadow_arena + table + 8 * processor::shadow_index(Gva(gva), 1);
        u64 entry = 0;
        std::memcpy(&entry, leaf, 8);
        entry += page_size;
        std::memcpy(leaf, &entry, 8);
        g.cpu().invalidate_tlb(Gva(other));
        g.start_kernel();
        ASSERT_TRUE(g.run().halted());
        EXPECT_EQ(g.gpr(processor::rax), 1U) << "cached: invalidating another page changes nothing";
        if (all)
            g.cpu().invalidate_tlb();
        else
            g.cpu().invalidate_tlb(Gva(gva));
        g.start_kernel();
        ASSERT_TRUE(g.run().halted());
        EXPECT_EQ(g.gpr(processor::rax), 2U);
    }
}

TEST(Tlb, RevokedWritesAreLookedAtAgain) {
    Guest g;
    g.assemble(place::kernel_code, [](Code& c) {
        c.mov(ebx, place::data);
        c.mov(qword[rbx], 5);
        c.hlt();
    });
    ASSERT_TRUE(g.run().halted());
    const u64 slow = g.cpu().statistics().slow_accesses;
    g.start_kernel();
    ASSERT_TRUE(g.run().halted());
    EXPECT_EQ(g.cpu().statistics().slow_accesses, slow);
    g.cpu().revoke_writes(Gpa(place::data));
    g.start_kernel();
    ASSERT_TRUE(g.run().halted());
    EXPECT_GT(g.cpu().statistics().slow_accesses, slow);
}

/// One mapping of /proc/self/maps.
struct Mapping {
    u64 begin = 0, end = 0;
    std::string rights, name;
};

std::vector<Mapping> mappings() {
    std::vector<Mapping> all;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        Mapping m;
        char dash = 0;
        std::string offset, device, inode;
        std::istringstream in(line);
        in >> std::hex >> m.begin >> dash >> m.end >> m.rights >> offset >> device >> inode;
        std::getline(in, m.name);
        all.push_back(m);
    }
    return all;
}

TEST(CodeCache, IsNeverWritableAndExecutableAtOneAddress) {
    Guest g;
    many_pages(g, 20);
    const auto check = [] {
        unsigned writable = 0, executable = 0;
        for (const Mapping& m : mappings()) {
            EXPECT_FALSE(m.rights[1] == 'w' && m.rights[2] == 'x' &&
                         m.name.find("gnomon") != std::string::npos)
                << m.name;
            if (m.name.find("gnomon-code") == std::string::npos) continue;
            writable += m.rights[1] == 'w';
            executable += m.rights[2] == 'x';
            if (m.rights[2] == 'x') {
                EXPECT_LT(m.end, u64{1} << 31);
            }
        }
        EXPECT_EQ(writable, 1U);
        EXPECT_EQ(executable, 1U);
    };
    check();
    ASSERT_TRUE(g.run().halted());
    check();
}

} // namespace
} // namespace gnomon::test
