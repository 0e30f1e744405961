// SPDX-License-Identifier: Apache-2.0
/// @file The IDE disk's commands, addresses, settings; two disks on a channel, and none.
#include "ide_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <numeric>

namespace gnomon::platform::ide {
namespace {

using namespace test;
using Seen = MemoryDisk::Seen;
using testing::ElementsAre;
using testing::IsEmpty;

std::string text_of(const std::vector<u16>& words, unsigned from, unsigned count) {
    std::string text;
    for (unsigned i = from; i < from + count; ++i) {
        text += static_cast<char>(words[i] >> 8);
        text += static_cast<char>(words[i]);
    }
    return text;
}

TEST(IdeCommand, IdentifiesItself) {
    Bench b(2, {.serial = "S1", .model = "Model", .firmware = "F", .rotation = 7200});
    const auto words = b.identify();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(text_of(words, 10, 10), "S1                  ");
    EXPECT_EQ(text_of(words, 23, 4), "F       ");
    EXPECT_EQ(text_of(words, 27, 20), "Model                                   ");
    EXPECT_EQ(words[0] & 0x8000, 0) << "ATA";
    EXPECT_EQ(words[1], Bench::disk_sectors / (16 * 63));
    EXPECT_EQ(words[60] | words[61] << 16, static_cast<int>(Bench::disk_sectors));
    EXPECT_EQ(words[100] | words[101] << 16, static_cast<int>(Bench::disk_sectors));
    EXPECT_EQ(words[63], 0x0407) << "multiword DMA mode 2 is in use";
    EXPECT_EQ(words[83] & 0xc000, 0x4000);
    EXPECT_NE(words[83] & 1 << 10, 0) << "48-bit addresses";
    EXPECT_EQ(words[85] & 0x60, 0x60) << "write cache and look-ahead";
    EXPECT_EQ(words[169], 1) << "TRIM";
    EXPECT_EQ(words[217], 7200);
    unsigned sum = 0;
    for (const u16 word : words)
        sum += (word & 0xffU) + (word >> 8U);
    EXPECT_EQ(sum & 0xff, 0U);
    EXPECT_NE(b.identify(1)[93], words[93]);
}

TEST(IdeCommand, LargeDisksHaveMoreThan28Bits) {
    // A disk that says so; nothing of it is read.
    class Large final : public BlockBackEnd {
    public:
        [[nodiscard]] u64 size() const override { return (u64{1} << 40) * 512; }
        [[nodiscard]] bool read_only() const override { return false; }
        void submit(BlockRequest& request) override { last = &request; }
        void commit() override {}
        unsigned reap() override { return 0; }
        [[nodiscard]] int poll_descriptor() const override { return -1; }
        [[nodiscard]] unsigned under_way() const override { return 0; }
        BlockRequest* last = nullptr;
    } large;
    Bench b(0);
    b.channel.attach(0, {"ide0", large, std::make_unique<NoDelay>(), {}});
    const auto words = b.identify();
    EXPECT_EQ(words[60] | words[61] << 16, 0x0fffffff);
    EXPECT_EQ(words[102], 0x100);
    EXPECT_EQ(words[1], 16383);
    b.command(0xf8);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.error_lba28(), 0x0fffffffU);
    b.command_ext(0x27);
    EXPECT_EQ(b.error_lba48(), (u64{1} << 40) - 1);
    b.command(0x40, 0x0fff'ffff, 0);
    EXPECT_EQ(large.last->offset, u64{0x0fff'ffff} * 512);
    large.last->done(BlockStatus::ok);
    b.command_ext(0x42, u64{0xab'1234'5678}, 0x102);
    EXPECT_EQ(large.last->offset, u64{0xab'1234'5678} * 512);
    EXPECT_EQ(large.last->size, 0x102U * 512);
    large.last->done(BlockStatus::io_error);
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.error_lba48(), 0xab'1234'5678U);
}

TEST(IdeCommand, RegistersAreTwoBytesDeep) {
    Bench b;
    for (unsigned reg = 2; reg <= 5; ++reg) {
        b.out(reg, 0x10 + reg);
        b.out(reg, 0x20 + reg);
        EXPECT_EQ(b.in(reg), 0x20 + reg);
        b.control(0x80);
        EXPECT_EQ(b.in(reg), 0x10 + reg);
        b.out(6, 0xa0);
        EXPECT_EQ(b.in(reg), 0x20 + reg) << "any write of the command block ends HOB";
    }
}

TEST(IdeCommand, AddressesByCylinderHeadAndSector) {
    Bench b;
    const auto at = [&](unsigned cylinder, unsigned head, unsigned sector) {
        b.out(2, 1);
        b.out(3, sector);
        b.out(4, cylinder);
        b.out(5, cylinder >> 8);
        b.out(6, 0xa0 | head);
        b.out(7, 0x20);
        b.first.reap();
        return b.status();
    };
    EXPECT_EQ(at(1, 2, 3), drq);
    EXPECT_EQ(b.read_block(512), Bench::sectors((1 * 16 + 2) * 63 + 2, 1));
    EXPECT_EQ(at(0, 0, 0), err) << "sectors begin with 1";
    EXPECT_EQ(b.in(1), 0x10U);
    EXPECT_EQ(at(0, 0, 64), err);
    // The geometry of the driver's choice.
    b.out(2, 10);
    b.out(6, 0xa3);
    b.out(7, 0x91);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(at(500, 3, 10), err) << "the disk has 500 cylinders now";
    EXPECT_EQ(at(2, 4, 1), err) << "no fifth head";
    EXPECT_EQ(at(2, 3, 10), drq);
    EXPECT_EQ(b.read_block(512), Bench::sectors(2 * 40 + 3 * 10 + 9, 1));
    const auto words = b.identify();
    EXPECT_EQ(words[54], 500);
    EXPECT_EQ(words[55], 4);
    EXPECT_EQ(words[56], 10);
    EXPECT_EQ(words[57] | words[58] << 16, 20000);
    EXPECT_EQ(words[3], 16) << "what it would have";
    // An error's address is in the same form.
    b.first.failure = BlockStatus::io_error;
    EXPECT_EQ(at(7, 1, 5), err);
    EXPECT_EQ(b.in(4), 7U);
    EXPECT_EQ(b.in(6), 0xa1U);
    EXPECT_EQ(b.in(3), 5U);
    b.out(2, 0);
    b.out(7, 0x91);
    EXPECT_EQ(b.status(), err) << "no sectors";
}

TEST(IdeCommand, AddressesBehindTheEndAreNotFound) {
    Bench b;
    for (const unsigned opcode : {0x20U, 0x30U, 0xc4U, 0xc5U, 0xc8U, 0xcaU, 0x40U}) {
        b.command(opcode, Bench::disk_sectors - 1, 2);
        EXPECT_EQ(b.interrupts(), 1U);
        EXPECT_EQ(b.status(), err) << opcode;
        EXPECT_EQ(b.in(1), 0x10U) << opcode;
        EXPECT_EQ(b.error_lba28(), Bench::disk_sectors);
    }
    for (const unsigned opcode : {0x24U, 0x25U, 0x29U, 0x34U, 0x35U, 0x39U, 0x3dU, 0xceU, 0x42U}) {
        b.command_ext(opcode, u64{0xffff'ffff'ffff}, 1);
        EXPECT_EQ(b.status(), err) << opcode;
        EXPECT_EQ(b.error_lba48(), 0xffff'ffff'ffffU);
    }
    EXPECT_THAT(b.first.seen, IsEmpty());
    b.command(0x70, Bench::disk_sectors - 1, 99);
    EXPECT_EQ(b.status(), drdy) << "a seek has no count";
    b.command(0x7f, Bench::disk_sectors);
    EXPECT_EQ(b.status(), err);
}

TEST(IdeCommand, WhatIsNotKnownIsAborted) {
    Bench b;
    std::vector<unsigned> known = {0x06, 0x20, 0x21, 0x24, 0x25, 0x27, 0x29, 0x30, 0x31, 0x34, 0x35,
                                   0x39, 0x3d, 0x40, 0x41, 0x42, 0x90, 0x91, 0xc4, 0xc5, 0xc6, 0xc8,
                                   0xc9, 0xca, 0xcb, 0xce, 0xe7, 0xea, 0xec, 0xef, 0xf8, 0x94, 0x95,
                                   0x96, 0x97, 0x98, 0x99, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6};
    for (unsigned i = 0; i < 16; ++i) {
        known.push_back(0x10 + i);
        known.push_back(0x70 + i);
    }
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
        b.software_reset();
        static_cast<void>(b.interrupts());
        b.command(opcode, 1, 1);
        b.first.reap();
        const bool aborted = b.alternate() == err && b.in(1) == 4;
        const bool is_known = std::find(known.begin(), known.end(), opcode) != known.end();
        // Two of the known ones need more than this: a range's feature, SET FEATURES' subcommand.
        EXPECT_EQ(aborted, !is_known || opcode == 0x06 || opcode == 0xef) << opcode;
        if (aborted) {
            EXPECT_EQ(b.interrupts(), 1U) << opcode;
        }
    }
}

TEST(IdeCommand, SetsFeatures) {
    Bench b;
    EXPECT_EQ(b.simple(0xef, 3, 0x45), drdy) << "UDMA 5";
    EXPECT_EQ(b.identify()[88], 0x203f);
    EXPECT_EQ(b.identify()[63], 0x0007);
    EXPECT_EQ(b.simple(0xef, 3, 0x21), drdy) << "multiword DMA 1";
    EXPECT_EQ(b.identify()[63], 0x0207);
    EXPECT_EQ(b.simple(0xef, 3, 0x0c), drdy) << "PIO 4";
    EXPECT_EQ(b.identify()[63], 0x0207) << "DMA modes are another matter";
    for (const unsigned mode : {0x02U, 0x0dU, 0x10U, 0x23U, 0x46U, 0x80U, 0xffU}) {
        EXPECT_EQ(b.simple(0xef, 3, mode), err) << mode;
        EXPECT_EQ(b.in(1), 4U);
    }
    EXPECT_EQ(b.simple(0xef, 0x55), drdy);
    EXPECT_EQ(b.identify()[85] & 0x40, 0);
    EXPECT_EQ(b.simple(0xef, 0xaa), drdy);
    EXPECT_EQ(b.identify()[85] & 0x40, 0x40);
    EXPECT_EQ(b.simple(0xef, 0x05, 1), err) << "no APM";
    // Without the write cache, what is written is on the medium.
    b.first.seen.clear();
    static_cast<void>(b.simple(0xef, 0x82));
    b.first.reap();
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.identify()[85] & 0x20, 0);
    b.command(0x30, 0, 1);
    b.write_block(512, 0);
    b.first.reap();
    EXPECT_THAT(b.first.seen, ElementsAre(Seen{BlockOperation::flush, false, 0, 0},
                                          Seen{BlockOperation::write, true, 0, 512}));
    b.software_reset();
    EXPECT_EQ(b.identify()[85] & 0x20, 0) << "settings outlive a reset";
    EXPECT_EQ(b.simple(0xef, 0xcc), drdy);
    b.software_reset();
    EXPECT_EQ(b.identify()[85] & 0x20, 0x20) << "unless that is not wanted";
}

TEST(IdeCommand, Flushes) {
    Bench b;
    for (const unsigned opcode : {0xe7U, 0xeaU}) {
        b.out(7, opcode);
        EXPECT_EQ(b.status(), bsy);
        b.first.reap();
        EXPECT_EQ(b.interrupts(), 1U);
        EXPECT_EQ(b.status(), drdy);
    }
    EXPECT_THAT(b.first.seen, ElementsAre(Seen{BlockOperation::flush, false, 0, 0},
                                          Seen{BlockOperation::flush, false, 0, 0}));
    b.first.failure = BlockStatus::io_error;
    b.out(7, 0xe7);
    b.first.reap();
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.in(1), 4U);
}

