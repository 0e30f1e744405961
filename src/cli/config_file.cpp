// SPDX-License-Identifier: Apache-2.0
#include "cli/config_file.h"

#include "cli/memory_size.h"
#include "guest/boot/host_file.h"

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
    if (entry.name == "stats") return read_stats(entry, settings.stats);
    if (entry.name == "log-level") return read_log_level(entry, settings.log_level);
    if (entry.name == "no-reboot") return read_flag(entry, settings.no_reboot);
    if (entry.name == "no-seccomp") return read_flag(entry, settings.no_seccomp);
    return usage_error(
        "{}:{}: there is no option '{}'; there are kernel, initrd, append, memory, stats, "
        "log-level, no-reboot and no-seccomp",
        entry.path, entry.line, entry.name);
}

} // namespace

Result<MachineSettings> read_config_file(const std::string& path) {
    const auto contents = guest::read_host_file(path, "--config", largest_config_file);
    if (!contents) return tl::unexpected(contents.error());
    const std::string_view text(reinterpret_cast<const char*>(contents->data()), contents->size());
    const toml::parse_result parsed = toml::parse(text, path);
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
