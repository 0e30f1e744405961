// SPDX-License-Identifier: Apache-2.0
/// @file The oracle itself: that it agrees with hand-made tables, and that it notices what is
/// wrong.
#include "model_processor.h"

#include <gtest/gtest.h>

namespace gnomon::monitor::test {
namespace {

using processor::ShadowEntry;

class StrictWalkerTest : public testing::Test {
protected:
    static constexpr u64 root = 0x10000, l3 = 0x11000, l2 = 0x12000, l1 = 0x13000;
    static constexpr u64 data = 0x100000, user_base = 0x400000;

    StrictWalkerTest() {
        bench.poke(root, 0, l3 | g_table);
        bench.poke(l3, 0, l2 | g_table);
        bench.poke(l2, 2, l1 | g_table);
        bench.poke(l2, 3, 0x200000 | g_page | g::page_size);
        for (u64 i = 0; i < 16; ++i)
            bench.poke(l1, i, (data + i * page_size) | g_page | g::user);
        // The tables themselves, from page 32 on.
        for (u64 i = 0; i < 4; ++i)
            bench.poke(l1, 32 + i, (root + i * page_size) | g_page);
        bench.cpu.load_cr3(root);
    }
    static Gva user(u64 page) { return Gva(user_base + page * page_size); }
    PagingState paging() { return PagingState::of(bench.cpu.state()); }
    /// The shadow entry for `gva` at `level`, for tampering.
    u64& shadow(Gva gva, unsigned target) {
        u64 table = bench.mmu->root();
        for (unsigned level = 4;; --level) {
            u64& e = *reinterpret_cast<u64*>(bench.mmu->arena() + table +
                                             8 * processor::shadow_index(gva, level));
            if (level == target) return e;
            table = e & ShadowEntry::address_mask;
        }
    }
    void expect_violation(const char* text) {
        const StrictReport report = bench.check();
        EXPECT_FALSE(report.ok());
        EXPECT_NE(report.text().find(text), std::string::npos) << report.text();
    }

    Bench bench;
};

TEST_F(StrictWalkerTest, TranslatesByTheBook) {
    const StrictResult small =
        StrictWalker::translate(bench.memory, paging(), Gva(user_base + 0x3456));
    EXPECT_FALSE(small.fault);
    EXPECT_EQ(small.translation.frame, Gpa(data + 3 * page_size));
    EXPECT_EQ(small.translation.leaf_level, 1u);
    EXPECT_EQ(small.translation.tables[3], Gpa(l1));
    const StrictResult large =
        StrictWalker::translate(bench.memory, paging(), Gva(0x600000 + 0x45678));
    EXPECT_EQ(large.translation.frame, Gpa(0x245000));
    EXPECT_FALSE(large.translation.user);
    EXPECT_TRUE(StrictWalker::translate(bench.memory, paging(), Gva(0x800000)).fault);
    EXPECT_EQ(
        StrictWalker::walk(bench.memory, paging(), Gva(0x800000), {.write = true, .user = true})
            .error_code,
        6u);
    EXPECT_EQ(StrictWalker::walk(bench.memory, paging(), Gva(0x600000), {.user = true}).error_code,
              5u);
    bench.poke(l1, 3, data | g_page | u64{1} << 51);
    EXPECT_EQ(StrictWalker::walk(bench.memory, paging(), user(3), {}).error_code, 9u);
    PagingState unpaged = paging();
    unpaged.cr0 = 1;
    EXPECT_EQ(StrictWalker::translate(bench.memory, unpaged, Gva(0x12345)).translation.frame,
              Gpa(0x12000));
}

TEST_F(StrictWalkerTest, ADroppedRecordIsCaught) {
    for (const bool drop : {false, true}) {
        ASSERT_EQ(bench.cpu.resolve(user(1), {.user = true}).kind, AccessResult::Kind::done);
        const Gva l1_entry(user(35).value() + 8 * 1);
        const u64 other = bench.peek(l1 + 8) ^ (page_size << 1);
        ASSERT_EQ(bench.cpu.write64(l1_entry, other).kind, AccessResult::Kind::done);
        processor::WriteBuffer& buffer = bench.cpu.block().write_buffer;
        ASSERT_EQ(buffer.count, 1u);
        ASSERT_EQ(buffer.records[0].gpa, Gpa(l1 + 8));
        if (drop) --buffer.count;
        bench.mmu->flush();
        if (drop)
            expect_violation("frame should be");
        else
            EXPECT_TRUE(bench.check().ok()) << bench.check().text();
        EXPECT_EQ(bench.strict.check_page(bench.mmu->root(), paging(), user(1)).ok(), !drop);
    }
}

TEST_F(StrictWalkerTest, EveryKindOfWrongEntryIsNoticed) {
    const Gva gva = user(2), table = user(34);
    ASSERT_EQ(bench.cpu.resolve(gva, {.user = true}).kind, AccessResult::Kind::done);
    ASSERT_EQ(bench.cpu.resolve(table, {.write = true}).kind, AccessResult::Kind::done);
    ASSERT_TRUE(bench.check().ok()) << bench.check().text();
    EXPECT_EQ(bench.check().withheld_traced, 1u);
    EXPECT_EQ(bench.check().withheld_not_dirty, 1u);

    struct Case {
        Gva at;
        unsigned level;
        u64 set, clear;
        const char* text;
    };
    const Case cases[] = {
        {gva, 1, 0x8000, 0, "frame should be"},
        {gva, 1, ShadowEntry::dirty, 0, "dirty, but not in the guest"},
        {gva, 1, ShadowEntry::global, 0, "global, but not"},
        {gva, 1, ShadowEntry::mmio, 0, "mmio, but the frame is RAM"},
        {gva, 1, 0, ShadowEntry::writable, "right to write withheld"},
        {gva, 2, 0, ShadowEntry::user, "user access withheld"},
        {gva, 3, ShadowEntry::execute_disable, 0, "execution withheld"},
        {table, 1, 0, ShadowEntry::traced, "maps a guest table, but is not traced"},
        {table, 1, ShadowEntry::user, 0, "user, but not for the guest"},
        {table, 1, 0, ShadowEntry::dirty, "dirty withheld"},
        {gva, 2, u64{1} << 40, 0, "outside the arena"},
    };
    for (const Case& c : cases) {
        SCOPED_TRACE(c.text);
        u64& e = shadow(c.at, c.level);
        const u64 saved = e;
        e = (saved | c.set) & ~c.clear;
        expect_violation(c.text);
        e = saved;
        EXPECT_TRUE(bench.check().ok());
    }
    // And the other way round: the guest's entry lacks what the shadow grants.
    for (const auto& [bits, text] :
         {std::pair{g::present, "map nothing"}, std::pair{g::writable, "writable, but not"},
          std::pair{g::user, "user, but not"}, std::pair{g::accessed, "not accessed"}}) {
        SCOPED_TRACE(text);
        const u64 saved = bench.peek(l1 + 16);
        bench.poke(l1, 2, saved & ~bits);
        expect_violation(text);
        bench.poke(l1, 2, saved);
    }
    bench.poke(l1, 2, bench.peek(l1 + 16) | g::execute_disable);
    expect_violation("executable, but not");
}

} // namespace
} // namespace gnomon::monitor::test
