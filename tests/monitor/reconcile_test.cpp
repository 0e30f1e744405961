// SPDX-License-Identifier: Apache-2.0
// M2.4 Reconcile: each coherency-inducing operation makes the guest's edits take effect.
#include "support/guest.h"

#include <gtest/gtest.h>
#include <random>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;
namespace control0 = processor::cr0;
namespace control4 = processor::cr4;

constexpr u64 window = 0x50000000;
constexpr u32 efer = 0xc0000080;

/// Something that makes the processor forget the window's translation. RAX, RCX, RDX and R10 are
/// free; RBX is the window.
struct Flush {
    const char* name;
    void (*emit)(Code&);
};

void toggle(Code& c, unsigned cr, u32 bit) {
    c.mov_from_cr(rax, cr);
    c.xor_(rax, bit);
    c.mov_to_cr(cr, rax);
    c.xor_(rax, bit);
    c.mov_to_cr(cr, rax);
}
void invpcid(Code& c, u32 type) {
    c.sub(rsp, 16);
    c.mov(qword[rsp], 0);
    c.mov(ptr[rsp + 8], rbx);
    c.mov(r10, rsp);
    c.mov(eax, type);
    c.invpcid(rax, r10);
    c.add(rsp, 16);
}

const Flush flushes[] = {
    {"Invlpg", [](Code& c) { c.invlpg(rbx); }},
    {"Cr3",
     [](Code& c) {
         c.mov_from_cr(rax, 3);
         c.mov_to_cr(3, rax);
     }},
    {"InvpcidAddress", [](Code& c) { invpcid(c, 0); }},
    {"InvpcidContext", [](Code& c) { invpcid(c, 1); }},
    {"InvpcidAll", [](Code& c) { invpcid(c, 2); }},
    {"InvpcidAllButGlobal", [](Code& c) { invpcid(c, 3); }},
    {"Cr4Pge", [](Code& c) { toggle(c, 4, control4::pge); }},
    {"Cr4Smep", [](Code& c) { toggle(c, 4, control4::smep); }},
    {"Cr0Wp", [](Code& c) { toggle(c, 0, control0::wp); }},
    {"EferNxe",
     [](Code& c) {
         c.mov(ecx, efer);
         c.rdmsr();
         c.xor_(eax, processor::efer::nxe);
         c.wrmsr();
         c.xor_(eax, processor::efer::nxe);
         c.wrmsr();
     }},
};

/// A guest with a window of one page, whose entry is at `entry`; pages of data hold their number.
class Windowed : public testing::Test {
protected:
    Windowed()
        : g([] {
              GuestOptions options;
              options.strict = true;
              return options;
          }()) {
        g.map(window, place::data, pte::p | pte::w);
        entry = g.entry_address(window);
        for (u64 n = 0; n < 16; ++n)
            g.poke<u64>(place::data + n * page_size, n);
        g.set_gate(14, place::stubs + 16 * 14, 0, 1);
    }
    Stop run(const std::function<void(Code&)>& emit) {
        g.assemble(place::kernel_code, [&](Code& c) {
            c.mov(ebx, static_cast<u32>(window));
            c.mov(edi, static_cast<u32>(entry));
            emit(c);
            c.hlt();
        });
        g.start_kernel();
        return g.run();
    }
    static void set_entry(Code& c, u64 value) {
        c.mov(rax, value);
        c.mov(ptr[rdi], rax);
    }
    void expect_coherent() {
        EXPECT_EQ(g.strict_violations, "");
        EXPECT_GT(g.strict_checks, 0U);
        g.mmu().reconcile(g.block().write_buffer);
        EXPECT_TRUE(g.check().ok()) << g.check().text();
    }
    Guest g;
    u64 entry = 0;
};
class M2_4_Reconcile : public Windowed {};

class EveryFlush : public M2_4_Reconcile, public testing::WithParamInterface<Flush> {};

