// SPDX-License-Identifier: Apache-2.0
/// @file Opens what holds a disk's contents.
#pragma once

#include "base/result.h"
#include "platform/block/block_back_end.h"
#include "platform/block/disk_reports.h"

#include <memory>
#include <string>

namespace gnomon::platform {

enum class DiskFormat : u8 {
    /// By the first bytes. Formats that are not served here are refused, and so are qcow2 images
    /// that name other files.
    automatic,
    raw,
    qcow2, ///< with whatever files it names
};

/// How raw disks reach the host.
enum class HostIo : u8 {
    automatic, ///< io_uring, or threads where it is forbidden
    io_uring,  ///< or an error
    threads,
};

struct DiskOptions {
    bool read_only = false;
    DiskFormat format = DiskFormat::automatic;
    HostIo io = HostIo::automatic;
    /// Past the host's page cache, where that is possible.
    bool direct = true;
    /// Gets lines about what goes wrong: from within `open_disk`, `reap` and the destructor.
    DiskReport report{};
};

/// @param location a path, or an nbd:// or nbd+unix:// URI. qcow2 images are served by a qemu-nbd
/// that is started here and ends with the back end. To be called before the process gives up files
/// and system calls, and makes no thread that would escape that.
/// @return an error of one line that names the location and the way out.
[[nodiscard]] Result<std::unique_ptr<BlockBackEnd>> open_disk(const std::string& location,
                                                              const DiskOptions& options);

} // namespace gnomon::platform
