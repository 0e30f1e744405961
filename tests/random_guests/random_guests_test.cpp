// SPDX-License-Identifier: Apache-2.0
/// @file Guests of random code in ring 0 and ring 3 on a whole virtual machine: no crash, no hang,
/// nothing written outside what is theirs, no system call reported that was not made.
///
/// Each case follows from the seed and its number; cases of one group share a machine. Environment:
/// GNOMON_SEED, GNOMON_CASES (how many), GNOMON_CASE (this one, in this process, after those of its
/// group that come before it), GNOMON_ALONE (without them), GNOMON_KERNEL_IMAGE (a kernel for real
/// code; the fetched one by default).
#include "batches.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <gtest/gtest.h>
#include <sys/time.h>

namespace gnomon::test::hostile {

namespace {

constexpr u64 default_cases = 8192;
constexpr u64 group_size = 64;     ///< cases that share a machine
constexpr u64 process_size = 2048; ///< cases of one process: whole groups
constexpr unsigned failure_limit = 25;
/// A kick is to end any guest within this time.
constexpr unsigned hang_seconds = 2;
constexpr u64 strict_interval = 16;
constexpr u64 wanted_median = 100;

u64 number_from(const char* name, u64 otherwise) {
    const char* const text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

std::shared_ptr<Kernel> kernel() {
    const char* const chosen = std::getenv("GNOMON_KERNEL_IMAGE");
    return Kernel::open(chosen != nullptr ? chosen : GNOMON_FETCHED_KERNEL);
}

/// Runs cases one after the other, making machines as their groups ask for.
class Cases {
public:
    Cases(u64 seed, std::shared_ptr<Kernel> kernel) : m_seed(seed), m_kernel(std::move(kernel)) {}

    [[nodiscard]] std::string run(u64 number, bool fresh, GuestStatistics& statistics) {
        const u64 group = number / group_size;
        Random of_group(~m_seed, group);
        // Some groups have a machine for each guest, others know the kernel.
        const bool alone = of_group.percent(3);
        const bool knows = of_group.percent(25);
        const MachineChoices choices = MachineChoices::of(of_group);
        if (fresh || m_machine == nullptr || group != m_group || alone || !m_machine->usable() ||
            choices.memory > ram_low_limit) { // forgetting so much memory costs more
            m_machine.reset();
            auto machine = HostileMachine::create(choices, knows ? m_kernel : nullptr, statistics);
            if (!machine) return machine.error().message;
            m_machine = std::move(*machine);
            m_group = group;
        }
        Random random(m_seed, number);
        m_machine->prepare(random);
        return m_machine->run({}, number % strict_interval == 0);
    }

private:
    u64 m_seed;
    std::shared_ptr<Kernel> m_kernel;
    std::unique_ptr<HostileMachine> m_machine;
    u64 m_group = 0;
};

TEST(RandomGuests, DoNoHarm) {
    const u64 seed = number_from("GNOMON_SEED", 1);
    const auto image = kernel();
    if (image == nullptr) fmt::print("no kernel image: the test's own code serves as real code\n");
    Cases cases(seed, image);
    if (const u64 only = number_from("GNOMON_CASE", ~u64{0}); only != ~u64{0}) {
        auto statistics = std::make_unique<GuestStatistics>();
        const u64 begin =
            std::getenv("GNOMON_ALONE") != nullptr ? only : only / group_size * group_size;
        for (u64 n = begin; n <= only; ++n)
            EXPECT_EQ(cases.run(n, n == begin, *statistics), "") << "case " << n;
        fmt::print("{}", statistics->text());
        return;
    }
    const u64 count = number_from("GNOMON_CASES", default_cases);
    auto statistics = std::make_unique<GuestStatistics>();
    const auto start = std::chrono::steady_clock::now();
    const auto failures = run_in_processes(
        0, count, process_size, hang_seconds, failure_limit,
        [&](u64 number, bool fresh, GuestStatistics& s) { return cases.run(number, fresh, s); },
        *statistics);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    for (const CaseFailure& f : failures)
        ADD_FAILURE() << fmt::format("GNOMON_SEED={} GNOMON_CASE={}: {}", seed, f.number, f.what);
    fmt::print("{}{:.0f} guests per second\n", statistics->text(),
               static_cast<double>(statistics->guests) / took.count());
    if (!failures.empty() || count < 1000) return;
    const GuestStatistics& s = *statistics;
    EXPECT_EQ(s.guests, count);
    EXPECT_GE(s.median_retired(), wanted_median);
    EXPECT_GT(s.ring3 * 5, count * 2);
    EXPECT_LT(s.ring3 * 5, count * 3);
    // What the guests are there to meet.
    EXPECT_GT(s.rewrote_code * 20, count);
    EXPECT_GT(s.used_devices * 20, count);
    EXPECT_GT(s.straddled * 20, count);
    EXPECT_GT(s.wrote_tables * 20, count);
    EXPECT_GT(s.made_calls * 20, count);
    EXPECT_GT(s.touched_monitor * 20, count);
    EXPECT_GT(s.happenings.monitor_reads, 0U);
    EXPECT_GT(s.happenings.monitor_writes, 0U);
    EXPECT_GT(s.happenings.monitor_fetches, 0U);
    EXPECT_GT(s.canary_pages, 0U);
    EXPECT_GT(s.strict_leaves, 0U);
    for (unsigned n = 0; n < processor::exit_reason_count; ++n) {
        const auto reason = static_cast<processor::ExitReason>(n);
        if (image == nullptr && reason == processor::ExitReason::execution_hook) continue;
        // The monitor asks for none of these.
        if (reason == processor::ExitReason::software_interrupt) continue;
        EXPECT_GT(s.happenings.exits[n], 0U) << "exit reason " << n;
    }
}

/// VirtualMachine::run is ended by a stop from a signal handler, whatever the guest does.
TEST(RandomGuests, EndWhenTheyAreStopped) {
    static HostileMachine* stopped = nullptr;
    const u64 seed = number_from("GNOMON_SEED", 1), count = number_from("GNOMON_CASES", 8192) / 64;
    auto statistics = std::make_unique<GuestStatistics>();
    std::unique_ptr<HostileMachine> machine;
    const auto failures = run_in_processes(
        0, count, count, hang_seconds, failure_limit,
        [&](u64 number, bool, GuestStatistics& s) -> std::string {
            if (machine == nullptr || !machine->usable()) {
                machine.reset();
                auto made = HostileMachine::create({}, nullptr, s);
                if (!made) return made.error().message;
                machine = std::move(*made);
            }
            Random random(~seed, number);
            machine->prepare(random);
            machine->resources().stop = false;
            stopped = machine.get();
            struct sigaction action {};
            action.sa_handler = [](int) {
                stopped->resources().stop = true;
                stopped->machine().kick();
            };
            ::sigaction(SIGALRM, &action, nullptr);
            const itimerval timer{{0, 0}, {0, 3000}};
            ::setitimer(ITIMER_REAL, &timer, nullptr);
            const auto outcome = machine->machine().run();
            const itimerval off{};
            ::setitimer(ITIMER_REAL, &off, nullptr);
            if (!outcome) return outcome.error().message;
            s.ended += outcome->end != monitor::RunEnd::stopped;
            if (outcome->end == monitor::RunEnd::stopped) return machine->check(true);
            machine.reset();
            return "";
        },
        *statistics);
    const u64 ended_alone = statistics->ended;
    for (const CaseFailure& f : failures)
        ADD_FAILURE() << fmt::format("GNOMON_SEED={} case {}: {}", seed, f.number, f.what);
    fmt::print("{} guests, {} ended by themselves\n", count, ended_alone);
    EXPECT_LT(ended_alone * 2, count);
}

} // namespace

} // namespace gnomon::test::hostile
