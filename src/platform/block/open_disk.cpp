// SPDX-License-Identifier: Apache-2.0
#include "platform/block/open_disk.h"

#include "platform/block/disk_file.h"
#include "platform/block/image_format.h"
#include "platform/block/nbd_back_end.h"
#include "platform/block/qemu_nbd.h"
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

Result<std::unique_ptr<BlockBackEnd>> open_qcow2(std::unique_ptr<DiskFile> file,
                                                 const DiskOptions& options) {
    const std::string path = file->path;
    // Anybody can write these bytes, such as a guest to its raw disk: what an image names may be
    // read only if the user says that he trusts it.
    if (options.format == DiskFormat::automatic && file->head.names_other_files)
        return usage_error("disk {}: it is a {} that names other files of the host as parts of its "
                           "contents; if you trust it, add format=qcow2",
                           path, file->head.name);
    QemuNbdOptions server_options;
    server_options.read_only = options.read_only;
    server_options.direct = options.direct && direct_possible(*file);
    server_options.io_uring = options.io != HostIo::threads && UringBackEnd::available();
    file.reset(); // it locks the image itself
    auto server = QemuNbd::start(path, server_options);
    if (!server) return tl::unexpected(server.error());
    return NbdBackEnd::adopt(std::move(*server), path, options.read_only, options.report);
}

} // namespace

Result<std::unique_ptr<BlockBackEnd>> open_disk(const std::string& location,
                                                const DiskOptions& options) {
    const auto kind = parse_location(location);
    if (!kind) return tl::unexpected(kind.error());
    if (*kind == LocationKind::nbd) {
        if (options.format == DiskFormat::qcow2)
            return usage_error("disk {}: what a server offers is raw; leave format=qcow2 out",
                               location);
        return NbdBackEnd::connect(location, options.read_only, options.report);
    }
    auto file = open_disk_file(location, options.read_only);
    if (!file) return tl::unexpected(file.error());
    const ImageHead& head = (*file)->head;
    switch (options.format) {
    case DiskFormat::raw: break;
    case DiskFormat::qcow2:
        if (head.kind == ImageKind::qcow2) return open_qcow2(std::move(*file), options);
        return usage_error("disk {}: it is no qcow2 image; leave format=qcow2 out", location);
    case DiskFormat::automatic:
        if (head.kind == ImageKind::qcow2) return open_qcow2(std::move(*file), options);
        if (head.kind == ImageKind::raw) break;
        return usage_error("disk {}: it is a {}; convert it (qemu-img convert -O raw) or unpack "
                           "it, or add format=raw if it is a disk that only looks like one",
                           location, head.name);
    }
    return open_raw(std::move(*file), options);
}

} // namespace gnomon::platform
