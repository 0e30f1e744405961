// SPDX-License-Identifier: Apache-2.0
/// @file Decompression of a kernel image's payload, in the formats that Linux for x86 builds.
#pragma once

#include "base/result.h"
#include "base/types.h"

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace gnomon::guest {

enum class Compression : u8 {
    none,  ///< an ELF file as it is
    gzip,  ///< RFC 1952
    xz,    ///< .xz; kernels use the x86 BCJ filter and LZMA2
    lzma,  ///< the older "LZMA alone" format
    zstd,  ///< RFC 8878
    lz4,   ///< LZ4's legacy frame: blocks of at most 8 MiB, without checksums
    bzip2, ///< recognised, for the error message; not supported
    lzo,   ///< recognised, for the error message; not supported
    unknown,
};

[[nodiscard]] Compression detect_compression(std::span<const std::byte> payload);
[[nodiscard]] const char* compression_name(Compression compression);

/// What `payload` decompresses to. Bytes after the compressed stream are ignored: the kernel's
/// build appends the uncompressed size there.
/// @param name the file, for error messages.
/// @param limit an upper bound in bytes for the output, so that a hostile file cannot fill the
/// host.
[[nodiscard]] Result<std::vector<std::byte>> decompress(std::span<const std::byte> payload,
                                                        std::string_view name, u64 limit);

} // namespace gnomon::guest
