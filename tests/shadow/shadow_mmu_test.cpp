// SPDX-License-Identifier: Apache-2.0
#include "model_processor.h"

#include <gtest/gtest.h>

namespace gnomon::monitor::test {
namespace {

using Kind = AccessResult::Kind;
using processor::ShadowEntry;
namespace pf = processor::pf_error;

constexpr StrictAccess read_access{}, write_access{.write = true}, fetch_access{.fetch = true};
constexpr StrictAccess user_read{.user = true}, user_write{.write = true, .user = true};

/// A guest with one address space: `user_base` maps data pages through one table per level, and
/// `window` maps low memory 1:1 with 4 KiB pages, tables included.
class ShadowMmuTest : public testing::Test {
protected:
    static constexpr u64 root = 0x10000, l3 = 0x11000, l2 = 0x12000, l1 = 0x13000;
    static constexpr u64 window_l3 = 0x14000, window_l2 = 0x15000, window_l1 = 0x16000;
    static constexpr u64 other_root = 0x17000;
    static constexpr u64 data = 0x100000;
    static constexpr u64 user_base = 0x400000; // slots 0, 0, 2, 0
    static constexpr u64 window_base = 0xffff888000000000;
    static constexpr unsigned window_slot = 273;

    void start(const ShadowOptions& options = {}) {
        m_bench.emplace(options);
        for (const u64 r : {root, other_root}) {
            poke(r, 0, l3 | g_table);
            poke(r, window_slot, window_l3 | g::present | g::writable);
        }
        poke(l3, 0, l2 | g_table);
        poke(l2, 2, l1 | g_table);
        for (u64 i = 0; i < 64; ++i)
            poke(l1, i, (data + i * page_size) | g_page | g::user);
        poke(window_l3, 0, window_l2 | g::present | g::writable);
        poke(window_l2, 0, window_l1 | g::present | g::writable);
        for (u64 i = 0; i < 512; ++i)
            poke(window_l1, i, i * page_size | g_page);
        cpu().load_cr3(root);
    }
    void TearDown() override {
        if (!m_bench) return;
        mmu().flush();
        const StrictReport report = m_bench->check();
        EXPECT_TRUE(report.ok()) << report.text();
    }

