// SPDX-License-Identifier: Apache-2.0
/// @file Stops of the process as the heartbeat tells them, on a TSC of 1 GHz: ticks are
/// nanoseconds.
#include "monitor/heartbeat.h"

#include <gtest/gtest.h>

namespace gnomon::monitor {
namespace {

constexpr u64 ms = 1'000'000, interval = Heartbeat::interval_ns;

class HeartbeatTest : public testing::Test {
protected:
    /// Beats as they come while the process runs, from now until `end`.
    void run_until(u64 end) {
        for (; now <= end; now += interval)
            heartbeat.beat(now);
        last = now - interval;
        now = end;
    }
    Heartbeat heartbeat{1'000'000'000};
    u64 now = 1000 * ms, last = 0;
};

TEST_F(HeartbeatTest, AContinueWithoutAStopIsNothing) {
    EXPECT_FALSE(heartbeat.stopped_since(now)) << "before the first beat";
    run_until(now + 3000 * ms);
    EXPECT_FALSE(heartbeat.stopped_since(now));
    EXPECT_FALSE(heartbeat.stopped_since(now + 2 * interval)) << "a late beat is no stop";
}

TEST_F(HeartbeatTest, AStopBeginsAtTheLastBeat) {
    run_until(now + 3000 * ms);
    EXPECT_EQ(heartbeat.stopped_since(now + 5000 * ms), last);
    EXPECT_FALSE(heartbeat.stopped_since(now + 5000 * ms)) << "counted already";
}

TEST_F(HeartbeatTest, BeatsAfterTheStopMayComeBeforeTheSignal) {
    run_until(now + 3000 * ms);
    const u64 begin = last;
    now += 5000 * ms;
    run_until(now + 4 * interval);
    EXPECT_EQ(heartbeat.stopped_since(now), begin);
    run_until(now + 2 * interval);
    EXPECT_FALSE(heartbeat.stopped_since(now)) << "counted already";
}

TEST_F(HeartbeatTest, OneStopAfterAnother) {
    run_until(now + 1000 * ms);
    for (int i = 0; i < 5; ++i) {
        now += 2000 * ms;
        ASSERT_TRUE(heartbeat.stopped_since(now));
        const u64 continued = now;
        now += 1000 * ms; // stopped again before the next beat
        ASSERT_EQ(heartbeat.stopped_since(now), continued);
        run_until(now + 300 * ms);
        EXPECT_FALSE(heartbeat.stopped_since(now));
    }
}

TEST_F(HeartbeatTest, BeatsThatComeTooOftenKeepTheOlderOnes) {
    run_until(now + 1000 * ms);
    const u64 begin = last;
    now += 5000 * ms;
    for (int i = 0; i < 1000; ++i, now += ms / 10)
        heartbeat.beat(now);
    EXPECT_EQ(heartbeat.stopped_since(now), begin);
}

} // namespace
} // namespace gnomon::monitor