TEST_P(EveryFlush, MakesANewFrameVisible) {
    const Stop stop = run([&](Code& c) {
        c.mov(r8, ptr[rbx]);
        set_entry(c, (place::data + page_size) | pte::p | pte::w);
        GetParam().emit(c);
        c.mov(r9, ptr[rbx]);
        set_entry(c, (place::data + 2 * page_size) | pte::p | pte::w | pte::a | pte::d);
        GetParam().emit(c);
        c.mov(r11, ptr[rbx]);
    });
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r8), 0U);
    EXPECT_EQ(g.gpr(processor::r9), 1U);
    EXPECT_EQ(g.gpr(processor::r11), 2U);
    expect_coherent();
}

TEST_P(EveryFlush, MakesARemovalAndALossOfRightsVisible) {
    Stop stop = run([&](Code& c) {
        c.mov(ptr[rbx], rax);
        set_entry(c, place::data | pte::p | pte::a | pte::d); // read-only
        GetParam().emit(c);
        c.mov(r8, ptr[rbx]);
        c.mov(ptr[rbx], rax);
    });
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.error_code, 3U);
    stop = run([&](Code& c) {
        set_entry(c, 0);
        GetParam().emit(c);
        c.mov(r8, ptr[rbx]);
    });
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.error_code, 0U);
    expect_coherent();
}

TEST_P(EveryFlush, MakesAnEditOfAHigherTableVisible) {
    const u64 other = g.table_page();
    g.poke(other, (place::data + 3 * page_size) | pte::p | pte::w);
    const u64 directory_entry = g.entry_address(window, 2);
    const Stop stop = run([&](Code& c) {
        c.mov(r8, ptr[rbx]);
        c.mov(esi, static_cast<u32>(directory_entry));
        c.mov(rax, other | pte::p | pte::w);
        c.mov(ptr[rsi], rax);
        GetParam().emit(c);
        c.mov(r9, ptr[rbx]);
    });
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r8), 0U);
    EXPECT_EQ(g.gpr(processor::r9), 3U);
    expect_coherent();
}
INSTANTIATE_TEST_SUITE_P(Operations, EveryFlush, testing::ValuesIn(flushes),
                         [](const auto& p) { return std::string(p.param.name); });

// No flush is needed for what becomes allowed: the page fault reconciles.
TEST_F(M2_4_Reconcile, PageFaultMakesGainedRightsVisible) {
    g.poke(entry, u64{0});
    const Stop stop = run([&](Code& c) {
        c.mov(r12, place::data);
        c.mov(r12, ptr[r12]);
        // Another page of the same table is used, so that the table is in the shadow.
        set_entry(c, (place::data + page_size) | pte::p);
        c.mov(r8, ptr[rbx]);
        set_entry(c, (place::data + page_size) | pte::p | pte::w | pte::a);
        c.mov(qword[rbx], 0x99);
    });
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r8), 1U);
    EXPECT_EQ(g.peek(place::data + page_size), 0x99U);
    expect_coherent();
}

TEST_F(M2_4_Reconcile, WriteProtectionFollowsCr0) {
    g.poke(entry, place::data | pte::p);
    Stop stop = run([&](Code& c) {
        c.mov_from_cr(rax, 0);
        c.mov(r8, rax);
        c.and_(eax, ~static_cast<u32>(control0::wp));
        c.mov_to_cr(0, rax);
        c.mov(qword[rbx], 0x55); // read-only, but WP = 0
        c.mov_to_cr(0, r8);
        c.mov(r9, ptr[rbx]);
        c.mov(qword[rbx], 0x66);
    });
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.error_code, 3U);
    EXPECT_EQ(g.gpr(processor::r9), 0x55U);
    EXPECT_EQ(g.peek(place::data), 0x55U);
    EXPECT_NE(g.peek(entry) & pte::d, 0U);
    expect_coherent();
}

