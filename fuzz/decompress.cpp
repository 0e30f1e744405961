// SPDX-License-Identifier: Apache-2.0
/// @file Compressed kernels: hostile streams in every format, with a limit on what comes out; and
/// sound streams, which must come out whole.
#include "guest/boot/decompress.h"
#include "fuzz/support/input.h"

#include <array>
#include <lz4.h>
#include <lzma.h>
#include <vector>
#include <zlib.h>
#include <zstd.h>

using namespace gnomon;
using namespace gnomon::fuzz;
using guest::Compression;

namespace {

using Bytes = std::vector<std::byte>;

const u8* raw(const Bytes& bytes) { return reinterpret_cast<const u8*>(bytes.data()); }
u8* raw(Bytes& bytes) { return reinterpret_cast<u8*>(bytes.data()); }

Bytes gzip(const Bytes& in) {
    Bytes out(compressBound(in.size()) + 64);
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
Bytes xz(const Bytes& in) {
    Bytes out(lzma_stream_buffer_bound(in.size()));
    std::size_t used = 0;
    require(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, nullptr, raw(in), in.size(), raw(out),
                                    &used, out.size()) == LZMA_OK,
            "liblzma");
    out.resize(used);
    return out;
}
Bytes zstd(const Bytes& in) {
    Bytes out(ZSTD_compressBound(in.size()));
    out.resize(ZSTD_compress(out.data(), out.size(), in.data(), in.size(), 1));
    return out;
}
Bytes lz4(const Bytes& in) {
    Bytes block(static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(in.size()))));
    const int used = LZ4_compress_default(
        reinterpret_cast<const char*>(in.data()), reinterpret_cast<char*>(block.data()),
        static_cast<int>(in.size()), static_cast<int>(block.size()));
    const std::array<u32, 2> head = {0x184c2102, static_cast<u32>(used)};
    const auto head_bytes = std::as_bytes(std::span(head));
    Bytes out(head_bytes.begin(), head_bytes.end());
    out.insert(out.end(), block.begin(), block.begin() + used);
    return out;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    const u8 what = input.take<u8>();
    const u64 limit = (what & 0x80) != 0 ? u64{1} << 20 : input.take<u16>();
    const auto rest = input.rest();
    Bytes stream(rest.begin(), rest.end());
    if ((what & 7) < 4 && !stream.empty()) {
        // A sound stream of the bytes repeated, so that it grows when it is decompressed.
        Bytes plain;
        for (u8 i = 0; i <= (what >> 3 & 7); ++i)
            plain.insert(plain.end(), stream.begin(), stream.end());
        const Bytes packed = (what & 7) == 0   ? gzip(plain)
                             : (what & 7) == 1 ? xz(plain)
                             : (what & 7) == 2 ? zstd(plain)
                                               : lz4(plain);
        const auto out = guest::decompress(packed, "fuzz", limit);
        require(out.has_value() == (plain.size() <= limit),
                "a sound stream is taken if and only if its contents are within the limit");
        require(!out || *out == plain, "what comes out is not what went in");
        stream = packed;
        // Then the same with a byte wrong.
        stream[limit % stream.size()] ^= std::byte{static_cast<u8>(1U << (what & 7))};
    }
    static_cast<void>(guest::compression_name(guest::detect_compression(stream)));
    const auto out = guest::decompress(stream, "fuzz", limit);
    require(!out || out->size() <= limit, "more comes out than the limit allows");
    require(out || out.error().message.find('\n') == std::string::npos,
            "an error of several lines");
    return 0;
}
