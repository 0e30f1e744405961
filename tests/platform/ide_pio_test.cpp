// SPDX-License-Identifier: Apache-2.0
/// @file The IDE channel by its data port: what drivers do, block by block.
#include "ide_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::platform::ide {
namespace {

using namespace test;
using Seen = MemoryDisk::Seen;
using testing::ElementsAre;
using testing::IsEmpty;

/// Delivers when it is polled.
class PolledCompletions final : public CompletionScheduler {
public:
    [[nodiscard]] unsigned add_device(std::string) override { return 0; }
    void submitted(unsigned, Completion&, u64) override {}
    void host_done(Completion& completion) override { m_waiting = &completion; }
    void cancel(Completion&) override { m_waiting = nullptr; }
    using CompletionScheduler::command_written;
    void command_written(unsigned, unsigned) override {}
    void status_polled(unsigned) override {
        if (Completion* const waiting = std::exchange(m_waiting, nullptr)) waiting->deliver();
    }
    void trouble(unsigned, GuestTrouble) override {}

private:
    Completion* m_waiting = nullptr;
};

class IdePio : public testing::Test {
protected:
    /// The host does what it was asked for, and the guest is told.
    void host() { b.first.reap(); }
    Bench b;
};

TEST_F(IdePio, ReadsSectorBySector) {
    b.command(0x20, 100, 3);
    EXPECT_EQ(b.alternate(), bsy);
    EXPECT_EQ(b.interrupts(), 0U);
    EXPECT_THAT(b.first.seen, ElementsAre(Seen{BlockOperation::read, false, 51200, 1536}));
    EXPECT_EQ(b.first.uncommitted, 0U);
    host();
    for (u64 sector = 0; sector < 3; ++sector) {
        EXPECT_EQ(b.interrupts(), 1U) << sector;
        EXPECT_EQ(b.alternate(), drq);
        EXPECT_TRUE(b.line()) << "the alternate status ends no interrupt";
        EXPECT_EQ(b.status(), drq);
        EXPECT_FALSE(b.line());
        // All widths are the same data.
        EXPECT_EQ(b.read_block(512, sector == 0   ? 2
                                    : sector == 1 ? 4
                                                  : 1),
                  Bench::sectors(100 + sector, 1));
    }
    EXPECT_EQ(b.interrupts(), 0U) << "none behind the last block";
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.in(1), 0U);
    EXPECT_EQ(b.channel.command_block().read(0, 2), 0U) << "there is no more";
    EXPECT_EQ(b.completions.known, 0U);
}

TEST_F(IdePio, EachBlockHasAnEdgeOfItsOwn) {
    // Of a driver that does not read the status.
    b.command(0x20, 1, 2);
    host();
    static_cast<void>(b.read_block(512));
    EXPECT_EQ(b.interrupts(), 2U);
    EXPECT_TRUE(b.line());
    static_cast<void>(b.read_block(512));
    EXPECT_FALSE(b.line());
    b.command(0x30, 1, 2);
    b.write_block(512, 1);
    EXPECT_EQ(b.interrupts(), 1U);
    b.write_block(512, 1);
    EXPECT_FALSE(b.line());
    host();
    EXPECT_EQ(b.interrupts(), 1U);
}

TEST_F(IdePio, ReadsMultiple) {
    EXPECT_EQ(b.simple(0xc6, 0, 4), drdy);
    EXPECT_EQ(b.identify()[59], 0x104);
    static_cast<void>(b.interrupts());
    b.command(0xc4, 7, 10);
    host();
    std::vector<u8> all;
    for (const unsigned sectors : {4U, 4U, 2U}) {
        EXPECT_EQ(b.interrupts(), 1U);
        EXPECT_EQ(b.status(), drq);
        const auto block = b.read_block(512 * sectors);
        all.insert(all.end(), block.begin(), block.end());
    }
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(all, Bench::sectors(7, 10));
    for (const unsigned refused : {3U, 32U, 255U})
        EXPECT_EQ(b.simple(0xc6, 0, refused), err) << refused;
    EXPECT_EQ(b.identify()[59], 0x104) << "what is refused changes nothing";
    EXPECT_EQ(b.simple(0xc6, 0, 0), drdy);
    b.command(0xc4, 0, 1);
    EXPECT_EQ(b.status(), err) << "no longer possible";
    EXPECT_EQ(b.in(1), 4U);
}

TEST_F(IdePio, ReadsMoreThanTheBufferHolds) {
    constexpr unsigned count = 5000, buffered = 2048;
    b.command_ext(0x24, 3, count);
    unsigned waits = 0;
    for (unsigned sector = 0; sector < count; ++sector) {
        if (b.alternate() == bsy) {
            ++waits;
            EXPECT_EQ(sector % buffered, 0U);
            EXPECT_EQ(b.first.seen.back().offset, (3 + sector) * 512);
            host();
        }
        ASSERT_EQ(b.interrupts(), 1U) << sector;
        ASSERT_EQ(b.status(), drq) << sector;
        ASSERT_EQ(b.read_block(512, 4), Bench::sectors(3 + sector, 1)) << sector;
    }
    EXPECT_EQ(waits, 3U);
    EXPECT_EQ(b.status(), drdy);
}

