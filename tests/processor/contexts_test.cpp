// SPDX-License-Identifier: Apache-2.0
// TLB contexts: translations are kept across loads of CR3, and forgotten under roots that are not
// active.
#include "support/guest.h"

#include <gtest/gtest.h>
#include <map>
#include <random>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;
using processor::soft::TlbContexts;

constexpr u64 own = u64{1} << 39; ///< every address space has a page of its own here
constexpr u64 spaces = 0x300000;  ///< tables of the address spaces
constexpr u64 frames = 0x380000;  ///< what they map at `own`
constexpr u64 reader = place::kernel_code, writer = place::kernel_code + 0x40,
              caller = place::kernel_code + 0x80;

/// A guest with address spaces that share everything below 512 GiB.
class ContextGuest : public Guest {
public:
    explicit ContextGuest(const GuestOptions& options = {}) : Guest(options) {
        assemble(reader, [this](Code& c) {
            c.mov_to_cr(3, rax);
            c.mov(rdx, ptr[rbx]);
            c.hlt();
        });
        assemble(writer, [this](Code& c) {
            c.mov_to_cr(3, rax);
            c.mov(ptr[rbx], rdx);
            c.hlt();
        });
        assemble(caller, [this](Code& c) {
            c.mov_to_cr(3, rax);
            c.call(rbx);
            c.hlt();
        });
        for (u64 n = 0; n < 24; ++n) {
            constexpr u64 bits = pte::p | pte::w;
            poke(root(n), peek(place::pml4));
            poke(root(n) + 8, (root(n) + 0x1000) | bits);
            poke(root(n) + 0x1000, (root(n) + 0x2000) | bits);
            poke(root(n) + 0x2000, (root(n) + 0x3000) | bits);
            poke(leaf(n), frame(n) | bits);
            poke(frame(n), n);
        }
    }
    static u64 root(u64 n) { return spaces + n * 0x4000; }
    /// The entry for `own`.
    static u64 leaf(u64 n) { return root(n) + 0x3000; }
    static u64 frame(u64 n) { return frames + n * page_size; }

    /// Loads CR3 and runs one of the routines.
    Stop run_in(u64 n, u64 routine, u64 address, u64 value = 0) {
        start_kernel(routine);
        gpr(processor::rax) = root(n);
        gpr(processor::rbx) = address;
        gpr(processor::rdx) = value;
        const Stop stop = run();
        EXPECT_EQ(cpu().check_translations(), "");
        return stop;
    }
    u64 read(u64 n, u64 address = own) {
        const Stop stop = run_in(n, reader, address);
        EXPECT_TRUE(stop.halted()) << stop.text();
        return gpr(processor::rdx);
    }
    void write(u64 n, u64 address, u64 value) {
        const Stop stop = run_in(n, writer, address, value);
        EXPECT_TRUE(stop.halted()) << stop.text();
    }
    /// The byte offset of the root in the shadow arena, which becomes the active one.
    u64 shadow_root(u64 n) {
        EXPECT_EQ(read(n), n);
        return block().shadow_root;
    }
    /// As a MOV to CR3 does.
    void load(u64 n) {
        state().cr3 = root(n);
        mmu().load_root(root(n), monitor::PagingRole::of(state()));
    }
    /// Makes the shadow tables map another frame at `own`; nobody is told.
    void alter_shadow_leaf() { alter(block().shadow_root, own, page_size); }
    void alter(u64 root, u64 address, u64 by) {
        Hva at = nullptr;
        for (unsigned level = 4; level > 0; --level) {
            at = block().shadow_arena + root + 8 * processor::shadow_index(Gva(address), level);
            processor::ShadowEntry entry;
            std::memcpy(&entry, at, sizeof entry);
            root = entry.address();
        }
        u64 entry = 0;
        std::memcpy(&entry, at, 8);
        entry += by;
        std::memcpy(at, &entry, 8);
    }
    [[nodiscard]] u64 fills() { return cpu().statistics().tlb_fills; }
    [[nodiscard]] u64 misses() { return cpu().statistics().context_misses; }
};

