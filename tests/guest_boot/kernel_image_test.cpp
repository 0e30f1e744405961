// SPDX-License-Identifier: Apache-2.0
#include "guest/boot/kernel_image.h"

#include "guest/boot/decompress.h"
#include "images.h"

#include <cstdlib>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lz4hc.h>
#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

namespace gnomon::guest::test {
namespace {

using ::testing::HasSubstr;

Bytes compress_gzip(const Bytes& in) {
    z_stream stream{};
    EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    Bytes out(in.size() + 1024);
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(in.data()));
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

Bytes run_lzma(lzma_stream& stream, const Bytes& in) {
    Bytes out(in.size() + 4096);
    stream.next_in = reinterpret_cast<const u8*>(in.data());
    stream.avail_in = in.size();
    stream.next_out = reinterpret_cast<u8*>(out.data());
    stream.avail_out = out.size();
    EXPECT_EQ(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END);
    out.resize(stream.total_out);
    lzma_end(&stream);
    return out;
}

/// As the kernel's build does it: x86 branch filter, LZMA2, CRC-32.
Bytes compress_xz(const Bytes& in) {
    lzma_options_lzma options;
    EXPECT_EQ(lzma_lzma_preset(&options, 6), 0);
    const lzma_filter filters[] = {
        {LZMA_FILTER_X86, nullptr}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
    lzma_stream stream = LZMA_STREAM_INIT;
    EXPECT_EQ(lzma_stream_encoder(&stream, filters, LZMA_CHECK_CRC32), LZMA_OK);
    return run_lzma(stream, in);
}

Bytes compress_lzma(const Bytes& in) {
    lzma_options_lzma options;
    EXPECT_EQ(lzma_lzma_preset(&options, 6), 0);
    lzma_stream stream = LZMA_STREAM_INIT;
    EXPECT_EQ(lzma_alone_encoder(&stream, &options), LZMA_OK);
    return run_lzma(stream, in);
}

Bytes compress_zstd(const Bytes& in) {
    Bytes out(ZSTD_compressBound(in.size()));
    out.resize(ZSTD_compress(out.data(), out.size(), in.data(), in.size(), 9));
    return out;
}

Bytes compress_lz4(const Bytes& in) {
    Bytes out(4);
    set_field<u32>(out, 0, 0x184c2102);
    for (std::size_t begin = 0; begin < in.size(); begin += 8 << 20) {
        const int size = static_cast<int>(std::min<std::size_t>(8 << 20, in.size() - begin));
        Bytes block(static_cast<std::size_t>(LZ4_compressBound(size)));
        const int count = LZ4_compress_HC(reinterpret_cast<const char*>(in.data() + begin),
                                          reinterpret_cast<char*>(block.data()), size,
                                          static_cast<int>(block.size()), 9);
        const std::size_t end = out.size();
        out.resize(end + 4 + static_cast<std::size_t>(count));
        set_field<u32>(out, end, static_cast<u32>(count));
        std::copy_n(block.begin(), count, out.begin() + static_cast<std::ptrdiff_t>(end + 4));
    }
    return out;
}

struct Format {
    const char* name;
    Compression compression;
    Bytes (*compress)(const Bytes&);
};

const Format formats[] = {
    {"gzip", Compression::gzip, compress_gzip}, {"xz", Compression::xz, compress_xz},
    {"lzma", Compression::lzma, compress_lzma}, {"zstd", Compression::zstd, compress_zstd},
    {"lz4", Compression::lz4, compress_lz4},
};

/// Compressed, with the uncompressed size behind it as the kernel's build has it.
Bytes payload_of(const Format& format, const Bytes& contents) {
    Bytes payload = format.compress(contents);
    const std::size_t end = payload.size();
    payload.resize(end + 4);
    set_field<u32>(payload, end, static_cast<u32>(contents.size()));
    return payload;
}

class Payload : public ::testing::TestWithParam<Format> {};

INSTANTIATE_TEST_SUITE_P(Formats, Payload, ::testing::ValuesIn(formats),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(Payload, IsExtractedFromABzImage) {
    // More than one LZ4 block and several steps of output.
    const Bytes contents = elf_like((std::size_t{9} << 20) + 12345);
    const auto image =
        KernelImage::parse("k", make_bz_image({.payload = payload_of(GetParam(), contents)}));
    ASSERT_TRUE(image) << image.error().message;
    const auto vmlinux = extract_vmlinux(*image);
    ASSERT_TRUE(vmlinux) << vmlinux.error().message;
    EXPECT_TRUE(*vmlinux == contents);
}

TEST_P(Payload, IsRecognised) {
    EXPECT_EQ(detect_compression(GetParam().compress(elf_like(1000))), GetParam().compression);
    EXPECT_STREQ(compression_name(GetParam().compression), GetParam().name);
}

TEST_P(Payload, HasALimit) {
    const Bytes contents = elf_like(100'000);
    const Bytes payload = payload_of(GetParam(), contents);
    EXPECT_TRUE(decompress(payload, "k", contents.size()).has_value());
    const auto refused = decompress(payload, "k", contents.size() - 1);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("more than 99999 bytes"));
}

TEST_P(Payload, CutShortIsAnErrorThatNamesTheFile) {
    const Bytes contents = elf_like(100'000);
    const Bytes payload = GetParam().compress(contents);
    for (std::size_t size = 0; size + 16 < payload.size(); size += payload.size() / 97 + 1) {
        const auto result = decompress(std::span(payload).first(size), "some-kernel", 1 << 20);
        // LZ4's legacy frame cannot tell an end from a cut between two blocks.
        if (result) {
            EXPECT_EQ(GetParam().compression, Compression::lz4) << size;
            continue;
        }
        EXPECT_THAT(result.error().message, HasSubstr("some-kernel"));
    }
}

TEST_P(Payload, DamagedNeverCrashes) {
    const Bytes contents = elf_like(20'000);
    const Bytes payload = payload_of(GetParam(), contents);
    u32 state = 7;
    for (int round = 0; round < 200; ++round) {
        Bytes damaged = payload;
        for (int flips = 0; flips <= round % 4; ++flips) {
            state = state * 1664525 + 1013904223;
            damaged[state % damaged.size()] ^= static_cast<std::byte>(1 + (state >> 24) % 255);
        }
        const auto result = decompress(damaged, "k", 1 << 20);
        EXPECT_LE(result ? result->size() : 0, std::size_t{1} << 20);
    }
}

TEST(Decompress, NamesWhatIsNotSupported) {
    for (const auto& [magic, name] :
         {std::pair{"BZh9", "bzip2"}, std::pair{"\x89LZO", "lzo"}, std::pair{"????", "unknown"}}) {
        const auto result = decompress(bytes_of(magic), "k", 100);
        ASSERT_FALSE(result);
        EXPECT_THAT(result.error().message, HasSubstr(name));
    }
}

TEST(KernelImage, ReadsTheSetupHeader) {
    Bytes file = make_bz_image({.init_size = 0x345000, .payload = Bytes(1000)});
    file.resize(file.size() + 333); // a signature
    const auto image = KernelImage::parse("k", file);
    ASSERT_TRUE(image) << image.error().message;
    EXPECT_EQ(image->format(), KernelImage::Format::bz_image);
    const auto& header = image->setup_header();
    EXPECT_EQ(header.version, 0x020f);
    EXPECT_TRUE(header.relocatable);
    EXPECT_EQ(header.alignment, 0x200000u);
    EXPECT_EQ(header.preferred_address, 0x1000000u);
    EXPECT_EQ(header.init_size, 0x345000u);
    EXPECT_EQ(header.header_end, 0x26cu);
    EXPECT_EQ(header.kernel_offset, 2048u);
    EXPECT_EQ(header.kernel_size, (0x300u + 1000 + 15) / 16 * 16);
    EXPECT_EQ(header.payload_offset, 2048u + 0x300);
    EXPECT_EQ(header.payload_size, 1000u);
}

TEST(KernelImage, RefusesBzImagesThatItCannotEnter) {
    const auto message = [](const BzImageSpec& spec) {
        const auto image = KernelImage::parse("the-file", make_bz_image(spec));
        return image ? std::string("accepted") : image.error().message;
    };
    EXPECT_THAT(message({.version = 0x020b}), HasSubstr("the-file has no 64-bit entry"));
    EXPECT_THAT(message({.xloadflags = 0x7e}), HasSubstr("no 64-bit entry"));
    EXPECT_THAT(message({.loadflags = 0}), HasSubstr("zImage"));
    EXPECT_THAT(message({.alignment = 0}), HasSubstr("damaged"));
    EXPECT_THAT(message({.alignment = 0x300000}), HasSubstr("damaged"));
    EXPECT_EQ(message({}), "accepted");
}

TEST(KernelImage, FindsTheEntryOfAnElfFile) {
    const std::vector<ElfSegment> segments{
        {0x2000000, 0xffffffff82000000, 0x1000, Bytes(16)},
        {0x1000000, 0xffffffff81000000, 0x3000, Bytes(0x2000)},
    };
    const auto physical = KernelImage::parse("k", make_elf(0x1000123, segments));
    ASSERT_TRUE(physical) << physical.error().message;
    EXPECT_EQ(physical->format(), KernelImage::Format::elf64);
    EXPECT_EQ(physical->entry(), 0x1000123u);
    ASSERT_EQ(physical->segments().size(), 2u);
    EXPECT_EQ(physical->segments()[0].physical_address, 0x1000000u);
    EXPECT_EQ(physical->segments()[1].file_size, 16u);
    const auto linear = KernelImage::parse("k", make_elf(0xffffffff82000456, segments));
    ASSERT_TRUE(linear) << linear.error().message;
    EXPECT_EQ(linear->entry(), 0x2000456u);
    const auto nowhere = KernelImage::parse("k", make_elf(0x5000, segments));
    ASSERT_FALSE(nowhere);
    EXPECT_THAT(nowhere.error().message, HasSubstr("entry 0x5000"));
}

TEST(KernelImage, RefusesElfFilesThatAreNotKernels) {
    const auto message = [](Bytes file) {
        const auto image = KernelImage::parse("the-file", std::move(file));
        return image ? std::string("accepted") : image.error().message;
    };
    const ElfSegment segment{0x100000, 0x100000, 0x1000, Bytes(64)};
    const Bytes good = make_elf(0x100000, {segment});
    EXPECT_EQ(message(good), "accepted");
    Bytes file = good;
    set_field<u8>(file, 4, 1); // 32-bit class
    EXPECT_THAT(message(file), HasSubstr("another machine"));
    file = good;
    set_field<u16>(file, 18, 183); // AArch64
    EXPECT_THAT(message(file), HasSubstr("another machine"));
    file = good;
    set_field<u16>(file, 16, 3); // ET_DYN
    EXPECT_THAT(message(file), HasSubstr("ET_EXEC"));
    file = good;
    set_field<u64>(file, 32, ~u64{0} - 10); // e_phoff
    EXPECT_THAT(message(file), HasSubstr("program headers"));
    file = good;
    set_field<u64>(file, 64 + 8, ~u64{0} - 10); // p_offset
    EXPECT_THAT(message(file), HasSubstr("segment 0"));
    file = good;
    set_field<u64>(file, 64 + 40, 63); // p_memsz below p_filesz
    EXPECT_THAT(message(file), HasSubstr("segment 0"));
    EXPECT_THAT(message(make_elf(0x100000, {})), HasSubstr("nothing to load"));
    EXPECT_THAT(message(make_elf(0x100000, {segment, {0x100800, 0, 0x1000, Bytes()}})),
                HasSubstr("overlap"));
    EXPECT_THAT(message(make_elf(0x100000, {{~u64{0} - 10, 0, 0x1000, Bytes()}})),
                HasSubstr("segment 0"));
    EXPECT_THAT(message(bytes_of("#!/bin/sh")), HasSubstr("neither"));
    EXPECT_THAT(message({}), HasSubstr("the-file is neither"));
}

TEST(KernelImage, NamesAFileThatCannotBeRead) {
    const auto missing = KernelImage::open("/no/such/kernel");
    ASSERT_FALSE(missing);
    EXPECT_THAT(missing.error().message, HasSubstr("/no/such/kernel: No such file or directory"));
    EXPECT_THAT(KernelImage::open("/tmp").error().message, HasSubstr("not a regular file"));
    EXPECT_THAT(KernelImage::open("/dev/zero").error().message, HasSubstr("not a regular file"));
}

TEST(KernelImage, CutShortIsAlwaysAnError) {
    const Bytes bz_image = make_bz_image({.payload = Bytes(3000)});
    for (std::size_t size = 0; size + 15 < bz_image.size(); ++size)
        ASSERT_FALSE(KernelImage::parse(
            "k", Bytes(bz_image.begin(), bz_image.begin() + static_cast<long>(size))))
            << size;
    const Bytes elf = make_elf(0x100000, {{0x100000, 0x100000, 5000, Bytes(4000)}});
    for (std::size_t size = 0; size < elf.size(); ++size)
        ASSERT_FALSE(
            KernelImage::parse("k", Bytes(elf.begin(), elf.begin() + static_cast<long>(size))))
            << size;
}

TEST(KernelImage, ExtractsTheVmlinuxOfARealKernel) {
    const char* const path = GNOMON_GUEST_FILES "/cloud/vmlinuz";
    if (::access(path, R_OK) != 0) GTEST_SKIP() << "no " << path << ": run scripts/fetch.sh";
    const auto image = KernelImage::open(path);
    ASSERT_TRUE(image) << image.error().message;
    auto vmlinux = extract_vmlinux(*image);
    ASSERT_TRUE(vmlinux) << vmlinux.error().message;
    const auto inner = KernelImage::parse("vmlinux", std::move(*vmlinux));
    ASSERT_TRUE(inner) << inner.error().message;
    EXPECT_EQ(inner->format(), KernelImage::Format::elf64);
    EXPECT_EQ(inner->segments()[0].physical_address, image->setup_header().preferred_address);
}

} // namespace
} // namespace gnomon::guest::test
