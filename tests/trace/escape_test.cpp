// SPDX-License-Identifier: Apache-2.0
#include "trace/escape.h"

#include <gtest/gtest.h>
#include <string>

namespace gnomon::trace {
namespace {

using namespace std::string_literals;

template <class Append>
std::string with(Append append, std::string_view bytes) {
    Text out;
    append(out, bytes);
    return {out.data(), out.size()};
}

TEST(Escape, AsStraceDoes) {
    // Observed: write(-1, "\0012\19\0a\177\377\33\10\0", 12)
    EXPECT_EQ(with(append_escaped, "\x01"
                                   "2\x01"
                                   "9\0a\x7f\xff\x1b\b\0"s),
              R"(\0012\19\0a\177\377\33\10\0)");
    EXPECT_EQ(with(append_escaped, "hello\n\t\v\f\r\"\\"), R"(hello\n\t\v\f\r\"\\)");
    EXPECT_EQ(with(append_escaped, "\a"), R"(\7)");
    EXPECT_EQ(with(append_escaped, "\a8"), R"(\78)") << "8 is no octal digit";
    EXPECT_EQ(with(append_escaped, "\a7"), R"(\0077)");
}

TEST(Escape, Hex) { EXPECT_EQ(with(append_hex_escaped, "\0\xfeZ"s), R"(\x00\xfe\x5a)"); }

TEST(Escape, CommandCannotImitateTheTrace) {
    EXPECT_EQ(with(append_command, "sh"), "sh");
    EXPECT_EQ(with(append_command, "kworker/0:1"), "kworker/0:1");
    EXPECT_EQ(with(append_command, "x] exit(0\n"), R"(x\135 exit(0\012)");
    EXPECT_EQ(with(append_command, "\x1b[31m"), R"(\033[31m)");
    EXPECT_EQ(with(append_command, "a\\b"), R"(a\\b)");
}

TEST(Escape, Json) {
    EXPECT_EQ(with(append_json, "a\"\\\n\x01"s), R"("a\"\\\n\u0001")");
    EXPECT_EQ(with(append_json, "gr\xc3\xbc\xc3\x9f"), "\"gr\xc3\xbc\xc3\x9f\"");
    EXPECT_EQ(with(append_json, "\xf0\x9f\x98\x80"), "\"\xf0\x9f\x98\x80\"");
    EXPECT_EQ(with(append_json, "\xff\xc3"), R"("\u00ff\u00c3")") << "cut and impossible bytes";
    EXPECT_EQ(with(append_json, "\xc0\x80"), R"("\u00c0\u0080")") << "overlong";
    EXPECT_EQ(with(append_json, "\xed\xa0\x80"), R"("\u00ed\u00a0\u0080")") << "surrogate";
    EXPECT_EQ(with(append_json, "\x7f"), R"("\u007f")");
    // What a terminal obeys, or a reader is misled by: C1 controls (CSI), line ends, reordering.
    EXPECT_EQ(with(append_json, "\xc2\x9b"
                                "31m"),
              R"("\u009b31m")");
    EXPECT_EQ(with(append_json, "\xe2\x80\xa8\xe2\x80\xae"), R"("\u2028\u202e")");
    EXPECT_EQ(with(append_json, "\xe2\x81\xa6\xe2\x81\xaa"), "\"\\u2066\xe2\x81\xaa\"");
}

} // namespace
} // namespace gnomon::trace