TEST(Contexts, AreKeptForAsManyRootsAsThereIsRoom) {
    ContextGuest g;
    // The test's own root, which is not loaded again, makes one more.
    for (int round = 0; round < 2; ++round)
        for (u64 n = 0; n < TlbContexts::count - 1; ++n)
            EXPECT_EQ(g.read(n), n);
    const u64 fills = g.fills(), misses = g.misses();
    for (u64 n = 0; n < TlbContexts::count; ++n)
        EXPECT_EQ(g.read(n % (TlbContexts::count - 1)), n % (TlbContexts::count - 1));
    EXPECT_EQ(g.fills(), fills) << "all were there";
    EXPECT_EQ(g.misses(), misses);
}

TEST(Contexts, TheOneNotUsedForLongestMakesRoom) {
    ContextGuest g;
    for (int round = 0; round < 3; ++round)
        for (u64 n = 0; n < 24; ++n)
            EXPECT_EQ(g.read(n), n);
    EXPECT_GT(g.misses(), 24U);
    const u64 misses = g.misses();
    for (u64 n = 24; n-- > 24 - TlbContexts::count;)
        EXPECT_EQ(g.read(n), n);
    EXPECT_EQ(g.misses(), misses) << "the last ones are there";
    EXPECT_EQ(g.read(0), 0U);
    EXPECT_EQ(g.misses(), misses + 1);
    EXPECT_EQ(g.read(8), 8U);
    EXPECT_EQ(g.misses(), misses + 1) << "23 made room, which came first on the way back";
    EXPECT_EQ(g.read(23), 23U);
    EXPECT_EQ(g.misses(), misses + 2);
}

TEST(Contexts, APageIsChangedUnderARootThatIsNotActive) {
    ContextGuest g;
    EXPECT_EQ(g.read(1), 1U);
    EXPECT_EQ(g.read(0), 0U);
    const u64 all = g.mmu().statistics().invalidations_all;
    g.write(0, g.leaf(1), g.frame(7) | pte::p | pte::w);
    EXPECT_EQ(g.read(1), 7U);
    EXPECT_EQ(g.read(0), 0U);
    // Its rights are taken, and its table is.
    g.write(1, own, 100);
    EXPECT_EQ(g.peek(g.frame(7)), 100U);
    g.write(0, g.leaf(1), g.frame(7) | pte::p | pte::a | pte::d);
    const Stop readonly = g.run_in(1, writer, own, 101);
    EXPECT_TRUE(readonly.is(Vector::pf)) << readonly.text();
    EXPECT_EQ(g.read(1), 100U);
    g.write(0, g.root(1) + 0x2000, 0);
    const Stop gone = g.run_in(1, reader, own);
    EXPECT_TRUE(gone.is(Vector::pf)) << gone.text();
    EXPECT_EQ(g.read(0), 0U);
    EXPECT_EQ(g.mmu().statistics().invalidations_all, all) << "no other root was concerned";
}

TEST(Contexts, ASharedPageIsChangedUnderAllRoots) {
    ContextGuest g;
    constexpr u64 shared = place::data + 0x5000;
    g.poke<u64>(shared, 50);
    g.poke<u64>(shared + page_size, 51);
    for (u64 n = 0; n < 4; ++n)
        EXPECT_EQ(g.read(n, shared), 50U);
    g.write(3, g.entry_address(shared), (shared + page_size) | pte::p | pte::w);
    for (u64 n = 0; n < 4; ++n)
        EXPECT_EQ(g.read(n, shared), 51U);
}

