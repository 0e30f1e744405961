// SPDX-License-Identifier: Apache-2.0
#include "nvme_driver.h"

namespace gnomon::platform::nvme {
namespace {

class NvmePrp : public testing::Test {
protected:
    static constexpr u64 memory_bytes = u64{1} << 20;

    Status walk(u64 first, u64 second, u64 length, u64 page_bytes = 4096) {
        out.clear();
        return walk_prps(dma, {first, second}, length, page_bytes, out);
    }
    void poke(u64 gpa, u64 value) { ASSERT_TRUE(memory.write_object(Gpa(gpa), value)); }
    [[nodiscard]] std::vector<std::pair<u64, u64>> pieces() const {
        std::vector<std::pair<u64, u64>> result;
        for (const Segment& segment : out) {
            EXPECT_EQ(segment.host, memory.hva(segment.gpa, segment.size));
            result.emplace_back(segment.gpa.value(), segment.size);
        }
        return result;
    }
    using Pieces = std::vector<std::pair<u64, u64>>;

    GuestMemory memory = *GuestMemory::create(memory_bytes);
    Dma dma{memory, nullptr};
    std::vector<Segment> out;
};

TEST_F(NvmePrp, OnePage) {
    EXPECT_EQ(walk(0x1000, ~u64{0}, 0), Status::success);
    EXPECT_TRUE(out.empty());
    EXPECT_EQ(walk(0x1004, ~u64{0}, 512), Status::success) << "the second is not looked at";
    EXPECT_EQ(pieces(), (Pieces{{0x1004, 512}}));
    EXPECT_EQ(walk(0x1002, 0, 512), Status::prp_offset_invalid);
    EXPECT_EQ(walk(memory_bytes - 4096, 0, 4096), Status::success);
    EXPECT_EQ(walk(memory_bytes, 0, 512), Status::data_transfer_error);
    EXPECT_EQ(walk(~u64{0xfff}, 0, 4096), Status::data_transfer_error);
}

TEST_F(NvmePrp, TwoPages) {
    EXPECT_EQ(walk(0x1800, 0x4000, 4096), Status::success);
    EXPECT_EQ(pieces(), (Pieces{{0x1800, 0x800}, {0x4000, 0x800}}));
    EXPECT_EQ(walk(0x1000, 0x2000, 8192), Status::success);
    EXPECT_EQ(pieces(), (Pieces{{0x1000, 8192}})) << "neighbours are joined";
    EXPECT_EQ(walk(0x1000, 0x2004, 8192), Status::prp_offset_invalid);
    EXPECT_EQ(walk(0x1000, memory_bytes, 8192), Status::data_transfer_error);
}

TEST_F(NvmePrp, Lists) {
    poke(0x8010, 0x4000);
    poke(0x8018, 0x6000);
    EXPECT_EQ(walk(0x1c00, 0x8010, 1024 + 4096 + 100), Status::success);
    EXPECT_EQ(pieces(), (Pieces{{0x1c00, 0x400}, {0x4000, 0x1000}, {0x6000, 100}}));
    EXPECT_EQ(walk(0x1c00, 0x8014, 1024 + 4096 + 100), Status::prp_offset_invalid);
    EXPECT_EQ(walk(0x1c00, memory_bytes, 1024 + 4096 + 100), Status::data_transfer_error);
    poke(0x8018, 0x6008);
    EXPECT_EQ(walk(0x1c00, 0x8010, 1024 + 4096 + 100), Status::prp_offset_invalid);
    poke(0x8018, memory_bytes - 4096);
    EXPECT_EQ(walk(0x1c00, 0x8010, 1024 + 4096 + 4096), Status::success);
    poke(0x8018, memory_bytes);
    EXPECT_EQ(walk(0x1c00, 0x8010, 1024 + 4096 + 1), Status::data_transfer_error);
}

TEST_F(NvmePrp, ListsThatGoOn) {
    poke(0x8ff8, 0x9000); // the last place of a page: there is more, so it points to it
    poke(0x9000, 0x4000);
    poke(0x9008, 0x6000);
    EXPECT_EQ(walk(0x1000, 0x8ff8, 3 * 4096), Status::success);
    EXPECT_EQ(pieces(), (Pieces{{0x1000, 0x1000}, {0x4000, 0x1000}, {0x6000, 0x1000}}));
    poke(0x8ff8, 0x9008);
    EXPECT_EQ(walk(0x1000, 0x8ff8, 3 * 4096), Status::prp_offset_invalid);
    poke(0x8ff8, memory_bytes);
    EXPECT_EQ(walk(0x1000, 0x8ff8, 3 * 4096), Status::data_transfer_error);
    // One that leads to itself: the page is full of it, and is data in the end.
    for (u64 at = 0xa000; at < 0xb000; at += 8)
        poke(at, 0xa000);
    EXPECT_EQ(walk(0xa000, 0xaff8, max_transfer_bytes), Status::success);
    EXPECT_EQ(out.size(), 128U);
}

TEST_F(NvmePrp, LargePages) {
    EXPECT_EQ(walk(0x10800, 0x40000, 0x10000, 0x10000), Status::success);
    EXPECT_EQ(pieces(), (Pieces{{0x10800, 0xf800}, {0x40000, 0x800}}));
    EXPECT_EQ(walk(0x10800, 0x41000, 0x10000, 0x10000), Status::prp_offset_invalid);
    poke(0x2fff8, 0x30000);
    poke(0x30000, 0x50000);
    poke(0x30008, 0x60000);
    EXPECT_EQ(walk(0x10000, 0x2fff8, 0x30000, 0x10000), Status::success);
    EXPECT_EQ(pieces(), (Pieces{{0x10000, 0x10000}, {0x50000, 0x20000}}));
}

} // namespace
} // namespace gnomon::platform::nvme
