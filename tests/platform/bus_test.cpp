// SPDX-License-Identifier: Apache-2.0
#include "platform/bus.h"

#include <gmock/gmock.h>

namespace gnomon::platform {
namespace {

using testing::HasSubstr;

struct Access {
    u64 offset;
    unsigned size;
    u64 value;
    bool operator==(const Access&) const = default;
};

class Recorder final : public BusDevice {
public:
    explicit Recorder(u64 answer = 0) : m_answer(answer) {}
    u64 read(u64 offset, unsigned size) override {
        reads.push_back({offset, size, 0});
        return m_answer;
    }
    void write(u64 offset, unsigned size, u64 value) override {
        writes.push_back({offset, size, value});
    }
    std::vector<Access> reads, writes;

private:
    u64 m_answer;
};

TEST(Bus, GivesOffsetAndMasksTheAnswer) {
    PortBus bus;
    Recorder device(0x1122334455667788);
    ASSERT_TRUE(bus.insert({0x100, 0x107}, device, "device"));
    EXPECT_EQ(bus.read(0x102, 2), 0x7788U);
    bus.write(0x104, 4, 0xffffffffaabbccdd);
    EXPECT_EQ(device.reads, (std::vector<Access>{{2, 2, 0}}));
    EXPECT_EQ(device.writes, (std::vector<Access>{{4, 4, 0xaabbccdd}}));
    EXPECT_EQ(bus.name_at(0x107), "device");
    EXPECT_EQ(bus.name_at(0x108), "");
}

TEST(Bus, UnclaimedReadsAllOnesAndIgnoresWrites) {
    PortBus ports;
    EXPECT_EQ(ports.read(0x80, 1), 0xffU);
    EXPECT_EQ(ports.read(0x80, 4), 0xffffffffU);
    ports.write(0x80, 4, 0);
    MmioBus memory;
    EXPECT_EQ(memory.read(Gpa(0xd0000000), 8), ~u64{0});
    EXPECT_EQ(memory.read(Gpa(0xd0000000), 0), 0U);
    EXPECT_EQ(memory.read(Gpa(0xd0000000), 100), ~u64{0});
}

TEST(Bus, StraddlingAccessesAreSplitIntoBytes) {
    PortBus bus;
    Recorder a(0x11), b(0x22);
    ASSERT_TRUE(bus.insert({0x10, 0x11}, a, "a"));
    ASSERT_TRUE(bus.insert({0x12, 0x12}, b, "b"));
    EXPECT_EQ(bus.read(0x10, 4), 0xff221111U);
    EXPECT_EQ(a.reads, (std::vector<Access>{{0, 1, 0}, {1, 1, 0}}));
    EXPECT_EQ(bus.read(0x0f, 2), 0x11ffU) << "begins in a hole";
    bus.write(0x11, 4, 0x44332211);
    EXPECT_EQ(a.writes, (std::vector<Access>{{1, 1, 0x11}}));
    EXPECT_EQ(b.writes, (std::vector<Access>{{0, 1, 0x22}}));
}

TEST(Bus, EndOfTheSpaceDoesNotWrap) {
    PortBus ports;
    Recorder first(0x11), last(0x22);
    ASSERT_TRUE(ports.insert({0, 0}, first, "first"));
    ASSERT_TRUE(ports.insert({0xffff, 0xffff}, last, "last"));
    EXPECT_EQ(ports.read(0xffff, 4), 0xffffff22U);
    ports.write(0xffff, 2, 0);
    EXPECT_TRUE(first.reads.empty() && first.writes.empty());

    MmioBus memory;
    Recorder top(0x33), bottom(0x44);
    ASSERT_TRUE(memory.insert({Gpa(~u64{0}), Gpa(~u64{0})}, top, "top"));
    ASSERT_TRUE(memory.insert({Gpa(0), Gpa(7)}, bottom, "bottom"));
    EXPECT_EQ(memory.read(Gpa(~u64{0}), 8), 0xffffffffffffff33U);
    memory.write(Gpa(~u64{0}), 8, 0);
    EXPECT_TRUE(bottom.reads.empty() && bottom.writes.empty());
}

TEST(Bus, RejectsOverlapAndEmptyRanges) {
    PortBus bus;
    Recorder a, b;
    ASSERT_TRUE(bus.insert({0x10, 0x1f}, a, "a"));
    for (const BusRange<u16> r :
         {BusRange<u16>{0x10, 0x1f}, {0x0f, 0x10}, {0x1f, 0x20}, {0x12, 0x13}, {0, 0xffff}}) {
        const Result<> placed = bus.insert(r, b, "b");
        ASSERT_FALSE(placed);
        EXPECT_THAT(placed.error().message, HasSubstr("a is at 0x10-0x1f"));
    }
    EXPECT_FALSE(bus.insert({0x31, 0x30}, b, "b"));
    EXPECT_TRUE(bus.insert({0x20, 0x20}, b, "b"));
    EXPECT_TRUE(bus.insert({0x0f, 0x0f}, b, "b"));
    EXPECT_FALSE(bus.remove(0x10, b)) << "not its own";
    EXPECT_TRUE(bus.remove(0x10, a));
    EXPECT_EQ(bus.read(0x10, 1), 0xffU);
}

/// A device that takes itself off the bus while it is written, as PCI functions do.
class Leaver final : public BusDevice {
public:
    explicit Leaver(PortBus& bus) : m_bus(bus) {}
    u64 read(u64, unsigned) override { return 0; }
    void write(u64, unsigned, u64) override { m_bus.remove(0x10, *this); }

private:
    PortBus& m_bus;
};

TEST(Bus, DeviceMayChangeTheBusDuringAnAccess) {
    PortBus bus;
    Leaver leaver(bus);
    Recorder next;
    ASSERT_TRUE(bus.insert({0x10, 0x11}, leaver, "leaver"));
    ASSERT_TRUE(bus.insert({0x12, 0x13}, next, "next"));
    bus.write(0x10, 4, 0); // split: the second byte finds nobody
    EXPECT_EQ(next.writes.size(), 2U);
    EXPECT_EQ(bus.read(0x10, 1), 0xffU);
}

} // namespace
} // namespace gnomon::platform
