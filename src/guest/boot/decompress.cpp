// SPDX-License-Identifier: Apache-2.0
#include "guest/boot/decompress.h"

#include "guest/boot/little_endian.h"

#include <algorithm>
#include <array>
#include <limits>
#include <lz4.h>
#include <lzma.h>
#include <memory>
#include <zlib.h>
#include <zstd.h>

namespace gnomon::guest {

namespace {

using Bytes = std::vector<std::byte>;
using Input = std::span<const std::byte>;

/// Output grows in steps of this many bytes; streams are decoded straight into it.
constexpr std::size_t output_step = std::size_t{4} << 20;
/// More than any kernel's dictionary (xz: 32 MiB; zstd: 128 MiB), less than a host can miss.
constexpr u64 decoder_memory_limit = u64{512} << 20;
constexpr u32 lz4_legacy_magic = 0x184c2102;
constexpr u64 lz4_legacy_block = u64{8} << 20;

auto corrupt(std::string_view name, Compression compression) {
    return fail("{}: its {} payload is damaged or cut short; get a fresh copy of the kernel", name,
                compression_name(compression));
}

auto too_large(std::string_view name, u64 limit) {
    return fail("{}: its payload decompresses to more than {} bytes; is it a kernel?", name, limit);
}

/// Makes room for another step of output. False at the limit.
bool extend(Bytes& out, std::size_t used, u64 limit) {
    if (used >= limit) return false;
    out.resize(static_cast<std::size_t>(std::min<u64>(limit, u64{used} + output_step)));
    return true;
}

Result<Bytes> decompress_gzip(Input payload, std::string_view name, u64 limit) {
    z_stream stream{};
    if (::inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK)
        return fail("{}: cannot start zlib; is the host out of memory?", name);
    const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, ::inflateEnd);
    if (payload.size() > std::numeric_limits<uInt>::max()) return too_large(name, limit);
    // SAFETY: zlib's interface is not const-correct; it does not write through next_in.
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(payload.data()));
    stream.avail_in = static_cast<uInt>(payload.size());
    Bytes out;
    std::size_t used = 0;
    for (;;) {
        if (used == out.size() && !extend(out, used, limit)) return too_large(name, limit);
        const std::size_t room = out.size() - used;
        stream.next_out = reinterpret_cast<Bytef*>(out.data() + used);
        stream.avail_out = static_cast<uInt>(room);
        const int status = ::inflate(&stream, Z_NO_FLUSH);
        used += room - stream.avail_out;
        if (status == Z_STREAM_END) break;
        if (status != Z_OK || (stream.avail_in == 0 && stream.avail_out != 0))
            return corrupt(name, Compression::gzip);
    }
    out.resize(used);
    return out;
}

Result<Bytes> decompress_lzma(Input payload, std::string_view name, u64 limit, Compression format) {
    lzma_stream stream = LZMA_STREAM_INIT;
    const lzma_ret started = format == Compression::xz
                                 ? ::lzma_stream_decoder(&stream, decoder_memory_limit, 0)
                                 : ::lzma_alone_decoder(&stream, decoder_memory_limit);
    if (started != LZMA_OK)
        return fail("{}: cannot start liblzma; is the host out of memory?", name);
    const std::unique_ptr<lzma_stream, void (*)(lzma_stream*)> end(&stream, ::lzma_end);
    stream.next_in = reinterpret_cast<const u8*>(payload.data());
    stream.avail_in = payload.size();
    Bytes out;
    std::size_t used = 0;
    for (;;) {
        if (used == out.size() && !extend(out, used, limit)) return too_large(name, limit);
        const std::size_t room = out.size() - used;
        stream.next_out = reinterpret_cast<u8*>(out.data() + used);
        stream.avail_out = room;
        const lzma_ret status = ::lzma_code(&stream, LZMA_RUN);
        used += room - stream.avail_out;
        if (status == LZMA_STREAM_END) break;
        if (status != LZMA_OK || (stream.avail_in == 0 && stream.avail_out != 0))
            return corrupt(name, format);
    }
    out.resize(used);
    return out;
}

Result<Bytes> decompress_zstd(Input payload, std::string_view name, u64 limit) {
    const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(::ZSTD_createDCtx(),
                                                                          ::ZSTD_freeDCtx);
    if (context == nullptr) return fail("{}: cannot start zstd; is the host out of memory?", name);
    ZSTD_inBuffer in{payload.data(), payload.size(), 0};
    Bytes out;
    std::size_t used = 0;
    for (;;) {
        if (used == out.size() && !extend(out, used, limit)) return too_large(name, limit);
        ZSTD_outBuffer output{out.data(), out.size(), used};
        const std::size_t status = ::ZSTD_decompressStream(context.get(), &output, &in);
        used = output.pos;
        if (::ZSTD_isError(status) != 0) return corrupt(name, Compression::zstd);
        if (status == 0) break;
        if (in.pos == in.size && output.pos < output.size) return corrupt(name, Compression::zstd);
    }
    out.resize(used);
    return out;
}

