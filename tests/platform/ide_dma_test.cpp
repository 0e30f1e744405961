// SPDX-License-Identifier: Apache-2.0
/// @file The IDE channel by its bus master.
#include "ide_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::platform::ide {
namespace {

using namespace test;
using Seen = MemoryDisk::Seen;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr u16 last = PrdEntry::end_of_table;

class IdeDma : public testing::Test {
protected:
    static constexpr u64 data = Bench::data, table = Bench::table;
    void host() { b.first.reap(); }
    Bench b;
};

TEST_F(IdeDma, Reads) {
    b.put_table({{data, 512, 0}, {data + 0x4001, 1024, last}}); // bit 0 of an address is ignored
    b.set_table(table);
    b.set_bus_master(8);
    b.command(0xc8, 9, 3);
    EXPECT_EQ(b.alternate(), drq) << "it waits for the bus master";
    EXPECT_THAT(b.first.seen, IsEmpty());
    EXPECT_EQ(b.bus_master_status(), 0U);
    b.set_bus_master(9);
    EXPECT_EQ(b.alternate(), bsy);
    EXPECT_EQ(b.bus_master_status(), 1U);
    EXPECT_THAT(b.first.seen, ElementsAre(Seen{BlockOperation::read, false, 9 * 512, 1536}));
    EXPECT_EQ(b.first.uncommitted, 0U);
    host();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.bus_master_status(), 4U) << "interrupt, and no longer active";
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.written.bytes, 1536U);
    EXPECT_EQ(b.guest_bytes(data, 512), Bench::sectors(9, 1));
    EXPECT_EQ(b.guest_bytes(data + 0x4000, 1024), Bench::sectors(10, 2));
    b.set_bus_master(0);
    b.set_bus_master_status(4);
    EXPECT_EQ(b.bus_master_status(), 0U);
    EXPECT_EQ(b.completions.commands, 2U) << "the command, and the start";
}

TEST_F(IdeDma, Writes) {
    b.put_bytes(data, Bench::sectors(500, 2));
    b.dma(0xca, 30, 2, false, {{data, 1024, last}});
    EXPECT_THAT(b.first.seen, ElementsAre(Seen{BlockOperation::write, false, 30 * 512, 1024}));
    host();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.bus_master_status(), 4U);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(Bench::of_disk(b.first, 30, 2), Bench::sectors(500, 2));
    EXPECT_EQ(b.written.bytes, 0U) << "nothing of the guest's memory has changed";
    b.set_bus_master(0);
    b.command_ext(0x3d, 40, 1);
    b.set_bus_master(1);
    EXPECT_EQ(b.first.seen.back(), (Seen{BlockOperation::write, true, 40 * 512, 512})) << "FUA";
    host();
    EXPECT_EQ(b.status(), drdy);
}

TEST_F(IdeDma, TheBusMasterMayBeStartedFirst) {
    b.put_table({{data, 512, last}});
    b.set_table(table);
    b.set_bus_master(9);
    EXPECT_EQ(b.bus_master_status(), 1U);
    b.command(0xc8, 9, 1);
    host();
    EXPECT_EQ(b.bus_master_status(), 4U);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.guest_bytes(data, 512), Bench::sectors(9, 1));
    b.command(0xc8, 10, 1);
    EXPECT_EQ(b.alternate(), drq) << "its table has ended: it needs another start";
    b.set_bus_master(0);
    b.set_bus_master(9);
    host();
    EXPECT_EQ(b.guest_bytes(data, 512), Bench::sectors(10, 1));
}

