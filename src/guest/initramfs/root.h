// SPDX-License-Identifier: Apache-2.0
/// @file Root file systems for the guest that run one command (guest/init/protocol.h) and power
/// off. The kernel's command line needs `root_kernel_parameters` with them.
#pragma once

#include "base/result.h"
#include "guest/init/protocol.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gnomon::guest {

/// What the kernel's command line must contain for an archive made here.
inline constexpr std::string_view root_kernel_parameters = "rdinit=/.gnomon/init";

/// Larger archives are refused: an initrd must fit into the guest's memory below 3 GiB, twice while
/// the kernel unpacks it.
inline constexpr u64 initramfs_limit = u64{1536} << 20;

/// Packs the directory at `path` as the guest's root, and adds our init and the command below
/// /.gnomon, which init removes again before the command starts. The directory needs nothing
/// special; its own /init and /sbin/init are kept and not run. Files of the calling user belong to
/// root in the guest.
[[nodiscard]] Result<std::vector<std::byte>> pack_root(const std::string& path,
                                                       const CommandSpec& command);

/// The default root, made in memory: a static busybox with a link for each of its applets, users,
/// and the usual directories. /sbin, /usr/bin and /usr/sbin are links to /bin.
/// @param busybox_path of the host's busybox; it is run once, to list its applets.
[[nodiscard]] Result<std::vector<std::byte>> make_busybox_root(const std::string& busybox_path,
                                                               const CommandSpec& command);

/// The applets that `busybox --list` names, or a built-in list where it cannot be run. Names that
/// are no plain file names are left out.
[[nodiscard]] std::vector<std::string> busybox_applets(const std::string& busybox_path);

} // namespace gnomon::guest
