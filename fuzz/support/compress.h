// SPDX-License-Identifier: Apache-2.0
/// @file Sound compressed streams in each format that a kernel's payload may have.
#pragma once

#include "fuzz/support/input.h"

#include <array>
#include <lz4.h>
#include <lzma.h>
#include <vector>
#include <zlib.h>
#include <zstd.h>

namespace gnomon::fuzz {

using Plain = std::vector<std::byte>;

inline const u8* raw(const Plain& bytes) { return reinterpret_cast<const u8*>(bytes.data()); }
inline u8* raw(Plain& bytes) { return reinterpret_cast<u8*>(bytes.data()); }

/// RFC 1952.
[[nodiscard]] inline Plain gzip(const Plain& in) {
    Plain out(compressBound(in.size()) + 64);
    z_stream stream{};
    require(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK, "zlib");
    stream.next_in = const_cast<u8*>(raw(in));
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = raw(out);
    stream.avail_out = static_cast<uInt>(out.size());
    require(deflate(&stream, Z_FINISH) == Z_STREAM_END, "zlib");
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}
/// .xz with LZMA2.
[[nodiscard]] inline Plain xz(const Plain& in) {
    Plain out(lzma_stream_buffer_bound(in.size()));
    std::size_t used = 0;
    require(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, nullptr, raw(in), in.size(), raw(out),
                                    &used, out.size()) == LZMA_OK,
            "liblzma");
    out.resize(used);
    return out;
}
/// RFC 8878.
[[nodiscard]] inline Plain zstd(const Plain& in) {
    Plain out(ZSTD_compressBound(in.size()));
    out.resize(ZSTD_compress(out.data(), out.size(), in.data(), in.size(), 1));
    return out;
}
/// The legacy frame, of one block.
[[nodiscard]] inline Plain lz4(const Plain& in) {
    Plain block(static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(in.size()))));
    const int used = LZ4_compress_default(
        reinterpret_cast<const char*>(in.data()), reinterpret_cast<char*>(block.data()),
        static_cast<int>(in.size()), static_cast<int>(block.size()));
    const std::array<u32, 2> head = {0x184c2102, static_cast<u32>(used)};
    const auto head_bytes = std::as_bytes(std::span(head));
    Plain out(head_bytes.begin(), head_bytes.end());
    out.insert(out.end(), block.begin(), block.begin() + used);
    return out;
}

} // namespace gnomon::fuzz