TEST(IdeCommand, Verifies) {
    Bench b;
    b.command_ext(0x42, 10, 5000);
    for (unsigned i = 0; i < 3; ++i) {
        EXPECT_EQ(b.status(), bsy);
        b.first.finish(0);
    }
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(std::accumulate(b.first.seen.begin(), b.first.seen.end(), u64{0},
                              [](u64 sum, const Seen& seen) { return sum + seen.size; }),
              5000U * 512);
    b.command_ext(0x42, 10, 5000);
    b.first.finish(0);
    b.first.failure = BlockStatus::io_error;
    b.first.finish(0);
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.in(1), 0x40U);
    EXPECT_EQ(b.error_lba48(), 10U + 2048);
}

TEST(IdeCommand, ReadOnlyDisksRefuseWrites) {
    Bench b(1, {.read_only = true});
    for (const unsigned opcode : {0x30U, 0x34U, 0x35U, 0x39U, 0x3dU, 0xc5U, 0xcaU, 0xceU}) {
        b.command(opcode, 0, 1);
        EXPECT_EQ(b.interrupts(), 1U);
        EXPECT_EQ(b.status(), err) << opcode;
        EXPECT_EQ(b.in(1), 4U);
    }
    b.out(1, 1);
    b.command(0x06, 0, 1);
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.identify()[169], 0) << "no TRIM";
    EXPECT_EQ(b.simple(0xe7), drdy) << "there is nothing to flush";
    EXPECT_THAT(b.first.seen, IsEmpty());
    b.command(0x20, 2, 1);
    b.first.reap();
    EXPECT_EQ(b.read_block(512), Bench::sectors(2, 1));
}