TEST_F(IdePio, ACountOfZeroIsTheMost) {
    b.command(0x20, 0, 0);
    EXPECT_EQ(b.first.seen.back().size, 256U * 512);
    host();
    for (unsigned i = 0; i < 256; ++i)
        static_cast<void>(b.read_block(512, 4));
    EXPECT_EQ(b.status(), drdy);
    b.command_ext(0x24, 0, 0);
    EXPECT_EQ(b.status(), err) << "65536 are more than there are";
    EXPECT_EQ(b.in(1), 0x10U);
    EXPECT_EQ(b.error_lba48(), Bench::disk_sectors);
}

TEST_F(IdePio, Writes) {
    b.command(0x30, 20, 2);
    EXPECT_EQ(b.interrupts(), 0U) << "the first block is asked for by DRQ alone";
    EXPECT_EQ(b.status(), drq);
    b.write_block(512, 1);
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drq);
    EXPECT_THAT(b.first.seen, IsEmpty());
    b.write_block(512, 2, 4);
    EXPECT_EQ(b.alternate(), bsy);
    EXPECT_THAT(b.first.seen, ElementsAre(Seen{BlockOperation::write, false, 10240, 1024}));
    EXPECT_EQ(b.interrupts(), 0U);
    host();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drdy);
    const auto written = Bench::of_disk(b.first, 20, 2);
    for (unsigned i = 0; i < 512; ++i) {
        ASSERT_EQ(written[i], static_cast<u8>(1 + i));
        ASSERT_EQ(written[512 + i], static_cast<u8>(2 + i));
    }
    EXPECT_EQ(Bench::of_disk(b.first, 22, 1), Bench::sectors(22, 1));
}

TEST_F(IdePio, WritesMultipleInBlocksAndForcedToTheMedium) {
    b.command_ext(0xce, 64, 20); // blocks of 16
    EXPECT_EQ(b.status(), drq);
    b.write_block(16 * 512, 9);
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drq);
    b.write_block(4 * 512, 9);
    EXPECT_THAT(b.first.seen, ElementsAre(Seen{BlockOperation::write, true, 64 * 512, 20 * 512}));
    host();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drdy);
}

TEST_F(IdePio, WritesMoreThanTheBufferHolds) {
    constexpr unsigned count = 2100;
    b.command_ext(0x39, 5, count);
    for (unsigned at = 0; at < count; at += 16) {
        ASSERT_EQ(b.status(), drq) << at;
        b.write_block(std::min(16U, count - at) * 512, static_cast<u8>(at), 4);
        if (b.alternate() == bsy) host();
        ASSERT_EQ(b.interrupts(), 1U) << at;
    }
    EXPECT_EQ(b.status(), drdy);
    EXPECT_THAT(b.first.seen,
                ElementsAre(Seen{BlockOperation::write, false, 5 * 512, 2048 * 512},
                            Seen{BlockOperation::write, false, 2053 * 512, 52 * 512}));
    EXPECT_EQ(b.first.contents[(5 + 2096) * 512 + 1], static_cast<u8>(2096 + 1));
}

TEST_F(IdePio, CompletionsAreHeldBackWhole) {
    b.completions.hold = true;
    b.command(0x20, 1, 2);
    host();
    EXPECT_EQ(b.completions.waiting(), 1U);
    EXPECT_EQ(b.alternate(), bsy);
    EXPECT_EQ(b.status(), bsy);
    EXPECT_EQ(b.interrupts(), 0U);
    EXPECT_EQ(b.bus_master_status(), 0U);
    EXPECT_GE(b.completions.polls, 2U);
    b.out(3, 99);
    b.out(7, 0xec);
    EXPECT_EQ(b.completions.commands, 1U) << "nothing is taken while it is busy";
    b.completions.deliver_all();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drq);
    EXPECT_EQ(b.in(3), 1U);
    static_cast<void>(b.read_block(512));
    EXPECT_EQ(b.status(), drq) << "the next block of a read is there at once";
    EXPECT_EQ(b.interrupts(), 1U);
    static_cast<void>(b.read_block(512));
    EXPECT_EQ(b.status(), drdy);
    // The blocks of a write are not: what takes them is the disk.
    b.command(0x30, 1, 2);
    b.write_block(512, 0);
    EXPECT_EQ(b.status(), bsy);
    EXPECT_EQ(b.interrupts(), 0U);
    b.completions.deliver_all();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drq);
    EXPECT_EQ(b.completions.commands, 3U);
    EXPECT_THAT(b.completions.nominal, ElementsAre(1001, 7));
}