TEST(Contexts, TracingBeginsForWritesUnderEveryRoot) {
    ContextGuest g;
    g.write(1, own, 0); // the right is cached
    g.write(1, own, g.frame(2) | pte::p | pte::w);
    EXPECT_EQ(g.read(0), 0U);
    // The frame that 1 writes becomes a table under 0.
    g.write(0, g.root(0) + 0x2008, g.frame(1) | pte::p | pte::w);
    constexpr u64 through = own + (u64{1} << 21);
    EXPECT_EQ(g.read(0, through), 2U);
    g.write(1, own, g.frame(3) | pte::p | pte::w);
    EXPECT_EQ(g.read(0, through), 3U);
}

TEST(Contexts, CodeChangesByAWriteUnderAnotherRoot) {
    ContextGuest g;
    const auto code = [&g](u64 at, u32 value) {
        g.assemble(at, [value](Code& c) {
            c.mov(edx, value);
            c.ret();
        });
        return g.peek(at);
    };
    constexpr u64 scratch = place::data + 0x8000;
    const u64 first = code(scratch, 21), second = code(scratch, 22);
    g.poke(g.leaf(0), g.frame(1) | pte::p | pte::w); // both map it
    g.write(1, own, first);                          // the right is cached
    ASSERT_TRUE(g.run_in(0, caller, own).halted());
    EXPECT_EQ(g.gpr(processor::rdx), 21U);
    g.write(1, own, second);
    ASSERT_TRUE(g.run_in(0, caller, own).halted());
    EXPECT_EQ(g.gpr(processor::rdx), 22U);
}

TEST(Contexts, APageOfTheArenaThatWasARootIsOneAgain) {
    ContextGuest g({.shadow = {.arena_bytes = 48 * page_size, .tlb_keyed_by_root = true}});
    const u64 old = g.shadow_root(1);
    EXPECT_EQ(g.read(0), 0U);
    EXPECT_GT(g.mmu().reclaim(1000), 0U);
    u32 tries = 0;
    do {
        ASSERT_LT(++tries, 1000U) << "the page was not used again";
        const u64 n = 2 + tries % 22;
        EXPECT_EQ(g.read(n), n);
        if (tries % 3 == 0) g.mmu().reclaim(1 + tries % 7);
    } while (g.block().shadow_root != old);
    EXPECT_EQ(g.read(1), 1U);
}

TEST(Contexts, OrdersForOtherRootsAreKeptAndOverflow) {
    for (const u64 more : {0U, 1U, 500U, 1022U, 1023U, 1024U, 1025U, 2047U, 2048U, 5000U}) {
        SCOPED_TRACE(more);
        for (const bool by_root : {true, false}) {
            ContextGuest g;
            g.poke(g.frame(1) + page_size, u64{1001});
            const u64 root = g.shadow_root(1);
            g.alter_shadow_leaf();
            g.start_kernel(reader + 3); // behind the load of CR3
            ASSERT_TRUE(g.run().halted());
            ASSERT_EQ(g.gpr(processor::rdx), 1U) << "cached";
            EXPECT_NE(g.cpu().check_translations(), "") << "the check sees it";
            g.load(0);
            g.start_kernel(reader + 3);
            ASSERT_TRUE(g.run().halted());
            ASSERT_EQ(g.gpr(processor::rdx), 0U);
            if (by_root)
                g.cpu().invalidate_tlb(Gva(own), 1, root);
            else
                g.cpu().invalidate_tlb(Gva(own));
            for (u64 n = 0; n < more; ++n)
                g.cpu().invalidate_tlb(Gva(own + (n + 1) * page_size), 1, root);
            EXPECT_EQ(g.read(1), 1001U);
        }
    }
}

TEST(Contexts, AnOrderForOneRootLeavesTheOthersAlone) {
    ContextGuest g;
    const u64 root = g.shadow_root(1);
    EXPECT_EQ(g.read(2), 2U);
    EXPECT_EQ(g.read(0), 0U);
    EXPECT_EQ(g.read(2), 2U);
    EXPECT_EQ(g.read(0), 0U);
    g.cpu().invalidate_tlb(Gva(own), 1, root);
    const u64 fills = g.fills();
    EXPECT_EQ(g.read(0), 0U);
    EXPECT_EQ(g.read(2), 2U);
    EXPECT_EQ(g.fills(), fills);
    EXPECT_EQ(g.read(1), 1U);
    EXPECT_GT(g.fills(), fills);
}