TEST(IdeCommand, HasPowerModes) {
    Bench b;
    EXPECT_EQ(b.simple(0xe5), drdy);
    EXPECT_EQ(b.in(2), 0xffU) << "active";
    EXPECT_EQ(b.simple(0xe0), drdy);
    EXPECT_EQ(b.simple(0x98), drdy);
    EXPECT_EQ(b.in(2), 0U) << "standby";
    b.command(0x20, 0, 1);
    b.first.reap();
    static_cast<void>(b.read_block(512));
    EXPECT_EQ(b.simple(0xe5), drdy);
    EXPECT_EQ(b.in(2), 0xffU) << "what needs the medium wakes it";
    EXPECT_EQ(b.simple(0x96), drdy);
    EXPECT_EQ(b.simple(0xe3), drdy);
    EXPECT_EQ(b.simple(0xe5), drdy);
    EXPECT_EQ(b.in(2), 0xffU);
    EXPECT_EQ(b.simple(0xe6), drdy);
    static_cast<void>(b.interrupts());
    b.out(7, 0xec);
    EXPECT_EQ(b.interrupts(), 0U) << "asleep, until a reset";
    EXPECT_EQ(b.status(), drdy);
    b.software_reset();
    EXPECT_EQ(b.identify()[0], 0x40);
}

