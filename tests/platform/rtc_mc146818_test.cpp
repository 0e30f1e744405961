// SPDX-License-Identifier: Apache-2.0
#include "platform/rtc_mc146818.h"

#include "fixtures.h"

#include <gtest/gtest.h>

namespace gnomon::platform {
namespace {

using Rtc = RtcMc146818;
constexpr u64 start_seconds = 1'709'210'096; // Thursday 2024-02-29 12:34:56 UTC

class RtcTest : public testing::Test {
protected:
    u8 read(u8 index) {
        rtc.write(0, 1, index);
        return static_cast<u8>(rtc.read(1, 1));
    }
    u8 read(Rtc::Reg r) { return read(static_cast<u8>(r)); }
    void write(Rtc::Reg r, u8 value) {
        rtc.write(0, 1, static_cast<u8>(r));
        rtc.write(1, 1, value);
    }
    void run(u64 ns) {
        clock.advance(ns);
        rtc.advance(clock.now_ns());
    }

    ManualClock clock;
    test::RecordingSink irq;
    Rtc rtc{clock, irq.line(8), start_seconds* ns_per_second, u64{6} << 30};
};

TEST_F(RtcTest, ShowsHostTimeInBcd) {
    EXPECT_EQ(read(Rtc::Reg::seconds), 0x56);
    EXPECT_EQ(read(Rtc::Reg::minutes), 0x34);
    EXPECT_EQ(read(Rtc::Reg::hours), 0x12);
    EXPECT_EQ(read(Rtc::Reg::day_of_week), 5);
    EXPECT_EQ(read(Rtc::Reg::day), 0x29);
    EXPECT_EQ(read(Rtc::Reg::month), 0x02);
    EXPECT_EQ(read(Rtc::Reg::year), 0x24);
    EXPECT_EQ(read(Rtc::Reg::century), 0x20);
    EXPECT_EQ(read(Rtc::Reg::d), 0x80);
    EXPECT_EQ(read(Rtc::Reg::b), 0x02);
    run(12 * 3600 * ns_per_second);
    EXPECT_EQ(read(Rtc::Reg::hours), 0x00);
    EXPECT_EQ(read(Rtc::Reg::day), 0x01);
    EXPECT_EQ(read(Rtc::Reg::month), 0x03);
}

TEST_F(RtcTest, BinaryAndTwelveHours) {
    write(Rtc::Reg::b, Rtc::dm);
    EXPECT_EQ(read(Rtc::Reg::seconds), 56);
    EXPECT_EQ(read(Rtc::Reg::hours), 0x80 | 12) << "noon is 12 PM";
    run(12 * 3600 * ns_per_second);
    EXPECT_EQ(read(Rtc::Reg::hours), 12) << "midnight is 12 AM";
}

TEST_F(RtcTest, UpdateInProgressWarns) {
    EXPECT_EQ(read(Rtc::Reg::a), 0x26);
    run(ns_per_second - Rtc::update_ns);
    EXPECT_EQ(read(Rtc::Reg::a), 0xa6);
    run(Rtc::update_ns);
    EXPECT_EQ(read(Rtc::Reg::a), 0x26);
    EXPECT_EQ(read(Rtc::Reg::seconds), 0x57);
}

/// The sequence of Linux's mc146818_set_time.
TEST_F(RtcTest, SettingTheTime) {
    write(Rtc::Reg::b, Rtc::hours24 | Rtc::set);
    write(Rtc::Reg::a, 0x76);
    write(Rtc::Reg::year, 0x30);
    write(Rtc::Reg::month, 0x12);
    write(Rtc::Reg::day, 0x31);
    write(Rtc::Reg::hours, 0x23);
    write(Rtc::Reg::minutes, 0x59);
    write(Rtc::Reg::seconds, 0x59);
    write(Rtc::Reg::century, 0x20);
    run(10 * ns_per_second);
    EXPECT_EQ(read(Rtc::Reg::seconds), 0x59) << "stopped";
    write(Rtc::Reg::b, Rtc::hours24);
    write(Rtc::Reg::a, 0x26);
    run(499'000'000);
    EXPECT_EQ(read(Rtc::Reg::seconds), 0x59);
    run(1'000'000); // half a second after the divider's reset
    EXPECT_EQ(read(Rtc::Reg::seconds), 0x00);
    EXPECT_EQ(read(Rtc::Reg::day), 0x01);
    EXPECT_EQ(read(Rtc::Reg::year), 0x31);
}

TEST_F(RtcTest, UpdateInterrupt) {
    EXPECT_FALSE(rtc.next_deadline_ns());
    write(Rtc::Reg::b, Rtc::hours24 | Rtc::uie);
    EXPECT_EQ(rtc.next_deadline_ns(), ns_per_second);
    run(ns_per_second);
    EXPECT_TRUE(irq.level[8]);
    EXPECT_FALSE(rtc.next_deadline_ns()) << "until register C is read";
    EXPECT_EQ(read(Rtc::Reg::c), Rtc::irqf | Rtc::uf | Rtc::pf);
    EXPECT_FALSE(irq.level[8]);
    EXPECT_EQ(read(Rtc::Reg::c), 0);
    write(Rtc::Reg::b, Rtc::hours24 | Rtc::uie | Rtc::set);
    EXPECT_EQ(read(Rtc::Reg::b), Rtc::hours24 | Rtc::set) << "SET clears UIE";
}

TEST_F(RtcTest, PeriodicInterrupt) {
    write(Rtc::Reg::b, Rtc::hours24 | Rtc::pie);
    for (unsigned i = 1; i <= 4; ++i) {
        EXPECT_EQ(rtc.next_deadline_ns(),
                  i * ns_per_second / 1024 + (i * ns_per_second % 1024 != 0 ? 1 : 0));
        clock.advance_to(*rtc.next_deadline_ns());
        rtc.advance(clock.now_ns());
        EXPECT_EQ(irq.rises[8], i);
        EXPECT_EQ(read(Rtc::Reg::c) & Rtc::pf, Rtc::pf);
    }
    write(Rtc::Reg::a, 0x20);
    EXPECT_FALSE(rtc.next_deadline_ns());
}

TEST_F(RtcTest, Alarm) {
    write(Rtc::Reg::seconds_alarm, 0x05);
    write(Rtc::Reg::minutes_alarm, 0x35);
    write(Rtc::Reg::hours_alarm, 0xff);
    write(Rtc::Reg::b, Rtc::hours24 | Rtc::aie);
    run(8 * ns_per_second);
    EXPECT_FALSE(irq.level[8]);
    run(ns_per_second);
    EXPECT_TRUE(irq.level[8]);
    EXPECT_EQ(read(Rtc::Reg::c) & (Rtc::af | Rtc::irqf), Rtc::af | Rtc::irqf);
    run(u64{30} * 86'400 * ns_per_second);
    EXPECT_TRUE(irq.level[8]) << "found although nobody looked for a month";
}

TEST_F(RtcTest, MemorySizes) {
    EXPECT_EQ(read(0x15) | read(0x16) << 8, 640);
    EXPECT_EQ(read(0x34) | read(0x35) << 8, (3072 - 16) * 16);
    EXPECT_EQ(read(0x5b) | read(0x5c) << 8 | read(0x5d) << 16, 3072 * 16);
    unsigned sum = 0;
    for (u8 i = 0x10; i <= 0x2d; ++i)
        sum += read(i);
    EXPECT_EQ(static_cast<unsigned>(read(0x2e) << 8 | read(0x2f)), sum);
    Rtc small(clock, irq.line(9), 0, 2 << 20);
    EXPECT_EQ(small.memory(0x17) | small.memory(0x18) << 8, 1024);
    EXPECT_EQ(small.memory(0x34), 0);
}

TEST_F(RtcTest, CmosIsMemoryAndTheNmiBitIsNotPartOfTheIndex) {
    write(static_cast<Rtc::Reg>(0x0f), 0x0a);
    EXPECT_EQ(read(0x8f), 0x0a);
    EXPECT_EQ(rtc.read(0, 1), 0xffU);
    write(Rtc::Reg::c, 0xff);
    write(Rtc::Reg::d, 0x00);
    EXPECT_EQ(read(Rtc::Reg::d), 0x80) << "read-only";
}

TEST_F(RtcTest, ImpossibleTimesAreMadePossible) {
    write(Rtc::Reg::month, 0xff);
    write(Rtc::Reg::day, 0x00);
    EXPECT_EQ(read(Rtc::Reg::month), 0x12);
    EXPECT_EQ(read(Rtc::Reg::day), 0x01);
}

TEST_F(RtcTest, Hostile) {
    test::abuse(rtc, 2, 20'000, [&](std::mt19937_64& random) {
        rtc.write(0, 1, random() % 2 == 0 ? random() % 16 : random() & 0xff);
        rtc.write(1, 1, random() & 0xff);
        clock.advance(random() % 64 == 0 ? random() % (u64{1} << 44) : random() % 100'000'000);
        if (const auto deadline = rtc.next_deadline_ns()) {
            clock.advance_to(*deadline);
            rtc.advance(clock.now_ns());
            const auto next = rtc.next_deadline_ns();
            ASSERT_TRUE(!next || *next > clock.now_ns());
        }
    });
}

} // namespace
} // namespace gnomon::platform
