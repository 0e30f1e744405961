// SPDX-License-Identifier: Apache-2.0
// M3: a guest that completions at the wrong time break, and that the scheduler does not break.
#include "completions/fragile_machine.h"
#include "monitor/completions/scheduler.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using monitor::CompletionRules;
using monitor::DiskModel;
using Kind = monitor::CompletionPolicy::Kind;

/// A bug of a driver for a kind of disk.
struct Fragile {
    DiskModel model;
    Bug bug;
};
constexpr Fragile fragiles[] = {
    {DiskModel::nvme, Bug::flag_after_command}, {DiskModel::nvme, Bug::end_before_work},
    {DiskModel::nvme, Bug::result_after_ack},   {DiskModel::nvme, Bug::command_in_handler},
    {DiskModel::ide, Bug::flag_after_command},  {DiskModel::ide, Bug::end_before_work},
    {DiskModel::ide, Bug::result_after_ack},    {DiskModel::ide, Bug::command_in_handler}};
constexpr const char* bug_names[] = {"none", "flag_after_command", "end_before_work",
                                     "result_after_ack", "command_in_handler"};

/// The guest on a host that gives its bug every chance, whatever else that host has to do. NVMe:
/// all that the guest asked for is ready when the last of it was asked for, and comes with one exit
/// after the other. IDE: each command is done before it has been written, and its handler writes
/// the next.
FragileRun with(Fragile fragile, Kind policy) {
    FragileRun run;
    run.model = fragile.model;
    run.bug = fragile.bug;
    run.policy.kind = policy;
    run.disk.per_reap = 1;
    run.requests = 20;
    if (fragile.bug == Bug::flag_after_command) return run;
    // Stories that end within the stack, and one that is to end with it.
    run.depth = fragile.bug == Bug::result_after_ack ? 4 : 64;
    run.requests = 2 * u64{run.depth};
    run.batch = true;
    if (fragile.model == DiskModel::nvme) run.disk.gather = run.depth;
    return run;
}

std::string numbers(const FragileOutcome& outcome) {
    std::string all = outcome.text;
    for (const StatisticGroup& group : outcome.statistics)
        if (group.name == outcome.group)
            for (const Statistic& entry : group.entries)
                all += fmt::format(" {}={}", entry.name, entry.value);
    return all;
}

/// Whether the guest found out what a guest with this bug dies of.
testing::AssertionResult died(const FragileRun& run) {
    const FragileOutcome outcome = run_fragile(run);
    const char* const of = [&] {
        switch (run.bug) {
        case Bug::flag_after_command: return "FAIL an interrupt before the driver waited for it";
        case Bug::end_before_work: return "FAIL the stack has overflowed";
        case Bug::result_after_ack: return "FAIL an answer to a command that has its answer";
        case Bug::command_in_handler: return "FAIL too many handlers within each other";
        case Bug::none: break;
        }
        return "nothing";
    }();
    if (outcome.text.starts_with(of)) return testing::AssertionSuccess();
    return testing::AssertionFailure() << numbers(outcome);
}

/// Whether it had each of its answers once, and no handler within another.
testing::AssertionResult lived(const FragileRun& run) {
    const FragileOutcome outcome = run_fragile(run);
    if (outcome.survived && outcome.deepest == 1 && outcome.statistic("cancelled") == 0)
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << numbers(outcome);
}

class M3_FragileGuest : public testing::TestWithParam<Fragile> {};

TEST_P(M3_FragileGuest, DiesOfCompletionsThatAreImmediate) {
    FragileRun run = with(GetParam(), Kind::immediate);
    EXPECT_TRUE(died(run));
    run.bug = Bug::none;
    EXPECT_TRUE(lived(run)) << "it is the bug";
}

TEST_P(M3_FragileGuest, LivesUnderAdaptive) {
    FragileRun run = with(GetParam(), Kind::adaptive);
    run.requests *= 10;
    const FragileOutcome outcome = run_fragile(run);
    EXPECT_TRUE(outcome.survived) << numbers(outcome);
    EXPECT_EQ(outcome.deepest, 1U);
    EXPECT_EQ(outcome.statistic("deepest_nesting"), 1U);
    EXPECT_EQ(outcome.statistic("back_offs"), 0U);
}

TEST_P(M3_FragileGuest, LivesOnAHostThatTakesItsTime) {
    FragileRun run = with(GetParam(), Kind::adaptive);
    run.disk.gather = 1;
    for (const u64 latency_ns : {5'000, 60'000}) {
        run.disk.latency_ns = latency_ns;
        run.seed = latency_ns;
        run.work = 1000;
        EXPECT_TRUE(lived(run)) << latency_ns;
    }
}