    Bench& bench() { return *m_bench; }
    ModelProcessor& cpu() { return m_bench->cpu; }
    ShadowMmu& mmu() { return *m_bench->mmu; }
    void poke(u64 table, u64 slot, u64 value) { m_bench->poke(table, slot, value); }
    u64 entry(u64 table, u64 slot) { return m_bench->peek(table + 8 * slot); }
    static Gva user(u64 page) { return Gva(user_base + page * page_size); }
    static Gva window(u64 gpa) { return Gva(window_base + gpa); }
    /// The guest stores to one of its own table entries.
    AccessResult::Kind guest_store(u64 table, u64 slot, u64 value) {
        return cpu().write64(window(table + 8 * slot), value).kind;
    }
    u64 shadow_leaf(Gva gva) {
        const auto c = cpu().walk_shadow(gva);
        return c ? c->frame : ~u64{0};
    }
    void expect_fault(Gva gva, StrictAccess access, u32 code) {
        const AccessResult r = cpu().resolve(gva, access);
        EXPECT_EQ(r.kind, Kind::fault);
        EXPECT_EQ(r.error_code, code);
    }
    void expect_done(Gva gva, StrictAccess access, u64 gpa) {
        const AccessResult r = cpu().resolve(gva, access);
        EXPECT_EQ(r.kind, Kind::done) << r.error_code;
        EXPECT_EQ(r.gpa, Gpa(gpa));
    }

private:
    std::optional<Bench> m_bench;
};

TEST_F(ShadowMmuTest, FillsOnceAndSetsAccessedAndDirty) {
    start({.prefetch = 0});
    expect_done(user(3), user_read, data + 3 * page_size);
    EXPECT_EQ(cpu().exits, 1u);
    EXPECT_NE(entry(root, 0) & g::accessed, 0u);
    EXPECT_NE(entry(l1, 3) & g::accessed, 0u);
    EXPECT_EQ(entry(l1, 3) & g::dirty, 0u);
    expect_done(user(3), user_write, data + 3 * page_size);
    EXPECT_EQ(cpu().exits, 2u) << "the first write exits to set D";
    EXPECT_NE(entry(l1, 3) & g::dirty, 0u);
    EXPECT_EQ(entry(l2, 2) & g::dirty, 0u) << "D belongs to the last level";
    expect_done(user(3), user_write, data + 3 * page_size);
    EXPECT_EQ(cpu().exits, 2u);
    EXPECT_EQ(entry(l1, 4) & g::accessed, 0u) << "untouched neighbours stay untouched";
}

TEST_F(ShadowMmuTest, ErrorCodesAreTheArchitectures) {
    start();
    poke(l1, 64, 0);
    poke(l1, 65, data | g::present | g::user);            // read-only
    poke(l1, 66, data | g_page);                          // supervisor
    poke(l1, 67, data | g_page | g::user | u64{1} << 45); // beyond the physical width
    poke(l1, 68, data | g_page | g::user | g::execute_disable);
    poke(l2, 3, 0x200000 | g_page | g::user | g::page_size | 0x2000); // misaligned 2 MiB page
    poke(root, 1, l3 | g_table | g::page_size);                       // PS in a PML4 entry
    expect_fault(user(64), user_read, pf::user);
    expect_fault(user(64), write_access, pf::write);
    expect_fault(user(65), user_write, pf::present | pf::write | pf::user);
    expect_fault(user(65), write_access, pf::present | pf::write);
    expect_fault(user(66), user_read, pf::present | pf::user);
    expect_fault(user(67), user_read, pf::present | pf::user | pf::reserved);
    expect_fault(user(68), {.fetch = true, .user = true}, pf::present | pf::user | pf::fetch);
    expect_fault(Gva(0x600000), read_access, pf::present | pf::reserved);
    expect_fault(Gva(u64{1} << 39), read_access, pf::present | pf::reserved);
    expect_done(user(68), user_read, data);
    EXPECT_EQ(entry(l1, 66) & g::accessed, 0u) << "a refused access leaves no trace";

    // Without NXE bit 63 is reserved, and the I bit is pushed only with SMEP.
    auto& s = cpu().state();
    cpu().set_control(s.cr0, s.cr4, s.efer & ~processor::efer::nxe);
    expect_fault(user(68), user_read, pf::present | pf::user | pf::reserved);
    expect_fault(user(64), {.fetch = true, .user = true}, pf::user);
    cpu().set_control(s.cr0, s.cr4 | processor::cr4::smep, s.efer);
    expect_fault(user(64), {.fetch = true, .user = true}, pf::user | pf::fetch);
}

TEST_F(ShadowMmuTest, SupervisorRulesForUserPages) {
    start();
    auto& s = cpu().state();
    poke(l1, 65, data | g::present | g::user);
    expect_done(user(0), fetch_access, data);
    cpu().set_control(s.cr0, s.cr4 | processor::cr4::smep | processor::cr4::smap, s.efer);
    expect_fault(user(0), fetch_access, pf::present | pf::fetch);
    expect_fault(user(0), read_access, pf::present);
    expect_done(user(0), {.ac = true}, data);
    expect_fault(user(0), {.implicit_supervisor = true, .ac = true}, pf::present);
    // At CPL 3 an implicit access is still a supervisor's.
    expect_fault(user(0), {.user = true, .implicit_supervisor = true, .ac = true}, pf::present);
    cpu().set_control(s.cr0 & ~processor::cr0::wp, s.cr4, s.efer);
    expect_done(user(65), {.write = true, .ac = true}, data);
    EXPECT_NE(entry(l1, 65) & g::dirty, 0u);
    cpu().set_control(s.cr0 | processor::cr0::wp, s.cr4, s.efer);
    expect_fault(user(65), {.write = true, .ac = true}, pf::present | pf::write);
}

TEST_F(ShadowMmuTest, TableBecomesTracedThroughEveryAliasBeforeItIsRead) {
    start({.prefetch = 0});
    // A second alias of the table, writable by the user, and both writable in the TLB.
    poke(l1, 10, l1 | g_page | g::user | g::accessed);
    expect_done(user(0), user_read, data);
    expect_done(user(10), user_write, l1);
    EXPECT_TRUE(cpu().walk_shadow(user(10))->traced);
    const u64 future_table = 0x40000;
    expect_done(window(future_table), write_access, future_table);
    EXPECT_FALSE(cpu().walk_shadow(window(future_table))->traced);
    poke(future_table, 0, data | g_page | g::user);
    // The store that links the table is recorded; the one into it, before, was not and need not be.
    EXPECT_EQ(guest_store(l2, 5, future_table | g_table), Kind::done);
    bool revoked_before_read = false;
    cpu().on_revoke = [&](Gpa gpa) {
        if (gpa != Gpa(future_table)) return;
        EXPECT_TRUE(cpu().walk_shadow(window(future_table))->traced);
        revoked_before_read =
            (entry(future_table, 0) & g::accessed) != 0 || shadow_leaf(Gva(0xa00000)) == ~u64{0};
    };
    expect_done(Gva(0xa00000), user_read, data);
    EXPECT_TRUE(revoked_before_read);
    // The cached right to write is gone: this store is recorded.
    const u32 before = cpu().block().write_buffer.count;
    EXPECT_EQ(guest_store(future_table, 1, (data + page_size) | g_page | g::user), Kind::done);
    EXPECT_EQ(cpu().block().write_buffer.count, before + 1);
    expect_done(Gva(0xa01000), user_read, data + page_size);
}

TEST_F(ShadowMmuTest, TableWritesDoNotExitAndTakeEffectAtTheFlush) {
    start();
    for (u64 i = 0; i < 64; ++i)
        expect_done(user(i), user_read, data + i * page_size);
    EXPECT_EQ(guest_store(l1, 0, entry(l1, 0)), Kind::done);
    const u64 exits = cpu().exits;
    for (u64 i = 0; i < 64; ++i)
        EXPECT_EQ(
            guest_store(l1, i, (data + (63 - i) * page_size) | g_page | g::user | g::accessed),
            Kind::done);
    EXPECT_EQ(cpu().exits, exits) << "no exit per page-table write";
    expect_done(user(1), user_read, data + page_size);
    mmu().flush();
    for (u64 i = 0; i < 64; ++i)
        expect_done(user(i), user_read, data + (63 - i) * page_size);
    EXPECT_EQ(cpu().exits, exits) << "entries changed in place need no fault";
}

TEST_F(ShadowMmuTest, EditsThatCancelCostNothing) {
    start();
    expect_done(user(7), user_read, data + 7 * page_size);
    guest_store(l1, 7, entry(l1, 7));
    mmu().flush();
    const ShadowStatistics before = mmu().statistics();
    const u64 old = entry(l1, 7);
    guest_store(l1, 7, 0);
    guest_store(l1, 7, old);
    mmu().flush();
    const ShadowStatistics after = mmu().statistics();
    EXPECT_EQ(after.records - before.records, 2u);
    EXPECT_EQ(after.entries_changed, before.entries_changed);
    EXPECT_EQ(after.invalidations_all, before.invalidations_all);
    EXPECT_EQ(after.invalidations_page, before.invalidations_page);
}

TEST_F(ShadowMmuTest, InvalidatesOnlyWhatGotWeaker) {
    start();
    for (u64 i = 0; i < 8; ++i)
        expect_done(user(i), user_write, data + i * page_size);
    guest_store(l1, 20, entry(l1, 20));
    mmu().flush();
    const u64 all = cpu().all, pages = cpu().pages;
    guest_store(l1, 1, 0);
    guest_store(l1, 2, entry(l1, 2) & ~g::dirty);
    guest_store(l1, 3, entry(l1, 3) & ~g::writable);
    guest_store(l1, 4, entry(l1, 4) | u64{1} << 60); // software bit
    guest_store(l1, 5, entry(l1, 5) & ~g::accessed);
    mmu().flush();
    EXPECT_EQ(cpu().all, all);
    EXPECT_EQ(cpu().pages, pages + 4);
    expect_fault(user(1), user_read, pf::user);
    expect_done(user(2), user_write, data + 2 * page_size);
    EXPECT_NE(entry(l1, 2) & g::dirty, 0u) << "D cleared and flushed must be set again";
    expect_done(user(5), user_read, data + 5 * page_size);
    EXPECT_NE(entry(l1, 5) & g::accessed, 0u);
}

TEST_F(ShadowMmuTest, MissingFlushesThatTheArchitectureForgives) {
    start({.prefetch = 0, .prefill = false});
    expect_fault(user(100), user_read, pf::user);
    expect_done(user(3), user_read, data + 3 * page_size);
    // Not present to present, and read-only to writable, without any flush.
    guest_store(l1, 100, data | g_page | g::user);
    expect_done(user(100), user_read, data);
    guest_store(l1, 3, entry(l1, 3) & ~g::writable);
    mmu().flush();
    expect_fault(user(3), user_write, pf::present | pf::write | pf::user);
    guest_store(l1, 3, entry(l1, 3) | g::writable);
    expect_done(user(3), user_write, data + 3 * page_size);
    // An edit to a table whose shadow is alive but not linked, then linked: no flush.
    guest_store(l2, 2, entry(l2, 2) & ~g::accessed);
    mmu().flush();
    guest_store(l1, 3, (data + 9 * page_size) | g_page | g::user);
    expect_done(user(3), user_read, data + 9 * page_size);
}

TEST_F(ShadowMmuTest, RelinkedTableIsCurrentAsAWhole) {
    start({.prefetch = 0});
    for (u64 i = 0; i < 4; ++i)
        expect_done(user(i), user_read, data + i * page_size);
    // Unlinked but alive, and flushed: from here on no old translation may appear.
    guest_store(l2, 2, entry(l2, 2) & ~g::accessed);
    mmu().flush();
    guest_store(l1, 3, (data + 9 * page_size) | g_page | g::user | g::accessed);
    // The neighbour's fault links the table again.
    expect_done(user(0), user_read, data);
    expect_done(user(3), user_read, data + 9 * page_size);
}

TEST_F(ShadowMmuTest, OneEntryAtSeveralAddresses) {
    start();
    poke(l2, 3, l1 | g_table);   // the level-1 table twice
    poke(root, 1, l3 | g_table); // the level-3 table twice
    const u64 second = u64{1} << 39;
    const auto addresses = {user(1), user(1) + 0x200000, user(1) + second,
                            user(1) + second + 0x200000};
    for (const Gva gva : addresses)
        expect_done(gva, user_read, data + page_size);
    guest_store(l1, 1, (data + 8 * page_size) | g_page | g::user);
    mmu().flush();
    for (const Gva gva : addresses)
        expect_done(gva, user_read, data + 8 * page_size);
    // Without the second level-1 use there are still two addresses.
    guest_store(l2, 3, 0);
    mmu().flush();
    for (const Gva gva : {user(1), user(1) + second})
        expect_done(gva, user_read, data + 8 * page_size);
    guest_store(l1, 1, (data + 2 * page_size) | g_page | g::user);
    mmu().flush();
    for (const Gva gva : {user(1), user(1) + second})
        expect_done(gva, user_read, data + 2 * page_size);
}

TEST_F(ShadowMmuTest, KernelEntrySharedByRootsIsInvalidatedByItsPage) {
    start();
    const u64 page = 0x90000;
    for (const u64 r : {other_root, root}) {
        cpu().load_cr3(r);
        expect_done(window(page), read_access, page);
    }
    guest_store(window_l1, 1, entry(window_l1, 1));
    mmu().flush();
    const u64 all = cpu().all, pages = cpu().pages;
    guest_store(window_l1, page / page_size, (page + page_size) | g_page);
    mmu().flush();
    EXPECT_EQ(cpu().all, all);
    EXPECT_EQ(cpu().pages, pages + 1);
    expect_done(window(page), read_access, page + page_size);
}

TEST_F(ShadowMmuTest, StraddlingAndPartialWritesReachEveryEntry) {
    start({.prefetch = 64});
    expect_done(user(0), user_read, data);
    for (u64 i = 0; i < 64; ++i)
        expect_done(user(i), user_read, data + i * page_size);
    mmu().flush();
    const u8 zero[32] = {};
    EXPECT_EQ(cpu().write(window(l1 + 8 * 3 + 4), std::span(zero).first(8)).kind,
              Kind::done); // 3 (high half), 4 (low)
    EXPECT_EQ(cpu().write(window(l1 + 8 * 10 + 1), std::span(zero).first(1)).kind, Kind::done);
    EXPECT_EQ(cpu().write(window(l1 + 8 * 20), std::span(zero).first(32)).kind, Kind::done);
    mmu().flush();
    for (const u64 gone : {4, 20, 21, 22, 23})
        expect_fault(user(gone), user_read, pf::user);
    expect_done(user(3), user_read, data + 3 * page_size);
    expect_done(user(10), user_read, (entry(l1, 10) & g::address_mask));
    expect_done(user(24), user_read, data + 24 * page_size);
    // Across two pages that are both tables.
    EXPECT_EQ(cpu().write(window(l1 + 8 * 512 - 16), zero).kind, Kind::done);
}

TEST_F(ShadowMmuTest, LargePages) {
    start();
    poke(l2, 4, 0x200000 | g_page | g::user | g::page_size);
    poke(l3, 1, 0x0 | g_page | g::user | g::page_size | g::execute_disable);
    expect_done(Gva(0x800000 + 0x5123), user_read, 0x205123);
    EXPECT_EQ(entry(l2, 4) & g::dirty, 0u);
    expect_done(Gva(0x800000 + 0x5123), user_write, 0x205123);
    EXPECT_NE(entry(l2, 4) & g::dirty, 0u);
    expect_done(Gva(0x40000000 + 0x123456), user_write, 0x123456);
    expect_fault(Gva(0x40000000), {.fetch = true, .user = true},
                 pf::present | pf::user | pf::fetch);
    // RAM ends at 4 MiB: the rest of the 1 GiB page is the bus.
    EXPECT_EQ(cpu().resolve(Gva(0x40000000 + 0x3000000), user_read).kind, Kind::mmio);
    // A table inside a large page is traced.
    expect_done(Gva(0x40000000 + l2), user_write, l2);
    EXPECT_TRUE(cpu().walk_shadow(Gva(0x40000000 + l2))->traced);
    // Losing the right to write, then D.
    guest_store(l2, 4, entry(l2, 4) & ~g::writable);
    mmu().flush();
    expect_fault(Gva(0x800000), user_write, pf::present | pf::write | pf::user);
    guest_store(l2, 4, (entry(l2, 4) | g::writable) & ~g::dirty);
    mmu().flush();
    expect_done(Gva(0x800000), user_write, 0x200000);
    EXPECT_NE(entry(l2, 4) & g::dirty, 0u);
    // Split into small pages, as THP does: the large page becomes a table.
    for (u64 i = 0; i < 512; ++i)
        poke(0x50000, i, (data + (i & 63) * page_size) | g_page | g::user);
    guest_store(l2, 4, 0x50000 | g_table);
    mmu().flush();
    expect_done(Gva(0x801000), user_read, data + page_size);
}

// The shadow of a large page goes when D is set: what was cached of it must go with it, or a later
// edit finds no shadow and so nothing to forget.
TEST_F(ShadowMmuTest, LargePageThatGainedDirtyIsForgottenWhenItGoes) {
    start();
    poke(l2, 4, 0x200000 | g_page | g::user | g::page_size);
    expect_done(Gva(0x800000), user_read, 0x200000);
    guest_store(l2, 4, entry(l2, 4) | g::dirty);
    mmu().flush();
    guest_store(l2, 4, 0);
    mmu().flush();
    expect_fault(Gva(0x800000), user_read, pf::user);
}

TEST_F(ShadowMmuTest, WithoutWriteProtectionALargePageStillGetsItsDirtyBit) {
    start();
    auto& s = cpu().state();
    poke(l2, 4, 0x200000 | g::present | g::user | g::page_size);
    cpu().set_control(s.cr0 & ~processor::cr0::wp, s.cr4, s.efer);
    expect_done(Gva(0x800000), read_access, 0x200000);
    expect_done(Gva(0x800000), write_access, 0x200000);
    EXPECT_NE(entry(l2, 4) & g::dirty, 0u);
}

TEST_F(ShadowMmuTest, SwitchingAddressSpacesKeepsShadowTables) {
    start();
    expect_done(user(0), user_read, data);
    cpu().load_cr3(other_root);
    expect_done(user(0), user_read, data);
    const ShadowStatistics before = mmu().statistics();
    const u64 exits = cpu().exits, all = cpu().all;
    for (int i = 0; i < 10; ++i) {
        cpu().load_cr3(root | 5);
        expect_done(user(0), user_read, data);
        cpu().load_cr3(other_root | u64{1} << 63);
        expect_done(user(0), user_read, data);
    }
    EXPECT_EQ(cpu().exits, exits);
    EXPECT_EQ(mmu().statistics().root_hits - before.root_hits, 20u);
    EXPECT_EQ(mmu().statistics().tables_created, before.tables_created);
    EXPECT_EQ(cpu().all, all + 20);
    cpu().load_cr3(other_root);
    EXPECT_EQ(cpu().all, all + 20) << "reloading the same root forgets nothing by itself";
}

TEST_F(ShadowMmuTest, FreedTableStopsBeingTraced) {
    start();
    expect_done(user(0), user_read, data);
    guest_store(l2, 2, entry(l2, 2));
    mmu().flush();
    EXPECT_TRUE(mmu().is_traced(Gpa(l1)));
    guest_store(l2, 2, 0);
    mmu().flush();
    EXPECT_FALSE(mmu().is_traced(Gpa(l1)));
    const u32 count = cpu().block().write_buffer.count;
    const u8 text[32] = {1, 2, 3};
    EXPECT_EQ(cpu().write(window(l1), text).kind, Kind::done);
    EXPECT_EQ(cpu().block().write_buffer.count, count);
    EXPECT_GE(mmu().statistics().tables_retired, 1u);
}

TEST_F(ShadowMmuTest, AbandonedRootIsRetiredByAge) {
    start();
    expect_done(window(other_root), write_access, other_root);
    cpu().load_cr3(other_root);
    expect_done(user(0), user_read, data);
    cpu().load_cr3(root);
    EXPECT_TRUE(mmu().is_traced(Gpa(other_root)));
    const u8 text[32] = {1, 2, 3};
    for (u64 at = 0; at < page_size; at += 32)
        EXPECT_EQ(cpu().write(window(other_root + at), text).kind, Kind::done);
    mmu().flush();
    EXPECT_FALSE(mmu().is_traced(Gpa(other_root)));
    // In use, the same writes retire nothing.
    for (u64 at = 0; at < 128; ++at)
        guest_store(root, 100 + at % 50, 0);
    mmu().flush();
    EXPECT_TRUE(mmu().is_traced(Gpa(root)));
}

TEST_F(ShadowMmuTest, SelfMapServesOneTableAtSeveralLevels) {
    start();
    poke(root, 256, root | g::present | g::writable);
    // Level 1 through the self-map: the page of l1.
    const u64 self = 0xffff800000000000;
    const Gva l1_view(self | 0ULL << 30 | 0ULL << 21 | 2ULL << 12);
    const Gva root_view(self | 256ULL << 30 | 256ULL << 21 | 256ULL << 12);
    expect_done(user(0), user_read, data);
    expect_done(l1_view, write_access, l1);
    expect_done(root_view, write_access, root);
    EXPECT_TRUE(cpu().walk_shadow(l1_view)->traced);
    EXPECT_TRUE(cpu().walk_shadow(root_view)->traced);
    EXPECT_EQ(cpu().write64(l1_view + 8, (data + 5 * page_size) | g_page | g::user).kind,
              Kind::done);
    mmu().flush();
    expect_done(user(1), user_read, data + 5 * page_size);
    // One store takes away the same entry at all four levels.
    EXPECT_EQ(cpu().write64(root_view + 8 * 256, 0).kind, Kind::done);
    mmu().flush();
    expect_fault(root_view, read_access, 0);
    expect_fault(l1_view, read_access, 0);
}

TEST_F(ShadowMmuTest, TablesOutsideRam) {
    start();
    poke(l3, 2, u64{0xfee00000} | g_table);
    poke(l2, 6, (u64{1} << 39) | g_table);
    poke(l1, 70, u64{0xfee00000} | g_page | g::user);
    expect_fault(Gva(0x80000000), read_access, 0);
    expect_fault(Gva(0xc00000), read_access, 0);
    EXPECT_EQ(cpu().resolve(user(70), user_read).kind, Kind::mmio);
    for (const u64 cr3 : {u64{0x10000000}, u64{0xfee00000}, ~u64{0} & ~u64{0xfff}}) {
        cpu().load_cr3(cr3);
        expect_fault(user(0), read_access, 0);
        expect_fault(user(0), write_access, pf::write);
    }
    cpu().load_cr3(root);
    expect_done(user(0), user_read, data);
}

TEST_F(ShadowMmuTest, UnpagedAndUnsupportedModes) {
    start();
    auto& s = cpu().state();
    cpu().set_control(processor::cr0::pe, 0, 0);
    expect_done(Gva(0x123456), write_access, 0x123456);
    expect_done(Gva(l1), write_access, l1);
    EXPECT_EQ(cpu().resolve(Gva(0xfee00000), read_access).kind, Kind::mmio);
    EXPECT_EQ(entry(l1, 0) & g::accessed, 0u);
    EXPECT_TRUE(bench().check().ok());
    cpu().set_control(s.cr0 | processor::cr0::pg, 0, 0);
    expect_fault(Gva(0x123456), read_access, 0);
    cpu().set_control(s.cr0, processor::cr4::pae,
                      processor::efer::lme | processor::efer::lma | processor::efer::nxe);
    expect_done(user(0), user_read, data);
}

TEST_F(ShadowMmuTest, FullBufferLosesNothing) {
    start({.write_buffer_records = 128});
    expect_done(user(0), user_read, data);
    for (u64 i = 0; i < 300; ++i)
        EXPECT_EQ(guest_store(l1, i,
                              (data + ((i * 7) & 63) * page_size) | g_page | g::user | g::accessed),
                  Kind::done);
    EXPECT_GE(cpu().buffer_full_exits, 2u);
    mmu().flush();
    for (u64 i = 0; i < 300; ++i)
        expect_done(user(i), user_read, data + ((i * 7) & 63) * page_size);
}

TEST_F(ShadowMmuTest, RecordsPrefillTheShadow) {
    start();
    expect_done(user(0), user_read, data);
    guest_store(l1, 200, 0);
    mmu().flush();
    const u64 exits = cpu().exits;
    for (u64 i = 0; i < 32; ++i)
        guest_store(l1, 200 + i,
                    (data + i * page_size) | g_page | g::user | g::accessed | g::dirty);
    mmu().flush();
    for (u64 i = 0; i < 32; ++i)
        expect_done(user(200 + i), user_write, data + i * page_size);
    EXPECT_EQ(cpu().exits, exits);
    EXPECT_EQ(mmu().statistics().prefilled, 32u);
}

TEST_F(ShadowMmuTest, DeviceWritesAreNoted) {
    start();
    for (u64 i = 0; i < 4; ++i)
        expect_done(user(i), user_read, data + i * page_size);
    poke(l1, 1, (data + 30 * page_size) | g_page | g::user);
    poke(l1, 2, 0);
    mmu().note_write(Gpa(l1 - 20), 0x1000);
    expect_done(user(1), user_read, data + 30 * page_size);
    expect_fault(user(2), user_read, pf::user);
    // Any extent is acceptable.
    mmu().note_write(Gpa(0), ~u64{0});
    mmu().note_write(Gpa(~u64{0} - 5), 100);
}

TEST_F(ShadowMmuTest, ReclaimKeepsTheActiveRootAndStaysCorrect) {
    start({.arena_bytes = ShadowTables::min_tables * page_size, .prefetch = 4});
    // 60 level-1 tables, all of the same content, need more than the arena holds.
    for (u64 i = 0; i < 60; ++i) {
        const u64 table = 0x80000 + i * page_size;
        for (u64 j = 0; j < 512; ++j)
            poke(table, j, (data + (j & 63) * page_size) | g_page | g::user);
        poke(l2, 100 + i, table | g_table);
    }
    for (int round = 0; round < 3; ++round)
        for (u64 i = 0; i < 60; ++i)
            expect_done(Gva((100 + i) << 21 | (i & 7) << 12), user_write,
                        data + (i & 7) * page_size);
    const ShadowStatistics s = mmu().statistics();
    EXPECT_GT(s.tables_reclaimed, 60u);
    EXPECT_LT(s.tables_live, ShadowTables::min_tables);
    EXPECT_TRUE(mmu().is_traced(Gpa(root)));
    EXPECT_GE(mmu().reclaim(1000), 1u);
    mmu().flush();
    EXPECT_EQ(mmu().statistics().tables_live, 2u) << "the empty root and the active one";
    EXPECT_FALSE(mmu().is_traced(Gpa(l1)));
    EXPECT_TRUE(cpu().tlb().empty());
}

// One exit an access, however often room has to be made for a table: what is above it stays.
TEST_F(ShadowMmuTest, ReclaimSparesThePathThatIsBeingFilled) {
    start({.arena_bytes = ShadowTables::min_tables * page_size, .prefetch = 0});
    for (u64 i = 0; i < 60; ++i) {
        const u64 table = 0x80000 + i * page_size;
        poke(table, 0, data | g_page | g::user);
        poke(l2, 100 + i, table | g_table);
        const u64 exits = cpu().exits;
        expect_done(Gva((100 + i) << 21), user_read, data);
        EXPECT_EQ(cpu().exits - exits, 1u) << "table " << i;
        const StrictReport report = bench().check();
        EXPECT_TRUE(report.ok()) << report.text();
    }
    EXPECT_GT(mmu().statistics().tables_reclaimed, 20u);
}

TEST_F(ShadowMmuTest, MonitorPagesHaveTheirOwnRoot) {
    start();
    const Gva at(0xffff800000001000);
    EXPECT_EQ(cpu().block().monitor_root, 0u);
    ASSERT_TRUE(mmu().map_monitor_page(at, Gpa(processor::monitor_frame_base + 0x3000),
                                       ShadowEntry::execute_disable));
    EXPECT_EQ(cpu().block().monitor_root, mmu().monitor_root());
    EXPECT_NE(mmu().monitor_root(), 0u);
    expect_fault(at, read_access, 0);
    std::swap(cpu().block().shadow_root, cpu().block().monitor_root);
    const auto c = cpu().walk_shadow(at);
    std::swap(cpu().block().shadow_root, cpu().block().monitor_root);
    ASSERT_TRUE(c);
    EXPECT_EQ(c->frame, processor::monitor_frame_base + 0x3000);
    EXPECT_FALSE(c->mmio || c->user || c->writable || c->executable);
    (void)mmu().reclaim(1000);
    std::swap(cpu().block().shadow_root, cpu().block().monitor_root);
    EXPECT_TRUE(cpu().walk_shadow(at));
    std::swap(cpu().block().shadow_root, cpu().block().monitor_root);
}

TEST_F(ShadowMmuTest, MonitorPagesRunOutWithAnError) {
    start({.arena_bytes = ShadowTables::min_tables * page_size});
    Result<> last;
    for (u64 i = 0; i < 64 && last; ++i)
        last = mmu().map_monitor_page(Gva(i << 39), Gpa(processor::monitor_frame_base), 0);
    ASSERT_FALSE(last);
    EXPECT_NE(last.error().message.find("shadow arena"), std::string::npos);
    expect_done(user(0), user_read, data);
}

TEST_F(ShadowMmuTest, PrefetchFillsAccessedNeighboursOnly) {
    start({.prefetch = 16});
    for (u64 i = 0; i < 16; i += 2)
        poke(l1, i, entry(l1, i) | g::accessed);
    expect_done(user(5), user_read, data + 5 * page_size);
    EXPECT_EQ(mmu().statistics().prefetched, 8u);
    for (u64 i = 0; i < 16; ++i)
        EXPECT_EQ(cpu().walk_shadow(user(i)).has_value(), i % 2 == 0 || i == 5);
    for (u64 i = 0; i < 16; ++i)
        if (i != 5 && i % 2 != 0) {
            EXPECT_EQ(entry(l1, i) & g::accessed, 0u);
        }
}

TEST(ShadowMmuOptions, AreChecked) {
    GuestMemory memory = std::move(GuestMemory::create(u64{1} << 20).value());
    ModelProcessor cpu(memory);
    EXPECT_FALSE(ShadowMmu::create(memory, cpu, {.arena_bytes = 4096}));
    EXPECT_FALSE(ShadowMmu::create(memory, cpu, {.arena_bytes = 4097}));
    EXPECT_FALSE(ShadowMmu::create(memory, cpu, {.write_buffer_records = 127}));
    EXPECT_FALSE(ShadowMmu::create(memory, cpu, {.prefetch = 3}));
    EXPECT_TRUE(ShadowMmu::create(memory, cpu, {.prefetch = 512}));
}

} // namespace
} // namespace gnomon::monitor::test
