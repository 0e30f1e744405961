// SPDX-License-Identifier: Apache-2.0
#include "cli/disks.h"

#include <algorithm>
#include <set>
#include <spdlog/spdlog.h>

namespace gnomon::cli {

namespace {

constexpr std::size_t longest_serial = 20;

/// Takes what comes before the next single comma; double ones become one.
std::string take_part(std::string_view& text) {
    std::string part;
    while (!text.empty()) {
        const char c = text.front();
        text.remove_prefix(1);
        if (c != ',') {
            part += c;
        } else if (text.starts_with(',')) {
            part += c;
            text.remove_prefix(1);
        } else {
            break;
        }
    }
    return part;
}

Result<> apply(DiskSettings& disk, const std::string& option, std::string_view where) {
    const std::size_t equals = option.find('=');
    const std::string name = option.substr(0, equals);
    const std::optional<std::string> value =
        equals == std::string::npos ? std::nullopt : std::optional(option.substr(equals + 1));
    if (name == "model" && value) {
        if (*value == "virtio")
            disk.model = monitor::DiskModel::virtio;
        else if (*value == "nvme")
            disk.model = monitor::DiskModel::nvme;
        else if (*value == "ide")
            disk.model = monitor::DiskModel::ide;
        else
            return usage_error("{} {}: there is no model '{}'; the models are virtio, nvme and ide",
                               where, disk.location, *value);
    } else if (name == "format" && value) {
        if (*value == "raw")
            disk.format = platform::DiskFormat::raw;
        else if (*value == "qcow2")
            disk.format = platform::DiskFormat::qcow2;
        else if (*value == "auto")
            disk.format = platform::DiskFormat::automatic;
        else
            return usage_error(
                "{} {}: there is no format '{}'; the formats are raw, qcow2 and auto", where,
                disk.location, *value);
    } else if (name == "readonly" && !value) {
        disk.read_only = true;
    } else if (name == "serial" && value) {
        const bool printable =
            std::all_of(value->begin(), value->end(), [](char c) { return c > ' ' && c <= '~'; });
        if (value->empty() || value->size() > longest_serial || !printable)
            return usage_error("{} {}: serial '{}': 1 to {} printable ASCII characters are needed",
                               where, disk.location, *value, longest_serial);
        disk.serial = *value;
    } else if (name == "profile" && value) {
        disk.profile = platform::disk_profile_named(*value);
        if (!disk.profile)
            return usage_error("{} {}: there is no profile '{}'; the profiles are {}", where,
                               disk.location, *value, platform::disk_profile_names());
    } else {
        return usage_error("{} {}: there is no option '{}'; there are model=MODEL, format=FORMAT, "
                           "readonly, serial=TEXT and profile=PROFILE, and ',,' is a comma in the "
                           "file's name",
                           where, disk.location, option);
    }
    return {};
}

} // namespace

Result<DiskSettings> parse_disk(std::string_view text, std::string_view where) {
    DiskSettings disk;
    disk.location = take_part(text);
    if (disk.location.empty()) return usage_error("{}: a file's name is needed", where);
    while (!text.empty())
        if (auto applied = apply(disk, take_part(text), where); !applied)
            return tl::unexpected(applied.error());
    return disk;
}

Result<std::vector<monitor::Disk>> open_disks(const std::vector<DiskSettings>& disks) {
    std::vector<monitor::Disk> opened;
    std::set<std::string> serials;
    for (const DiskSettings& disk : disks) {
        platform::DiskOptions options;
        options.read_only = disk.read_only;
        options.format = disk.format;
        options.report = [](const std::string& line) { spdlog::warn("{}", line); };
        auto back_end = platform::open_disk(disk.location, options);
        if (!back_end) return tl::unexpected(back_end.error());
        const std::string serial = disk.serial.value_or(fmt::format("gnomon-{}", opened.size()));
        // Systems tell NVMe subsystems apart by it, and refuse the second of two that are alike.
        if (!serials.insert(serial).second)
            return usage_error("--disk {}: serial={} is another disk's; give it one of its own",
                               disk.location, serial);
        opened.push_back({disk.model, std::move(*back_end), serial, disk.read_only,
                          disk.profile.value_or(monitor::default_profile(disk.model))});
    }
    return opened;
}

} // namespace gnomon::cli
