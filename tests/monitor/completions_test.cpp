// SPDX-License-Identifier: Apache-2.0
// The completion scheduler with clocks and a processor that tests move: M3.3 to M3.5.
#include "monitor/completions/scheduler.h"

#include <functional>
#include <gtest/gtest.h>

namespace gnomon::monitor {
namespace {

using platform::GuestTrouble;
using platform::VectorSet;
using Kind = CompletionPolicy::Kind;

constexpr u64 us = 1'000, ms = 1'000'000;
constexpr u64 nominal = 8 * ms; // the guard is at its longest
constexpr u64 guard = 50 * us;
constexpr u8 vector = 0x50;

/// Two virtual CPUs; the tests say which is at its exit.
class FakeView final : public GuestView {
public:
    [[nodiscard]] unsigned current_cpu() const override { return current; }
    [[nodiscard]] u64 now_ns() const override { return now; }
    [[nodiscard]] u64 run_ns(unsigned cpu) override {
        ++run_readings;
        return run[cpu];
    }
    [[nodiscard]] u64 run_bound_ns(unsigned cpu) override { return run[cpu]; }
    [[nodiscard]] CpuState state() const override { return cpus[current]; }
    [[nodiscard]] VectorSet active_vectors(unsigned cpu) const override { return active[cpu]; }

    unsigned current = 0;
    u64 now = 1'000 * ms;
    u64 run[2] = {};
    CpuState cpus[2];
    VectorSet active[2];
    unsigned run_readings = 0;
};

class CompletionTest : public testing::Test {
protected:
    /// A request; the device raises its interrupt when it is delivered.
    class Request final : public platform::Completion {
    public:
        explicit Request(CompletionTest& test) : m_test(test) {}
        void deliver() override {
            ++delivered;
            m_test.order.push_back(this);
            if (m_test.interrupts)
                m_test.view.active[m_test.target].set(static_cast<u8>(m_test.raised + line));
            if (then) then();
        }
        unsigned delivered = 0;
        std::function<void()> then;

    private:
        CompletionTest& m_test;
    };

    CompletionTest() {
        for (CpuState& cpu : view.cpus)
            cpu = {.takes_interrupts = true,
                   .in_service = false,
                   .cs = 8,
                   .cr3 = 0x1000,
                   .rsp = 0x8000};
    }
    void use(CompletionPolicy policy, std::shared_ptr<const CompletionRules> rules = nullptr) {
        completions.emplace(policy, view, 2, std::move(rules));
        device = completions->add_device("disk0");
    }
    void SetUp() override { use({}); }

    /// A request that the host does at once.
    Request& request(u64 delay = nominal, unsigned line = 0) {
        Request& made = submit(delay, line);
        completions->host_done(made);
        return made;
    }
    Request& submit(u64 delay = nominal, unsigned line = 0) {
        Request& made = requests.emplace_back(*this);
        made.line = line;
        completions->submitted(device, made, delay);
        return made;
    }
    /// The current CPU runs, with exits now and then.
    void pass(u64 ns) {
        for (u64 step = 0; ns != 0; ns -= step) {
            step = std::min<u64>(ns, Completions::close_stretch_ns);
            view.now += step;
            view.run[view.current] += step;
            completions->observe(view.current, false);
        }
    }
    /// It is halted.
    void sleep(u64 ns) {
        view.now += ns;
        view.run[view.current] += ns;
        completions->observe(view.current, true);
    }
    /// Another CPU runs.
    void pass_on(unsigned cpu, u64 ns) {
        const unsigned before = std::exchange(view.current, cpu);
        pass(ns);
        view.current = before;
    }
    /// The host lets nobody run.
    void steal(u64 ns) {
        view.now += ns;
        completions->observe(view.current, false);
    }
    /// A hypervisor below the host lets nobody run, and the host does not know.
    void steal_unseen(u64 ns) {
        view.now += ns;
        view.run[view.current] += ns;
        completions->observe(view.current, false);
    }
    bool look() { return completions->look(view.current, false); }
    bool halt() { return completions->look(view.current, true); }

