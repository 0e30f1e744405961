// SPDX-License-Identifier: Apache-2.0
/// @file Writes the binary seeds of fuzz/corpus, all of them synthetic:
///
///     fuzz_make_corpus fuzz/corpus
///
/// The texts beside them are written by hand, and what is named after its hash was found by
/// libFuzzer and kept for the code that it reaches (scripts/fuzz.sh --minimise).
#include "fuzz/support/compress.h"
#include "tests/guest_boot/images.h"
#include "tests/guest_linux/image_builder.h"

#include <filesystem>
#include <fmt/format.h>
#include <fstream>

using namespace gnomon;
using fuzz::Plain;
namespace boot = guest::test;
namespace kernel = guest::linux_::test;

namespace {

class Corpus {
public:
    explicit Corpus(std::filesystem::path folder) : m_folder(std::move(folder)) {}

    void write(const std::string& target, const std::string& name, const Plain& bytes) const {
        std::filesystem::create_directories(m_folder / target);
        std::ofstream file(m_folder / target / name, std::ios::binary);
        file.write(reinterpret_cast<const char*>(bytes.data()),
                   static_cast<std::streamsize>(bytes.size()));
        if (!file.flush()) throw std::runtime_error("cannot write " + target + "/" + name);
    }

private:
    std::filesystem::path m_folder;
};

void write_kernel_images(const Corpus& corpus) {
    boot::BzImageSpec spec;
    spec.payload = boot::elf_like(100);
    corpus.write("kernel_image", "bzimage-relocatable", boot::make_bz_image(spec));
    spec.relocatable = 0;
    spec.preferred_address = 0x200000;
    spec.setup_sects = 1;
    corpus.write("kernel_image", "bzimage-fixed", boot::make_bz_image(spec));
    const Plain code(40, std::byte{0xf4});
    corpus.write("kernel_image", "elf-one-segment",
                 boot::make_elf(0x200000, {{0x200000, 0x200000, 0x3000, code}}));
    corpus.write("kernel_image", "elf-two-segments",
                 boot::make_elf(0x100010, {{0x300000, 0xffffffff80300000, 64, code},
                                           {0x100000, 0xffffffff80100000, 0x1000, code}}));
}

void write_streams(const Corpus& corpus) {
    const Plain plain = boot::bytes_of("the same again, the same again, and something else");
    const Plain elf = boot::elf_like(300);
    const auto write = [&](const std::string& name, std::initializer_list<u8> head,
                           const Plain& body) {
        Plain out;
        for (const u8 byte : head)
            out.push_back(std::byte{byte});
        out.insert(out.end(), body.begin(), body.end());
        corpus.write("decompress", name, out);
    };
    // Sound ones, made by the target: the format, and the limit below and above what comes out.
    for (const unsigned format : {0U, 1U, 2U, 3U}) {
        write(fmt::format("sound-{}", format), {static_cast<u8>(format | 0x80)}, plain);
        write(fmt::format("sound-{}-limited", format), {static_cast<u8>(format | 0x38), 20, 0},
              plain);
    }
    write("raw-gzip", {0x84}, fuzz::gzip(elf));
    write("raw-xz", {0x84}, fuzz::xz(elf));
    write("raw-zstd", {0x84}, fuzz::zstd(elf));
    write("raw-lz4", {0x84}, fuzz::lz4(elf));
    write("raw-elf", {0x84}, elf);
    // What grows a thousandfold, beyond the limit.
    const Plain zeros(u64{1} << 20 | 100);
    write("bomb-gzip", {0x84}, fuzz::gzip(zeros));
    write("bomb-xz", {0x84}, fuzz::xz(zeros));
    write("bomb-zstd", {0x84}, fuzz::zstd(zeros));
    write("bomb-lz4", {0x84}, fuzz::lz4(zeros));
}

/// Enough symbols for two markers, and the names that matter.
std::vector<kernel::BuiltSymbol> few_symbols(kernel::KallsymsLayout layout) {
    std::vector<kernel::BuiltSymbol> out;
    u64 fillers = 0;
    for (const kernel::BuiltSymbol& symbol : kernel::small_kernel_symbols(layout)) {
        const bool filler = symbol.name.starts_with("filler") || symbol.name.size() > 100;
        if (filler && ++fillers > 250) continue;
        out.push_back(symbol);
        if (filler) out.back().name = fmt::format("f{}", fillers);
    }
    return out;
}

void write_kernel_knowledge(const Corpus& corpus) {
    using Layout = kernel::KallsymsLayout;
    corpus.write("btf", "small-kernel", kernel::small_kernel_btf());
    kernel::BtfBuilder tiny;
    const u32 number = tiny.integer("int", 4);
    tiny.composite(4, "u", 4, {{"a", number, 0}, {"b", number, 3, 5}});
    corpus.write("btf", "tiny", tiny.build());

    const Gva base(0xffff'ffff'8110'0000);
    constexpr std::pair<const char*, Layout> layouts[] = {
        {"v5.0", Layout::v5_0},
        {"v6.2", Layout::v6_2},
        {"v6.4", Layout::v6_4},
        {"v6.15", Layout::v6_15},
        {"v7.0", Layout::v7_0},
        {"absolute-first", Layout::absolute_first},
        {"absolute-last", Layout::absolute_last}};
    for (const auto& [name, layout] : layouts)
        corpus.write("kallsyms", name, kernel::build_kallsyms(few_symbols(layout), layout, base));

    const Gva text(0xffff'ffff'8100'0000);
    for (const auto& [name, layout] : {layouts[0], layouts[4]})
        corpus.write(
            "kernel_info", name,
            kernel::build_elf(
                {{".text", text, Plain(16)},
                 {".banner", text + 0x30000, boot::bytes_of("Linux version 6.1.0-test (a@b) #1")},
                 {".rodata", base, kernel::build_kallsyms(few_symbols(layout), layout, base)},
                 {".BTF", text + 0x31000, kernel::small_kernel_btf()}},
                layout == Layout::v5_0));
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        fmt::print(stderr, "usage: {} FOLDER\n", argv[0]);
        return 2;
    }
    const Corpus corpus(argv[1]);
    write_kernel_images(corpus);
    write_streams(corpus);
    write_kernel_knowledge(corpus);
    return 0;
}
