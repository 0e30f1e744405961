// SPDX-License-Identifier: Apache-2.0
#include "guest/init/protocol.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

// The init program, embedded by the build (src/guest/CMakeLists.txt).
extern "C" const std::byte gnomon_guest_init_begin[];
extern "C" const std::byte gnomon_guest_init_end[];

namespace gnomon::guest {

namespace {

constexpr u64 pid_limit = u64{1} << 22; // Linux's PID_MAX_LIMIT
constexpr u64 signal_limit = 64;

void append_field(std::vector<std::byte>& out, std::string_view field) {
    const auto bytes = std::as_bytes(std::span(field));
    out.insert(out.end(), bytes.begin(), bytes.end());
    out.push_back(std::byte{0});
}

/// The whole of `text` as a decimal number from `low` to `high`.
std::optional<u64> parse_number(std::string_view text, u64 low, u64 high) {
    u64 value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < low || value > high)
        return std::nullopt;
    return value;
}

std::string printable(std::string_view text) {
    std::string out(text);
    std::ranges::replace_if(
        out, [](char c) { return c < ' ' || c > '~'; }, '?');
    return out;
}

std::optional<ControlMessage> parse_line(std::string_view line) {
    using Kind = ControlMessage::Kind;
    const std::size_t space = line.find(' ');
    const std::string_view word = line.substr(0, space);
    const std::string_view rest =
        space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
    const auto numbered = [&](Kind kind, u64 low, u64 high) -> std::optional<ControlMessage> {
        const auto number = parse_number(rest, low, high);
        if (!number) return std::nullopt;
        return ControlMessage{kind, *number, {}};
    };
    if (line == wire::ready) return ControlMessage{Kind::ready, 0, {}};
    if (word == wire::started) return numbered(Kind::started, 1, pid_limit);
    if (word == wire::window) return numbered(Kind::window, 0, ~u64{0});
    if (word == wire::exit) return numbered(Kind::exited, 0, 255);
    if (word == wire::signal) return numbered(Kind::signalled, 1, signal_limit);
    if (word == wire::error) return ControlMessage{Kind::failed, 0, printable(rest)};
    return std::nullopt;
}

} // namespace

Result<std::vector<std::byte>> encode_command(const CommandSpec& command) {
    if (command.arguments.empty() || command.arguments.front().empty())
        return usage_error("there is no command to run; give one after --");
    const auto has_nul = [](const std::string& s) { return s.find('\0') != std::string::npos; };
    if (std::ranges::any_of(command.arguments, has_nul) ||
        std::ranges::any_of(command.environment, has_nul) || has_nul(command.working_directory))
        return usage_error("the command {} has a NUL in an argument, its environment or its "
                           "directory; remove it",
                           printable(command.arguments.front()));
    std::vector<std::string> environment = command.environment;
    if (environment.empty())
        environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                       "HOME=/root"};
    std::vector<std::byte> out;
    append_field(out, wire::command_magic);
    append_field(out, command.terminal ? wire::mode_tty : wire::mode_pipe);
    append_field(out, fmt::to_string(command.rows));
    append_field(out, fmt::to_string(command.columns));
    append_field(out, command.working_directory.empty() ? "/" : command.working_directory);
    append_field(out, fmt::to_string(command.arguments.size()));
    for (const std::string& argument : command.arguments)
        append_field(out, argument);
    append_field(out, fmt::to_string(environment.size()));
    for (const std::string& variable : environment)
        append_field(out, variable);
    return out;
}

std::vector<ControlMessage> ControlParser::feed(std::span<const std::byte> bytes) {
    std::vector<ControlMessage> messages;
    for (const std::byte byte : bytes) {
        const char c = static_cast<char>(byte);
        if (c != wire::line_end) {
            if (m_line.size() + 1 < wire::line_limit)
                m_line.push_back(c);
            else
                m_overlong = true;
            continue;
        }
        auto message = m_overlong ? std::nullopt : parse_line(m_line);
        if (message)
            messages.push_back(std::move(*message));
        else
            ++m_malformed;
        m_line.clear();
        m_overlong = false;
    }
    return messages;
}

std::string eof_line(u64 bytes_in_all) { return fmt::format("{} {}\n", wire::eof, bytes_in_all); }

std::string resize_line(u16 rows, u16 columns) {
    return fmt::format("{} {} {}\n", wire::resize, rows, columns);
}

std::string kill_line(int signal) { return fmt::format("{} {}\n", wire::kill, signal); }

std::span<const std::byte> init_program() {
    return {gnomon_guest_init_begin, gnomon_guest_init_end};
}

} // namespace gnomon::guest
