// SPDX-License-Identifier: Apache-2.0
#include "platform/ide/prd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::platform::ide {
namespace {

using testing::ElementsAre;

constexpr u16 last = PrdEntry::end_of_table;

class IdePrd : public testing::Test {
protected:
    using Piece = std::pair<u64, u64>;

    PrdResult walk(u32 table, u64 length) {
        std::vector<Region> out;
        const PrdResult result = walk_prds(dma, table, length, out);
        pieces.clear();
        for (const Region& region : out) {
            EXPECT_EQ(region.host, memory.hva(region.gpa, region.size));
            pieces.emplace_back(region.gpa.value(), region.size);
        }
        return result;
    }
    void put(u64 at, const std::vector<PrdEntry>& entries) {
        for (const PrdEntry& entry : entries) {
            EXPECT_TRUE(memory.write_object(Gpa(at), entry));
            at += 8;
        }
    }
    GuestMemory memory = *GuestMemory::create(u64{2} << 20);
    Dma dma{memory, nullptr};
    std::vector<Piece> pieces;
};

TEST_F(IdePrd, EndsWithTheData) {
    put(0x1000, {{0x20000, 512, 0}, {0x30000, 512, last}});
    EXPECT_EQ(walk(0x1000, 1024), PrdResult::exhausted);
    EXPECT_THAT(pieces, ElementsAre(Piece(0x20000, 512), Piece(0x30000, 512)));
    EXPECT_EQ(walk(0x1003, 1024), PrdResult::exhausted) << "bits 1:0 of the table";
    EXPECT_EQ(walk(0x1000, 1022), PrdResult::left_over);
    EXPECT_THAT(pieces, ElementsAre(Piece(0x20000, 512), Piece(0x30000, 510)));
    EXPECT_EQ(walk(0x1000, 512), PrdResult::left_over);
    EXPECT_EQ(walk(0x1000, 1026), PrdResult::too_short);
}

TEST_F(IdePrd, JoinsNeighbours) {
    put(0x1000, {{0x20000, 512, 0}, {0x20200, 512, 0}, {0x20600, 512, last}});
    EXPECT_EQ(walk(0x1000, 1536), PrdResult::exhausted);
    EXPECT_THAT(pieces, ElementsAre(Piece(0x20000, 1024), Piece(0x20600, 512)));
}

TEST_F(IdePrd, CountsAndAddressesAreEven) {
    put(0x1000, {{0x20001, 3, 0}, {0x30000, 1, last}});
    EXPECT_EQ(walk(0x1000, 2 + 0x10000), PrdResult::exhausted) << "0 is 64 KiB";
    EXPECT_THAT(pieces, ElementsAre(Piece(0x20000, 2), Piece(0x30000, 0x10000)));
}

TEST_F(IdePrd, RegionsStayWithin64KiB) {
    put(0x1000, {{0x2fe00, 1024, last}});
    EXPECT_EQ(walk(0x1000, 1024), PrdResult::exhausted);
    EXPECT_THAT(pieces, ElementsAre(Piece(0x2fe00, 512), Piece(0x20000, 512)));
    put(0x1000, {{0x2fffe, 0, last}});
    EXPECT_EQ(walk(0x1000, 0x10000), PrdResult::exhausted);
    EXPECT_THAT(pieces, ElementsAre(Piece(0x2fffe, 2), Piece(0x20000, 0xfffe)));
}

TEST_F(IdePrd, TablesStayWithin64KiB) {
    put(0x1fff0, {{0x40000, 512, 0}, {0x50000, 512, 0}, {0x60000, 512, last}});
    EXPECT_EQ(walk(0x1fff0, 1024), PrdResult::left_over);
    EXPECT_EQ(walk(0x1fff0, 1536), PrdResult::too_short) << "the third entry is in the next";
    EXPECT_EQ(walk(0x1fffc, 512), PrdResult::too_short) << "half an entry";
    // All that fit, of the smallest size.
    for (u64 i = 0; i < 8192; ++i)
        put(0x10000 + 8 * i, {{static_cast<u32>(0x100000 + 4 * i), 2, 0}});
    EXPECT_EQ(walk(0x10000, 16384), PrdResult::left_over);
    EXPECT_EQ(pieces.size(), 8192U);
    EXPECT_EQ(walk(0x10000, 16386), PrdResult::too_short);
}

TEST_F(IdePrd, NeedsMemory) {
    put(0x1000, {{0x20000, 512, 0}, {0x200000, 512, last}});
    EXPECT_EQ(walk(0x1000, 1024), PrdResult::unreachable);
    EXPECT_EQ(walk(0x1000, 512), PrdResult::left_over) << "the bad one is not reached";
    EXPECT_EQ(walk(0x200000, 512), PrdResult::unreachable);
    EXPECT_EQ(walk(0xffff'fffc, 512), PrdResult::too_short) << "half an entry, nowhere";
    EXPECT_EQ(walk(0xffff'fff8, 512), PrdResult::unreachable);
    dma.set_enabled(false);
    EXPECT_EQ(walk(0x1000, 512), PrdResult::unreachable);
    // Across the end, which a multiple of 64 KiB is not.
    GuestMemory odd = *GuestMemory::create((u64{1} << 20) + 4096);
    const Dma odd_dma(odd, nullptr);
    ASSERT_TRUE(odd.write_object(Gpa(0x1000), PrdEntry{0x100f00, 512, last}));
    std::vector<Region> out;
    EXPECT_EQ(walk_prds(odd_dma, 0x1000, 256, out), PrdResult::left_over);
    EXPECT_EQ(walk_prds(odd_dma, 0x1000, 512, out), PrdResult::unreachable);
}

} // namespace
} // namespace gnomon::platform::ide
