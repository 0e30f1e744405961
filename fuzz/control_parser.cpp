// SPDX-License-Identifier: Apache-2.0
/// @file The control port's lines, which a hostile guest can write as it likes; and the command
/// file, made from what a user may type.
#include "fuzz/support/input.h"
#include "guest/init/protocol.h"

#include <vector>

using namespace gnomon;
using namespace gnomon::fuzz;
using guest::ControlMessage;

namespace {

void check(const ControlMessage& message) {
    using Kind = ControlMessage::Kind;
    const u64 n = message.number;
    switch (message.kind) {
    case Kind::started: require(n >= 1 && n <= u64{1} << 22, "a process id out of range"); break;
    case Kind::exited: require(n <= 255, "an exit status out of range"); break;
    case Kind::signalled: require(n >= 1 && n <= 64, "a signal out of range"); break;
    default: break;
    }
    require(message.text.size() <= guest::wire::line_limit, "a text longer than its line");
    for (const char c : message.text)
        require(c >= ' ' && c <= '~', "a text that is not safe on a terminal");
}

void check_command(Input input) {
    guest::CommandSpec command;
    for (u8 i = input.take<u8>() % 8; i > 0; --i)
        command.arguments.push_back(input.text(input.take<u8>() % 32));
    for (u8 i = input.take<u8>() % 4; i > 0; --i)
        command.environment.push_back(input.text(input.take<u8>() % 32));
    command.rows = input.take<u16>();
    command.working_directory = input.text(16);
    const auto encoded = guest::encode_command(command);
    bool sound = !command.arguments.empty() && !command.arguments.front().empty() &&
                 command.working_directory.find('\0') == std::string::npos;
    for (const auto* list : {&command.arguments, &command.environment})
        for (const std::string& one : *list)
            sound = sound && one.find('\0') == std::string::npos;
    require(encoded.has_value() == sound, "a command is encoded if and only if it can be");
    if (!encoded) return;
    // Its fields, as init takes them apart.
    std::vector<std::string> fields(1);
    for (const std::byte b : *encoded) {
        if (b == std::byte{0})
            fields.emplace_back();
        else
            fields.back().push_back(static_cast<char>(b));
    }
    require(fields.back().empty(), "the last field is not ended");
    fields.pop_back();
    std::size_t at = 0;
    const auto next = [&]() -> std::string {
        require(at < fields.size(), "a field is missing");
        return fields[at++];
    };
    require(next() == guest::wire::command_magic && next() == guest::wire::mode_pipe, "the head");
    require(next() == std::to_string(command.rows) && next() == std::to_string(command.columns),
            "the terminal's size");
    require(next() == (command.working_directory.empty() ? "/" : command.working_directory),
            "the directory");
    require(next() == std::to_string(command.arguments.size()), "argc");
    for (const std::string& argument : command.arguments)
        require(next() == argument, "an argument");
    const std::string variables = next();
    if (!command.environment.empty()) {
        require(variables == std::to_string(command.environment.size()), "the environment's size");
        for (const std::string& variable : command.environment)
            require(next() == variable, "a variable");
        require(at == fields.size(), "more fields than there are");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    const u8 step = input.take<u8>();
    Input copy = input;
    const auto bytes = input.rest();

    guest::ControlParser whole;
    const std::vector<ControlMessage> messages = whole.feed(bytes);
    for (const ControlMessage& message : messages)
        check(message);
    require(messages.size() + whole.malformed_lines() <=
                static_cast<std::size_t>(std::ranges::count(bytes, std::byte{'\n'})) + 1,
            "more messages than lines");

    // However it is cut, it says the same.
    guest::ControlParser cut;
    std::vector<ControlMessage> pieces;
    for (std::size_t at = 0, i = 0; at < bytes.size(); ++i) {
        const std::size_t length =
            std::min<std::size_t>(bytes.size() - at, 1 + (step + i * i) % 41);
        for (ControlMessage& message : cut.feed(bytes.subspan(at, length)))
            pieces.push_back(std::move(message));
        at += length;
    }
    require(pieces == messages && cut.malformed_lines() == whole.malformed_lines(),
            "what the lines say depends on how they are cut");
    check_command(copy);
    return 0;
}