    [[nodiscard]] CpuState& cpu() { return view.cpus[view.current]; }
    /// The interrupt that was raised is taken: the handler begins, on the same stack.
    void enter_handler(u8 taken = vector) {
        ASSERT_TRUE(view.active[view.current].test(taken)) << "no interrupt was raised";
        completions->interrupt_injected(view.current, taken);
        cpu().takes_interrupts = false;
        cpu().in_service = true;
        saved_rsp.push_back(cpu().rsp);
        cpu().rsp -= 200;
    }
    void end_of_interrupt(u8 taken = vector) {
        view.active[view.current].clear(taken);
        cpu().in_service = false;
    }
    void leave_handler() {
        cpu().takes_interrupts = true;
        cpu().rsp = saved_rsp.back();
        saved_rsp.pop_back();
    }
    /// One request that is delivered at HLT, and its handler: from then on there is a context.
    void make_context() {
        Request& first = request();
        EXPECT_TRUE(halt());
        EXPECT_EQ(first.delivered, 1U);
        enter_handler();
        end_of_interrupt();
        leave_handler();
        look();
    }
    [[nodiscard]] u64 statistic(const std::string& name) const {
        const Statistics all = completions->report();
        const Statistic* const found = find(all, "completions_disk0", name);
        EXPECT_NE(found, nullptr) << name;
        return found != nullptr ? found->value : 0;
    }

    FakeView view;
    std::optional<Completions> completions;
    unsigned device = 0;
    std::deque<Request> requests;
    std::vector<const Request*> order;
    std::vector<u64> saved_rsp;
    bool interrupts = true;
    unsigned target = 0;
    u8 raised = vector;
};

class M3_3_Queues : public CompletionTest {};
class M3_4_Safepoints : public CompletionTest {};
class M3_5_Delivery : public CompletionTest {};

// ---------------------------------------------------------------- maturity

TEST_F(M3_5_Delivery, WaitsForItsNominalDelayOfGuestRunTime) {
    const Request& r = request();
    EXPECT_EQ(completions->next_look_ns(0), view.now + Completions::stretch_ns);
    pass(nominal - 1);
    EXPECT_EQ(completions->next_look_ns(0), view.now + 1);
    EXPECT_FALSE(look());
    EXPECT_EQ(r.delivered, 0U);
    pass(1);
    EXPECT_TRUE(look());
    EXPECT_EQ(r.delivered, 1U);
    EXPECT_FALSE(completions->any_waiting());
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

TEST_F(M3_5_Delivery, OfHaltedTimeAllCounts) {
    use({Kind::nominal, 0});
    const Request& r = request();
    EXPECT_FALSE(halt());
    EXPECT_EQ(completions->next_look_ns(0), view.now + nominal);
    sleep(nominal);
    EXPECT_TRUE(halt());
    EXPECT_EQ(r.delivered, 1U);
}

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

TEST_F(M3_5_Delivery, TheClockEndsTheWaitOfAProcessorThatNeverRuns) {
    const Request& r = request();
    steal(nominal + Completions::cap_ns - 1);
    EXPECT_FALSE(look());
    steal(1);
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
    EXPECT_FALSE(completions->any_waiting());
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

// ---------------------------------------------------------------- the other policies

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

TEST_F(M3_5_Delivery, FixedCountsFromTheHostsCompletionOnTheClock) {
    use({Kind::fixed, 1 * ms});
    Request& r = submit(0); // also without a profile
    pass(5 * ms);
    completions->host_done(r);
    EXPECT_FALSE(halt());
    EXPECT_EQ(completions->next_look_ns(0), view.now + 1 * ms);
    steal(1 * ms - 1);
    EXPECT_FALSE(halt());
    steal(1);
    EXPECT_TRUE(halt());
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
    pass_on(0, guard - 1);
    EXPECT_FALSE(halt());
    pass_on(0, 1);
    EXPECT_TRUE(halt());
    EXPECT_EQ(r.delivered, 1U);
}

// ---------------------------------------------------------------- the handler has returned

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
    EXPECT_TRUE(completions->wants_window(0)) << "to see it return";
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

TEST_F(M3_4_Safepoints, LooksForTheReturnLessAndLessOften) {
    make_context();
    request();
    cpu().rsp -= 100;
    u64 wait = Completions::shortest_wait_ns;
    for (int i = 0; i < 4; ++i, wait *= 2) {
        look();
        EXPECT_EQ(completions->next_look_ns(0), view.now + wait);
        pass(wait / 2);
        look();
        EXPECT_EQ(completions->next_look_ns(0), view.now + wait / 2) << "as planned";
        pass(wait / 2);
    }
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

// ---------------------------------------------------------------- the guard window

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

// ---------------------------------------------------------------- queues, claims, cancellation

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
    EXPECT_FALSE(completions->any_waiting());
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
    EXPECT_FALSE(completions->any_waiting());
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
    EXPECT_TRUE(completions->any_waiting());
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

// ---------------------------------------------------------------- trouble and calm

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
} // namespace gnomon::monitor
