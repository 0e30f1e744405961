// SPDX-License-Identifier: Apache-2.0
// fragile_bench POLICY BUG REQUESTS DEPTH [PROFILE [MODEL [FILE]]]: runs the fragile guest and
// prints, in one line, requests a second, the host's CPU time for each, how their completions were
// delivered, and latencies. BUG 0 is the robust twin. MODEL is nvme or ide. Without FILE the disk
// is in memory.
//
// As FILE, "latency=MICROSECONDS[,spin]" is a disk in memory that takes so long, under a guest that
// halts meanwhile, or spins. Then the line ends with how long after the back end's time the
// completion had been handed on: to the guest, if all were delivered at once or late.
#include "completions/fragile_machine.h"
#include "platform/block/disk_profile.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace {

using namespace gnomon;

/// "latency=MICROSECONDS[,spin]", if it is that.
bool parse_latency(std::string_view text, test::FragileRun& run) {
    constexpr std::string_view prefix = "latency=", spin = ",spin";
    if (!text.starts_with(prefix)) return false;
    run.spin = text.ends_with(spin);
    run.disk.latency_ns = std::strtoull(text.data() + prefix.size(), nullptr, 10) * 1000;
    run.disk.told_after_ns = std::make_shared<std::vector<u64>>();
    return true;
}

/// In us.
double percentile(std::vector<u64>& values, unsigned of_hundred) {
    if (values.empty()) return 0;
    const auto at =
        values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) * of_hundred / 100);
    std::nth_element(values.begin(), at, values.end());
    return static_cast<double>(*at) / 1000;
}

int complain(const std::string& what) {
    std::fprintf(stderr, "fragile_bench: %s\n", what.c_str());
    return 2;
}

} // namespace

int main(int argc, char** argv) {
    const std::span words(argv, static_cast<std::size_t>(argc));
    if (words.size() < 5 || words.size() > 8)
        return complain("use POLICY BUG REQUESTS DEPTH [PROFILE [MODEL [FILE]]]");
    test::FragileRun run;
    const auto policy = monitor::parse_completion_policy(words[1], "policy");
    if (!policy) return complain(policy.error().message);
    run.policy = *policy;
    run.bug = static_cast<test::Bug>(std::atoi(words[2]));
    run.requests = std::strtoull(words[3], nullptr, 10);
    run.depth = static_cast<unsigned>(std::atoi(words[4]));
    if (words.size() > 5) {
        const auto profile = platform::disk_profile_named(words[5]);
        if (!profile) return complain("no such profile");
        run.profile = *profile;
    }
    if (words.size() > 6) {
        const std::string_view model = words[6];
        if (model != "nvme" && model != "ide") return complain("the model is nvme or ide");
        if (model == "ide") run.model = monitor::DiskModel::ide;
    }
    if (words.size() > 7 && !parse_latency(words[7], run)) run.file = words[7];
    run.limit_s = 600;
    const test::FragileOutcome outcome = test::run_fragile(run);
    const auto share = [&](const char* name) {
        return 100.0 * static_cast<double>(outcome.statistic(name)) /
               static_cast<double>(outcome.statistic("requests"));
    };
    const auto us = [&](const char* name) {
        return static_cast<double>(outcome.statistic(name)) / 1000;
    };
    const auto requests = static_cast<double>(run.requests);
    std::printf("%-10s bug %s depth %-2s %9.0f requests/s %6.2f us_CPU  at once %.1f %% late %.1f "
                "%% halted %.1f %% returned %.1f %% matured %.1f %%  p50 %.1f us p99 %.1f us p99.9 "
                "%.1f us  interrupts/1000 %llu nesting %llu  %s",
                words[1], words[2], words[4], requests * 1e9 / static_cast<double>(outcome.run_ns),
                static_cast<double>(outcome.cpu_ns) / 1000 / requests, share("at_once"),
                share("late"), share("early_halted"), share("early_returned"), share("matured"),
                us("latency_p50"), us("latency_p99"), us("latency_p999"),
                static_cast<unsigned long long>(outcome.statistic("interrupts_per_1000_requests")),
                static_cast<unsigned long long>(outcome.statistic("deepest_nesting")),
                outcome.text.c_str());
    if (run.disk.told_after_ns != nullptr)
        std::printf("told after p10 %.2f us p50 %.2f us p90 %.2f us\n",
                    percentile(*run.disk.told_after_ns, 10),
                    percentile(*run.disk.told_after_ns, 50),
                    percentile(*run.disk.told_after_ns, 90));
    return outcome.survived ? 0 : 1;
}