TEST(IdeCommand, InterruptsCanBeHeldBack) {
    Bench b;
    b.control(2);
    b.out(7, 0xe0);
    EXPECT_FALSE(b.line());
    EXPECT_EQ(b.bus_master_status(), 0U);
    b.control(0);
    EXPECT_EQ(b.interrupts(), 1U) << "it was pending";
    EXPECT_EQ(b.bus_master_status(), 4U);
    b.control(2);
    EXPECT_FALSE(b.line());
    EXPECT_EQ(b.bus_master_status(), 4U) << "the bus master remembers the edge";
    b.set_bus_master_status(4);
    EXPECT_EQ(b.bus_master_status(), 0U);
    EXPECT_EQ(b.status(), drdy);
    b.control(0);
    EXPECT_EQ(b.interrupts(), 0U);
    // A new command ends it too.
    b.out(7, 0xe0);
    EXPECT_TRUE(b.line());
    b.completions.hold = true;
    b.out(7, 0xe0);
    EXPECT_FALSE(b.line());
    b.completions.deliver_all();
    EXPECT_EQ(b.interrupts(), 2U);
}

// --- two disks, and none ---

TEST(IdeCommand, TwoDisksShareAChannel) {
    Bench b(2);
    EXPECT_THAT(b.completions.names, ElementsAre("ide0", "ide1"));
    b.second.contents[512 * 6] = 0x42;
    b.command(0x20, 6, 1, 1);
    EXPECT_EQ(b.first.under_way(), 0U);
    b.second.reap();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drq);
    EXPECT_EQ(b.read_block(512)[0], 0x42);
    // The one that is not selected is silent.
    b.out(7, 0xe0);
    EXPECT_TRUE(b.line());
    b.out(6, 0xe0);
    EXPECT_FALSE(b.line());
    EXPECT_EQ(b.status(), drdy);
    b.out(6, 0xf0);
    EXPECT_TRUE(b.line()) << "and asks again";
    EXPECT_EQ(b.status(), drdy);
    // Settings are each disk's own, registers are written to both.
    EXPECT_EQ(b.simple(0xef, 3, 0x42), drdy);
    EXPECT_EQ(b.identify(0)[88], 0x003f);
    EXPECT_EQ(b.identify(1)[88], 0x043f);
    b.out(3, 0x5a);
    b.out(6, 0xe0);
    EXPECT_EQ(b.in(3), 0x5aU);
}

