// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/page_walk.h"

#include "mutation.h"

#include <gtest/gtest.h>

namespace gnomon::guest::linux_::test {
namespace {

constexpr u64 present = 1, writable = 2, user = 4, large = 0x80, execute_disable = u64{1} << 63;
constexpr u64 all = present | writable | user;
constexpr u64 cr3 = 0x10000;

class PageWalk : public testing::Test {
protected:
    void SetUp() override {
        set(cr3, 0, 0x11000 | all);
        set(0x11000, 0, 0x12000 | all);
        set(0x12000, 0, 0x13000 | all);
    }
    void set(u64 table, u64 index, u64 entry) {
        ASSERT_TRUE(memory.write_object(Gpa(table + index * 8), entry));
    }
    GuestMemory memory = std::move(*GuestMemory::create(u64{8} << 20));
};

TEST_F(PageWalk, SmallPage) {
    set(0x13000, 5, 0x20000 | all);
    const auto found = walk(memory, cr3, Gva(0x5abc));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->address, Gpa(0x20abc));
    EXPECT_EQ(found->page_bytes, 4096u);
    EXPECT_TRUE(found->writable && found->user && !found->execute_disabled);
    EXPECT_EQ(translate(memory, cr3 | 0xfff, Gva(0x5abc)), Gpa(0x20abc)) << "PCID is not address";
    EXPECT_EQ(translate(memory, cr3 | u64{1} << 63, Gva(0x5abc)), Gpa(0x20abc));
    EXPECT_FALSE(translate(memory, cr3, Gva(0x6abc)));
}

TEST_F(PageWalk, LeavesNoTrace) {
    set(0x13000, 5, 0x20000 | all);
    ASSERT_TRUE(translate(memory, cr3, Gva(0x5000)));
    for (const u64 at : {cr3, u64{0x11000}, u64{0x12000}, u64{0x13000 + 5 * 8}}) {
        u64 entry = 0;
        ASSERT_TRUE(memory.read_object(Gpa(at), entry));
        EXPECT_EQ(entry & 0x60, 0u) << "accessed and dirty";
    }
}

TEST_F(PageWalk, LargePages) {
    set(0x12000, 3, 0x60'0000 | all | large);
    auto found = walk(memory, cr3, Gva(0x6a'bcde));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->address, Gpa(0x6a'bcde));
    EXPECT_EQ(found->page_bytes, u64{2} << 20);
    set(0x12000, 3, 0x60'1000 | all | large);
    EXPECT_EQ(translate(memory, cr3, Gva(0x6a'bcde)), Gpa(0x6a'bcde)) << "bit 12 is PAT";
    set(0x12000, 3, 0x60'2000 | all | large);
    EXPECT_FALSE(translate(memory, cr3, Gva(0x6a'bcde))) << "bit 13 is reserved";
    set(0x11000, 1, 0x4000'0000 | all | large);
    found = walk(memory, cr3, Gva(0x4012'3456));
    ASSERT_TRUE(found) << "a device's page is a translation too";
    EXPECT_EQ(found->address, Gpa(0x4012'3456));
    EXPECT_EQ(found->page_bytes, u64{1} << 30);
    set(0x11000, 1, 0x4020'0000 | all | large);
    EXPECT_FALSE(translate(memory, cr3, Gva(0x4012'3456)));
    set(cr3, 0, 0x11000 | all | large);
    EXPECT_FALSE(translate(memory, cr3, Gva(0x6a'bcde))) << "PS is reserved in a PML4 entry";
}

TEST_F(PageWalk, RightsAreThoseOfAllLevels) {
    set(0x13000, 5, 0x20000 | present);
    auto found = walk(memory, cr3, Gva(0x5000));
    ASSERT_TRUE(found);
    EXPECT_TRUE(!found->writable && !found->user);
    set(0x13000, 5, 0x20000 | all);
    set(0x11000, 0, 0x12000 | present | writable | execute_disable);
    found = walk(memory, cr3, Gva(0x5000));
    ASSERT_TRUE(found);
    EXPECT_TRUE(found->writable && !found->user && found->execute_disabled);
}

TEST_F(PageWalk, WhatTheProcessorRefuses) {
    set(0x13000, 5, 0x20000 | all);
    EXPECT_FALSE(translate(memory, cr3, Gva(0x0000'8000'0000'5000))) << "not canonical";
    EXPECT_FALSE(translate(memory, cr3, Gva(0xffff'7fff'ffff'5000)));
    set(0x13000, 5, 0x20000 | all | u64{1} << guest_physical_bits);
    EXPECT_FALSE(translate(memory, cr3, Gva(0x5000))) << "beyond the physical width";
    set(0x12000, 0, 0x7fff'f000 | all);
    EXPECT_FALSE(translate(memory, cr3, Gva(0x5000))) << "a table outside RAM";
    EXPECT_FALSE(translate(memory, ~u64{0}, Gva(0x5000)));
}

TEST_F(PageWalk, ReadsAcrossPages) {
    set(0x13000, 5, 0x20000 | all);
    set(0x13000, 6, 0x30000 | all);
    ASSERT_TRUE(memory.write_object(Gpa(0x20ffc), u32{0x44434241}));
    ASSERT_TRUE(memory.write_object(Gpa(0x30000), u32{0x48474645}));
    const PageTableReader reader(memory, cr3);
    EXPECT_EQ(reader.read_object<u64>(Gva(0x5ffc)), 0x4847464544434241u);
    EXPECT_TRUE(reader.read(Gva(0x9000'0000), {})) << "nothing to read";
    set(0x13000, 6, 0);
    EXPECT_FALSE(reader.read_object<u64>(Gva(0x5ffc)));
    set(0x13000, 6, 0x4000'0000 | all);
    EXPECT_FALSE(reader.read_object<u64>(Gva(0x5ffc))) << "a device is not read";
}

TEST_F(PageWalk, ALargePageMayStraddleTheEndOfRam) {
    // 8 MiB of RAM end inside no 2 MiB page, but inside the first 1 GiB page.
    set(0x11000, 0, 0 | all | large);
    const PageTableReader reader(memory, cr3);
    EXPECT_TRUE(reader.read_object<u64>(Gva((8 << 20) - 8)));
    EXPECT_FALSE(reader.read_object<u64>(Gva((8 << 20) - 4)));
}

TEST_F(PageWalk, RangesDoNotWrapAround) {
    set(cr3, 511, 0x11000 | all);
    set(0x11000, 511, 0x12000 | all);
    set(0x12000, 511, 0x13000 | all);
    set(0x13000, 511, 0x20000 | all);
    set(0x13000, 0, 0x20000 | all);
    const PageTableReader reader(memory, cr3);
    EXPECT_TRUE(reader.read_object<u32>(Gva(~u64{0} - 3)));
    EXPECT_FALSE(reader.read_object<u64>(Gva(~u64{0} - 3)));
}

TEST_F(PageWalk, UserAccessIsRefusedKernelPages) {
    set(0x13000, 5, 0x20000 | all);
    set(0x13000, 6, 0x30000 | present | writable);
    EXPECT_TRUE(
        PageTableReader(memory, cr3, PageTableReader::Access::user).read_object<u64>(Gva(0x5000)));
    EXPECT_FALSE(
        PageTableReader(memory, cr3, PageTableReader::Access::user).read_object<u64>(Gva(0x6000)));
    EXPECT_TRUE(PageTableReader(memory, cr3).read_object<u64>(Gva(0x6000)));
}

TEST_F(PageWalk, KernelTablesBesideTheUsers) {
    // The user's half of the pair maps nothing of the kernel's data.
    const Gva probe(0x5000);
    set(0x13000, 5, 0x20000 | all);
    ASSERT_TRUE(memory.write_object(Gpa(0x40000), u64{0x11000 | all}));
    EXPECT_EQ(kernel_cr3(memory, 0x40000 | 0x001, probe), 0x40001u)
        << "mapped: bit 12 says nothing";
    EXPECT_EQ(kernel_cr3(memory, 0x41000 | 0x801, probe), 0x40801u);
    EXPECT_EQ(kernel_cr3(memory, 0x43000, probe), std::nullopt);
}

TEST_F(PageWalk, AnyTablesAreTolerated) {
    Mutator random(5);
    unsigned found = 0;
    // Tables that mostly lead to each other, with any flags.
    for (u64 at = cr3; at < 0x20000; at += 8) {
        const u64 anything = random.below(~std::size_t{0});
        const u64 inside = cr3 + random.below(16) * page_size;
        ASSERT_TRUE(memory.write_object(
            Gpa(at), random.below(8) == 0
                         ? anything
                         : inside | (anything & (execute_disable | 0xf7f)) | present));
    }
    for (unsigned i = 0; i < 200'000; ++i) {
        const Gva address(random.below(~std::size_t{0}) & 0x7fff'ffff'ffff);
        found += walk(memory, cr3, address).has_value();
        std::array<std::byte, 64> out;
        static_cast<void>(PageTableReader(memory, cr3).read(address, out));
    }
    EXPECT_GT(found, 1000u);
}

} // namespace
} // namespace gnomon::guest::linux_::test
