// SPDX-License-Identifier: Apache-2.0
// Queues, delays and deliveries: M3.3 and M3.5.
#include "completion_bench.h"

namespace gnomon::monitor::test {
namespace {

class M3_3_Queues : public CompletionTest {};
class M3_5_Delivery : public CompletionTest {};

TEST_F(M3_5_Delivery, WaitsForItsNominalDelayOfGuestRunTime) {
    const Request& r = request();
    EXPECT_EQ(completions->next_look_ns(0), view.now + Completions::stretch_ns);
    pass(nominal - 1);
    EXPECT_FALSE(look());
    EXPECT_EQ(r.delivered, 0U);
    pass(1);
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
    EXPECT_FALSE(completions->any_known());
    EXPECT_EQ(completions->next_look_ns(0), Completions::never);
    EXPECT_EQ(statistic("matured"), 1U);
}

TEST_F(M3_5_Delivery, TimeInWhichTheProcessorDidNotRunDoesNotCount) {
    const Request& r = request();
    steal(20 * nominal);
    EXPECT_FALSE(look());
    EXPECT_EQ(completions->next_look_ns(0), view.now + Completions::stretch_ns);
    pass(nominal / 2);
    EXPECT_FALSE(look());
    steal(nominal);
    EXPECT_FALSE(look());
    pass(nominal / 2);
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_5_Delivery, OfAStretchWithoutAnExitOnlySoMuchCounts) {
    const Request& r = request();
    for (u64 seen = 0; seen < nominal; seen += Completions::stretch_ns) {
        EXPECT_FALSE(look());
        steal_unseen(3 * Completions::stretch_ns);
    }
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_5_Delivery, WhatTheThreadDidNotRunForDoesNotCount) {
    const Request& r = request();
    for (u64 seen = 0; seen < 2 * nominal; seen += Completions::stretch_ns) {
        view.now += Completions::stretch_ns; // the host has it wait
        completions->ran(0, Completions::stretch_ns);
        EXPECT_FALSE(look());
    }
    view.now += nominal;
    view.run[0] += nominal;
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_5_Delivery, WhatPassesOutsideTheGuestDoesNotCount) {
    const Request& r = request();
    for (int i = 0; i < 100; ++i) { // the thread is busy, and the guest is kicked before it runs
        view.now += nominal / 10;
        view.run[0] += nominal / 10;
        completions->ran(0, 100);
        EXPECT_FALSE(look());
    }
    EXPECT_EQ(r.delivered, 0U);
}

TEST_F(M3_5_Delivery, OfHaltedTimeAllCounts) {
    use({Kind::nominal, 0});
    const Request& r = request();
    EXPECT_FALSE(halt());
    EXPECT_EQ(completions->next_look_ns(0), view.now + nominal);
    sleep(nominal);
    EXPECT_TRUE(halt());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_5_Delivery, TheClockEndsTheWaitOfAProcessorThatNeverRuns) {
    const Request& r = request();
    constexpr u64 step = Completions::watched_step_ns;
    for (u64 waited = step; waited < nominal + Completions::cap_ns; waited += step) {
        steal(step);
        EXPECT_FALSE(look());
        EXPECT_GT(completions->next_look_ns(0), view.now);
    }
    EXPECT_EQ(r.delivered, 0U);
    steal((nominal + Completions::cap_ns) % step - 1);
    EXPECT_FALSE(look());
    steal(1);
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_5_Delivery, OneLongTimeInWhichNobodyRanEndsNoWait) {
    make_context();
    const Request& r = request();
    steal(100 * Completions::cap_ns);
    EXPECT_FALSE(look());
    EXPECT_EQ(r.delivered, 0U);
    EXPECT_GT(completions->next_look_ns(0), view.now);
    pass(guard);
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_5_Delivery, TheSubmittersTimeCounts) {
    const Request& r = request();
    view.current = 1;
    pass(2 * nominal); // of the other
    EXPECT_FALSE(look());
    pass_on(0, nominal);
    EXPECT_TRUE(look()) << "any CPU's exit will do";
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_5_Delivery, ALateHostIsNotWaitedFor) {
    Request& r = submit();
    pass(nominal);
    completions->host_done(r);
    EXPECT_EQ(r.delivered, 1U);
    EXPECT_EQ(statistic("late"), 1U);
    EXPECT_FALSE(completions->any_known());
}

TEST_F(M3_5_Delivery, LateIsJudgedByGuestRunTimeToo) {
    Request& r = submit();
    steal(nominal);
    completions->host_done(r);
    EXPECT_EQ(r.delivered, 0U);
    pass(nominal);
    look();
    EXPECT_EQ(r.delivered, 1U);
    EXPECT_EQ(statistic("matured"), 1U);
}

TEST_F(M3_5_Delivery, WithoutANominalDelayItIsAtOnce) {
    const Request& r = request(0);
    EXPECT_EQ(r.delivered, 1U);
    EXPECT_EQ(statistic("at_once"), 1U);
    EXPECT_EQ(view.run_readings, 0U) << "costs nothing";
}

TEST_F(M3_5_Delivery, WhatMaturesComesInTheOrderOfMaturity) {
    const Request& slow = request(3 * ms);
    const Request& fast = request(1 * ms);
    interrupts = false;
    pass(10 * ms);
    look();
    ASSERT_EQ(order.size(), 2U);
    EXPECT_EQ(order[0], &fast);
    EXPECT_EQ(order[1], &slow);
}

TEST_F(M3_5_Delivery, WhatHasMaturedWaitsForTheHandlerUnderWayButNotForever) {
    make_context();
    const Request& first = request();
    const Request& second = request();
    pass(guard);
    look();
    ASSERT_EQ(first.delivered, 1U);
    enter_handler();
    pass(nominal);
    look();
    EXPECT_EQ(second.delivered, 0U) << "its interrupt is not acknowledged";
    end_of_interrupt();
    cpu().takes_interrupts = true;
    pass(Completions::shortest_wait_ns);
    look();
    EXPECT_EQ(second.delivered, 0U) << "EOI and STI are not the end of a handler";
    pass(nominal);
    look();
    EXPECT_EQ(second.delivered, 1U);
}

TEST_F(M3_5_Delivery, WhatHasMaturedTogetherComesWithOneInterruptWhereThatIsAllowed) {
    for (const bool batches : {false, true}) {
        use({});
        if (batches) completions->allow_batches(device);
        order.clear();
        const Request& slow = request(nominal + 1 * ms);
        for (int i = 0; i < 3; ++i)
            request();
        pass(nominal);
        EXPECT_TRUE(look());
        EXPECT_EQ(order.size(), batches ? 3U : 1U);
        EXPECT_EQ(slow.delivered, 0U) << "its time has not come";
        enter_handler();
        end_of_interrupt();
        leave_handler();
        pass(1 * ms);
        look();
        EXPECT_EQ(slow.delivered, batches ? 1U : 0U);
        EXPECT_EQ(statistic("matured"), batches ? 4U : 2U);
        end_of_interrupt();
        EXPECT_EQ(view.active[0].highest(), std::nullopt);
    }
}

TEST_F(M3_5_Delivery, WhatHasMaturedDuringAHandlerComesWhenThatHasReturned) {
    make_context();
    const Request& first = request();
    const Request& second = request();
    pass(guard);
    look();
    ASSERT_EQ(first.delivered, 1U);
    enter_handler();
    pass(nominal);
    EXPECT_FALSE(look());
    end_of_interrupt();
    cpu().rsp = 0x80000; // handlers have a stack of their own
    EXPECT_FALSE(look()) << "with interrupts off it is still in the handler";
    EXPECT_TRUE(leave_handler_by_iret());
    EXPECT_TRUE(look()) << "not after some time only";
    EXPECT_EQ(second.delivered, 1U);
}

TEST_F(M3_5_Delivery, WhatHasMaturedIsNotGuardedByTheNextCommand) {
    make_context();
    const Request& first = request();
    const Request& second = request();
    pass(guard);
    look();
    ASSERT_EQ(first.delivered, 1U);
    enter_handler();
    pass(nominal);
    look();
    const Request& third = request(); // the handler's command
    end_of_interrupt();
    look();
    EXPECT_TRUE(leave_handler_by_iret()) << "for what has matured";
    EXPECT_TRUE(look());
    EXPECT_EQ(second.delivered, 1U);
    EXPECT_EQ(third.delivered, 0U);
    enter_handler();
    end_of_interrupt();
    look();
    EXPECT_FALSE(leave_handler_by_iret()) << "the other is in its guard window";
}

TEST_F(M3_5_Delivery, WhatHasMaturedComesWithTheInterruptsOfAnotherContextToo) {
    completions->allow_batches(device);
    make_context();
    const Request& first = request();
    pass(nominal);
    look();
    ASSERT_EQ(first.delivered, 1U);
    const Request& second = request();
    pass(nominal);
    EXPECT_FALSE(look()) << "not acknowledged";
    EXPECT_EQ(second.delivered, 0U);
    cpu().cr3 = 0x2000; // no safepoint
    end_of_interrupt();
    EXPECT_TRUE(look());
    EXPECT_EQ(second.delivered, 1U);
}

TEST_F(M3_5_Delivery, ImmediateWaitsForNothing) {
    use({Kind::immediate, 0});
    EXPECT_EQ(request().delivered, 1U);
    EXPECT_EQ(view.run_readings, 0U);
}

TEST_F(M3_5_Delivery, NominalKnowsNoSafepoint) {
    use({Kind::nominal, 0});
    const Request& r = request();
    pass(nominal / 2);
    EXPECT_FALSE(halt());
    look();
    completions->status_polled(device);
    completions->status_polled(device);
    completions->status_polled(device);
    EXPECT_EQ(r.delivered, 0U);
    pass(nominal / 2);
    EXPECT_TRUE(halt());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_5_Delivery, FixedCountsFromTheRequestOnTheClock) {
    use({Kind::fixed, 1 * ms});
    Request& r = submit(0); // also without a profile
    steal(ms / 4);
    const Request& next = request(nominal); // and whatever the profile says
    completions->host_done(r);
    EXPECT_FALSE(halt());
    EXPECT_EQ(completions->next_look_ns(0), view.now + ms * 3 / 4);
    steal(ms * 3 / 4 - 1);
    EXPECT_FALSE(halt());
    steal(1);
    EXPECT_TRUE(halt());
    EXPECT_EQ(r.delivered, 1U);
    EXPECT_EQ(next.delivered, 0U) << "each has its own time";
    steal(ms / 4);
    look();
    EXPECT_EQ(next.delivered, 1U);
    EXPECT_EQ(statistic("matured"), 2U);
    Request& late = submit();
    steal(1 * ms);
    completions->host_done(late);
    EXPECT_EQ(late.delivered, 1U) << "nothing is added to a host that is slower";
    EXPECT_EQ(statistic("late"), 1U);
}

TEST_F(M3_5_Delivery, ARequestUnderWayIsWatchedSoThatALateHostIsKnown) {
    Request& r = submit();
    EXPECT_TRUE(completions->any_known());
    for (u64 ran = 0; ran < nominal; ran += Completions::stretch_ns) {
        const bool enough = ran + Completions::stretch_ns >= nominal;
        EXPECT_EQ(completions->next_look_ns(0),
                  enough ? Completions::never : view.now + Completions::stretch_ns)
            << "while one stretch more would not be enough";
        steal_unseen(Completions::stretch_ns);
        look();
    }
    completions->host_done(r);
    EXPECT_EQ(r.delivered, 1U);
    EXPECT_FALSE(completions->any_known());
}

TEST_F(M3_3_Queues, ACompletionIsDeliveredOnceBySafepointOrMaturity) {
    make_context();
    std::vector<const Request*> all;
    for (u64 i = 0; i < 200; ++i) {
        all.push_back(&request((i * 7919 % 13 + 1) * 100 * us, static_cast<unsigned>(i % 3)));
        pass(7 * us);
        if (i % 5 == 0) halt();
        look();
        if (i % 3 == 0)
            for (u8 v = vector; v < vector + 3; ++v)
                end_of_interrupt(v);
    }
    interrupts = false;
    view.active[0].clear_all();
    pass(100 * ms);
    look();
    for (const Request* r : all)
        EXPECT_EQ(r->delivered, 1U);
    EXPECT_EQ(order.size(), 201U);
    EXPECT_FALSE(completions->any_known());
    EXPECT_GT(statistic("matured"), 0U);
    EXPECT_GT(statistic("early_halted"), 0U);
}

TEST_F(M3_3_Queues, BatchesOnlyWhereTheProtocolAllowsThem) {
    completions->allow_batches(device);
    for (int i = 0; i < 5; ++i)
        request();
    EXPECT_TRUE(halt());
    EXPECT_EQ(order.size(), 5U);
    enter_handler();
    EXPECT_EQ(statistic("interrupts"), 1U);
    EXPECT_EQ(statistic("interrupts_per_1000_requests"), 200U);
}

TEST_F(M3_3_Queues, WithoutBatchesOneUnacknowledgedInterruptPerLine) {
    for (int i = 0; i < 3; ++i)
        request();
    request(nominal, 1);
    EXPECT_TRUE(halt());
    EXPECT_EQ(order.size(), 2U) << "one of each line";
    EXPECT_FALSE(halt());
    end_of_interrupt();
    EXPECT_TRUE(halt());
    EXPECT_EQ(order.size(), 3U);
}

TEST_F(M3_3_Queues, CancelledBeforeAndAfterTheHostIsDone) {
    Request& first = submit();
    completions->cancel(first);
    EXPECT_EQ(first.notes.state, platform::Completion::State::idle);
    Request& second = request();
    Request& third = request();
    completions->cancel(second);
    EXPECT_TRUE(halt());
    EXPECT_EQ(second.delivered, 0U);
    EXPECT_EQ(third.delivered, 1U);
    completions->cancel(third); // known no more: nothing
    pass(nominal);
    look();
    EXPECT_EQ(first.delivered + second.delivered, 0U);
    EXPECT_FALSE(completions->any_known());
    EXPECT_EQ(statistic("cancelled"), 2U);
    // And can be used again.
    completions->submitted(device, second, nominal);
    completions->host_done(second);
    pass(nominal);
    end_of_interrupt();
    look();
    EXPECT_EQ(second.delivered, 1U);
}

TEST_F(M3_3_Queues, ADeliveryMayCancelSubmitAndFinishOthers) {
    completions->allow_batches(device);
    Request& first = request();
    Request& second = request();
    Request& third = request();
    first.then = [&] {
        completions->cancel(second);
        submit(0);
        completions->host_done(requests.back()); // delivered within
        request();                               // waits
    };
    EXPECT_TRUE(halt());
    EXPECT_EQ(second.delivered, 0U);
    EXPECT_EQ(third.delivered, 1U);
    EXPECT_EQ(requests[3].delivered, 1U);
    EXPECT_TRUE(completions->any_known());
    end_of_interrupt();
    EXPECT_TRUE(halt());
    EXPECT_EQ(requests[4].delivered, 1U);
}

TEST_F(M3_3_Queues, ALineFollowsItsInterruptToAnotherProcessor) {
    completions->allow_batches(device);
    make_context();
    request();
    request();
    completions->look(0, false);
    target = 1; // the guest routes it there
    pass(nominal);
    look();
    view.current = 1;
    end_of_interrupt();
    view.current = 0;
    request();
    EXPECT_FALSE(halt());
    view.current = 1;
    EXPECT_TRUE(halt());
}

TEST_F(M3_5_Delivery, NestedInterruptsRaiseTheDelayAndCalmLowersIt) {
    make_context();
    EXPECT_EQ(statistic("back_offs"), 0U);
    Request& first = submit();
    Request& second = submit();
    pass(nominal);
    completions->host_done(first);
    enter_handler();
    end_of_interrupt();
    cpu().takes_interrupts = true;
    completions->host_done(second); // late, and so nested
    enter_handler();
    EXPECT_EQ(statistic("deepest_nesting"), 2U);
    EXPECT_EQ(statistic("back_offs"), 1U);
    end_of_interrupt();
    leave_handler();
    leave_handler();
    const u64 least = nominal / BackOff::whole;
    const auto comes_at_halt = [&] {
        const Request& r = request();
        const bool came = halt();
        if (!came) {
            pass(least);
            halt();
        }
        EXPECT_EQ(r.delivered, 1U);
        end_of_interrupt();
        return came;
    };
    EXPECT_FALSE(comes_at_halt());
    for (u64 i = 1; i < BackOff::first_calm; ++i)
        comes_at_halt();
    EXPECT_TRUE(comes_at_halt());
}

TEST_F(M3_5_Delivery, ResetsAndAbortsKeepTheWholeDelay) {
    for (const GuestTrouble sign : {GuestTrouble::reset, GuestTrouble::abort}) {
        use({});
        completions->trouble(device, sign);
        const Request& r = request();
        EXPECT_FALSE(halt());
        pass(nominal - 1);
        EXPECT_FALSE(halt());
        pass(1);
        EXPECT_TRUE(halt());
        EXPECT_EQ(r.delivered, 1U);
        EXPECT_EQ(statistic("back_offs"), 1U);
        end_of_interrupt();
    }
}

TEST_F(M3_5_Delivery, LatencyIsFromSubmissionToTheHandler) {
    request();
    pass(100 * us);
    EXPECT_TRUE(halt());
    pass(200 * us);
    enter_handler();
    EXPECT_NEAR(static_cast<double>(statistic("latency_p50")), 300e3, 300e3 / 16);
    end_of_interrupt();
    leave_handler();
    interrupts = false; // masked: the guest polls its memory
    for (int i = 0; i < 60; ++i) {
        request();
        pass(3 * ms);
        EXPECT_TRUE(halt());
    }
    EXPECT_NEAR(static_cast<double>(statistic("latency_p50")), 3e6, 3e6 / 16);
}

} // namespace
} // namespace gnomon::monitor::test
