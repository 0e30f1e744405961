// SPDX-License-Identifier: Apache-2.0
#include "cli/memory_size.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(MemorySize, TakesEverySuffixInEitherCase) {
    EXPECT_EQ(parse_memory_size("512M", "--memory"), u64{512} << 20);
    EXPECT_EQ(parse_memory_size("2g", "--memory"), u64{2} << 30);
    EXPECT_EQ(parse_memory_size("65536k", "--memory"), u64{64} << 20);
    EXPECT_EQ(parse_memory_size("1048576", "--memory"), smallest_memory);
    EXPECT_EQ(parse_memory_size("1023G", "--memory"), largest_memory);
}

TEST(MemorySize, RefusesWhatIsNoSize) {
    for (const char* text :
         {"", "M", "12X", "-1M", "+1M", " 1M", "1M ", "1.5G", "0x100M", "1MM", "M1", "abc"}) {
        const auto parsed = parse_memory_size(text, "--memory");
        ASSERT_FALSE(parsed) << text;
        EXPECT_TRUE(parsed.error().usage);
        EXPECT_THAT(parsed.error().message, HasSubstr("not a size"));
        EXPECT_THAT(parsed.error().message, StartsWith("--memory"));
    }
}

TEST(MemorySize, RefusesTooSmallTooLargeAndUneven) {
    for (const char* text : {"0", "0G", "512", "1023K"}) {
        const auto parsed = parse_memory_size(text, "--memory");
        ASSERT_FALSE(parsed) << text;
        EXPECT_THAT(parsed.error().message, HasSubstr("too small"));
    }
    // The last ones would be small, were the arithmetic to wrap.
    for (const char* text : {"1024G", "2T", "18446744073709551615", "99999999999999999999G",
                             "18014398509481985K", "16777217T"}) {
        const auto parsed = parse_memory_size(text, "--memory");
        ASSERT_FALSE(parsed) << text;
        EXPECT_THAT(parsed.error().message, HasSubstr("too large"));
    }
    const auto uneven = parse_memory_size("1048577", "--memory");
    ASSERT_FALSE(uneven);
    EXPECT_THAT(uneven.error().message, HasSubstr("page size"));
}

} // namespace
} // namespace gnomon::cli
