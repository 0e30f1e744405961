// SPDX-License-Identifier: Apache-2.0
/// @file A file or block device of the host as a raw disk: opened, checked and locked.
#pragma once

#include "base/file_descriptor.h"
#include "base/result.h"
#include "platform/block/disk_reports.h"
#include "platform/block/image_format.h"
#include "platform/block/request_steps.h"

#include <memory>
#include <string>

namespace gnomon::platform {

/// Sizes are multiples of 512 up to this: what 48-bit block addresses reach.
inline constexpr u64 largest_disk = u64{1} << 57;

struct DiskFile {
    std::string path;
    FileDescriptor descriptor;
    /// Holds the locks, by an opening of its own: the kernel closes what io_uring has registered
    /// only some time after the end of the ring or of the process, and locks would live as long.
    FileDescriptor lock;
    bool device = false; ///< a block device
    ImageHead head;
    HostTraits traits;
};

/// Opens a regular file or a block device, for writing unless `read_only`, and looks at what it is.
/// Block devices are opened exclusively for writing: mounted ones are refused.
/// @return an error of one line that names the file and the way out.
[[nodiscard]] Result<std::unique_ptr<DiskFile>> open_disk_file(const std::string& path,
                                                               bool read_only);

/// Checks that the file can be a raw disk, locks it and finds out what it can do.
///
/// The locks are open file description locks of the ranges in which QEMU locks its images, so that
/// the two see each other. Read-only disks do not disturb each other. Where the file system has no
/// locks, `reports` says so.
/// @param direct past the host's page cache, if any request of whole sectors can be served so.
[[nodiscard]] Result<> make_raw_disk(DiskFile& file, bool direct, DiskReports& reports);

/// Whether the file system takes O_DIRECT at all.
[[nodiscard]] bool direct_possible(const DiskFile& file);

} // namespace gnomon::platform