TEST(Contexts, EverythingIsForgottenUnderEveryRoot) {
    for (const bool root_only : {true, false}) {
        ContextGuest g;
        g.poke(g.frame(1) + page_size, u64{1001});
        const u64 root = g.shadow_root(1);
        g.alter_shadow_leaf();
        g.load(0);
        g.start_kernel(reader + 3);
        ASSERT_TRUE(g.run().halted());
        if (root_only)
            g.cpu().forget_root(root);
        else
            g.cpu().invalidate_tlb();
        EXPECT_EQ(g.read(1), 1001U);
    }
}

TEST(Contexts, ForgettingTheActiveRootIsSeenAtOnce) {
    for (const unsigned how : {0U, 1U, 2U, 3U, 4U, 5U, 6U}) {
        ContextGuest g;
        g.poke(g.frame(1) + page_size, u64{1001});
        const u64 root = g.shadow_root(1);
        g.alter_shadow_leaf();
        switch (how) {
        case 0: g.cpu().forget_root(root); break;
        case 1: g.cpu().invalidate_tlb(); break;
        case 2: g.cpu().invalidate_tlb(Gva(own), 1, root); break;
        case 3: g.cpu().invalidate_tlb(Gva(own - 7 * page_size), 8, root); break;
        case 4: g.cpu().invalidate_tlb(Gva(own), 2, root); break;
        case 5: g.cpu().invalidate_tlb(Gva(own - 4000 * page_size), 4001, root); break;
        default: g.cpu().invalidate_tlb(Gva(own)); break;
        }
        g.start_kernel(reader + 3);
        ASSERT_TRUE(g.run().halted());
        EXPECT_EQ(g.gpr(processor::rdx), 1001U) << how;
    }
}

TEST(Contexts, FetchEntriesGoWithTheCodeThatTheyName) {
    ContextGuest g;
    for (u64 n = 0; n < 3; ++n) {
        g.assemble(g.frame(n), [n](Code& c) {
            c.mov(edx, static_cast<u32>(n + 40));
            c.ret();
        });
        ASSERT_TRUE(g.run_in(n, caller, own).halted());
        EXPECT_EQ(g.gpr(processor::rdx), n + 40);
    }
    const u64 flushes = g.cpu().statistics().cache_flushes;
    g.block().execution_hook[0] = Gva(place::data); // a change of hooks empties the code cache
    for (u64 n = 3; n-- > 0;) {
        ASSERT_TRUE(g.run_in(n, caller, own).halted());
        EXPECT_EQ(g.gpr(processor::rdx), n + 40);
    }
    EXPECT_EQ(g.cpu().statistics().cache_flushes, flushes + 1);
}

TEST(Contexts, FetchEntriesAreOfOneModeInEachContext) {
    ContextGuest g;
    for (u64 n = 0; n < 2; ++n)
        g.assemble(g.frame(n), [](Code& c) {
            c.xorps(xmm0, xmm0);
            c.ret();
        });
    ASSERT_TRUE(g.run_in(1, caller, own).halted());
    ASSERT_TRUE(g.run_in(0, caller, own).halted());
    g.state().cr0 |= processor::cr0::ts;
    const Stop here = g.run_in(0, caller, own);
    EXPECT_TRUE(here.is(Vector::nm)) << here.text();
    const Stop there = g.run_in(1, caller, own);
    EXPECT_TRUE(there.is(Vector::nm)) << there.text();
}