Result<Bytes> decompress_lz4(Input payload, std::string_view name, u64 limit) {
    Bytes out;
    u64 offset = sizeof lz4_legacy_magic;
    // The format has no end mark: it ends with the file, here with the four bytes of size that the
    // kernel's build appends. So a size field with nothing behind it is the end, not a block.
    while (payload.size() - offset > sizeof(u32)) {
        const u32 size = read_at<u32>(payload, offset).value_or(0);
        offset += sizeof(u32);
        if (size == lz4_legacy_magic) continue; // a further frame, as `lz4 -l` makes by appending
        if (size == 0 || size > payload.size() - offset ||
            size > static_cast<u64>(LZ4_COMPRESSBOUND(lz4_legacy_block)))
            return corrupt(name, Compression::lz4);
        const std::size_t used = out.size();
        if (used >= limit) return too_large(name, limit);
        const u64 room = std::min<u64>(limit - used, lz4_legacy_block);
        out.resize(used + static_cast<std::size_t>(room));
        const int written =
            ::LZ4_decompress_safe(reinterpret_cast<const char*>(payload.data() + offset),
                                  reinterpret_cast<char*>(out.data() + used),
                                  static_cast<int>(size), static_cast<int>(room));
        if (written < 0)
            return room < lz4_legacy_block ? too_large(name, limit)
                                           : corrupt(name, Compression::lz4);
        out.resize(used + static_cast<std::size_t>(written));
        offset += size;
    }
    if (out.empty()) return corrupt(name, Compression::lz4);
    return out;
}

template <std::size_t size>
bool starts_with(Input payload, const std::array<u8, size>& magic) {
    return payload.size() >= size && std::memcmp(payload.data(), magic.data(), size) == 0;
}

} // namespace

const char* compression_name(Compression compression) {
    switch (compression) {
    case Compression::none: return "uncompressed";
    case Compression::gzip: return "gzip";
    case Compression::xz: return "xz";
    case Compression::lzma: return "lzma";
    case Compression::zstd: return "zstd";
    case Compression::lz4: return "lz4";
    case Compression::bzip2: return "bzip2";
    case Compression::lzo: return "lzo";
    case Compression::unknown: break;
    }
    return "unknown";
}

Compression detect_compression(Input payload) {
    if (starts_with(payload, std::array<u8, 4>{0x7f, 'E', 'L', 'F'})) return Compression::none;
    if (starts_with(payload, std::array<u8, 3>{0x1f, 0x8b, 0x08})) return Compression::gzip;
    if (starts_with(payload, std::array<u8, 6>{0xfd, '7', 'z', 'X', 'Z', 0}))
        return Compression::xz;
    if (starts_with(payload, std::array<u8, 3>{0x5d, 0, 0})) return Compression::lzma;
    if (starts_with(payload, std::array<u8, 4>{0x28, 0xb5, 0x2f, 0xfd})) return Compression::zstd;
    if (starts_with(payload, std::array<u8, 4>{0x02, 0x21, 0x4c, 0x18})) return Compression::lz4;
    if (starts_with(payload, std::array<u8, 3>{'B', 'Z', 'h'})) return Compression::bzip2;
    if (starts_with(payload, std::array<u8, 4>{0x89, 'L', 'Z', 'O'})) return Compression::lzo;
    return Compression::unknown;
}

Result<Bytes> decompress(Input payload, std::string_view name, u64 limit) {
    const Compression compression = detect_compression(payload);
    switch (compression) {
    case Compression::none:
        if (payload.size() > limit) return too_large(name, limit);
        return Bytes(payload.begin(), payload.end());
    case Compression::gzip: return decompress_gzip(payload, name, limit);
    case Compression::xz:
    case Compression::lzma: return decompress_lzma(payload, name, limit, compression);
    case Compression::zstd: return decompress_zstd(payload, name, limit);
    case Compression::lz4: return decompress_lz4(payload, name, limit);
    case Compression::bzip2:
    case Compression::lzo:
    case Compression::unknown: break;
    }
    return fail(
        "{}: its payload has {} compression, which is not supported (gzip, xz, lzma, zstd and "
        "lz4 are); give the ELF vmlinux instead",
        name, compression_name(compression));
}

} // namespace gnomon::guest