TEST_F(IdeDma, MovesTheMostThatACommandCan) {
    Bench big(1, {}, u64{64} << 20, 70000);
    std::vector<PrdEntry> entries;
    for (u32 i = 0; i < 512; ++i) // in reverse
        entries.push_back({0x200'0000 + (511 - i) * 0x10000, 0, i == 511 ? last : u16{0}});
    big.put_table(entries);
    big.set_table(Bench::table);
    big.set_bus_master(8);
    big.command_ext(0x25, 100, 0);
    big.set_bus_master(9);
    big.first.reap();
    EXPECT_EQ(big.bus_master_status(), 4U);
    EXPECT_EQ(big.status(), drdy);
    EXPECT_EQ(big.guest_bytes(0x200'0000 + 511 * 0x10000, 0x10000), Bench::sectors(100, 128));
    EXPECT_EQ(big.guest_bytes(0x200'0000, 0x10000), Bench::sectors(100 + 511 * 128, 128));
}

TEST_F(IdeDma, ATableThatIsTooLong) {
    b.dma(0xc8, 9, 1, true, {{data, 1024, last}});
    host();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.bus_master_status(), 5U) << "the table has not ended";
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.guest_bytes(data, 512), Bench::sectors(9, 1));
    EXPECT_EQ(b.guest_bytes(data + 512, 2), (std::vector<u8>{0, 0}));
    b.set_bus_master(8);
    EXPECT_EQ(b.bus_master_status(), 4U);
    b.dma(0xc8, 9, 1, true, {{data, 512, 0}, {data, 512, last}});
    host();
    EXPECT_EQ(b.bus_master_status(), 5U) << "another entry";
}

TEST_F(IdeDma, ATableThatIsTooShort) {
    b.dma(0xc8, 9, 2, true, {{data, 512, last}});
    EXPECT_EQ(b.bus_master_status(), 0U) << "stopped without an interrupt";
    EXPECT_EQ(b.interrupts(), 0U);
    EXPECT_EQ(b.alternate(), drq) << "the disk waits on";
    EXPECT_THAT(b.first.seen, IsEmpty());
    b.put_table({{data, 1024, last}});
    b.set_bus_master(8);
    b.set_bus_master(9);
    host();
    EXPECT_EQ(b.bus_master_status(), 4U);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.guest_bytes(data, 1024), Bench::sectors(9, 2));
}

TEST_F(IdeDma, WhatIsNotMemoryIsAnError) {
    const std::vector<PrdEntry> bad[] = {
        {{0xfee0'0000, 512, last}},                              // a device
        {{data, 256, 0}, {u32{Bench::memory_bytes}, 256, last}}, // behind the memory
    };
    for (const auto& entries : bad) {
        b.dma(0xc8, 9, 1, true, entries);
        EXPECT_EQ(b.bus_master_status(), 2U);
        EXPECT_EQ(b.interrupts(), 0U);
        EXPECT_EQ(b.alternate(), drq);
        b.set_bus_master(0);
        b.set_bus_master_status(2);
        EXPECT_EQ(b.bus_master_status(), 0U);
        b.software_reset();
    }
    // The table itself.
    b.set_table(0xfee0'0000);
    b.set_bus_master(8);
    b.command(0xc8, 9, 1);
    b.set_bus_master(9);
    EXPECT_EQ(b.bus_master_status(), 2U);
    b.set_bus_master(0);
    b.software_reset();
    // A function that may not master the bus.
    b.bus.set_enabled(false);
    b.dma(0xc8, 9, 1, true, {{data, 512, last}});
    EXPECT_EQ(b.bus_master_status(), 2U);
    b.bus.set_enabled(true);
    EXPECT_THAT(b.first.seen, IsEmpty());
    EXPECT_EQ(b.written.bytes, 0U);
}

TEST_F(IdeDma, DirectionsMustAgree) {
    b.dma(0xc8, 9, 1, false, {{data, 512, last}});
    EXPECT_EQ(b.bus_master_status(), 1U);
    EXPECT_EQ(b.alternate(), drq);
    EXPECT_THAT(b.first.seen, IsEmpty());
    b.set_bus_master(9);
    EXPECT_EQ(b.channel.read_bus_master(0), 1U) << "the direction is fixed while it is active";
    b.set_bus_master(8);
    b.set_bus_master(9);
    host();
    EXPECT_EQ(b.status(), drdy);
}

TEST_F(IdeDma, CompletionsAreHeldBackWhole) {
    b.completions.hold = true;
    b.dma(0xc8, 9, 1, true, {{data, 512, last}});
    host();
    EXPECT_EQ(b.guest_bytes(data, 512), Bench::sectors(9, 1)) << "the data may be early";
    EXPECT_EQ(b.bus_master_status(), 1U);
    EXPECT_EQ(b.status(), bsy);
    EXPECT_EQ(b.interrupts(), 0U);
    b.completions.deliver_all();
    EXPECT_EQ(b.bus_master_status(), 4U);
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_THAT(b.completions.nominal, ElementsAre(1009));
}

TEST_F(IdeDma, StoppingWaitsForTheHost) {
    b.dma(0xc8, 9, 1, true, {{data, 512, last}});
    b.set_bus_master(8);
    EXPECT_THAT(b.completions.troubles, ElementsAre(GuestTrouble::abort));
    EXPECT_EQ(b.bus_master_status(), 1U) << "the host may write to memory still";
    EXPECT_EQ(b.alternate(), bsy);
    EXPECT_EQ(b.completions.known, 0U);
    host();
    EXPECT_EQ(b.bus_master_status(), 0U);
    EXPECT_EQ(b.interrupts(), 0U);
    EXPECT_EQ(b.alternate(), drq) << "the transfer can begin again";
    EXPECT_EQ(b.written.bytes, 512U) << "memory has changed, whoever waits for it";
    b.set_bus_master(9);
    host();
    EXPECT_EQ(b.bus_master_status(), 4U);
    EXPECT_EQ(b.status(), drdy);
    // Started again before the host let go: it begins then.
    b.dma(0xc8, 12, 1, true, {{data, 512, last}});
    b.set_bus_master(8);
    b.set_bus_master(9);
    EXPECT_EQ(b.first.under_way(), 1U);
    b.first.finish(0);
    EXPECT_EQ(b.first.under_way(), 1U);
    EXPECT_EQ(b.bus_master_status(), 1U);
    host();
    EXPECT_EQ(b.bus_master_status(), 4U);
    EXPECT_EQ(b.guest_bytes(data, 512), Bench::sectors(12, 1));
}

TEST_F(IdeDma, StoppingWhatTheGuestHasNotHeardOf) {
    b.completions.hold = true;
    b.dma(0xc8, 9, 1, true, {{data, 512, last}});
    host();
    b.set_bus_master(8);
    EXPECT_EQ(b.completions.known, 0U);
    EXPECT_EQ(b.bus_master_status(), 0U);
    EXPECT_EQ(b.alternate(), drq);
    b.completions.hold = false;
    b.set_bus_master(9);
    host();
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.interrupts(), 1U);
}

TEST_F(IdeDma, AResetWaitsForTheHost) {
    b.dma(0xc8, 9, 1, true, {{data, 512, last}});
    b.software_reset();
    EXPECT_THAT(b.completions.troubles, ElementsAre(GuestTrouble::reset));
    EXPECT_EQ(b.status(), bsy);
    b.set_bus_master(0);
    EXPECT_EQ(b.bus_master_status(), 1U);
    host();
    EXPECT_EQ(b.bus_master_status(), 0U);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.interrupts(), 0U);
    EXPECT_EQ(b.written.bytes, 512U);
    // SRST that stays set outlasts the host.
    b.dma(0xc8, 9, 1, true, {{data, 512, last}});
    b.control(4);
    host();
    EXPECT_EQ(b.status(), bsy);
    b.control(0);
    EXPECT_EQ(b.status(), drdy);
    // The whole machine's.
    b.set_bus_master(0);
    b.dma(0xc8, 9, 1, true, {{data, 512, last}});
    b.channel.reset();
    EXPECT_EQ(b.status(), bsy);
    EXPECT_EQ(b.channel.read_bus_master(0), 0U);
    EXPECT_EQ(b.channel.read_bus_master(6), 0U);
    host();
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.bus_master_status(), 0U);
    b.dma(0xc8, 15, 1, true, {{data, 512, last}});
    host();
    EXPECT_EQ(b.guest_bytes(data, 512), Bench::sectors(15, 1));
}

TEST_F(IdeDma, ATransferEndsWithoutTheRightToMaster) {
    b.dma(0xc8, 9, 1, true, {{data, 512, last}});
    b.bus.set_enabled(false);
    host();
    EXPECT_EQ(b.bus_master_status(), 4U) << "what it had reached it may write";
    EXPECT_EQ(b.guest_bytes(data, 512), Bench::sectors(9, 1));
}

TEST_F(IdeDma, HostErrorsAreTheDisks) {
    b.first.failure = BlockStatus::io_error;
    b.dma(0xc8, 77, 4, true, {{data, 2048, last}});
    host();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.bus_master_status(), 5U) << "the disk broke off";
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.in(1), 0x40U);
    EXPECT_EQ(b.error_lba28(), 77U);
    EXPECT_EQ(b.written.bytes, 2048U) << "some of it may have come";
    b.set_bus_master(0);
    b.dma(0xca, 78, 4, false, {{data, 2048, last}});
    host();
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.in(1), 4U);
    EXPECT_EQ(b.error_lba28(), 78U);
}

