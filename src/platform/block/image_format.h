// SPDX-License-Identifier: Apache-2.0
/// @file What an image file is, by its first bytes, and what a disk's location names. Input of the
/// user and, since a guest writes its own disk, of a hostile guest.
#pragma once

#include "base/result.h"
#include "base/types.h"

#include <span>
#include <string>
#include <string_view>

namespace gnomon::platform {

enum class ImageKind : u8 {
    raw,   ///< nothing else
    qcow2, ///< version 2 or later
    other, ///< a format that would be destroyed if it were taken for a raw disk
};

struct ImageHead {
    ImageKind kind = ImageKind::raw;
    /// For the user: "VMDK image"; empty for raw.
    std::string_view name{};
    /// qcow2: it says that contents lie in other files, which it names.
    bool names_other_files = false;
};

/// How much of both ends of a file `recognise_image` looks at.
inline constexpr std::size_t image_head_bytes = 512;

/// @param head the file's first `image_head_bytes`, or all of a shorter one.
/// @param tail its last ones.
[[nodiscard]] ImageHead recognise_image(std::span<const std::byte> head,
                                        std::span<const std::byte> tail);

enum class LocationKind : u8 {
    file, ///< a path
    nbd,  ///< an nbd:// or nbd+unix:// URI
};

/// Tells files from servers. A path that looks like a URI can be written as ./PATH.
/// @return an error that names the way out for URIs of any other scheme.
[[nodiscard]] Result<LocationKind> parse_location(std::string_view location);

} // namespace gnomon::platform
