// SPDX-License-Identifier: Apache-2.0
// Time is booked without gaps and overlaps, and statistics add up by name.
#include "base/statistics.h"
#include "base/time_account.h"

#include <gtest/gtest.h>
#include <thread>

namespace gnomon::test {
namespace {

TEST(TimeAccount, EveryMomentBelongsToOneActivity) {
    TimeAccount account;
    account.change(5); // before `start` nothing counts
    account.start(1);
    const u64 begin = monotonic_ns();
    const auto rest = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
    rest();
    {
        const TimedScope outer(&account, 2);
        rest();
        {
            const TimedScope inner(&account, 3);
            rest();
            rest();
        }
        rest();
    }
    EXPECT_EQ(account.change(4), 1U);
    const u64 end = monotonic_ns();
    const double factor = account.ns_per_tick();
    ASSERT_GT(factor, 0);
    const auto ns = [&](unsigned activity) {
        return factor * static_cast<double>(account.ticks(activity));
    };
    EXPECT_EQ(account.ticks(5), 0U);
    EXPECT_EQ(account.ticks(4), 0U);
    EXPECT_GE(ns(1), 19e6);
    EXPECT_GE(ns(2), 39e6);
    EXPECT_GE(ns(3), 39e6);
    const auto whole = static_cast<double>(end - begin);
    EXPECT_NEAR(ns(1) + ns(2) + ns(3), whole, whole / 100);
}

TEST(TimeAccount, WithoutOneNothingIsBooked) {
    const TimedScope scope(nullptr, 3);
    TimeAccount account;
    EXPECT_EQ(account.ns_per_tick(), 0);
    EXPECT_FALSE(account.started());
}

TEST(Statistics, AddUpByName) {
    Statistics sum;
    Statistic large{"size", 9};
    large.is_state = true;
    Statistic small = large;
    small.value = 4;
    Statistic timed{"page_fault", 2};
    timed.ns = 100;
    accumulate(sum, {{"exits", {timed, {"halt", 1}}}, {"tables", {large}}});
    accumulate(sum, {{"tables", {small}}, {"exits", {timed}}, {"late", {{"x", 7}}}});
    ASSERT_EQ(sum.size(), 3U);
    EXPECT_EQ(find(sum, "exits", "page_fault")->value, 4U);
    EXPECT_EQ(find(sum, "exits", "page_fault")->ns, 200U);
    EXPECT_EQ(find(sum, "exits", "halt")->value, 1U);
    EXPECT_FALSE(find(sum, "exits", "halt")->ns);
    EXPECT_EQ(find(sum, "tables", "size")->value, 9U);
    EXPECT_EQ(find(sum, "late", "x")->value, 7U);
    EXPECT_EQ(find(sum, "late", "y"), nullptr);
    EXPECT_EQ(find(sum, "none", "x"), nullptr);
}

} // namespace
} // namespace gnomon::test
