// SPDX-License-Identifier: Apache-2.0
// What the completion scheduler is made of.
#include "monitor/completions/back_off.h"
#include "monitor/completions/completion_statistics.h"
#include "monitor/completions/delay_queues.h"
#include "monitor/completions/policy.h"
#include "monitor/completions/run_clock.h"
#include "monitor/completions/safepoints.h"

#include <algorithm>
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

class Plain final : public platform::Completion {
    void deliver() override {}
};

TEST(GlobalQueueTest, IsInOrderAfterSomeWereRemoved) {
    u64 random = 7;
    const auto next = [&] {
        return random = random * 6364136223846793005U + 1442695040888963407U, random >> 33;
    };
    for (int round = 0; round < 200; ++round) {
        std::deque<Plain> all(60);
        GlobalQueue queue;
        for (Plain& c : all) {
            c.notes.look_ns = next() % 1000;
            queue.push(c);
        }
        std::vector<u64> left;
        for (std::size_t i = 0; i < all.size(); ++i)
            if (next() % 4 == 0)
                queue.remove(all[i]);
            else
                left.push_back(all[i].notes.look_ns);
        std::ranges::sort(left);
        for (const u64 look : left) {
            ASSERT_EQ(queue.top().notes.look_ns, look);
            queue.remove(queue.top());
        }
        EXPECT_TRUE(queue.empty());
    }
}

TEST(LineQueueTest, KeepsItsOrderBothWaysWhateverIsMovedAndRemoved) {
    std::deque<Plain> all(5);
    LineQueue queue;
    const auto expect = [&](std::vector<unsigned> order) {
        EXPECT_EQ(queue.size(), order.size());
        const platform::Completion* before = nullptr;
        platform::Completion* c = queue.front();
        for (const unsigned n : order) {
            ASSERT_EQ(c, &all[n]);
            EXPECT_EQ(c->notes.previous, before);
            before = c;
            c = c->notes.next;
        }
        EXPECT_EQ(c, nullptr);
    };
    for (unsigned n = 0; n < 4; ++n)
        queue.push_back(all[n]);
    queue.move_behind(nullptr, all[2]);
    expect({2, 0, 1, 3});
    queue.move_behind(&all[2], all[3]); // the last
    expect({2, 3, 0, 1});
    queue.push_back(all[4]);
    expect({2, 3, 0, 1, 4});
    queue.move_behind(&all[4], all[0]); // to the end
    expect({2, 3, 1, 4, 0});
    queue.remove(all[1]);
    queue.push_back(all[1]);
    expect({2, 3, 4, 0, 1});
    queue.move_behind(&all[2], all[3]); // is there
    queue.remove(all[2]);
    queue.remove(all[1]);
    expect({3, 4, 0});
    for (const unsigned n : {3U, 0U, 4U})
        queue.remove(all[n]);
    EXPECT_TRUE(queue.empty());
    queue.push_back(all[1]);
    expect({1});
}

CpuState at(u64 rsp, u64 cr3 = 0x1000, u16 cs = 8) {
    return {.takes_interrupts = true, .in_service = false, .cs = cs, .cr3 = cr3, .rsp = rsp};
}

TEST(HandlerWatchTest, HasReturnedInItsContextOnly) {
    constexpr u64 reach = HandlerWatch::stack_reach;
    for (const bool seen : {false, true}) {
        HandlerWatch watch;
        EXPECT_FALSE(watch.returned(at(0x8000)));
        EXPECT_EQ(watch.entered(0, at(0x8000)), 1U);
        EXPECT_TRUE(watch.in_handler());
        EXPECT_EQ(watch.awaited(), (ReturnContext{.cr3 = 0x1000, .rsp = 0x8000, .cs = 8}));
        EXPECT_FALSE(watch.returned(at(0x7ff8)));
        if (seen) watch.left();
        EXPECT_TRUE(watch.returned(at(0x8000)));
        EXPECT_FALSE(watch.in_handler());
        EXPECT_TRUE(watch.returned(at(0x8000 + reach - 1)));
        EXPECT_FALSE(watch.returned(at(0x8000 + reach)));
        EXPECT_FALSE(watch.returned(at(0x8000, 0x1000, 0x33)));
        EXPECT_TRUE(watch.returned(at(0x8000))) << "another privilege is no other context";
        EXPECT_FALSE(watch.returned(at(0x8000, 0x2000)));
        EXPECT_FALSE(watch.returned(at(0x8000))) << "the context was switched meanwhile";
    }
}

TEST(HandlerWatchTest, CountsTheHandlersOfADevice) {
    HandlerWatch watch;
    EXPECT_EQ(watch.entered(0, at(0x8000)), 1U);
    EXPECT_EQ(watch.entered(1, at(0x7f00)), 1U) << "another device's";
    EXPECT_EQ(watch.entered(0, at(0x7e00)), 2U);
    EXPECT_TRUE(watch.nested());
    EXPECT_EQ(watch.entered(0, at(0x7e80)), 2U) << "the innermost has returned to there";
    EXPECT_TRUE(watch.awaits_return(at(0x7e78)));
    EXPECT_FALSE(watch.awaits_return(at(0x7e80)));
    EXPECT_TRUE(watch.under_way(1, at(0x7d00)));
    EXPECT_FALSE(watch.under_way(1, at(0x7f80))) << "above where it was interrupted";
    EXPECT_TRUE(watch.under_way(0, at(0x7f80)));
    EXPECT_FALSE(watch.under_way(2, at(0x7d00)));
    EXPECT_EQ(watch.entered(0, at(0x7a00)), 3U);
    EXPECT_EQ(watch.entered(0, at(0x90000)), 1U) << "of another stack nothing is known";
    watch.idle();
    EXPECT_FALSE(watch.in_handler());
    EXPECT_EQ(watch.awaited(), std::nullopt);
    unsigned depth = 0;
    for (u64 n = 0; n < 70; ++n)
        depth = watch.entered(0, at(0x8000 - n * 64));
    EXPECT_EQ(depth, 64U) << "no more are kept";
}

TEST(GlobalQueueTest, GivesTheEarliestWhateverIsRemovedAndMoved) {
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

TEST(BackOffTest, CalmBeginsAnewAfterTroubleAndAfterEachHalf) {
    BackOff b;
    const auto deliver = [&](u64 count) {
        while (count-- != 0)
            b.delivered();
        return b.kept();
    };
    b.trouble(false);
    EXPECT_EQ(deliver(BackOff::first_calm - 1), 1U);
    b.trouble(false); // twice as many are needed now
    EXPECT_EQ(deliver(2 * BackOff::first_calm - 1), 2U);
    EXPECT_EQ(deliver(1), 1U);
    EXPECT_EQ(deliver(2 * BackOff::first_calm - 1), 1U);
    EXPECT_EQ(deliver(1), 0U);
    for (int i = 0; i < 10; ++i)
        b.trouble(true);
    EXPECT_EQ(deliver(BackOff::longest_calm - 1), BackOff::whole) << "never more than that";
    EXPECT_EQ(deliver(1), BackOff::whole / 2);
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
