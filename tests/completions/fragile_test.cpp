// SPDX-License-Identifier: Apache-2.0
// M3: a guest that completions at the wrong time break, and that the scheduler does not break.
#include "completions/fragile_machine.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using monitor::CompletionRules;
using Kind = monitor::CompletionPolicy::Kind;

constexpr Bug bugs[] = {Bug::flag_after_command, Bug::end_before_work, Bug::result_after_ack,
                        Bug::command_in_handler};
constexpr const char* bug_names[] = {"none", "flag_after_command", "end_before_work",
                                     "result_after_ack", "command_in_handler"};

/// The guest with enough under way for its bug to show, on a host that is fast and answers one
/// request after the other.
FragileRun with(Bug bug, Kind policy) {
    FragileRun run;
    run.bug = bug;
    run.policy.kind = policy;
    run.depth = bug == Bug::flag_after_command ? 1 : 32;
    run.work = 1000;
    run.disk.per_reap = 1;
    return run;
}

/// Whether the guest found out, or waits for an answer that it has lost.
testing::AssertionResult died(FragileRun run) {
    run.limit_s = 5;
    const FragileOutcome outcome = run_fragile(run);
    if (outcome.text.starts_with("FAIL ") || outcome.text.find("is missing") != std::string::npos)
        return testing::AssertionSuccess();
    std::string numbers;
    for (const StatisticGroup& group : outcome.statistics)
        if (group.name.starts_with("completions_"))
            for (const Statistic& entry : group.entries)
                numbers += fmt::format(" {}={}", entry.name, entry.value);
    return testing::AssertionFailure() << outcome.text << numbers;
}

class M3_FragileGuest : public testing::TestWithParam<Bug> {};

TEST_P(M3_FragileGuest, DiesOfCompletionsThatAreImmediate) {
    for (const u64 seed : {1, 2, 3}) {
        FragileRun run = with(GetParam(), Kind::immediate);
        run.requests = 20'000;
        // What nests needs answers that come while others are handled.
        if (run.bug != Bug::flag_after_command) run.disk.latency_ns = 30'000;
        run.seed = seed;
        EXPECT_TRUE(died(run));
    }
}

TEST_P(M3_FragileGuest, LivesUnderAdaptive) {
    for (const bool spin : {false, true})
        for (const u64 latency_ns : {0, 20'000}) {
            FragileRun run = with(GetParam(), Kind::adaptive);
            run.spin = spin;
            run.disk.latency_ns = latency_ns;
            run.requests = spin ? 1000 : 20'000;
            run.seed = 7 + latency_ns;
            const FragileOutcome outcome = run_fragile(run);
            EXPECT_TRUE(outcome.survived) << outcome.text;
            EXPECT_EQ(outcome.statistic("deepest_nesting"), 1U);
            EXPECT_EQ(outcome.statistic("back_offs"), 0U);
        }
}

TEST_P(M3_FragileGuest, LivesWhereTimeIsStolen) {
    FragileRun run = with(GetParam(), Kind::adaptive);
    run.requests = 1000;
    run.disk.steal_every = 20;
    run.disk.steal_ns = 20'000'000;
    const FragileOutcome outcome = run_fragile(run);
    EXPECT_TRUE(outcome.survived) << outcome.text;
}

INSTANTIATE_TEST_SUITE_P(Bugs, M3_FragileGuest, testing::ValuesIn(bugs), [](const auto& bug) {
    return bug_names[static_cast<unsigned>(bug.param)];
});

TEST(M3_RobustGuest, LivesUnderEveryPolicy) {
    for (const Kind policy : {Kind::immediate, Kind::adaptive, Kind::nominal, Kind::fixed})
        for (const bool spin : {false, true}) {
            FragileRun run = with(Bug::none, policy);
            run.policy.fixed_ns = 100'000;
            run.spin = spin;
            run.profile = platform::DiskProfile::nvme_ssd;
            const FragileOutcome outcome = run_fragile(run);
            EXPECT_TRUE(outcome.survived) << outcome.text;
            EXPECT_EQ(outcome.statistic("requests"),
                      outcome.statistic("at_once") + outcome.statistic("late") +
                          outcome.statistic("early_halted") + outcome.statistic("early_returned") +
                          outcome.statistic("early_polled") + outcome.statistic("matured"));
        }
}

// --- ablations: one judgement replaced, and the mechanism is broken

/// What the interrupt controller has been told counts, not where the CPU is.
class EoiIsASafepoint final : public CompletionRules {
public:
    [[nodiscard]] bool handler_returned(monitor::HandlerWatch&,
                                        const monitor::CpuState& state) const override {
        return !state.in_service;
    }
};
class NoGuard final : public CompletionRules {
public:
    [[nodiscard]] u64 guard_ns(u64) const override { return 0; }
};
/// A delay passes while nobody runs.
class MaturityByTheClock final : public CompletionRules {
public:
    [[nodiscard]] u64 passed_ns(u64, u64 virtual_ns) const override { return virtual_ns; }
};

TEST(M3_Ablation, EoiAsASafepointBreaksWhoEndsTheInterruptFirst) {
    for (const Bug bug : {Bug::end_before_work, Bug::result_after_ack}) {
        FragileRun run = with(bug, Kind::adaptive);
        run.rules = std::make_shared<EoiIsASafepoint>();
        run.disk.latency_ns = 100'000; // so that answers come meanwhile
        run.work = 100'000;            // longer than the guard window
        EXPECT_TRUE(died(run));
        run.rules = nullptr;
        EXPECT_TRUE(run_fragile(run).survived);
    }
}

TEST(M3_Ablation, WithoutAGuardWhoWaitsTooLateIsBroken) {
    FragileRun run = with(Bug::flag_after_command, Kind::adaptive);
    run.rules = std::make_shared<NoGuard>();
    EXPECT_TRUE(died(run));
}

TEST(M3_Ablation, MaturityByTheClockBreaksWhereTimeIsStolen) {
    FragileRun run = with(Bug::flag_after_command, Kind::adaptive);
    run.disk.steal_every = 20;
    run.disk.steal_ns = 30'000'000;
    run.rules = std::make_shared<MaturityByTheClock>();
    EXPECT_TRUE(died(run));
}

} // namespace
} // namespace gnomon::test
