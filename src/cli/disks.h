// SPDX-License-Identifier: Apache-2.0
/// @file Disks as the user names them: --disk FILE[,OPTION...].
#pragma once

#include "base/result.h"
#include "monitor/machine.h"
#include "platform/block/open_disk.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gnomon::cli {

struct DiskSettings {
    std::string location; ///< a file, or what else `platform::open_disk` takes
    monitor::DiskModel model = monitor::DiskModel::virtio;
    platform::DiskFormat format = platform::DiskFormat::automatic;
    bool read_only = false;
    std::optional<std::string> serial;            ///< 1 to 20 printable characters
    std::optional<platform::DiskProfile> profile; ///< the model's own unless given
    friend bool operator==(const DiskSettings&, const DiskSettings&) = default;
};

/// FILE[,model=MODEL][,format=raw|qcow2|auto][,readonly][,serial=TEXT][,profile=PROFILE]. A
/// comma in the file's name is doubled.
/// @param where the option, or the place in a file, for complaints.
[[nodiscard]] Result<DiskSettings> parse_disk(std::string_view text, std::string_view where);

/// Opens and locks what the disks are made of. Failures of the host while the machine runs go to
/// the log.
[[nodiscard]] Result<std::vector<monitor::Disk>> open_disks(const std::vector<DiskSettings>& disks);

} // namespace gnomon::cli
