// SPDX-License-Identifier: Apache-2.0
#include "cli/escape_filter.h"

#include <gtest/gtest.h>
#include <string>
#include <string_view>

namespace gnomon::cli {
namespace {

using Command = EscapeFilter::Command;

/// Types all of it, in pieces of one size; says what the guest gets and which commands came.
std::pair<std::string, std::vector<Command>> type(std::string_view keys, std::size_t piece) {
    EscapeFilter filter;
    std::vector<std::byte> guest;
    std::vector<Command> commands;
    for (std::size_t begin = 0; begin < keys.size(); begin += piece) {
        auto typed = std::as_bytes(std::span(keys.substr(begin, piece)));
        while (!typed.empty()) {
            const Command command = filter.consume(typed, guest);
            if (command != Command::none) commands.push_back(command);
        }
    }
    return {std::string(reinterpret_cast<const char*>(guest.data()), guest.size()), commands};
}

TEST(EscapeFilter, WorksHoweverTheKeysAreCut) {
    for (const std::size_t piece : {1U, 2U, 3U, 100U}) {
        const auto [guest, commands] =
            type("ab\001xcd\001h\001\001e\001?f\001X\001H\001\030", piece);
        EXPECT_EQ(guest, "abcd\001ef");
        EXPECT_EQ(commands, (std::vector{Command::quit, Command::help, Command::quit, Command::help,
                                         Command::quit}));
    }
}

TEST(EscapeFilter, StopsAtACommandAndLeavesTheRest) {
    EscapeFilter filter;
    std::vector<std::byte> guest;
    const std::string keys = "a\001xb";
    auto typed = std::as_bytes(std::span(keys));
    EXPECT_EQ(filter.consume(typed, guest), Command::quit);
    EXPECT_EQ(typed.size(), 1U);
    EXPECT_EQ(guest.size(), 1U);
}

TEST(EscapeFilter, LetsEveryOtherByteThrough) {
    std::string all;
    for (int byte = 0; byte < 256; byte++) {
        if (byte != 1) all.push_back(static_cast<char>(byte));
    }
    EXPECT_EQ(type(all, 7).first, all);
}

} // namespace
} // namespace gnomon::cli