TEST_F(M2_4_Reconcile, ExecuteDisableFollowsEfer) {
    g.poke(entry, place::data | pte::p | pte::nx);
    g.assemble(place::data, [](Code& c) {
        c.mov(r8d, 7);
        c.ret();
    });
    Stop stop = run([](Code& c) { c.call(rbx); });
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.error_code, 0x11U);
    // Without NXE the bit is reserved.
    stop = run([](Code& c) {
        c.mov(r8, ptr[rbx]);
        c.mov(ecx, efer);
        c.rdmsr();
        c.and_(eax, ~static_cast<u32>(processor::efer::nxe));
        c.wrmsr();
        c.mov(r9, ptr[rbx]);
    });
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.error_code, 9U);
    stop = run([](Code& c) {
        set_entry(c, place::data | pte::p);
        c.invlpg(rbx);
        c.call(rbx);
        c.mov(ecx, efer);
        c.rdmsr();
        c.or_(eax, static_cast<u32>(processor::efer::nxe));
        c.wrmsr();
        c.call(rbx);
    });
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r8), 7U);
    expect_coherent();
}

TEST_F(M2_4_Reconcile, SmapFollowsCr4AndAc) {
    g.poke(entry, place::data | pte::p | pte::w | pte::u);
    const Stop stop = run([](Code& c) {
        c.mov_from_cr(rax, 4);
        c.or_(eax, static_cast<u32>(control4::smap | control4::smep));
        c.mov_to_cr(4, rax);
        c.db(0x0f), c.db(0x01), c.db(0xcb); // STAC
        c.mov(r8, ptr[rbx]);
        c.db(0x0f), c.db(0x01), c.db(0xca); // CLAC
        c.mov(r9, ptr[rbx]);
    });
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.error_code, 1U);
    EXPECT_EQ(g.state().cr2, window);
    expect_coherent();
}

// A page that becomes the user's is lost to the supervisor: U/S takes something away in both
// directions, at every level.
class UserFlag : public M2_4_Reconcile, public testing::WithParamInterface<unsigned> {};

TEST_P(UserFlag, ClosesAPageToTheSupervisorOnceItIsSet) {
    for (unsigned level = 1; level <= 4; ++level) {
        const u64 at = g.entry_address(window, level);
        g.poke(at, g.peek(at) | pte::u);
    }
    const u64 changed = g.entry_address(window, GetParam());
    g.poke(changed, g.peek(changed) & ~pte::u);
    const auto make_user_page = [&](Code& c) {
        c.mov(r11d, static_cast<u32>(changed));
        c.or_(qword[r11], static_cast<u32>(pte::u));
        c.invlpg(rbx);
    };
    const auto enable = [](Code& c, u64 bit) {
        c.mov_from_cr(rax, 4);
        c.or_(rax, static_cast<u32>(bit));
        c.mov_to_cr(4, rax);
    };
    Stop stop = run([&](Code& c) {
        enable(c, control4::smap);
        c.mov(r8, ptr[rbx]);
        c.mov(ptr[rbx], r8);
        make_user_page(c);
        c.mov(r9, ptr[rbx]);
    });
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.error_code, 1U);
    EXPECT_EQ(g.state().cr2, window);
    expect_coherent();

    g.poke(changed, g.peek(changed) & ~pte::u);
    g.mmu().note_write(Gpa(changed), 8);
    g.assemble(place::data, [](Code& c) { c.ret(); });
    stop = run([&](Code& c) {
        enable(c, control4::smep);
        c.call(rbx);
        make_user_page(c);
        c.call(rbx);
    });
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.error_code, 0x11U);
    expect_coherent();
}
INSTANTIATE_TEST_SUITE_P(Levels, UserFlag, testing::Values(1U, 2U));