TEST_F(IdeDma, BusMasterRegisters) {
    for (unsigned i = 0; i < 8; ++i)
        b.channel.write_bus_master(i, 0xff);
    EXPECT_EQ(b.channel.read_bus_master(0), 9U);
    EXPECT_EQ(b.channel.read_bus_master(1), 0U);
    EXPECT_EQ(b.channel.read_bus_master(2), 0x61U);
    EXPECT_EQ(b.channel.read_bus_master(3), 0U);
    EXPECT_EQ(b.channel.read_bus_master(4), 0xfcU);
    EXPECT_EQ(b.channel.read_bus_master(7), 0xffU);
    b.set_bus_master(0);
    b.set_bus_master_status(0);
    EXPECT_EQ(b.channel.read_bus_master(2), 0U);
}

/// Counts what is asked of it.
class CountedDelay final : public DelayModel {
public:
    explicit CountedDelay(int& under_way) : m_under_way(under_way) {}
    [[nodiscard]] u64 nominal_ns(const BlockRequest&) override {
        ++m_under_way;
        return 0;
    }
    void ended() override { --m_under_way; }
    [[nodiscard]] u64 command_ns() const override { return 0; }

private:
    int& m_under_way;
};

TEST_F(IdeDma, WhatEndsKeepsTheDiskBusyNoMore) {
    Bench empty(0);
    int under_way = 0;
    empty.first.contents = b.first.contents;
    empty.channel.attach(0, {"ide0", empty.first, std::make_unique<CountedDelay>(under_way), {}});
    empty.command_ext(0x42, 0, 5000); // three steps
    EXPECT_EQ(under_way, 3);
    empty.first.finish(0);
    EXPECT_EQ(under_way, 3);
    empty.software_reset();
    EXPECT_EQ(under_way, 0) << "abandoned";
    empty.first.finish(0);
    EXPECT_EQ(under_way, 0);
    empty.dma(0xc8, 9, 1, true, {{data, 512, last}});
    EXPECT_EQ(under_way, 1);
    empty.first.reap();
    EXPECT_EQ(under_way, 0) << "delivered";
    EXPECT_EQ(empty.simple(0xe0), drdy);
    EXPECT_EQ(under_way, 0);
}

