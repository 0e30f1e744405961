// SPDX-License-Identifier: Apache-2.0
/// @file Compressed kernels: hostile streams in every format, with a limit on what comes out; and
/// sound streams, which must come out whole.
#include "guest/boot/decompress.h"

#include "fuzz/support/compress.h"

using namespace gnomon;
using namespace gnomon::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    const u8 what = input.take<u8>();
    const u64 limit = (what & 0x80) != 0 ? u64{1} << 20 : input.take<u16>();
    const auto rest = input.rest();
    Plain stream(rest.begin(), rest.end());
    if ((what & 7) < 4 && !stream.empty()) {
        // A sound stream of the bytes repeated, so that it grows when it is decompressed.
        Plain plain;
        for (u8 i = 0; i <= (what >> 3 & 7); ++i)
            plain.insert(plain.end(), stream.begin(), stream.end());
        const Plain packed = (what & 7) == 0   ? gzip(plain)
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
