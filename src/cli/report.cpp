// SPDX-License-Identifier: Apache-2.0
#include "cli/report.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace gnomon::cli {

namespace {

bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) != 0; }

/// https://no-color.org: any value but the empty one counts.
bool colour_wanted() {
    const char* const no_colour = std::getenv("NO_COLOR");
    const char* const term = std::getenv("TERM");
    return stderr_is_terminal() && (no_colour == nullptr || *no_colour == '\0') &&
           (term == nullptr || std::string_view(term) != "dumb");
}

} // namespace

std::string one_line(std::string_view text) {
    std::string line;
    line.reserve(text.size());
    for (const char c : text) {
        if (const auto byte = static_cast<unsigned char>(c); byte < 0x20 || byte == 0x7f)
            line += fmt::format("\\x{:02x}", byte);
        else
            line += c;
    }
    return line;
}

void report(std::string_view message) {
    const char* const name = colour_wanted() ? "\033[1mgnomon:\033[0m" : "gnomon:";
    const std::string line = fmt::format("{} {}\n", name, one_line(message));
    std::fwrite(line.data(), 1, line.size(), stderr);
    std::fflush(stderr);
}

int report_error(const Error& error) {
    report(error.message);
    for (std::string_view rest = error.details; !rest.empty();) {
        const std::size_t end = std::min(rest.find('\n'), rest.size());
        const std::string line = one_line(rest.substr(0, end)) + "\n";
        std::fwrite(line.data(), 1, line.size(), stderr);
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    std::fflush(stderr);
    return error.usage ? 2 : 1;
}

Progress::Progress(std::string_view what) : m_shown(stderr_is_terminal()) {
    if (!m_shown) return;
    fmt::print(stderr, "gnomon: {} ...", what);
    std::fflush(stderr);
}

Progress::~Progress() {
    if (!m_shown) return;
    std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
}

void set_up_log(const std::string& level) {
    auto logger = std::make_shared<spdlog::logger>(
        "gnomon", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_pattern("gnomon: [%l] %v");
    logger->set_level(spdlog::level::from_str(level));
    logger->flush_on(spdlog::level::trace);
    spdlog::set_default_logger(std::move(logger));
}

} // namespace gnomon::cli