TEST_P(M3_FragileGuest, LivesWithoutHalting) {
    FragileRun run = with(GetParam(), Kind::adaptive);
    run.spin = true; // each waits for a kick, or until it matures
    run.requests = std::min<u64>(run.requests, 64);
    EXPECT_TRUE(lived(run));
}

TEST_P(M3_FragileGuest, LivesWhereTimeIsStolen) {
    FragileRun run = with(GetParam(), Kind::adaptive);
    run.disk.steal_every = 20;
    run.disk.steal_ns = 20'000'000;
    EXPECT_TRUE(lived(run));
}

INSTANTIATE_TEST_SUITE_P(Bugs, M3_FragileGuest, testing::ValuesIn(fragiles), [](const auto& test) {
    return fmt::format("{}_{}", test.param.model == DiskModel::ide ? "ide" : "nvme",
                       bug_names[static_cast<unsigned>(test.param.bug)]);
});

class M3_StolenTime : public testing::TestWithParam<DiskModel> {};

TEST_P(M3_StolenTime, LongerThanAnythingMayWaitRightBehindTheDoorbell) {
    FragileRun run = with({GetParam(), Bug::flag_after_command}, Kind::adaptive);
    run.requests = run.disk.steal_every = 5;
    run.disk.steal_ns = monitor::Completions::cap_ns + 100'000'000;
    EXPECT_TRUE(lived(run));
}

INSTANTIATE_TEST_SUITE_P(Models, M3_StolenTime, testing::Values(DiskModel::nvme, DiskModel::ide),
                         [](const auto& test) {
                             return test.param == DiskModel::ide ? "ide" : "nvme";
                         });

class M3_RobustGuest : public testing::TestWithParam<DiskModel> {};

TEST_P(M3_RobustGuest, LivesUnderEveryPolicy) {
    for (const Kind policy : {Kind::immediate, Kind::adaptive, Kind::nominal, Kind::fixed})
        for (const bool spin : {false, true}) {
            FragileRun run;
            run.model = GetParam();
            run.requests = 200;
            run.depth = 32;
            run.policy = {policy, 100'000};
            run.spin = spin;
            run.profile = platform::DiskProfile::nvme_ssd;
            const FragileOutcome outcome = run_fragile(run);
            EXPECT_TRUE(outcome.survived) << numbers(outcome);
            EXPECT_EQ(outcome.statistic("requests"),
                      outcome.statistic("at_once") + outcome.statistic("late") +
                          outcome.statistic("early_halted") + outcome.statistic("early_returned") +
                          outcome.statistic("early_polled") + outcome.statistic("matured"));
        }
}

INSTANTIATE_TEST_SUITE_P(Models, M3_RobustGuest, testing::Values(DiskModel::nvme, DiskModel::ide),
                         [](const auto& test) {
                             return test.param == DiskModel::ide ? "ide" : "nvme";
                         });

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

class M3_Ablation : public testing::TestWithParam<DiskModel> {};

TEST_P(M3_Ablation, EoiAsASafepointBreaksWhoEndsTheInterruptFirst) {
    for (const Bug bug : {Bug::end_before_work, Bug::result_after_ack}) {
        FragileRun run = with({GetParam(), bug}, Kind::adaptive);
        run.depth = 16;
        run.requests = 4 * u64{run.depth};
        if (GetParam() == DiskModel::nvme) run.disk.gather = run.depth;
        // Handlers that outlast the guard window, with exits on their way, but no nominal delay;
        // and a stack for one of them: after the first that nests the device is slowed down.
        run.work = 20'000;
        run.parts = 16;
        if (bug == Bug::end_before_work) run.stack = 1024;
        EXPECT_TRUE(lived(run));
        run.rules = std::make_shared<EoiIsASafepoint>();
        EXPECT_TRUE(died(run));
    }
}

TEST_P(M3_Ablation, WithoutAGuardWhoWaitsTooLateIsBroken) {
    FragileRun run = with({GetParam(), Bug::flag_after_command}, Kind::adaptive);
    run.rules = std::make_shared<NoGuard>();
    EXPECT_TRUE(died(run));
}

TEST_P(M3_Ablation, MaturityByTheClockBreaksWhereTimeIsStolen) {
    FragileRun run = with({GetParam(), Bug::flag_after_command}, Kind::adaptive);
    run.disk.steal_every = 5;
    run.disk.steal_ns = 40'000'000; // longer than any nominal delay here
    EXPECT_TRUE(lived(run));
    run.rules = std::make_shared<MaturityByTheClock>();
    EXPECT_TRUE(died(run));
}

INSTANTIATE_TEST_SUITE_P(Models, M3_Ablation, testing::Values(DiskModel::nvme, DiskModel::ide),
                         [](const auto& test) {
                             return test.param == DiskModel::ide ? "ide" : "nvme";
                         });

} // namespace
} // namespace gnomon::test