TEST(Contexts, AWatchpointIsSeenUnderEveryRoot) {
    ContextGuest g;
    EXPECT_EQ(g.read(1), 1U);
    EXPECT_EQ(g.read(0), 0U);
    g.state().dr[0] = own;
    g.state().dr[7] = 0x400 | 3 | u64{3} << 16 | u64{3} << 18; // reads and writes of 4 bytes
    const Stop here = g.run_in(0, reader, own);
    EXPECT_TRUE(here.is(Vector::db)) << here.text();
    const Stop there = g.run_in(1, reader, own);
    EXPECT_TRUE(there.is(Vector::db)) << there.text();
}

/// The monitor's set belongs to no context, and all that is forgotten is forgotten there too.
TEST(Contexts, TheMonitorsSetForgetsWithThem) {
    Recorder recorder;
    ContextGuest g;
    g.interpose(recorder);
    constexpr u64 kernel_entry = place::kernel_code + 0x200;
    ASSERT_TRUE(g.interposer().write_msr(0xc0000082, kernel_entry));
    g.assemble(kernel_entry, [](Code& c) { c.hlt(); });
    g.assemble(place::user_code, [](Code& c) { c.syscall(); });
    const auto call = [&g] {
        g.start_user();
        ASSERT_TRUE(g.run().halted());
        EXPECT_EQ(g.cpu().check_translations(), "");
    };
    constexpr u64 counters = monitor::handler_base + monitor::handler_code_size;
    auto alter = [&g, by = page_size]() mutable {
        g.alter(g.block().monitor_root, counters, by);
        by = ~by + 1; // there and back
    };
    call();
    alter();
    EXPECT_NE(g.cpu().check_translations(), "");
    g.cpu().invalidate_tlb(Gva(counters));
    EXPECT_EQ(g.cpu().check_translations(), "");
    alter();
    call();
    alter();
    g.cpu().invalidate_tlb();
    EXPECT_EQ(g.cpu().check_translations(), "");
    alter();
    call();

    u64 slow = g.cpu().statistics().slow_accesses;
    call();
    EXPECT_EQ(g.cpu().statistics().slow_accesses, slow);
    g.cpu().revoke_writes(Gpa(processor::monitor_frame_base + monitor::handler_code_size));
    call();
    EXPECT_GT(g.cpu().statistics().slow_accesses, slow);

    g.block().execution_hook[0] = Gva(place::data); // a change of hooks empties the code cache
    EXPECT_EQ(g.read(1), 1U);                       // not by way of the handler
    call();
}

/// `check_translations` is an oracle of other tests: it must find what is wrong.
TEST(Contexts, TheCheckFindsAWrongRightUnderAnyRoot) {
    ContextGuest g;
    g.write(1, own, 1);
    g.alter_shadow_leaf();
    EXPECT_NE(g.cpu().check_translations(), "");
    g.load(0);
    EXPECT_NE(g.cpu().check_translations().find("a cached right to read"), std::string::npos);
    g.cpu().invalidate_tlb();
    EXPECT_EQ(g.cpu().check_translations(), "");
}

/// Rights to write are found by the frame's host page, however many entries share its place.
TEST(Tlb, RevocationsFindEveryWriterAndNoOther) {
    using namespace processor::soft;
    auto tlb = std::make_unique<Tlb>();
    TlbSetState set(*tlb, nullptr);
    set.make_empty();
    std::mt19937_64 random(1);
    std::map<u64, u64> rights; // page -> host page
    // Few pages and hosts, so that entries, places and frames are shared all the time.
    const auto some_page = [&] { return (random() % 3 * tlb_size + random() % 40) * page_size; };
    const auto some_host = [&] {
        return (random() % 3 * tlb_size + 7 + random() % 12) * page_size;
    };
    for (unsigned step = 0; step < 200000; ++step) {
        switch (random() % 8) {
        case 0: {
            const u64 host = some_host();
            // SAFETY: only compared.
            set.revoke_writes(reinterpret_cast<Hva>(host));
            std::erase_if(rights, [host](const auto& r) { return r.second == host; });
            break;
        }
        case 1: {
            const u64 page = some_page();
            set.forget_page(Gva(page));
            rights.erase(page);
            break;
        }
        case 2:
            if (random() % 1000 == 0) set.forget_all(), rights.clear();
            break;
        default: {
            const u64 page = some_page(), host = some_host();
            const bool writable = random() % 2 == 0;
            set.fill(Gva(page), reinterpret_cast<Hva>(host), writable);
            std::erase_if(rights, [page](const auto& r) {
                return tlb_index(Gva(r.first)) == tlb_index(Gva(page));
            });
            if (writable) rights[page] = host;
        }
        }
        std::map<u64, u64> found;
        for (unsigned i = 0; i < 40; ++i)
            if (tlb->write_tag[i] != tlb_no_tag(i))
                found[~tlb->write_tag[i] + 1] = tlb->host_page[i];
        ASSERT_EQ(found, rights) << step;
    }
}