TEST(IdePolling, APollShowsWhatItBrings) {
    Bench b(0);
    PolledCompletions completions;
    platform::test::RecordingSink lines;
    Channel channel(b.bus, completions, lines.line(14));
    channel.attach(0, {"ide0", b.first, std::make_unique<NoDelay>(), {}});
    const auto command = [&] { channel.command_block().write(7, 1, 0xe0); };
    command();
    EXPECT_EQ(channel.control_block().read(0, 1), drdy);
    EXPECT_TRUE(lines.level[14]);
    command();
    EXPECT_EQ(channel.read_bus_master(2), 4U);
    command();
    EXPECT_EQ(channel.command_block().read(7, 1), drdy);
    EXPECT_FALSE(lines.level[14]) << "the interrupt was asked for, and is answered";
    EXPECT_EQ(lines.rises[14], 3U);
}

TEST_F(IdePio, IsReset) {
    b.command(0x20, 1, 2);
    host();
    static_cast<void>(b.read_block(100));
    b.control(4);
    EXPECT_EQ(b.alternate(), bsy);
    EXPECT_FALSE(b.line());
    b.out(3, 77);
    b.control(0);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.in(1), 1U);
    EXPECT_EQ(b.in(2), 1U);
    EXPECT_EQ(b.in(3), 1U);
    EXPECT_EQ(b.in(4), 0U);
    EXPECT_EQ(b.in(5), 0U);
    EXPECT_EQ(b.in(6), 0U);
    EXPECT_EQ(b.read_block(2), (std::vector<u8>{0, 0}));
    EXPECT_THAT(b.completions.troubles, IsEmpty()) << "nothing was under way";
    b.command(0x20, 4, 1);
    host();
    EXPECT_EQ(b.read_block(512), Bench::sectors(4, 1));
}

TEST_F(IdePio, AResetWaitsForTheHost) {
    b.command(0x20, 1, 2);
    b.software_reset();
    EXPECT_THAT(b.completions.troubles, ElementsAre(GuestTrouble::reset));
    EXPECT_EQ(b.completions.known, 0U);
    EXPECT_EQ(b.status(), bsy) << "the host has the buffer still";
    b.command(0xec);
    EXPECT_EQ(b.completions.commands, 1U);
    static_cast<void>(b.interrupts());
    host();
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.interrupts(), 0U);
    EXPECT_EQ(b.in(3), 1U) << "the signature";
    // And where the host is done, but the guest has not heard of it.
    b.completions.hold = true;
    b.command(0x20, 1, 2);
    host();
    b.software_reset();
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.completions.known, 0U);
    b.completions.hold = false;
    b.command(0x20, 8, 1);
    host();
    EXPECT_EQ(b.read_block(512), Bench::sectors(8, 1));
}

TEST_F(IdePio, HostErrorsAreTheDisks) {
    b.first.failure = BlockStatus::io_error;
    b.command(0x20, 0x1234, 2);
    host();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.in(1), 0x40U) << "UNC";
    EXPECT_EQ(b.error_lba28(), 0x1234U);
    b.command_ext(0x34, 0x1300, 1);
    b.write_block(512, 0);
    host();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.in(1), 4U) << "ABRT";
    EXPECT_EQ(b.error_lba48(), 0x1300U);
    b.first.failure = BlockStatus::no_space;
    b.command(0x30, 5, 1);
    b.write_block(512, 0);
    host();
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.in(1), 4U);
    // The second part of a long write fails: so many are written.
    b.first.failure.reset();
    b.command_ext(0x39, 0, 2064);
    for (unsigned i = 0; i < 129; ++i) {
        if (i == 128) b.first.failure = BlockStatus::io_error;
        b.write_block(16 * 512, 3, 4);
        host();
    }
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.error_lba48(), 2048U);
    b.first.failure.reset();
    b.command(0x20, 0, 1);
    host();
    EXPECT_EQ(b.status(), drq) << "and it goes on";
    EXPECT_EQ(b.in(1), 0U);
}

TEST_F(IdePio, AnAccessOfAnyShapeIsSafe) {
    Bench two(2);
    platform::test::abuse(two.channel.command_block(), 8, 400, [&](auto& random) {
        if (random() % 3 == 0) two.first.reap();
        if (random() % 3 == 0) two.second.reap();
        if (random() % 64 == 0) two.software_reset();
    });
    EXPECT_LE(two.completions.known, 1U);
    two.software_reset();
    two.first.reap();
    two.second.reap();
    EXPECT_EQ(two.status(), drdy);
    EXPECT_EQ(two.completions.known, 0U);
}

} // namespace
} // namespace gnomon::platform::ide
