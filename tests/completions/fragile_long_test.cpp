// SPDX-License-Identifier: Apache-2.0
// M3: ten million requests of the fragile guest, none of them lost.
#include "completions/fragile_machine.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

class M3_TenMillionRequests : public testing::TestWithParam<Bug> {};

TEST_P(M3_TenMillionRequests, NoneIsLost) {
    constexpr u64 all = 10'000'000, shares = 4, runs = 5;
    for (u64 n = 0; n < runs; ++n) {
        FragileRun run;
        run.bug = GetParam();
        run.requests = all / shares / runs;
        run.depth = run.bug == Bug::flag_after_command ? 1 : 32;
        run.work = 100 * n;
        run.disk.per_reap = n % 2 == 0 ? ~std::size_t{0} : 3;
        run.seed = 1000 + n;
        run.limit_s = 1200;
        const FragileOutcome outcome = run_fragile(run);
        ASSERT_TRUE(outcome.survived) << "seed " << run.seed << ": " << outcome.text;
        EXPECT_EQ(outcome.statistic("cancelled"), 0U);
    }
}

INSTANTIATE_TEST_SUITE_P(Bugs, M3_TenMillionRequests,
                         testing::Values(Bug::flag_after_command, Bug::end_before_work,
                                         Bug::result_after_ack, Bug::command_in_handler));

} // namespace
} // namespace gnomon::test