/// Whatever is accessed, the tag of an empty entry is not that of the page where it ends.
TEST(Tlb, EmptyEntriesAreNeverHit) {
    using namespace processor::soft;
    for (unsigned i = 0; i < tlb_size; ++i)
        for (const u64 high : {u64{0}, u64{tlb_size} << page_shift, ~u64{0} << 32})
            for (const u64 size : {1U, 8U, 32U})
                for (const u64 offset : {u64{0}, page_size - size, page_size - 1}) {
                    const u64 address = high + i * page_size + offset;
                    ASSERT_EQ(tlb_index(Gva(address)), i);
                    EXPECT_NE((address + tlb_no_tag(i) + size - 1) & ~page_offset_mask, 0U)
                        << address << " size " << size;
                }
    // The end of the address space, beyond which it begins again.
    const u64 last = ~u64{0};
    EXPECT_NE((last + tlb_no_tag(tlb_index(Gva(last))) + 7) & ~page_offset_mask, 0U);
}

/// All windows show one Cpu, and sets of their own.
TEST(CpuWindows, ShareTheCpuAndNotTheSets) {
    using processor::soft::Cpu;
    using processor::soft::CpuWindows;
    auto windows = CpuWindows::create(3);
    ASSERT_TRUE(windows);
    windows->cpu().page_base = 77;
    for (unsigned n = 0; n < 3; ++n) {
        // SAFETY: the same Cpu at another address.
        const auto& seen = *reinterpret_cast<const Cpu*>(windows->base(n));
        EXPECT_EQ(seen.page_base, 77U);
        EXPECT_EQ(seen.self, &windows->cpu());
        windows->sets(n)->read_tag[5] = n;
    }
    for (unsigned n = 0; n < 3; ++n)
        EXPECT_EQ(windows->sets(n)->read_tag[5], n);
    EXPECT_TRUE(windows->contains(windows->base(2)));
    EXPECT_FALSE(windows->contains(nullptr));
}

TEST(CpuWindowsDeathTest, HaveNothingBehindTheCpu) {
    using processor::soft::Cpu;
    using processor::soft::CpuWindows;
    auto windows = CpuWindows::create(2);
    ASSERT_TRUE(windows);
    for (unsigned n = 0; n < 2; ++n) {
        volatile auto* const end = windows->base(n) + sizeof(Cpu);
        EXPECT_DEATH(*end = std::byte{1}, "");
        volatile auto* const sets = reinterpret_cast<std::byte*>(windows->sets(n));
        EXPECT_DEATH(*(sets - 1) = std::byte{1}, "");
        // Up to the end of the last page of what a window has for itself.
        const u64 pages = (3 * sizeof(processor::soft::Tlb) + page_offset_mask) / page_size +
                          2 * 8 * processor::soft::code_page_limit / page_size + // their slots
                          1 +                                                    // the guesses
                          8 * processor::soft::view_delta_count / page_size;     // the deltas
        EXPECT_DEATH(*(sets + pages * page_size) = std::byte{1}, "");
    }
}

} // namespace
} // namespace gnomon::test