// Kernel halves share their tables: an edit under one root is seen under the other.
TEST_F(M2_4_Reconcile, TablesSharedByTwoRoots) {
    const u64 other_root = g.table_page();
    for (unsigned slot = 0; slot < 512; ++slot)
        g.poke(other_root + 8 * slot, g.peek(place::pml4 + 8 * slot));
    const Stop stop = run([&](Code& c) {
        c.mov(r12d, static_cast<u32>(other_root));
        c.mov(r13d, static_cast<u32>(place::pml4));
        c.mov(r8, ptr[rbx]);
        c.mov_to_cr(3, r12);
        c.mov(r9, ptr[rbx]);
        set_entry(c, (place::data + page_size) | pte::p | pte::w); // under the second root
        c.invlpg(rbx);
        c.mov(r10, ptr[rbx]);
        c.mov_to_cr(3, r13);
        c.mov(r11, ptr[rbx]);
        set_entry(c, (place::data + 2 * page_size) | pte::p | pte::w); // under the first
        c.mov_to_cr(3, r12);
        c.mov(rbp, ptr[rbx]);
    });
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r8), 0U);
    EXPECT_EQ(g.gpr(processor::r9), 0U);
    EXPECT_EQ(g.gpr(processor::r10), 1U);
    EXPECT_EQ(g.gpr(processor::r11), 1U);
    EXPECT_EQ(g.gpr(processor::rbp), 2U);
    expect_coherent();
}

// A root that is not in use is edited; the switch to it finds the edit, and throws nothing away.
TEST_F(M2_4_Reconcile, SwitchingBackFindsTheShadowAndTheEdits) {
    const u64 other_root = g.table_page();
    for (unsigned slot = 0; slot < 512; ++slot)
        g.poke(other_root + 8 * slot, g.peek(place::pml4 + 8 * slot));
    // A private slot of the other root.
    constexpr u64 private_window = u64{5} << 39;
    g.map(private_window, place::data + 4 * page_size, pte::p | pte::w, other_root);
    const u64 private_entry = g.entry_address(private_window, 1, other_root);
    Stop stop = run([&](Code& c) {
        Xbyak::Label again;
        c.mov(r12d, static_cast<u32>(other_root));
        c.mov(r13d, static_cast<u32>(place::pml4));
        c.mov(r14, private_window);
        c.mov(ecx, 20);
        c.L(again);
        c.mov_to_cr(3, r12);
        c.mov(r8, ptr[r14]);
        c.mov_to_cr(3, r13);
        c.mov(esi, static_cast<u32>(private_entry));
        c.mov(rax, ptr[rsi]);
        c.xor_(rax, 0x1000); // frames 4 and 5 by turns, while its root rests
        c.mov(ptr[rsi], rax);
        c.dec(ecx);
        c.jnz(again);
        c.mov_to_cr(3, r12);
        c.mov(r9, ptr[r14]);
    });
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r8), 5U);
    EXPECT_EQ(g.gpr(processor::r9), 4U);
    const auto statistics = g.mmu().statistics();
    EXPECT_GE(statistics.root_hits, 38U);
    EXPECT_LT(g.exits(ExitReason::page_fault), 40U);
    expect_coherent();
}

// ---------------------------------------------------------------- a history

/// A random program that edits entries of two leaf tables and a directory, changes roots, flushes,
/// and uses what it has mapped; faults step over the access.
class History : public Windowed, public testing::WithParamInterface<u64> {};

