// SPDX-License-Identifier: Apache-2.0
// What a processor that keeps translations by root is told to forget, and under which roots.
#include "model_processor.h"

#include <gtest/gtest.h>

namespace gnomon::monitor::test {
namespace {

using Kind = AccessResult::Kind;
constexpr StrictAccess user_read{.user = true};

/// Address spaces with a level-1 table of their own each, at the same addresses, beside one that
/// all share and that maps low memory 1:1.
class RootsTest : public testing::Test {
protected:
    static constexpr u64 data = 0x100000, window_base = 0xffff888000000000;
    static constexpr u64 window_l3 = 0x14000, window_l2 = 0x15000, window_l1 = 0x16000;
    static constexpr unsigned spaces = 12, user_pages = 64;

    void SetUp() override {
        start({.arena_bytes = 512 * page_size, .prefetch = 0, .tlb_keyed_by_root = true});
    }
    void start(const ShadowOptions& options) {
        m_bench.emplace(options);
        poke(window_l3, 0, window_l2 | g_page);
        poke(window_l2, 0, window_l1 | g_page);
        for (u64 i = 0; i < 512; ++i)
            poke(window_l1, i, i * page_size | g_page);
        for (unsigned n = 0; n < spaces; ++n) {
            poke(root(n), 0, l3(n) | g_table);
            poke(root(n), 273, window_l3 | g_page);
            poke(l3(n), 0, l2(n) | g_table);
            poke(l2(n), 0, l1(n) | g_table);
            for (u64 i = 0; i < user_pages; ++i)
                poke(l1(n), i, (data + (n + i) * page_size) | g_page | g::user);
        }
        cpu().load_cr3(root(0));
    }
    void TearDown() override {
        mmu().flush();
        const StrictReport report = m_bench->check();
        EXPECT_TRUE(report.ok()) << report.text();
    }
    static u64 root(unsigned n) { return 0x40000 + n * 4 * page_size; }
    static u64 l3(unsigned n) { return root(n) + page_size; }
    static u64 l2(unsigned n) { return root(n) + 2 * page_size; }
    static u64 l1(unsigned n) { return root(n) + 3 * page_size; }
    static Gva user(u64 page) { return Gva(page * page_size); }
    static Gva window(u64 gpa) { return Gva(window_base + gpa); }

