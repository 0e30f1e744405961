// SPDX-License-Identifier: Apache-2.0
#include "guest/init/protocol.h"

#include "guest/boot/kernel_image.h"
#include "images.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::guest::test {
namespace {

using Kind = ControlMessage::Kind;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ControlParser, ReadsEveryLine) {
    ControlParser parser;
    EXPECT_THAT(
        parser.feed(bytes_of("ready\nstarted 57\nwindow 16384\nexit 0\nsignal 9\n"
                             "error no such \x1b[31mfile\n")),
        ElementsAre(ControlMessage{Kind::ready, 0, ""}, ControlMessage{Kind::started, 57, ""},
                    ControlMessage{Kind::window, 16384, ""}, ControlMessage{Kind::exited, 0, ""},
                    ControlMessage{Kind::signalled, 9, ""},
                    ControlMessage{Kind::failed, 0, "no such ?[31mfile"}));
    EXPECT_EQ(parser.malformed_lines(), 0u);
}

TEST(ControlParser, TakesPieces) {
    ControlParser parser;
    std::vector<ControlMessage> messages;
    for (const char c : std::string("ready\nstarted 12\nexit 255\n"))
        for (ControlMessage& message : parser.feed(bytes_of(std::string(1, c))))
            messages.push_back(message);
    EXPECT_THAT(messages, ElementsAre(ControlMessage{Kind::ready, 0, ""},
                                      ControlMessage{Kind::started, 12, ""},
                                      ControlMessage{Kind::exited, 255, ""}));
}

TEST(ControlParser, DropsWhatIsNoMessage) {
    for (const char* line : {"",
                             "read",
                             "ready ",
                             "ready 1",
                             "started",
                             "started ",
                             "started 0",
                             "started -1",
                             "started 4194305",
                             "started 1 2",
                             "started  1",
                             "started 0x1",
                             "exit 256",
                             "exit 1a",
                             "exit 99999999999999999999999",
                             "signal 0",
                             "signal 65",
                             "window",
                             "Ready",
                             "eof 1"}) {
        ControlParser parser;
        EXPECT_THAT(parser.feed(bytes_of(std::string(line) + "\n")), IsEmpty()) << line;
        EXPECT_EQ(parser.malformed_lines(), 1u) << line;
        EXPECT_THAT(parser.feed(bytes_of("ready\n")), ElementsAre(ControlMessage{})) << line;
    }
}

TEST(ControlParser, BoundsLines) {
    ControlParser parser;
    const std::string longest = "error " + std::string(wire::line_limit - 7, 'x') + "\n";
    ASSERT_EQ(longest.size(), wire::line_limit);
    EXPECT_EQ(parser.feed(bytes_of(longest)).size(), 1u);
    EXPECT_THAT(parser.feed(bytes_of("x" + longest)), IsEmpty());
    EXPECT_THAT(parser.feed(Bytes(1 << 20, std::byte{'a'})), IsEmpty());
    EXPECT_THAT(parser.feed(bytes_of("\nready\n")), ElementsAre(ControlMessage{}));
    EXPECT_EQ(parser.malformed_lines(), 2u);
}

TEST(ControlParser, SurvivesAnything) {
    ControlParser parser;
    u32 state = 3;
    const std::string alphabet = "ready started exit signal error window 0123456789 \n\n";
    for (int round = 0; round < 2000; ++round) {
        std::string bytes;
        for (int i = 0; i < 50; ++i) {
            state = state * 1664525 + 1013904223;
            bytes += (state & 0x10000) != 0 ? alphabet[(state >> 20) % alphabet.size()]
                                            : static_cast<char>(state >> 24);
        }
        for (const ControlMessage& message : parser.feed(bytes_of(bytes))) {
            EXPECT_TRUE(message.kind != Kind::exited || message.number <= 255);
            EXPECT_LT(message.text.size(), wire::line_limit);
        }
    }
    EXPECT_GT(parser.malformed_lines(), 100u);
}

std::string text_of(const Bytes& bytes) {
    std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    std::ranges::replace(text, '\0', '|');
    return text;
}

TEST(EncodeCommand, WritesTheFields) {
    EXPECT_EQ(text_of(*encode_command({.arguments = {"ls", "", "a b"},
                                       .environment = {"A=1"},
                                       .working_directory = "/tmp",
                                       .terminal = true,
                                       .rows = 50,
                                       .columns = 132})),
              "gnomon-command-1|tty|50|132|/tmp|3|ls||a b|1|A=1|");
    const std::string plain = text_of(*encode_command({.arguments = {"x"}}));
    EXPECT_THAT(plain, ::testing::StartsWith("gnomon-command-1|pipe|24|80|/|1|x|2|PATH="));
}

TEST(EncodeCommand, RefusesWhatCannotBeRun) {
    const std::string with_nul("a\0b", 3);
    EXPECT_TRUE(encode_command({}).error().usage);
    EXPECT_TRUE(encode_command({.arguments = {""}}).error().usage);
    EXPECT_TRUE(encode_command({.arguments = {"a", with_nul}}).error().usage);
    EXPECT_TRUE(encode_command({.arguments = {"a"}, .environment = {with_nul}}).error().usage);
    EXPECT_TRUE(encode_command({.arguments = {"a"}, .working_directory = with_nul}).error().usage);
}

TEST(HostLines, AreWhatInitReads) {
    EXPECT_EQ(eof_line(~u64{0}), "eof 18446744073709551615\n");
    EXPECT_EQ(resize_line(24, 80), "resize 24 80\n");
    EXPECT_EQ(kill_line(15), "kill 15\n");
}

TEST(InitProgram, IsASmallStaticExecutable) {
    const auto program = init_program();
    EXPECT_LT(program.size(), 65536u);
    const auto image = KernelImage::parse("init", Bytes(program.begin(), program.end()));
    ASSERT_TRUE(image) << image.error().message;
    EXPECT_EQ(image->format(), KernelImage::Format::elf64);
}

} // namespace
} // namespace gnomon::guest::test
