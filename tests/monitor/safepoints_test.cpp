// SPDX-License-Identifier: Apache-2.0
// Safepoints and guard windows: M3.4.
#include "completion_bench.h"

namespace gnomon::monitor::test {
namespace {

class M3_4_Safepoints : public CompletionTest {};

TEST_F(M3_4_Safepoints, TheGuardWindowIsNotOverBecauseOfOneLongStretch) {
    make_context();
    const Request& r = request();
    for (u64 seen = 0; seen < guard; seen += Completions::close_stretch_ns) {
        EXPECT_FALSE(look());
        steal_unseen(guard);
    }
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, HaltedWithInterruptsOnAndNothingInService) {
    const Request& r = request();
    EXPECT_TRUE(halt()) << "a CPU that halts has ended its guard window";
    EXPECT_EQ(r.delivered, 1U);
    EXPECT_EQ(statistic("early_halted"), 1U);
}

TEST_F(M3_4_Safepoints, HaltedWithInterruptsOffIsNone) {
    const Request& r = request();
    cpu().takes_interrupts = false;
    EXPECT_FALSE(halt());
    EXPECT_EQ(r.delivered, 0U);
}

TEST_F(M3_4_Safepoints, HaltedInAHandlerIsNone) {
    const Request& r = request();
    cpu().in_service = true;
    EXPECT_FALSE(halt());
    EXPECT_EQ(r.delivered, 0U);
}

TEST_F(M3_4_Safepoints, TheTargetMustBeThere) {
    // The second CPU has taken the line's interrupts; the first submits.
    target = 1;
    view.current = 1;
    make_context();
    view.current = 0;
    const Request& r = request();
    EXPECT_FALSE(halt()) << "it is not the one that will be interrupted";
    EXPECT_EQ(r.delivered, 0U);
    view.current = 1;
    EXPECT_TRUE(halt());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, TheGuardIsTheSubmitters) {
    target = 1;
    view.current = 1;
    make_context();
    view.current = 0;
    const Request& r = request();
    view.current = 1;
    EXPECT_FALSE(halt()) << "the first CPU may not be ready for the answer";
    pass(nominal / 2); // the second's time
    EXPECT_FALSE(halt());
    view.current = 0;
    steal_unseen(10 * guard); // a stretch without an exit
    view.current = 1;
    EXPECT_FALSE(halt());
    pass_on(0, guard - Completions::close_stretch_ns - 1);
    EXPECT_FALSE(halt());
    pass_on(0, 1);
    EXPECT_TRUE(halt());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, TheGuardWindowIsOfTimeInWhichTheThreadRan) {
    make_context();
    const Request& r = request();
    for (u64 seen = 0; seen < 2 * guard; seen += Completions::close_stretch_ns) {
        view.now += Completions::close_stretch_ns;
        completions->ran(0, Completions::close_stretch_ns);
        EXPECT_FALSE(look());
    }
    view.run[0] += guard;
    view.now += 1;
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, ASubmitterThatHasHaltedHasEndedItsGuardWindowForOthersToo) {
    target = 1;
    view.current = 1;
    make_context();
    request();
    pass(guard);
    EXPECT_TRUE(look()) << "the handler has returned";
    end_of_interrupt();
    view.current = 0;
    const Request& r = request();
    EXPECT_FALSE(halt());
    view.current = 1;
    EXPECT_TRUE(look()) << "where the handler has returned";
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, ACompletionIsGuardedOnItsOwnSubmitterToo) {
    make_context();
    view.current = 1;
    const Request& r = request();
    view.current = 0;
    completions->command_written(device); // the line's last command is another CPU's
    pass(guard);
    EXPECT_FALSE(look());
    pass_on(1, guard);
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, WithInterruptsOffTheReturnIsSeenWhenTheyAreOn) {
    make_context();
    const Request& r = request();
    pass(guard);
    cpu().takes_interrupts = false; // not in a handler
    EXPECT_FALSE(look());
    EXPECT_TRUE(completions->wants_window(0));
    cpu().takes_interrupts = true;
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
    EXPECT_FALSE(completions->wants_window(0));
}

TEST_F(M3_4_Safepoints, WithoutAnInterruptBeforeThereIsNoReturn) {
    const Request& r = request();
    pass(guard);
    EXPECT_FALSE(look());
    EXPECT_EQ(r.delivered, 0U);
    EXPECT_EQ(completions->next_look_ns(0), view.now + Completions::stretch_ns)
        << "nothing to look for but the time";
}

TEST_F(M3_4_Safepoints, ReturnedFromTheHandler) {
    make_context();
    const Request& first = request();
    const Request& second = request();
    pass(guard);
    EXPECT_TRUE(look());
    EXPECT_EQ(first.delivered, 1U);
    EXPECT_EQ(second.delivered, 0U) << "one to an interrupt";
    EXPECT_FALSE(look()) << "not acknowledged";
    enter_handler();
    EXPECT_FALSE(look());
    end_of_interrupt();
    EXPECT_FALSE(look()) << "EOI is not a safepoint";
    EXPECT_TRUE(view.return_exits) << "to see it return";
    EXPECT_FALSE(completions->wants_window(0)) << "that would be within the handler";
    cpu().takes_interrupts = true;
    EXPECT_FALSE(look()) << "the interrupt window is not a safepoint";
    EXPECT_FALSE(completions->wants_window(0));
    EXPECT_EQ(second.delivered, 0U);
    EXPECT_EQ(completions->next_look_ns(0), view.now + Completions::shortest_wait_ns)
        << "nothing else would bring the CPU here";
    leave_handler();
    EXPECT_TRUE(look());
    EXPECT_EQ(second.delivered, 1U);
    EXPECT_EQ(statistic("early_returned"), 2U);
    EXPECT_EQ(statistic("deepest_nesting"), 1U);
}

TEST_F(M3_4_Safepoints, TheHandlersIretIsLookedOutFor) {
    make_context();
    const Request& first = request();
    const Request& second = request();
    pass(guard);
    look();
    ASSERT_EQ(first.delivered, 1U);
    enter_handler();
    EXPECT_EQ(view.awaited, (ReturnContext{.cr3 = 0x1000, .rsp = 0x8000, .cs = 8}));
    end_of_interrupt();
    EXPECT_FALSE(look());
    EXPECT_TRUE(leave_handler_by_iret()) << "something waits for that";
    EXPECT_TRUE(look());
    EXPECT_EQ(second.delivered, 1U);
    EXPECT_EQ(statistic("early_returned"), 2U);
}

TEST_F(M3_4_Safepoints, NoExitAtAReturnAtWhichNothingMayCome) {
    make_context();
    const Request& first = request();
    pass(guard);
    look();
    ASSERT_EQ(first.delivered, 1U);
    enter_handler();
    end_of_interrupt();
    look();
    EXPECT_FALSE(view.return_exits) << "nothing waits";
    request(); // the handler's: its guard window is open
    look();
    EXPECT_FALSE(view.return_exits) << "HLT or the end of the guard window come first";
    pass(guard);
    look();
    EXPECT_TRUE(leave_handler_by_iret());
}

TEST_F(M3_4_Safepoints, AnIretThatIsSeenIsTheEndOfAHandler) {
    for (const bool seen : {false, true}) {
        use({});
        make_context();
        Request& first = submit();
        pass(nominal);
        completions->host_done(first);
        enter_handler();
        end_of_interrupt();
        if (seen)
            EXPECT_FALSE(leave_handler_by_iret());
        else
            leave_handler();
        // Deeper on the same stack, with no exit in between.
        cpu().rsp -= 300;
        Request& second = submit();
        pass(nominal);
        completions->host_done(second);
        ASSERT_EQ(second.delivered, 1U);
        enter_handler();
        EXPECT_EQ(statistic("deepest_nesting"), seen ? 1U : 2U);
        EXPECT_EQ(statistic("back_offs"), seen ? 0U : 1U);
        end_of_interrupt();
        leave_handler();
        cpu().rsp += 300;
    }
}

TEST_F(M3_4_Safepoints, OfNestedHandlersEachReturnIsSeen) {
    make_context();
    for (const unsigned line : {0U, 1U}) {
        Request& r = submit(nominal, line);
        pass(nominal);
        completions->host_done(r);
        ASSERT_EQ(r.delivered, 1U);
        enter_handler(static_cast<u8>(vector + line));
        end_of_interrupt(static_cast<u8>(vector + line));
        cpu().takes_interrupts = true;
    }
    EXPECT_EQ(statistic("deepest_nesting"), 2U);
    EXPECT_EQ(view.awaited->rsp, 0x8000U - 200);
    EXPECT_TRUE(leave_handler_by_iret()) << "the outer one's is to be looked out for then";
    submit();
    look();
    EXPECT_EQ(view.awaited->rsp, 0x8000U);
    EXPECT_FALSE(leave_handler_by_iret());
    look();
    EXPECT_EQ(view.awaited, std::nullopt);
}

TEST_F(M3_4_Safepoints, AReturnThatIsSeenOtherwiseIsLookedOutForNoMore) {
    make_context();
    const Request& r = request();
    pass(guard);
    look();
    ASSERT_EQ(r.delivered, 1U);
    enter_handler();
    end_of_interrupt();
    EXPECT_NE(view.awaited, std::nullopt);
    leave_handler(); // by other means than IRET
    request();
    pass(guard);
    EXPECT_TRUE(look());
    EXPECT_EQ(view.awaited, std::nullopt);
}

TEST_F(M3_4_Safepoints, ARunningProcessorIsInterruptedToSeeItsReturn) {
    make_context();
    request();
    cpu().rsp -= 100;
    constexpr u64 wait = Completions::shortest_wait_ns;
    for (int i = 0; i < 4; ++i) {
        look();
        EXPECT_EQ(completions->next_look_ns(0), view.now + wait);
        pass(wait / 2);
        look();
        EXPECT_EQ(completions->next_look_ns(0), view.now + wait / 2) << "as planned";
        cpu().takes_interrupts = false; // in the middle of an instruction
        look();
        EXPECT_EQ(completions->next_look_ns(0), view.now + wait / 2) << "as planned";
        cpu().takes_interrupts = true;
        pass(wait / 2);
    }
}

TEST_F(M3_4_Safepoints, AProcessorThatHaltsByItselfIsNotInterrupted) {
    make_context();
    for (int i = 0; i < 10; ++i) {
        request();
        look();
        EXPECT_TRUE(halt());
        end_of_interrupt();
    }
    request();
    look();
    EXPECT_GT(completions->next_look_ns(0), view.now + 10 * Completions::shortest_wait_ns);
    pass(nominal); // and then one time it does not
    look();
    end_of_interrupt();
    request();
    look();
    EXPECT_EQ(completions->next_look_ns(0), view.now + Completions::shortest_wait_ns);
}

TEST_F(M3_4_Safepoints, AnotherAddressSpaceIsAnotherContext) {
    make_context();
    const Request& r = request();
    pass(guard);
    cpu().cr3 = 0x2000;
    EXPECT_FALSE(look());
    cpu().cr3 = 0x1000;
    EXPECT_FALSE(look()) << "the context was switched meanwhile";
    EXPECT_EQ(r.delivered, 0U);
    EXPECT_TRUE(halt());
}

TEST_F(M3_4_Safepoints, AnotherPrivilegeIsAnotherContext) {
    make_context();
    const Request& r = request();
    pass(guard);
    cpu().cs = 0x33;
    EXPECT_FALSE(look());
    cpu().cs = 8;
    EXPECT_TRUE(look()) << "back in it";
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, AnotherStackIsAnotherContext) {
    make_context();
    const u64 rsp = cpu().rsp;
    const Request& r = request();
    pass(guard);
    cpu().rsp = rsp - 8;
    EXPECT_FALSE(look()) << "below";
    cpu().rsp = rsp + HandlerWatch::stack_reach;
    EXPECT_FALSE(look()) << "far above";
    EXPECT_EQ(r.delivered, 0U);
    cpu().rsp = rsp + HandlerWatch::stack_reach - 1;
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, HaltingEndsHandlersWhetherOrNotSomethingWaits) {
    request();
    EXPECT_TRUE(halt());
    enter_handler();
    end_of_interrupt();
    leave_handler();
    cpu().rsp -= 100; // deeper than where it was interrupted, and nobody saw it return
    Request& late = submit();
    EXPECT_FALSE(halt());
    sleep(nominal);
    completions->host_done(late);
    ASSERT_EQ(late.delivered, 1U);
    enter_handler();
    EXPECT_EQ(statistic("deepest_nesting"), 1U);
    EXPECT_EQ(statistic("back_offs"), 0U);
}

TEST_F(M3_4_Safepoints, AnOuterHandlerIsStillUnderWayWhenAnInnerOneReturns) {
    make_context();
    // Of two lines the second interrupts the first's handler.
    const Request& outer = request(nominal, 0);
    pass(guard);
    look();
    ASSERT_EQ(outer.delivered, 1U);
    enter_handler();
    end_of_interrupt();
    cpu().takes_interrupts = true; // EOI; STI; work
    Request& inner = submit(nominal, 1);
    pass(nominal);
    completions->host_done(inner); // late: at once
    ASSERT_EQ(inner.delivered, 1U);
    enter_handler(vector + 1);
    end_of_interrupt(vector + 1);
    leave_handler();
    const Request& held = request(nominal, 0);
    pass(nominal / 4); // more than what was seen asks for
    EXPECT_FALSE(look()) << "in the outer handler";
    EXPECT_EQ(held.delivered, 0U);
    leave_handler();
    EXPECT_TRUE(look());
    EXPECT_EQ(held.delivered, 1U);
}

TEST_F(M3_4_Safepoints, RepeatedPollingButNotOnePoll) {
    const Request& r = request();
    pass(guard);
    completions->status_polled(device);
    EXPECT_EQ(r.delivered, 0U);
    completions->status_polled(device);
    EXPECT_EQ(r.delivered, 1U);
    EXPECT_EQ(statistic("early_polled"), 1U);
}

TEST_F(M3_4_Safepoints, ACommandBetweenPollsBeginsAnew) {
    const Request& r = request();
    pass(guard);
    completions->status_polled(device);
    completions->command_written(device);
    pass(guard);
    completions->status_polled(device);
    EXPECT_EQ(r.delivered, 0U);
    completions->status_polled(device);
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, PollsThatMerelyWaitOutACommandAreInTheGuardWindow) {
    const Request& r = request();
    for (int i = 0; i < 15; ++i) {
        completions->status_polled(device);
        pass(guard / 20);
    }
    EXPECT_EQ(r.delivered, 0U);
    pass(guard);
    completions->status_polled(device);
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, AHandlerThatReadsTheStatusDoesNotPoll) {
    make_context();
    const Request& first = request();
    const Request& second = request();
    pass(guard);
    look();
    ASSERT_EQ(first.delivered, 1U);
    enter_handler();
    for (int i = 0; i < 3; ++i)
        completions->status_polled(device);
    end_of_interrupt();
    for (int i = 0; i < 3; ++i)
        completions->status_polled(device);
    EXPECT_EQ(second.delivered, 0U);
}

TEST_F(M3_4_Safepoints, ACommandOpensAGuardWindow) {
    make_context();
    const Request& r = request();
    EXPECT_FALSE(look());
    steal(nominal);
    EXPECT_FALSE(look()) << "of time in which the submitter ran";
    pass(guard - 1);
    EXPECT_FALSE(look());
    pass(1);
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

TEST_F(M3_4_Safepoints, EachCommandOpensItAgainOnItsLine) {
    make_context();
    const Request& r = request();
    pass(guard);
    completions->command_written(device, 1); // another line's
    completions->command_written(device, 0);
    EXPECT_FALSE(look());
    pass(guard);
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
    end_of_interrupt();
    const Request& other = request();
    pass(guard);
    completions->command_written(device, 1);
    look();
    EXPECT_EQ(other.delivered, 1U);
}

TEST_F(M3_4_Safepoints, TheGuardWindowIsAPartOfTheDelay) {
    make_context();
    const Request& r = request(40 * us);
    pass(10 * us - 1);
    EXPECT_FALSE(look());
    pass(1);
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
}

} // namespace
} // namespace gnomon::monitor::test
