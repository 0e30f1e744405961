// SPDX-License-Identifier: Apache-2.0
#include "cli/process_files.h"

#include <algorithm>
#include <charconv>

namespace gnomon::cli {

namespace {

constexpr u64 kib = 1024;

std::string_view take_line(std::string_view& text) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return line;
}

std::string_view take_word(std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
    const std::string_view word = line.substr(0, end);
    line.remove_prefix(end);
    return word;
}

std::optional<u64> number(std::string_view word) {
    u64 value = 0;
    const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (word.empty() || error != std::errc{} || rest != word.data() + word.size())
        return std::nullopt;
    return value;
}

/// "Name:   123 kB" in bytes.
std::optional<u64> size_in(std::string_view line, std::string_view name) {
    if (!line.starts_with(name)) return std::nullopt;
    line.remove_prefix(name.size());
    const auto value = number(take_word(line));
    if (!value || take_word(line) != "kB") return std::nullopt;
    return *value * kib;
}

} // namespace

std::optional<double> user_share(std::string_view stat) {
    // The program's name is in parentheses and may hold anything.
    const std::size_t name_end = stat.rfind(')');
    if (name_end == std::string_view::npos) return std::nullopt;
    stat.remove_prefix(name_end + 1);
    constexpr unsigned utime = 14, stime = 15, first = 3; // fields by number, from 1
    for (unsigned field = first; field < utime; ++field)
        take_word(stat);
    static_assert(stime == utime + 1);
    const auto user = number(take_word(stat)), system = number(take_word(stat));
    if (!user || !system || *user + *system == 0) return std::nullopt;
    return static_cast<double>(*user) / static_cast<double>(*user + *system);
}

std::optional<u64> peak_resident(std::string_view status) {
    while (!status.empty())
        if (const auto size = size_in(take_line(status), "VmHWM:")) return size;
    return std::nullopt;
}

std::optional<u64> resident_of(std::string_view smaps, std::string_view name) {
    std::optional<u64> sum;
    bool counts = false;
    while (!smaps.empty()) {
        const std::string_view line = take_line(smaps);
        // A mapping's own line begins with its addresses; what describes it, with "Name:".
        std::string_view rest = line;
        if (!take_word(rest).ends_with(':')) counts = line.find(name) != std::string_view::npos;
        if (!counts) continue;
        if (const auto size = size_in(line, "Rss:")) sum = sum.value_or(0) + *size;
    }
    return sum;
}

} // namespace gnomon::cli
