// SPDX-License-Identifier: Apache-2.0
// What the completion scheduler is made of.
#include "monitor/completions/back_off.h"
#include "monitor/completions/completion_statistics.h"
#include "monitor/completions/delay_queues.h"
#include "monitor/completions/policy.h"
#include "monitor/completions/run_clock.h"

#include <deque>
#include <gtest/gtest.h>
#include <map>

namespace gnomon::monitor {
namespace {

using Kind = CompletionPolicy::Kind;

constexpr u64 us = 1'000, ms = 1'000'000;

TEST(CompletionPolicyTest, IsReadAndComplainedOf) {
    const auto parse = [](std::string_view text) {
        return parse_completion_policy(text, "--completions");
    };
    EXPECT_EQ(*parse("adaptive"), (CompletionPolicy{Kind::adaptive, 0}));
    EXPECT_EQ(*parse("nominal"), (CompletionPolicy{Kind::nominal, 0}));
    EXPECT_EQ(*parse("immediate"), (CompletionPolicy{Kind::immediate, 0}));
    EXPECT_EQ(*parse("fixed=1ms"), (CompletionPolicy{Kind::fixed, ms}));
    EXPECT_EQ(*parse("fixed=250us"), (CompletionPolicy{Kind::fixed, 250 * us}));
    EXPECT_EQ(*parse("fixed=5s"), (CompletionPolicy{Kind::fixed, 5'000 * ms}));
    EXPECT_EQ(*parse("fixed=0ns"), (CompletionPolicy{Kind::fixed, 0}));
    for (const char* wrong :
         {"", "Adaptive", "fixed", "fixed=", "fixed=1", "fixed=-1ms", "fixed=1.5ms", "fixed=6s",
          "fixed=5000000001ns", "fixed=99999999999999999999ms", "fixed=1ms ", "nominal=1ms"})
        EXPECT_FALSE(parse(wrong)) << wrong;
}

TEST(GlobalQueueTest, GivesTheEarliestWhateverIsRemovedAndMoved) {
    class Plain final : public platform::Completion {
        void deliver() override {}
    };
    std::deque<Plain> all(500);
    GlobalQueue queue;
    std::multimap<u64, platform::Completion*> model;
    u64 random = 1;
    const auto next = [&] {
        return random = random * 6364136223846793005U + 1442695040888963407U, random >> 33;
    };
    for (Plain& c : all) {
        c.notes.look_ns = next() % 1000;
        queue.push(c);
        model.emplace(c.notes.look_ns, &c);
    }
    while (!model.empty()) {
        ASSERT_EQ(queue.top().notes.look_ns, model.begin()->first);
        auto chosen = model.begin();
        std::advance(chosen, next() % model.size());
        platform::Completion* const c = chosen->second;
        model.erase(chosen);
        if (next() % 3 == 0) {
            queue.set_look(*c, next() % 1000);
            model.emplace(c->notes.look_ns, c);
        } else {
            queue.remove(*c);
        }
    }
    EXPECT_TRUE(queue.empty());
}

TEST(BackOffTest, DoublesToTheWholeAndHalvesInCalm) {
    BackOff b;
    EXPECT_EQ(b.least_ns(16'000), 0U);
    for (const unsigned kept : {1U, 2U, 4U, 8U, 16U, 16U}) {
        b.trouble(false);
        EXPECT_EQ(b.kept(), kept);
    }
    EXPECT_EQ(b.least_ns(16'000), 16'000U);
    EXPECT_EQ(b.least_ns(~u64{0}), ~u64{0}) << "without overflow";
    const u64 calm = BackOff::first_calm << 5; // it has been troubled five times more
    for (u64 i = 1; i < calm; ++i)
        b.delivered();
    EXPECT_EQ(b.kept(), 16U);
    b.delivered();
    EXPECT_EQ(b.kept(), 8U);
    for (unsigned halvings = 0; halvings < 4; ++halvings)
        for (u64 i = 0; i < calm; ++i)
            b.delivered();
    EXPECT_EQ(b.kept(), 0U);
    b.trouble(true);
    EXPECT_EQ(b.kept(), 16U);
}

TEST(LatencyHistogramTest, PercentilesAreWithinASixteenth) {
    LatencyHistogram h;
    EXPECT_EQ(h.percentile(0.5), 0U);
    for (u64 i = 1; i <= 100'000; ++i)
        h.add(i);
    for (const double part : {0.001, 0.5, 0.99, 0.999, 1.0}) {
        const double wanted = 100'000 * part;
        EXPECT_GE(static_cast<double>(h.percentile(part)), wanted);
        EXPECT_LE(static_cast<double>(h.percentile(part)), wanted * 17 / 16);
    }
    h.add(~u64{0});
    EXPECT_EQ(h.percentile(1), ~u64{0});
}

TEST(RunClockTest, CountsWhatRanAndWhatSlept) {
    platform::ManualClock clock;
    u64 cpu_time = 500;
    RunClock run(clock, [&] { return cpu_time; });
    const u64 start = run.run_ns();
    clock.advance(1000);
    cpu_time += 300;
    EXPECT_EQ(run.run_ns() - start, 300U) << "700 were someone else's";
    clock.advance(1000);
    run.slept(900);
    cpu_time += 50;
    EXPECT_EQ(run.run_ns() - start, 1250U);
    clock.advance(100);
    run.slept(90);
    cpu_time += 40;
    EXPECT_EQ(run.run_ns() - start, 1350U) << "never more than has passed";
}

TEST(RunClockTest, ABoundIsCheapAndNeverTooSmall) {
    platform::ManualClock clock;
    u64 cpu_time = 0;
    unsigned readings = 0;
    RunClock run(clock, [&] { return ++readings, cpu_time; });
    const u64 start = run.bound_ns();
    for (int i = 0; i < 100; ++i) {
        clock.advance(RunClock::kept_ns / 100);
        cpu_time += RunClock::kept_ns / 200;
        EXPECT_GE(run.bound_ns() - start, cpu_time);
    }
    EXPECT_EQ(readings, 1U);
    clock.advance(2);
    EXPECT_EQ(run.bound_ns() - start, cpu_time);
    EXPECT_EQ(readings, 2U);
}

} // namespace
} // namespace gnomon::monitor
