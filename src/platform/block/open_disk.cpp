// SPDX-License-Identifier: Apache-2.0
#include "platform/block/open_disk.h"

#include "platform/block/disk_file.h"
#include "platform/block/image_format.h"
#include "platform/block/thread_back_end.h"
#include "platform/block/uring_back_end.h"

#include <utility>

namespace gnomon::platform {

namespace {

Result<std::unique_ptr<BlockBackEnd>> open_raw(std::unique_ptr<DiskFile> file,
                                               const DiskOptions& options) {
    auto reports = std::make_unique<DiskReports>(file->path, options.report);
    if (auto good = make_raw_disk(*file, options.direct, *reports); !good)
        return tl::unexpected(good.error());
    if (options.io != HostIo::threads) {
        auto ring = UringBackEnd::create(file, reports);
        if (ring) return ring;
        if (options.io == HostIo::io_uring)
            return fail("disk {}: io_uring cannot be used here: {}; let threads do it (io=threads)",
                        file->path, ring.error().message);
    }
    return ThreadBackEnd::create(std::move(file), std::move(reports));
}

} // namespace

Result<std::unique_ptr<BlockBackEnd>> open_disk(const std::string& location,
                                                const DiskOptions& options) {
    const auto kind = parse_location(location);
    if (!kind) return tl::unexpected(kind.error());
    auto file = open_disk_file(location, options.read_only);
    if (!file) return tl::unexpected(file.error());
    const ImageHead& head = (*file)->head;
    if (options.format == DiskFormat::automatic && head.kind != ImageKind::raw)
        return usage_error("disk {}: it is a {}; convert it (qemu-img convert -O raw), or add "
                           "format=raw if it is a disk that only looks like one",
                           location, head.name);
    return open_raw(std::move(*file), options);
}

} // namespace gnomon::platform