TEST(IdeCommand, DiagnosticsAreOfBothDisks) {
    Bench b(2);
    b.out(3, 0x5a);
    b.out(6, 0xf0);
    b.completions.hold = true;
    b.out(7, 0x90);
    EXPECT_EQ(b.alternate(), bsy) << "device 1 too";
    b.completions.deliver_all();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.in(6), 0U) << "device 0 is selected";
    EXPECT_EQ(b.in(1), 1U);
    for (const unsigned device : {0xa0U, 0xb0U}) {
        b.out(6, device);
        EXPECT_EQ(b.in(2), 1U);
        EXPECT_EQ(b.in(3), 1U);
        EXPECT_EQ(b.in(4), 0U);
        EXPECT_EQ(b.in(5), 0U);
    }
}

TEST(IdeCommand, ASecondDiskThatIsNotThere) {
    Bench b(1);
    b.out(3, 0x5a);
    b.out(6, 0xf0);
    EXPECT_EQ(b.status(), 0U);
    EXPECT_EQ(b.alternate(), 0U);
    EXPECT_EQ(b.in(3), 0x5aU) << "device 0 answers for it";
    b.out(7, 0xec);
    EXPECT_EQ(b.interrupts(), 0U);
    EXPECT_EQ(b.status(), 0U);
    b.out(7, 0x90);
    EXPECT_EQ(b.interrupts(), 1U) << "but for diagnostics";
    EXPECT_EQ(b.status(), drdy);
    b.out(6, 0xf0);
    b.software_reset();
    EXPECT_EQ(b.status(), drdy) << "a reset selects device 0";
}

TEST(IdeCommand, AChannelWithoutDisksFloats) {
    Bench b(0);
    for (unsigned device : {0xe0U, 0xf0U}) {
        b.out(6, device);
        for (unsigned reg = 1; reg < 8; ++reg) {
            b.out(reg, 0x55);
            EXPECT_EQ(b.in(reg), 0x7fU);
        }
        EXPECT_EQ(b.alternate(), 0x7fU);
    }
    b.software_reset();
    b.control(2);
    b.set_bus_master(9);
    EXPECT_EQ(b.bus_master_status(), 1U);
    b.set_bus_master(0);
    EXPECT_EQ(b.bus_master_status(), 0U);
    EXPECT_EQ(b.interrupts(), 0U);
}

} // namespace
} // namespace gnomon::platform::ide
