// SPDX-License-Identifier: Apache-2.0
#include "cli/config_file.h"

#include "cli/memory_size.h"
#include "guest/boot/host_file.h"

#include <algorithm>
#include <array>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

namespace gnomon::cli {

namespace {

constexpr u64 largest_config_file = u64{1} << 20;

/// One key of the file with what is needed to complain about it.
struct Entry {
    const std::string& path;
    std::string name;
    toml::source_index line;
    const toml::node& value;

    [[nodiscard]] std::string where() const { return fmt::format("{}:{}: {}", path, line, name); }
    [[nodiscard]] tl::unexpected<Error> wrong_type(const char* wanted) const {
        return usage_error("{} must be {}", where(), wanted);
    }
};

Result<> read_string(const Entry& entry, std::optional<std::string>& out) {
    const auto text = entry.value.value_exact<std::string>();
    if (!text) return entry.wrong_type("a string");
    out = *text;
    return {};
}

Result<> read_memory(const Entry& entry, std::optional<u64>& out) {
    Result<u64> bytes =
        usage_error("{} must be a size like \"512M\", or a number of bytes", entry.where());
    if (const auto text = entry.value.value_exact<std::string>()) {
        bytes = parse_memory_size(*text, entry.where());
    } else if (const auto number = entry.value.value_exact<int64_t>(); number && *number >= 0) {
        bytes =
            check_memory_size(static_cast<u64>(*number), std::to_string(*number), entry.where());
    }
    if (!bytes) return tl::unexpected(bytes.error());
    out = *bytes;
    return {};
}

Result<> read_stats(const Entry& entry, std::optional<StatisticsFormat>& out) {
    if (const auto wanted = entry.value.value_exact<bool>()) {
        if (*wanted) out = StatisticsFormat::text;
        return {};
    }
    const auto text = entry.value.value_exact<std::string>();
    if (text == "text") {
        out = StatisticsFormat::text;
    } else if (text == "json") {
        out = StatisticsFormat::json;
    } else {
        return entry.wrong_type("true, false, \"text\" or \"json\"");
    }
    return {};
}

/// One disk a line.
Result<> read_disks(const Entry& entry, std::optional<std::vector<DiskSettings>>& out) {
    const auto text = entry.value.value_exact<std::string>();
    if (!text) return entry.wrong_type("a string, with one disk a line");
    std::vector<DiskSettings> disks;
    for (std::string_view rest = *text; !rest.empty();) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        if (line.empty()) continue;
        auto disk = parse_disk(line, entry.where());
        if (!disk) return tl::unexpected(disk.error());
        disks.push_back(std::move(*disk));
    }
    out = std::move(disks);
    return {};
}

Result<> read_completions(const Entry& entry, std::optional<monitor::CompletionPolicy>& out) {
    const auto text = entry.value.value_exact<std::string>();
    if (!text) return entry.wrong_type("a string");
    auto policy = monitor::parse_completion_policy(*text, entry.where());
    if (!policy) return tl::unexpected(policy.error());
    out = *policy;
    return {};
}

Result<> read_log_level(const Entry& entry, std::optional<std::string>& out) {
    const auto text = entry.value.value_exact<std::string>();
    if (!text || !is_log_level(*text)) {
        return usage_error("{} must be one of {}", entry.where(), fmt::join(log_levels, ", "));
    }
    out = *text;
    return {};
}

Result<> read_flag(const Entry& entry, std::optional<bool>& out) {
    const auto flag = entry.value.value_exact<bool>();
    if (!flag) return entry.wrong_type("true or false");
    out = *flag;
    return {};
}

Result<> read_entry(const Entry& entry, MachineSettings& settings) {
    if (entry.name == "kernel") return read_string(entry, settings.kernel);
    if (entry.name == "initrd") return read_string(entry, settings.initrd);
    if (entry.name == "append") return read_string(entry, settings.append);
    if (entry.name == "memory") return read_memory(entry, settings.memory);
    if (entry.name == "disk") return read_disks(entry, settings.disks);
    if (entry.name == "completions") return read_completions(entry, settings.completions);
    if (entry.name == "stats") return read_stats(entry, settings.stats);
    if (entry.name == "log-level") return read_log_level(entry, settings.log_level);
    if (entry.name == "no-reboot") return read_flag(entry, settings.no_reboot);
    if (entry.name == "no-seccomp") return read_flag(entry, settings.no_seccomp);
    return usage_error(
        "{}:{}: there is no option '{}'; there are kernel, initrd, append, memory, disk, "
        "completions, stats, log-level, no-reboot and no-seccomp",
        entry.path, entry.line, entry.name);
}

/// Takes one well-formed UTF-8 character (RFC 3629) from the front of `text`.
std::optional<char32_t> take_character(std::string_view& text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const std::size_t length = byte(0) < 0x80   ? 1
                               : byte(0) < 0xc2 ? 0
                               : byte(0) < 0xe0 ? 2
                               : byte(0) < 0xf0 ? 3
                               : byte(0) < 0xf5 ? 4
                                                : 0;
    if (length == 0 || length > text.size()) return std::nullopt;
    char32_t character = length == 1 ? byte(0) : byte(0) & (0xffU >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return std::nullopt;
        character = character << 6 | (byte(i) & 0x3fU);
    }
    constexpr std::array<char32_t, 5> smallest = {0, 0, 0x80, 0x800, 0x10000};
    if (character < smallest[length] || character > 0x10ffff ||
        (character >= 0xd800 && character < 0xe000))
        return std::nullopt;
    text.remove_prefix(length);
    return character;
}

/// The same TOML in ASCII, line by line. toml++ 3.3 has undefined behaviour for some files: its
/// tables of white space reach a TOML_UNREACHABLE at U+00A1 to U+0499
/// (is_non_ascii_horizontal_whitespace), and a header such as `[[[a]` fails an assertion in
/// parse_key. So other characters become escapes in strings with one pair of double quotes, and
/// question marks in comments; elsewhere they are refused, as are tables and arrays, since no
/// option is one.
Result<std::string> to_ascii(std::string_view text, const std::string& path) {
    constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
    constexpr std::size_t shown = 40;
    if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
    std::string out;
    unsigned line = 1;
    std::size_t line_begin = 0; // in `out`
    char within = 0;            // '#' in a comment, a quote in a string
    std::size_t quotes = 0;     // of the string: 1 or 3
    while (!text.empty()) {
        const std::string_view rest = text;
        const auto character = take_character(text);
        if (!character) return usage_error("{}:{}: this line is not UTF-8", path, line);
        if (*character >= 0x80) {
            if (within == '#')
                out += '?';
            else if (within == '"' && quotes == 1)
                out += fmt::format("\\U{:08x}", static_cast<u32>(*character));
            else
                return usage_error("{}:{}: only comments and strings in \"double quotes\" may hold "
                                   "characters beyond ASCII",
                                   path, line);
            continue;
        }
        const char c = rest.front();
        const std::size_t same = std::min(rest.find_first_not_of(c), rest.size());
        std::size_t taken = 1;
        if (within == 0) {
            const bool date =
                c == ':' || (c == '-' && !out.empty() && out.back() >= '0' && out.back() <= '9');
            if (c == '[' || c == '{' || date) {
                const auto line_end = std::min(rest.find_first_of("\r\n"), rest.size());
                const std::string words = out.substr(line_begin).append(rest, 0, line_end);
                return usage_error("{}:{}: no option is a table, an array or a date, as in '{}'",
                                   path, line, words.substr(0, shown));
            }
            if (c == '#' || c == '"' || c == '\'') {
                within = c;
                quotes = c != '#' && same >= 3 ? 3 : 1;
                taken = quotes;
            }
        } else if (quotes == 1 && (c == '\n' || c == '\v' || c == '\f' || c == '\r')) {
            within = 0; // of a string: that is an error, and the parser's to tell
        } else if (c == '\\' && within == '"' && rest.size() > 1 &&
                   (rest[1] == '\\' || rest[1] == '"')) {
            taken = 2;
        } else if (c == within && c != '#' && same >= quotes) {
            // The end of a multi-line string may have two quotes before it that belong to it.
            taken = quotes == 1 ? 1 : std::min<std::size_t>(same, 5);
            within = 0;
        }
        out += rest.substr(0, taken);
        text = rest.substr(taken);
        if (c == '\n') {
            ++line;
            line_begin = out.size();
        }
    }
    return out;
}

} // namespace

Result<MachineSettings> read_config_file(const std::string& path) {
    const auto contents = guest::read_host_file(path, "--config", largest_config_file);
    if (!contents) return tl::unexpected(contents.error());
    const std::string_view text(reinterpret_cast<const char*>(contents->data()), contents->size());
    const auto ascii = to_ascii(text, path);
    if (!ascii) return tl::unexpected(ascii.error());
    const toml::parse_result parsed = toml::parse(std::string_view(*ascii), path);
    if (!parsed) {
        return usage_error("{}:{}: {}", path, parsed.error().source().begin.line,
                           std::string_view(parsed.error().description()));
    }
    MachineSettings settings;
    for (const auto& [key, value] : parsed.table()) {
        const Entry entry{path, std::string(key.str()), key.source().begin.line, value};
        if (const auto read = read_entry(entry, settings); !read)
            return tl::unexpected(read.error());
    }
    return settings;
}

} // namespace gnomon::cli
