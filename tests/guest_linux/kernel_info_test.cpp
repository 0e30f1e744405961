// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/kernel_info.h"

#include "image_builder.h"
#include "mutation.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::guest::linux_::test {
namespace {

constexpr Gva base(0xffff'ffff'8100'0000);

TEST(KernelInfo, LearnsEverythingFromASmallKernel) {
    for (const bool with_section_table : {true, false}) {
        const auto info =
            KernelInfo::from_vmlinux(small_kernel(KallsymsLayout::v5_0, with_section_table));
        ASSERT_TRUE(info) << info.error().message;
        EXPECT_THAT(info->missing, testing::IsEmpty());
        EXPECT_EQ(info->release, "6.1.0-test+1");
        EXPECT_EQ(info->symbols.text, base);
        EXPECT_EQ(info->symbols.entry_syscall_64, base + 0x21200);
        EXPECT_EQ(info->symbols.entry_int80, base + 0x21800);
        EXPECT_FALSE(info->symbols.entry_syscall_64_trampoline);
        EXPECT_EQ(info->task.pid, 16u);
        EXPECT_EQ(info->registers.orig_ax, 120u);
        EXPECT_EQ(info->registers.size, 168u);
        EXPECT_EQ(info->signal.number, 80u);
        EXPECT_EQ(info->signal.info, 32u);
        EXPECT_EQ(info->pid.upid_bytes, 16u);
        ASSERT_TRUE(info->current_task);
        EXPECT_EQ(info->current_task->address(Gva(0xffff'8880'0000'0000), 0x1000000),
                  Gva(0xffff'8880'0001'fb80))
            << "an offset in the per-CPU area does not slide";
    }
}

TEST(KernelInfo, PerCpuVariablesLinkedIntoTheImageSlide) {
    const auto info = KernelInfo::from_vmlinux(small_kernel(KallsymsLayout::v7_0));
    ASSERT_TRUE(info) << info.error().message;
    ASSERT_TRUE(info->current_task);
    // The base then is the distance from the image's copy to the CPU's own.
    const u64 slide = 0x1e00000;
    const Gva own(0xffff'8880'3fc0'3000);
    const Gva distance(own - (base + 0x43000 + slide));
    EXPECT_EQ(info->current_task->address(distance, slide), own);
}

TEST(KernelInfo, CurrentTaskAmongTheHotOnes) {
    auto symbols = small_kernel_symbols(KallsymsLayout::v6_4);
    ASSERT_EQ(symbols[1].name, "current_task");
    symbols[1].name = "pcpu_hot";
    const Gva rodata(base + 0x100000);
    const auto info = KernelInfo::from_vmlinux(
        build_elf({{".rodata", rodata, build_kallsyms(symbols, KallsymsLayout::v6_4, rodata)}}));
    ASSERT_TRUE(info) << info.error().message;
    ASSERT_TRUE(info->current_task);
    EXPECT_EQ(info->current_task->value, 0x1fb80u);
}

TEST(KernelInfo, ListsWhatIsMissing) {
    auto symbols = small_kernel_symbols(KallsymsLayout::v5_0);
    for (auto& symbol : symbols)
        if (symbol.name == "getname_flags") symbol.name = "getname_flogs";
    const Gva rodata(base + 0x100000);
    const auto info = KernelInfo::from_vmlinux(
        build_elf({{".rodata", rodata, build_kallsyms(symbols, KallsymsLayout::v5_0, rodata)}}));
    ASSERT_TRUE(info) << info.error().message;
    EXPECT_FALSE(info->symbols.getname_flags);
    EXPECT_FALSE(info->task.pid);
    EXPECT_EQ(info->btf, nullptr);
    EXPECT_THAT(info->missing, testing::UnorderedElementsAre("symbol getname_flags",
                                                             testing::StartsWith("all members: ")));
}

TEST(KernelInfo, AnyElfIsAKernelOfWhichLittleIsKnown) {
    const auto info = KernelInfo::from_vmlinux(build_elf({{".text", base, Bytes(4096)}}));
    ASSERT_TRUE(info) << info.error().message;
    EXPECT_EQ(info->missing.size(), 2u);
    EXPECT_FALSE(info->slide_from(base));
    EXPECT_FALSE(KernelInfo::from_vmlinux({}));
    EXPECT_FALSE(KernelInfo::from_vmlinux(Bytes(1000)));
}

TEST(KernelInfo, SlideOnlyWhereKaslrCanMoveTo) {
    const auto info = KernelInfo::from_vmlinux(small_kernel());
    ASSERT_TRUE(info);
    const Gva entry = *info->symbols.entry_syscall_64;
    EXPECT_EQ(info->slide_from(entry), 0u);
    EXPECT_EQ(info->slide_from(entry + 0x1e00000), 0x1e00000u);
    EXPECT_FALSE(info->slide_from(entry + 0x1000)) << "not a multiple of 2 MiB";
    EXPECT_FALSE(info->slide_from(entry - 0x200000)) << "below the link address";
    EXPECT_FALSE(info->slide_from(Gva(0)));
    EXPECT_FALSE(info->slide_from(Gva(0xffff'8880'0000'0000)));
    // The last place where _end (base + 0x50000) still is below the modules' area, and the next.
    const u64 last = 0x3ee00000;
    EXPECT_EQ(info->slide_from(entry + last), last);
    EXPECT_FALSE(info->slide_from(entry + (last + 0x200000)));
    EXPECT_EQ(info->slide_from(*info->symbols.init_task, *info->symbols.init_task + 0x200000),
              0x200000u);
}

TEST(KernelInfo, DamagedImagesDoNoHarm) {
    const Bytes sound = small_kernel();
    Mutator mutate(3);
    unsigned read = 0;
    unsigned complete = 0;
    constexpr unsigned rounds = 3'000;
    for (unsigned i = 0; i < rounds; ++i) {
        const Bytes damaged = i % 2 == 0 ? mutate(sound, 0, 64 + 4 * 56)
                                         : mutate(sound, sound.size() - 7 * 64, sound.size());
        const auto info = KernelInfo::from_vmlinux(damaged);
        if (!info) continue;
        ++read;
        complete += info->missing.empty();
        EXPECT_LE(info->release.size(), 64u);
        static_cast<void>(info->slide_from(Gva(0xffff'ffff'9e00'0000)));
    }
    EXPECT_GT(read, rounds / 50);
    EXPECT_LT(read, rounds);
    EXPECT_LT(complete, read);
}

} // namespace
} // namespace gnomon::guest::linux_::test
