// SPDX-License-Identifier: Apache-2.0
/// @file Which kernel and which busybox `gnomon trace` takes when it is not told.
#pragma once

#include "base/result.h"

#include <filesystem>
#include <optional>
#include <string>

namespace gnomon::cli {

/// Where the search looks; the default is this process's own surroundings.
struct SearchPlaces {
    std::optional<std::string> kernel_variable; ///< the environment's GNOMON_KERNEL
    std::filesystem::path fetched;              ///< where scripts/fetch.sh puts things: build/guest
    std::filesystem::path boot = "/boot";
    std::filesystem::path system_busybox = "/bin/busybox";

    /// `fetched` is the folder "guest" beside the executable's own: build/release/gnomon,
    /// build/guest.
    [[nodiscard]] static SearchPlaces of_this_process();
};

/// In this order: `given` (--kernel), GNOMON_KERNEL, the fetched cloud kernel, the newest readable
/// vmlinuz* of /boot by version. One that was named must be readable; those found are passed over
/// if not.
[[nodiscard]] Result<std::string> find_kernel(const std::optional<std::string>& given,
                                              const SearchPlaces& places);

/// In this order: `given` (--busybox), the fetched one, /bin/busybox if it is statically linked.
[[nodiscard]] Result<std::string> find_busybox(const std::optional<std::string>& given,
                                               const SearchPlaces& places);

/// Whether the path is a file, not a folder, that this process may read; says why not, naming
/// `what`.
[[nodiscard]] Result<> check_readable_file(const std::string& path, const char* what);

/// Whether the file is an x86-64 ELF executable that asks for no dynamic loader (no PT_INTERP).
[[nodiscard]] bool is_static_executable(const std::filesystem::path& path);

} // namespace gnomon::cli
