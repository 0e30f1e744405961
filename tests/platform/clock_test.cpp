// SPDX-License-Identifier: Apache-2.0
#include "platform/host_clock.h"

#include <ctime>
#include <gtest/gtest.h>
#include <x86intrin.h>

namespace gnomon::platform {
namespace {

TEST(TickRate, DeadlinesAreReachedExactlyAndNotBefore) {
    for (const u64 hz : {u64{1}, u64{32'768}, u64{1'193'182}, u64{3'579'545}, u64{2'445'406'000}}) {
        const TickRate rate(hz);
        for (const u64 tick : {u64{1}, u64{2}, u64{12'345}, u64{1} << 33}) {
            EXPECT_GE(rate.ticks(rate.ns(tick)), tick);
            EXPECT_LT(rate.ticks(rate.ns(tick) - 1), tick);
            EXPECT_LE(rate.passed_ns(tick), rate.ns(tick));
            EXPECT_GE(rate.passed_ns(tick) + 1, rate.ns(tick));
        }
    }
    EXPECT_EQ(TickRate(0).hz(), 1U);
    EXPECT_EQ(TickRate(~u64{0}).ticks(~u64{0}), ~u64{0}) << "saturates";
}

TEST(ManualClock, TscAndTimeAgree) {
    ManualClock clock(3'000'000'000);
    clock.advance(1'000);
    EXPECT_EQ(clock.tsc(), 3'000U);
    clock.advance_to(500);
    EXPECT_EQ(clock.now_ns(), 1'000U) << "never backwards";
}

TEST(HostClock, TscIsTheHostsWithAnOffset) {
    const HostClock clock(1'000'000'000);
    const u64 before = __rdtsc() + clock.tsc_offset();
    const u64 shown = clock.tsc();
    const u64 after = __rdtsc() + clock.tsc_offset();
    EXPECT_LE(before, shown);
    EXPECT_LE(shown, after);
}

/// Lets the host's TSC go on.
void wait_ticks(u64 ticks) {
    const u64 begin = __rdtsc();
    while (__rdtsc() - begin < ticks) {
    }
}

TEST(HostClock, SkipsTheTimeSinceAMoment) {
    HostClock clock(1'000'000'000);
    const u64 shown = clock.tsc();
    const u64 offset = clock.tsc_offset();
    wait_ticks(1'000'000);
    const u64 since = __rdtsc();
    wait_ticks(50'000'000);
    const u64 before = __rdtsc();
    clock.skip(since);
    const u64 after = __rdtsc();
    EXPECT_GE(offset - clock.tsc_offset(), before - since);
    EXPECT_LE(offset - clock.tsc_offset(), after - since);
    EXPECT_GE(clock.tsc(), shown + 1'000'000) << "what came before the moment counts";
    EXPECT_EQ(clock.tsc_hz(), 1'000'000'000U);
}

TEST(HostClock, NeverGoesBackwards) {
    HostClock clock(1'000'000'000);
    const u64 since = __rdtsc();
    wait_ticks(5'000'000);
    const u64 shown = clock.tsc();
    clock.skip(since); // as if the clock had not been read in between
    EXPECT_GE(clock.tsc(), shown);
    clock.skip(~u64{0});
    EXPECT_GE(clock.tsc(), shown);
}

TEST(HostClock, FrequencyAgreesWithTheHostsTime) {
    const HostClock clock;
    timespec a{}, b{};
    ::clock_gettime(CLOCK_MONOTONIC_RAW, &a);
    const u64 first = clock.now_ns();
    const timespec wait{0, 20'000'000};
    ::nanosleep(&wait, nullptr);
    const u64 last = clock.now_ns();
    ::clock_gettime(CLOCK_MONOTONIC_RAW, &b);
    const double outside =
        static_cast<double>(b.tv_sec - a.tv_sec) * 1e9 + static_cast<double>(b.tv_nsec - a.tv_nsec);
    EXPECT_LT(static_cast<double>(last - first), outside * 1.01);
    EXPECT_GT(static_cast<double>(last - first), 20e6 * 0.99);
}

} // namespace
} // namespace gnomon::platform
