// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/kallsyms.h"

#include "image_builder.h"
#include "mutation.h"

#include <gtest/gtest.h>
#include <tuple>

namespace gnomon::guest::linux_::test {
namespace {

constexpr Gva rodata(0xffff'ffff'8200'0000);

Result<Kallsyms> parse_region(const Bytes& region, Gva address = rodata) {
    const Bytes elf = build_elf({{".rodata", address, region}});
    const auto image = ElfImage::parse(elf);
    if (!image) return tl::unexpected(image.error());
    return Kallsyms::from_vmlinux(*image);
}

class KallsymsLayouts
    : public testing::TestWithParam<std::tuple<KallsymsLayout, KallsymsEncoding>> {};

TEST_P(KallsymsLayouts, EverySymbolComesBack) {
    const auto [layout, encoding] = GetParam();
    // Paddings depend on whether the number of symbols is even.
    for (const std::size_t surplus : {0u, 1u, 2u, 3u}) {
        auto symbols = small_kernel_symbols(layout);
        symbols.resize(symbols.size() - surplus);
        const auto kallsyms = parse_region(build_kallsyms(symbols, layout, rodata));
        ASSERT_TRUE(kallsyms) << kallsyms.error().message;
        EXPECT_EQ(kallsyms->encoding(), encoding);
        ASSERT_EQ(kallsyms->size(), symbols.size());
        for (std::size_t i = 0; i < symbols.size(); ++i) {
            const auto symbol = kallsyms->at(i);
            ASSERT_EQ(symbol.address, Gva(symbols[i].address)) << i;
            ASSERT_EQ(symbol.name, symbols[i].name) << i;
            ASSERT_EQ(symbol.type, symbols[i].type) << i;
            ASSERT_EQ(kallsyms->lookup(symbols[i].name), Gva(symbols[i].address))
                << symbols[i].name;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
    All, KallsymsLayouts,
    testing::Values(std::tuple(KallsymsLayout::v5_0, KallsymsEncoding::base_relative_percpu),
                    std::tuple(KallsymsLayout::v6_2, KallsymsEncoding::base_relative_percpu),
                    std::tuple(KallsymsLayout::v6_4, KallsymsEncoding::base_relative_percpu),
                    std::tuple(KallsymsLayout::v6_15, KallsymsEncoding::base_relative),
                    std::tuple(KallsymsLayout::v7_0, KallsymsEncoding::place_relative),
                    std::tuple(KallsymsLayout::absolute_first, KallsymsEncoding::absolute),
                    std::tuple(KallsymsLayout::absolute_last, KallsymsEncoding::absolute)));

TEST(Kallsyms, LookupKnowsOnlyExactNames) {
    const auto kallsyms = parse_region(
        build_kallsyms(small_kernel_symbols(KallsymsLayout::v5_0), KallsymsLayout::v5_0, rodata));
    ASSERT_TRUE(kallsyms);
    EXPECT_TRUE(kallsyms->lookup("entry_SYSCALL_64"));
    EXPECT_FALSE(kallsyms->lookup("entry_SYSCALL_6"));
    EXPECT_FALSE(kallsyms->lookup("Tentry_SYSCALL_64"));
    EXPECT_FALSE(kallsyms->lookup(""));
}

TEST(Kallsyms, OfSeveralWithOneNameTheLowestIsFound) {
    auto symbols = small_kernel_symbols(KallsymsLayout::v5_0);
    symbols[500].name = symbols[400].name;
    const auto kallsyms = parse_region(build_kallsyms(symbols, KallsymsLayout::v5_0, rodata));
    ASSERT_TRUE(kallsyms);
    EXPECT_EQ(kallsyms->lookup(symbols[500].name), Gva(symbols[400].address));
}

TEST(Kallsyms, SymbolAtNamesTheFunctionThatContains) {
    const auto kallsyms = parse_region(
        build_kallsyms(small_kernel_symbols(KallsymsLayout::v6_15), KallsymsLayout::v6_15, rodata));
    ASSERT_TRUE(kallsyms);
    const auto entry = *kallsyms->lookup("entry_SYSCALL_64");
    const auto location = kallsyms->symbol_at(entry + 0x17);
    ASSERT_TRUE(location);
    EXPECT_EQ(location->symbol.name, "entry_SYSCALL_64");
    EXPECT_EQ(location->offset, 0x17u);
    EXPECT_FALSE(kallsyms->symbol_at(Gva(0x1000))) << "below the first symbol";
    EXPECT_EQ(kallsyms->symbol_at(Gva(~u64{0}))->symbol.name, "_end");
    EXPECT_EQ(kallsyms->at(kallsyms->size()).name, "");
}

TEST(Kallsyms, FoundInSegmentsWhenThereIsNoSectionTable) {
    const Bytes elf = small_kernel(KallsymsLayout::v6_4, false);
    const auto image = ElfImage::parse(elf);
    ASSERT_TRUE(image) << image.error().message;
    ASSERT_FALSE(image->section(".rodata"));
    const auto kallsyms = Kallsyms::from_vmlinux(*image);
    ASSERT_TRUE(kallsyms) << kallsyms.error().message;
    EXPECT_TRUE(kallsyms->lookup("getname_flags"));
}

TEST(Kallsyms, AnImageWithoutTablesIsAnError) {
    EXPECT_FALSE(parse_region(Bytes(100'000)));
    EXPECT_FALSE(parse_region({}));
    Bytes noise;
    Mutator random(7);
    for (unsigned i = 0; i < 500'000; ++i)
        noise.push_back(static_cast<std::byte>(random.below(256)));
    EXPECT_FALSE(parse_region(noise));
}

TEST(Kallsyms, TokenTablesThatLeadNowhereCostLittle) {
    // The digits' tokens over and over, each followed by enough strings to be looked at.
    Bytes region;
    while (region.size() < 4'000'000) {
        append_text(region,
                    std::string_view("0\0001\0002\0003\0004\0005\0006\0007\0008\0009\000", 20));
        region.resize(region.size() + 4);
    }
    EXPECT_FALSE(parse_region(region));
    // Markers everywhere: zero, then rising, then zero again.
    Bytes markers;
    while (markers.size() < 4'000'000)
        for (u32 i = 0; i < 64; ++i)
            append(markers, i * 600);
    const Bytes sound =
        build_kallsyms(small_kernel_symbols(KallsymsLayout::v7_0), KallsymsLayout::v7_0, rodata);
    Bytes both = markers;
    both.insert(both.end(), sound.begin(), sound.end());
    EXPECT_TRUE(parse_region(both, rodata - markers.size()))
        << "found behind all the false markers";
}

TEST(Kallsyms, NamesThatExpandWithoutEndAreRefused) {
    auto symbols = small_kernel_symbols(KallsymsLayout::v5_0);
    symbols[10].name = std::string(512, 'x'); // with its type letter as long as allowed
    ASSERT_TRUE(parse_region(build_kallsyms(symbols, KallsymsLayout::v5_0, rodata)));
    symbols[10].name.clear();
    for (unsigned i = 0; i < 100; ++i)
        symbols[10].name += "filler_function_"; // 1600 bytes from 100 tokens
    EXPECT_FALSE(parse_region(build_kallsyms(symbols, KallsymsLayout::v5_0, rodata)));
}

TEST(Kallsyms, DamagedTablesDoNoHarm) {
    for (const KallsymsLayout layout :
         {KallsymsLayout::v5_0, KallsymsLayout::v6_2, KallsymsLayout::v7_0}) {
        const Bytes sound = build_kallsyms(small_kernel_symbols(layout), layout, rodata);
        Mutator mutate(2);
        unsigned accepted = 0;
        constexpr unsigned rounds = 2'000;
        for (unsigned i = 0; i < rounds; ++i) {
            const auto kallsyms = parse_region(mutate(sound, sound.size() / 2, sound.size()));
            if (!kallsyms) continue;
            ++accepted;
            u64 previous = 0;
            for (std::size_t k = 0; k < kallsyms->size(); ++k) {
                const auto symbol = kallsyms->at(k);
                ASSERT_GE(symbol.address.value(), previous);
                ASSERT_LE(symbol.name.size(), 513u);
                previous = symbol.address.value();
            }
            static_cast<void>(kallsyms->lookup("entry_SYSCALL_64"));
        }
        EXPECT_GT(accepted, rounds / 50);
        EXPECT_LT(accepted, rounds - rounds / 50);
    }
}

} // namespace
} // namespace gnomon::guest::linux_::test
