// SPDX-License-Identifier: Apache-2.0
#include "cli/report.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace gnomon::cli {
namespace {

TEST(Report, AMessageIsOneLineWhateverItNames) {
    EXPECT_EQ(one_line("cannot read root/a b: denied"), "cannot read root/a b: denied");
    EXPECT_EQ(one_line("root/a\nb\x1b[2J\x7f\t\r"), "root/a\\x0ab\\x1b[2J\\x7f\\x09\\x0d");
    EXPECT_EQ(one_line("caf\xc3\xa9"), "caf\xc3\xa9");
    EXPECT_EQ(one_line(std::string_view("\0", 1)), "\\x00");

    testing::internal::CaptureStderr();
    EXPECT_EQ(report_error({"cannot read x\ny: denied", true, {}}), 2);
    const std::string shown = testing::internal::GetCapturedStderr();
    EXPECT_NE(shown.find("cannot read x\\x0ay: denied\n"), std::string::npos) << shown;
    EXPECT_EQ(std::count(shown.begin(), shown.end(), '\n'), 1);

    testing::internal::CaptureStderr();
    EXPECT_EQ(report_error({"it ended; its state:", false, "RIP=0\nRSP=\x1b"}), 1);
    EXPECT_EQ(testing::internal::GetCapturedStderr(),
              "gnomon: it ended; its state:\nRIP=0\nRSP=\\x1b\n");
}

} // namespace
} // namespace gnomon::cli