    ModelProcessor& cpu() { return m_bench->cpu; }
    ShadowMmu& mmu() { return *m_bench->mmu; }
    void poke(u64 table, u64 slot, u64 value) { m_bench->poke(table, slot, value); }
    void store(u64 table, u64 slot, u64 value) {
        EXPECT_EQ(cpu().write64(window(table + 8 * slot), value).kind, Kind::done);
    }
    /// Loads the root and touches `pages` pages. @return the root's offset in the arena.
    u64 use(unsigned n, unsigned pages = 4) {
        cpu().load_cr3(root(n));
        for (u64 i = 0; i < pages; ++i) {
            const AccessResult r = cpu().resolve(user(i), user_read);
            EXPECT_EQ(r.kind, Kind::done);
            EXPECT_EQ(r.gpa, Gpa(data + (n + i) * page_size));
        }
        return mmu().root();
    }
    [[nodiscard]] bool cached(u64 offset, Gva gva) {
        return cpu().tlb().contains({offset, gva.value()});
    }
    /// What the processor was told since the last call.
    struct Told {
        u64 all, roots, pages;
        bool operator==(const Told&) const = default;
    };
    Told told() {
        const Told now{cpu().all, cpu().roots, cpu().pages};
        const Told since{now.all - m_before.all, now.roots - m_before.roots,
                         now.pages - m_before.pages};
        m_before = now;
        return since;
    }

private:
    std::optional<Bench> m_bench;
    Told m_before{};
};
void PrintTo(const auto& told, std::ostream* out) requires requires { told.roots; }
{ *out << "all " << told.all << " roots " << told.roots << " pages " << told.pages; }

TEST_F(RootsTest, ALoadForgetsNothing) {
    const u64 a = use(0), b = use(1);
    told();
    EXPECT_EQ(use(0), a);
    EXPECT_EQ(use(1), b);
    EXPECT_EQ(told(), (Told{0, 0, 0}));
    EXPECT_TRUE(cached(a, user(0)) && cached(b, user(0)));
}

TEST_F(RootsTest, APageUnderOneRootIsForgottenThereAlone) {
    const u64 a = use(0), b = use(1);
    told();
    store(l1(0), 2, 0); // while 1 is active
    mmu().flush();
    EXPECT_EQ(told(), (Told{0, 0, 1}));
    EXPECT_FALSE(cached(a, user(2)));
    EXPECT_TRUE(cached(a, user(1)) && cached(b, user(2)));
}

TEST_F(RootsTest, APageOfASharedTableIsForgottenUnderAll) {
    const u64 a = use(0);
    EXPECT_EQ(cpu().resolve(window(data), {}).kind, Kind::done);
    const u64 b = use(1);
    EXPECT_EQ(cpu().resolve(window(data), {}).kind, Kind::done);
    use(2);
    ASSERT_TRUE(cached(a, window(data)) && cached(b, window(data)));
    told();
    store(window_l1, data >> page_shift, 0);
    mmu().flush();
    EXPECT_EQ(told(), (Told{0, 0, 1}));
    EXPECT_FALSE(cached(a, window(data)) || cached(b, window(data)));
    EXPECT_TRUE(cached(a, user(0)) && cached(b, user(0)));
}

TEST_F(RootsTest, AnAddressSpaceThatIsTakenDownForgetsItsRootAlone) {
    const u64 a = use(0, user_pages), b = use(1, user_pages);
    told();
    for (u64 i = user_pages; i-- > 0;) {
        store(l1(0), i, 0);
        if (i == 10) store(window_l1, 300, 0); // was not used, but shared
    }
    mmu().flush();
    EXPECT_EQ(told().all, 0U);
    EXPECT_EQ(mmu().statistics().invalidations_root, 1U);
    for (u64 i = 0; i < user_pages; ++i) {
        EXPECT_FALSE(cached(a, user(i)));
        EXPECT_TRUE(cached(b, user(i)));
    }
}

/// As munmap clears entries, with holes that were never touched.
TEST_F(RootsTest, PagesInARowAreForgottenAlone) {
    const u64 a = use(0, user_pages), b = use(1, user_pages);
    EXPECT_EQ(cpu().resolve(window(data), {}).kind, Kind::done);
    told();
    for (u64 i = 0; i + 1 < user_pages; ++i)
        if (i % 5 < 2) store(l1(0), i, 0);
    mmu().flush();
    const Told what = told();
    EXPECT_EQ(what.all, 0U);
    EXPECT_EQ(what.roots, 0U);
    EXPECT_LE(what.pages, user_pages);
    for (u64 i = 0; i < user_pages; ++i) {
        EXPECT_TRUE(cached(b, user(i)));
        if (i % 5 < 2 && i + 1 < user_pages) {
            EXPECT_FALSE(cached(a, user(i)));
        }
    }
    EXPECT_TRUE(cached(a, user(user_pages - 1)));
}

TEST_F(RootsTest, ATableBelowOneRootForgetsThatRootAlone) {
    const u64 a = use(0);
    EXPECT_EQ(cpu().resolve(window(data), {}).kind, Kind::done);
    const u64 b = use(1);
    told();
    store(l2(0), 0, (l1(0) | g_table) & ~u64{g::writable});
    mmu().flush();
    EXPECT_EQ(told(), (Told{0, 1, 0}));
    EXPECT_FALSE(cached(a, user(0)));
    EXPECT_TRUE(cached(b, user(0)));
    store(window_l2, 0, (window_l1 | g_page) & ~u64{g::accessed}); // below every root
    mmu().flush();
    EXPECT_EQ(told().all, 1U);
}

TEST_F(RootsTest, ManyPagesOfASharedTableForgetEverything) {
    use(0);
    for (u64 i = 0; i < 40; ++i)
        EXPECT_EQ(cpu().resolve(window(data + i * page_size), {}).kind, Kind::done);
    use(1);
    told();
    for (u64 i = 0; i < 40; ++i)
        store(window_l1, (data >> page_shift) + i, 0);
    mmu().flush();
    EXPECT_EQ(told(), (Told{1, 0, 0}));
    EXPECT_TRUE(cpu().tlb().empty());
}

TEST_F(RootsTest, ARootThatGoesIsForgottenBeforeItsPageIsARootAgain) {
    const u64 gone = use(1), active = use(0);
    told();
    while (mmu().reclaim(1) != 0)
        EXPECT_EQ(told().all, 0U);
    EXPECT_FALSE(cached(gone, user(0)));
    unsigned tries = 0;
    do {
        ASSERT_LT(++tries, 1000U) << "the page was not used again";
        if (tries % 3 == 0) mmu().reclaim(1 + tries % 7);
    } while (use(2 + tries % (spaces - 2)) != gone);
    EXPECT_TRUE(cached(gone, user(0)));
    EXPECT_NE(gone, active);
}

TEST_F(RootsTest, ManyRootsThatGoForgetEverything) {
    for (unsigned n = 0; n < spaces; ++n)
        use(n);
    told();
    mmu().reclaim(1000);
    EXPECT_EQ(told().all, 1U);
    EXPECT_TRUE(cpu().tlb().empty());
}

TEST_F(RootsTest, AProcessorWithoutKeysHearsOfNoRoot) { // the model would stop
    start({.arena_bytes = 512 * page_size, .prefetch = 0});
    for (unsigned n = 0; n < spaces; ++n)
        use(n, user_pages);
    told();
    for (u64 i = 0; i < 8; ++i)
        store(l1(spaces - 1), i, 0);
    store(l1(0), 0, 0); // not active: nothing is cached
    mmu().flush();
    EXPECT_EQ(told(), (Told{0, 0, 8}));
    for (u64 i = 8; i < user_pages; ++i)
        store(l1(spaces - 1), i, 0);
    mmu().flush();
    EXPECT_EQ(told(), (Told{1, 0, 0}));
}

} // namespace
} // namespace gnomon::monitor::test
