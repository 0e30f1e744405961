// SPDX-License-Identifier: Apache-2.0
// Every helper has a name to be counted by, and samples make an estimate.
#include "processor/soft/helper_kinds.h"
#include "processor/soft/instruction_table.h"
#include "processor/soft/statistics.h"

#include <gtest/gtest.h>
#include <set>
#include <string>

namespace gnomon::processor::soft {
namespace {

TEST(HelperKinds, EveryHelperOfTheTableHasAName) {
    for (const Row& row : instruction_rows()) {
        if (row.helper == nullptr) continue;
        const u8 kind = helper_kind(row.helper);
        EXPECT_NE(kind, 0) << ZydisMnemonicGetString(row.mnemonic);
        EXPECT_EQ(helper_kinds()[kind].helper, row.helper);
    }
}

TEST(HelperKinds, NamesAreDistinct) {
    std::set<std::string> names;
    for (const HelperKind& kind : helper_kinds())
        EXPECT_TRUE(names.insert(kind.name).second) << kind.name;
    EXPECT_EQ(helper_kind(nullptr), 0);
}

TEST(SampledTime, MeasuresEveryNth) {
    SampledTime<2> time;
    for (int n = 0; n < 1000; ++n)
        EXPECT_FALSE(time.occurs()) << "off until a period is set";
    time.set_period(10);
    unsigned turns = 0;
    for (int n = 0; n < 1000; ++n)
        turns += time.occurs() ? 1 : 0;
    EXPECT_EQ(turns, 100U);
    EXPECT_EQ(time.estimate(0, 1000), 0U) << "no sample";
    time.add(0, 30);
    time.add(0, 50);
    time.add(1, 7);
    EXPECT_EQ(time.estimate(0, 1000), 40'000U);
    EXPECT_EQ(time.estimate(1, 3), 21U);
}

TEST(SampledTime, AScopeIsMeasuredWhenItsTurnComes) {
    SampledTime<1> time;
    time.set_period(2);
    { const SampledScope not_yet(time, 0); }
    EXPECT_EQ(time.estimate(0, 1), 0U);
    {
        const SampledScope now(time, 0);
        const u64 begin = read_tsc();
        while (read_tsc() - begin < 100'000) {
        }
    }
    EXPECT_GE(time.estimate(0, 1), 90'000U) << "but for what reading the clock takes";
}

} // namespace
} // namespace gnomon::processor::soft