// --- TRIM ---

class IdeTrim : public IdeDma {
protected:
    void ranges(std::vector<u64> list, unsigned blocks = 1) {
        list.resize(u64{64} * blocks);
        std::vector<u8> bytes(list.size() * 8);
        std::memcpy(bytes.data(), list.data(), bytes.size());
        b.put_bytes(data, bytes);
        b.out(1, 1);
        b.put_table({{data, static_cast<u16>(512 * blocks), last}});
        b.set_table(table);
        b.set_bus_master(0);
        b.command_ext(0x06, 0, blocks);
        b.set_bus_master(1);
    }
    static u64 range(u64 first, u64 count) { return first | count << 48; }
};

TEST_F(IdeTrim, DiscardsItsRanges) {
    ranges({range(5, 2), 0, range(19999, 1)});
    EXPECT_EQ(b.status(), bsy);
    b.first.finish(0);
    EXPECT_EQ(b.status(), bsy) << "one after the other";
    b.first.finish(0);
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.bus_master_status(), 4U);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_THAT(b.first.seen, ElementsAre(Seen{BlockOperation::discard, false, 2560, 1024},
                                          Seen{BlockOperation::discard, false, 19999 * 512, 512}));
    ranges({}, 8);
    EXPECT_EQ(b.status(), drdy) << "no ranges";
    std::vector<u64> many(512);
    for (u64 i = 0; i < many.size(); ++i)
        many[i] = range(i * 8, 8);
    b.first.seen.clear();
    ranges(many, 8);
    while (b.first.under_way() != 0)
        host();
    EXPECT_EQ(b.status(), drdy);
    EXPECT_EQ(b.first.seen.size(), 512U);
}

TEST_F(IdeTrim, RefusesWhatIsNotTheDisks) {
    ranges({range(5, 2), range(19999, 2)});
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.in(1), 0x10U);
    EXPECT_EQ(b.error_lba48(), 20000U);
    EXPECT_THAT(b.first.seen, IsEmpty()) << "not even the sound one";
    ranges({}, 9);
    EXPECT_EQ(b.status(), err) << "more blocks than it says it takes";
    b.out(1, 0);
    b.command_ext(0x06, 0, 1);
    EXPECT_EQ(b.status(), err) << "not TRIM";
    b.first.failure = BlockStatus::io_error;
    ranges({range(5, 2)});
    host();
    EXPECT_EQ(b.status(), err);
    EXPECT_EQ(b.in(1), 4U);
}

TEST_F(IdeTrim, StoppingTheBusMasterDoesNotStopIt) {
    ranges({range(5, 2), range(9, 1)});
    b.set_bus_master(0);
    EXPECT_EQ(b.bus_master_status(), 0U) << "it has moved its data";
    while (b.first.under_way() != 0)
        host();
    EXPECT_EQ(b.interrupts(), 1U);
    EXPECT_EQ(b.status(), drdy);
    EXPECT_THAT(b.completions.troubles, IsEmpty());
}

} // namespace
} // namespace gnomon::platform::ide
