// SPDX-License-Identifier: Apache-2.0
#include "platform/pit_8254.h"

#include "fixtures.h"
#include "platform/layout.h"

#include <gtest/gtest.h>

namespace gnomon::platform {
namespace {

constexpr TickRate pit_rate(layout::pit_hz);

class Pit : public testing::Test {
protected:
    void control(u8 value) { pit.write(3, 1, value); }
    void count(unsigned channel, u16 value) {
        pit.write(channel, 1, value & 0xff);
        pit.write(channel, 1, value >> 8);
    }
    u16 read_count(unsigned channel) {
        const u64 low = pit.read(channel, 1);
        return static_cast<u16>(low | pit.read(channel, 1) << 8);
    }
    u16 latched(unsigned channel) {
        control(static_cast<u8>(channel << 6));
        return read_count(channel);
    }
    /// Moves the clock to `n` PIT ticks after the start and runs what is due.
    void at_tick(u64 n) {
        clock.advance_to(pit_rate.ns(n));
        pit.advance(clock.now_ns());
    }
    bool output2() { return (pit.system_control_b().read(0, 1) & 0x20) != 0; }
    void port_b(u8 value) { pit.system_control_b().write(0, 1, value); }

    ManualClock clock;
    test::RecordingSink irq;
    Pit8254 pit{clock, irq.line(0)};
};

TEST_F(Pit, QuietAtPowerOn) {
    EXPECT_FALSE(irq.level[0]);
    EXPECT_FALSE(pit.next_deadline_ns());
}

TEST_F(Pit, Mode0CountsOnceAndRaises) {
    control(0x30);
    EXPECT_FALSE(irq.level[0]);
    count(0, 1000);
    EXPECT_EQ(pit.next_deadline_ns(), pit_rate.ns(1001)) << "N + 1 clock pulses after the count";
    at_tick(501);
    EXPECT_EQ(latched(0), 500U);
    EXPECT_FALSE(irq.level[0]);
    at_tick(1001);
    EXPECT_TRUE(irq.level[0]);
    EXPECT_EQ(irq.rises[0], 1U);
    at_tick(1003);
    EXPECT_EQ(latched(0), 0xfffeU) << "goes on counting";
    EXPECT_FALSE(pit.next_deadline_ns());
    count(0, 10);
    EXPECT_FALSE(irq.level[0]) << "a new count lowers the output";
}

TEST_F(Pit, Mode2IsPeriodic) {
    control(0x34);
    EXPECT_TRUE(irq.level[0]);
    count(0, 11932); // 100 Hz
    const unsigned rises = irq.rises[0];
    for (unsigned i = 1; i <= 5; ++i) {
        EXPECT_EQ(pit.next_deadline_ns(), pit_rate.ns(1 + i * 11932ULL));
        clock.advance_to(*pit.next_deadline_ns());
        pit.advance(clock.now_ns());
        EXPECT_EQ(irq.rises[0], rises + i);
    }
    clock.advance(1'000'000'000);
    pit.advance(clock.now_ns());
    EXPECT_EQ(irq.rises[0], rises + 6) << "missed periods are merged";
    EXPECT_GT(*pit.next_deadline_ns(), clock.now_ns());
}

TEST_F(Pit, Mode2NewCountWaitsForThePeriodsEnd) {
    control(0x34);
    count(0, 1000);
    at_tick(101);
    count(0, 500);
    EXPECT_EQ(latched(0), 900U);
    control(0xe2); // read-back: status of counter 0
    EXPECT_EQ(pit.read(0, 1) & 0x40, 0x40U) << "null count";
    EXPECT_EQ(pit.next_deadline_ns(), pit_rate.ns(1001));
    at_tick(1001);
    EXPECT_EQ(latched(0), 500U);
    EXPECT_EQ(pit.next_deadline_ns(), pit_rate.ns(1501));
}

TEST_F(Pit, Mode3SquareWave) {
    control(0xb6);
    port_b(0x01);
    count(2, 10);
    const std::array<bool, 10> even = {true,  true,  true,  true,  true,
                                       false, false, false, false, false};
    for (unsigned i = 0; i < 20; ++i) {
        at_tick(1 + i);
        EXPECT_EQ(output2(), even[i % 10]) << i;
        EXPECT_EQ(latched(2), 10 - 2 * (i % 5)) << i;
    }
    control(0xb6);
    const u64 start = pit_rate.ticks(clock.now_ns());
    count(2, 5); // high for three, low for two
    const std::array<bool, 5> odd = {true, true, true, false, false};
    for (unsigned i = 0; i < 10; ++i) {
        at_tick(start + 1 + i);
        EXPECT_EQ(output2(), odd[i % 5]) << i;
    }
}

TEST_F(Pit, Mode4PulsesOnce) {
    control(0x38);
    EXPECT_TRUE(irq.level[0]);
    count(0, 100);
    const unsigned rises = irq.rises[0];
    at_tick(101);
    EXPECT_FALSE(irq.level[0]) << "low for one clock";
    clock.advance_to(*pit.next_deadline_ns());
    pit.advance(clock.now_ns());
    EXPECT_TRUE(irq.level[0]);
    EXPECT_EQ(irq.rises[0], rises + 1);
    EXPECT_FALSE(pit.next_deadline_ns());
    count(0, 100);
    clock.advance(1'000'000'000);
    pit.advance(clock.now_ns());
    EXPECT_EQ(irq.rises[0], rises + 2) << "found late";
}

TEST_F(Pit, Mode1And5AreTriggeredByTheGate) {
    port_b(0);
    control(0xb2);
    count(2, 100);
    at_tick(500);
    EXPECT_TRUE(output2()) << "not triggered yet";
    port_b(1);
    at_tick(502);
    EXPECT_FALSE(output2());
    at_tick(601);
    EXPECT_TRUE(output2());
    control(0xba);
    count(2, 10);
    port_b(0);
    port_b(1);
    const u64 now = pit_rate.ticks(clock.now_ns());
    at_tick(now + 11);
    EXPECT_FALSE(output2());
    at_tick(now + 12);
    EXPECT_TRUE(output2());
}

/// What Linux's fast TSC calibration does: mode 0 on counter 2, reading LSB and MSB in turn without
/// latching.
TEST_F(Pit, LinuxCalibration) {
    port_b(static_cast<u8>((pit.system_control_b().read(0, 1) & ~0x02ULL) | 0x01));
    control(0xb0);
    count(2, 0xffff);
    at_tick(1 + 0xffff - 0xf000);
    EXPECT_EQ(read_count(2), 0xf000U);
    EXPECT_FALSE(output2());
    at_tick(1 + 0xffff);
    EXPECT_TRUE(output2());
}

TEST_F(Pit, GateSuspendsMode0) {
    port_b(1);
    control(0xb0);
    count(2, 1000);
    at_tick(101);
    port_b(0);
    at_tick(5000);
    EXPECT_EQ(latched(2), 900U);
    port_b(1);
    at_tick(5899);
    EXPECT_FALSE(output2());
    at_tick(5901);
    EXPECT_TRUE(output2());
}

TEST_F(Pit, LatchHoldsAndReadBackCombines) {
    control(0x34);
    count(0, 1000);
    at_tick(101);
    control(0xc2); // read-back: count and status of counter 0
    at_tick(301);
    EXPECT_EQ(pit.read(0, 1), 0xb4U) << "status first: output high, access 3, mode 2";
    EXPECT_EQ(read_count(0), 900U);
    EXPECT_EQ(read_count(0), 700U);
    EXPECT_EQ(pit.read(3, 1), 0xffU);
}

TEST_F(Pit, BcdCounts) {
    control(0x31);
    count(0, 0x1000);
    at_tick(2);
    EXPECT_EQ(latched(0), 0x0999U);
    control(0x31);
    count(0, 0);
    EXPECT_EQ(latched(0), 0U) << "0 means 10000";
}

TEST_F(Pit, PortB) {
    port_b(0xff);
    EXPECT_EQ(pit.system_control_b().read(0, 1) & 0xcf, 0x0fU);
    const u64 refresh = pit.system_control_b().read(0, 1) & 0x10;
    clock.advance(15'100);
    EXPECT_NE(pit.system_control_b().read(0, 1) & 0x10, refresh);
}

TEST_F(Pit, TinyPeriodsDoNotFloodTheMonitor) {
    control(0x14); // LSB only
    pit.write(0, 1, 1);
    u64 wakes = 0;
    while (clock.now_ns() < 1'000'000) {
        clock.advance_to(*pit.next_deadline_ns());
        pit.advance(clock.now_ns());
        ++wakes;
    }
    EXPECT_LE(wakes, 1'000'000 / minimum_period_ns + 2);
    EXPECT_GE(wakes, 10U);
}

TEST_F(Pit, Hostile) {
    const auto between = [&](std::mt19937_64& random) {
        clock.advance(random() % 8 == 0 ? random() % (u64{1} << 40) : random() % 5000);
        if (random() % 2 == 0) pit.advance(clock.now_ns());
        if (random() % 8 == 0) port_b(static_cast<u8>(random()));
        if (const auto deadline = pit.next_deadline_ns(); deadline && random() % 2 == 0) {
            clock.advance_to(*deadline);
            pit.advance(clock.now_ns());
            const auto next = pit.next_deadline_ns();
            ASSERT_TRUE(!next || *next > clock.now_ns()) << "a deadline that was served is over";
        }
    };
    test::abuse(pit, 4, 2000, between);
    test::abuse(pit.system_control_b(), 1, 100, between);
}

} // namespace
} // namespace gnomon::platform