TEST_P(History, StrictWalkerIsContentAtEveryCoherencyPoint) {
    std::mt19937_64 random(GetParam());
    const auto below = [&](u64 n) { return random() % n; };
    constexpr u64 handler = place::kernel_code + 0x20000;
    g.set_gate(14, handler, 0, 1);
    g.assemble(handler, [](Code& c) { // goes on at R15
        c.inc(r13);
        c.add(rsp, 8);
        c.mov(ptr[rsp], r15);
        c.iretq();
    });
    constexpr unsigned window_pages = 6;
    constexpr u64 span = u64{2} << 20;
    for (u64 n = 0; n < 2; ++n)
        for (u64 p = 0; p < window_pages; ++p)
            g.map(window + n * span + p * page_size, place::data + p * page_size,
                  pte::p | pte::w | pte::u);
    const u64 spare = g.table_page(), root = g.table_page();
    for (unsigned slot = 0; slot < 512; ++slot)
        g.poke(root + 8 * slot, g.peek(place::pml4 + 8 * slot));
    const u64 tables[] = {g.entry_address(window) & ~page_offset_mask,
                          g.entry_address(window + span) & ~page_offset_mask, spare};
    const u64 directory = g.entry_address(window, 2);

    const auto random_leaf = [&]() -> u64 {
        if (below(5) == 0) return below(2) == 0 ? 0 : random() & ~pte::p;
        u64 e = pte::p;
        for (const u64 bit : {pte::w, pte::u, pte::a, pte::d, pte::g, pte::w, pte::nx})
            if (below(2) != 0) e |= bit;
        switch (below(12)) {
        case 0: return e | tables[below(3)];             // a view of a table: must be traced
        case 1: return e | (u64{1} << 38);               // no RAM there
        case 2: return e | (u64{1} << 45) | place::data; // reserved
        default: return e | (place::data + page_size * below(16));
        }
    };
    const Stop stop = run([&](Code& c) {
        c.xor_(r13d, r13d);
        for (int n = 0; n < 500; ++n) {
            const u64 address = window + span * below(2) + page_size * below(window_pages);
            switch (below(10)) {
            case 0:
            case 1:
            case 2: { // edit a leaf entry, whole or in part
                const u64 at = tables[below(3)] + 8 * below(window_pages);
                c.mov(edi, static_cast<u32>(at));
                c.mov(rax, random_leaf());
                switch (below(4)) {
                case 0: c.xchg(ptr[rdi], rax); break;
                case 1: c.mov(ptr[rdi], al); break;
                case 2: c.lock(), c.and_(dword[rdi], static_cast<u32>(~pte::w)); break;
                default: c.mov(ptr[rdi], rax); break;
                }
                break;
            }
            case 3: { // edit the directory
                c.mov(edi, static_cast<u32>(directory + 8 * below(2)));
                u64 e = tables[below(3)] | pte::p | pte::w | pte::u;
                if (below(8) == 0) e = 0;
                if (below(8) == 0) e = pte::p | pte::w | pte::ps | 0x200000;
                c.mov(rax, e);
                c.mov(ptr[rdi], rax);
                break;
            }
            case 4:
                c.mov(rax, below(2) == 0 ? place::pml4 : root);
                c.mov_to_cr(3, rax);
                break;
            case 5:
                c.mov(rbx, address);
                c.invlpg(rbx);
                break;
            case 6:
                c.mov(rbx, address);
                flushes[below(std::size(flushes) - 1)].emit(c); // EFER.NXE has tests of its own
                break;
            default: { // use it
                Xbyak::Label after;
                c.lea(r15, ptr[rip + after]);
                c.mov(rbx, address);
                // Into the upper half, away from the entries of tables that the window may show.
                if (below(2) == 0)
                    c.mov(ptr[rbx + 0xf80], rax);
                else
                    c.mov(rax, ptr[rbx + 0xf80]);
                c.L(after);
                break;
            }
            }
        }
        c.mov_from_cr(rax, 3);
        c.mov_to_cr(3, rax);
    });
    // Accesses outside RAM stop at the device they would reach: none is there.
    Stop last = stop;
    while (last.is(ExitReason::mmio)) {
        if (!last.exit.write) {
            g.block().io_data = ~u64{0};
            g.block().io_data_valid = true;
        }
        last = g.run();
    }
    ASSERT_TRUE(last.halted()) << last.text();
    EXPECT_GT(g.strict_checks, 100U);
    expect_coherent();
}
INSTANTIATE_TEST_SUITE_P(Seeds, History, testing::Range(u64{1}, u64{41}));

} // namespace
} // namespace gnomon::test
