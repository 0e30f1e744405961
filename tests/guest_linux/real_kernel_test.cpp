// SPDX-License-Identifier: Apache-2.0
/// @file Everything against a distribution's kernel: the one that scripts/fetch.sh leaves, or
/// GNOMON_TEST_KERNEL.
#include "guest/boot/kernel_image.h"
#include "guest/linux/task.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::guest::linux_::test {
namespace {

/// The kernel's memory as it is before it runs, at link-time addresses.
class ImageMemory final : public GuestVirtualMemory {
public:
    explicit ImageMemory(const ElfImage& image) : m_image(image) {}
    [[nodiscard]] bool read(Gva address, std::span<std::byte> out) const override {
        const auto bytes = m_image.at(address, out.size());
        if (!bytes) return false;
        std::memcpy(out.data(), bytes->data(), out.size());
        return true;
    }

private:
    const ElfImage& m_image;
};

class RealKernel : public testing::Test {
protected:
    void SetUp() override {
        const char* chosen = std::getenv("GNOMON_TEST_KERNEL");
        const std::string path = chosen != nullptr ? chosen : GNOMON_FETCHED_KERNEL;
        if (chosen == nullptr && !std::filesystem::exists(path))
            GTEST_SKIP() << "no kernel at " << path
                         << "; run scripts/fetch.sh or set GNOMON_TEST_KERNEL";
        const auto kernel = KernelImage::open(path);
        ASSERT_TRUE(kernel) << kernel.error().message;
        auto extracted = extract_vmlinux(*kernel);
        ASSERT_TRUE(extracted) << extracted.error().message;
        vmlinux = std::move(*extracted);
        auto learnt = KernelInfo::from_vmlinux(vmlinux);
        ASSERT_TRUE(learnt) << learnt.error().message;
        info = std::move(*learnt);
    }

    std::vector<std::byte> vmlinux;
    KernelInfo info;
};

TEST_F(RealKernel, NothingIsMissing) {
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE(KernelInfo::from_vmlinux(vmlinux));
    const auto took = std::chrono::steady_clock::now() - begin;
    fmt::print("release {}, {} symbols (encoding {}), {} types, learnt in {} ms\n", info.release,
               info.kallsyms->size(), static_cast<int>(info.kallsyms->encoding()),
               info.btf->type_count(),
               std::chrono::duration_cast<std::chrono::milliseconds>(took).count());
    const auto& s = info.symbols;
    fmt::print("_text {} entry_SYSCALL_64 {} compat {} sysenter {} int80 {}\n", *s.text,
               s.entry_syscall_64.value_or(Gva{}), s.entry_syscall_compat.value_or(Gva{}),
               s.entry_sysenter_compat.value_or(Gva{}), s.entry_int80.value_or(Gva{}));
    fmt::print("syscall_exit_to_user_mode {} getname_flags {} init_task {}\n",
               s.syscall_exit_to_user_mode.value_or(Gva{}), s.getname_flags.value_or(Gva{}),
               *s.init_task);
    fmt::print("task_struct: pid {} tgid {} comm {} real_parent {} mm {} start_time {}; "
               "current_task {:#x}\n",
               *info.task.pid, *info.task.tgid, *info.task.comm, *info.task.real_parent,
               *info.task.mm, *info.task.start_time, info.current_task->value);
    EXPECT_THAT(info.missing, testing::IsEmpty());
    EXPECT_FALSE(info.release.empty());
}

TEST_F(RealKernel, SymbolsStandInOrder) {
    const auto& s = info.symbols;
    ASSERT_TRUE(s.text && s.end && s.entry_syscall_64 && s.init_task && s.getname_flags);
    const auto etext = info.kallsyms->lookup("_etext");
    ASSERT_TRUE(etext);
    for (const auto text : {s.entry_syscall_64, s.entry_syscall_compat, s.entry_sysenter_compat,
                            s.entry_int80, s.syscall_exit_to_user_mode, s.getname_flags}) {
        ASSERT_TRUE(text);
        EXPECT_GE(*text, *s.text);
        EXPECT_LT(*text, *etext);
    }
    EXPECT_GT(*s.init_task, *etext);
    EXPECT_LT(*s.init_task, *s.end);
    EXPECT_EQ(info.kallsyms->symbol_at(*s.entry_syscall_64 + 1)->symbol.name, "entry_SYSCALL_64");
}

TEST_F(RealKernel, EntryPointHoldsTheEntry) {
    const auto image = ElfImage::parse(vmlinux);
    ASSERT_TRUE(image);
    auto code = image->at_most(*info.symbols.entry_syscall_64, 7);
    ASSERT_EQ(code.size(), 7u);
    const auto matches = [&](std::initializer_list<u8> bytes) {
        return std::equal(bytes.begin(), bytes.end(), code.begin(),
                          [](u8 a, std::byte b) { return std::byte{a} == b; });
    };
    // ENDBR64, or the four-byte NOP that seals it, may come first.
    if (matches({0xf3, 0x0f, 0x1e, 0xfa})) code = code.subspan(4);
    EXPECT_TRUE(matches({0x0f, 0x01, 0xf8})) << "SWAPGS";
}

/// The exports are a second, independent table of symbols: `__ksymtab_NAME` stands where a 32-bit
/// distance to NAME is stored.
TEST_F(RealKernel, ExportsAgreeWithTheSymbols) {
    const auto image = ElfImage::parse(vmlinux);
    ASSERT_TRUE(image);
    const ImageMemory memory(*image);
    constexpr std::string_view prefix = "__ksymtab_";
    unsigned agree = 0;
    unsigned differ = 0;
    for (std::size_t i = 0; i < info.kallsyms->size(); ++i) {
        const auto symbol = info.kallsyms->at(i);
        if (!symbol.name.starts_with(prefix)) continue;
        const auto exported = info.kallsyms->lookup(symbol.name.substr(prefix.size()));
        const auto distance = memory.read_object<i32>(symbol.address);
        if (!exported || !distance) continue;
        const Gva target = symbol.address + static_cast<u64>(i64{*distance});
        // Of several symbols with one name, `lookup` may know another than the exported one.
        ++(target == *exported ? agree : differ);
    }
    fmt::print("{} exports agree, {} differ\n", agree, differ);
    EXPECT_GT(agree, 5000u);
    EXPECT_LT(differ, agree / 100);
}

TEST_F(RealKernel, RegistersLieAsTheAbiSays) {
    const auto& r = info.registers;
    EXPECT_EQ(r.r15, 0u);
    EXPECT_EQ(r.bx, 40u);
    EXPECT_EQ(r.r10, 56u);
    EXPECT_EQ(r.ax, 80u);
    EXPECT_EQ(r.di, 112u);
    EXPECT_EQ(r.orig_ax, 120u);
    EXPECT_EQ(r.ip, 128u);
    EXPECT_EQ(r.cs, 136u);
    EXPECT_EQ(r.flags, 144u);
    EXPECT_EQ(r.sp, 152u);
    EXPECT_EQ(r.size, 168u);
    EXPECT_EQ(info.btf->member("task_struct", "comm")->size, 16u);
}

/// The first task stands ready in the image's data, so symbols, type information and reader are
/// tried together.
TEST_F(RealKernel, TheFirstTaskIsTheSwapper) {
    const auto image = ElfImage::parse(vmlinux);
    ASSERT_TRUE(image);
    const ImageMemory memory(*image);
    const auto reader = TaskReader::create(info, 0);
    ASSERT_TRUE(reader) << reader.error().message;
    const auto identity = reader->identify(memory, *info.symbols.init_task);
    ASSERT_TRUE(identity);
    EXPECT_THAT(identity->comm, testing::StartsWith("swapper"));
    EXPECT_EQ(identity->pid, 0);
    EXPECT_EQ(identity->tgid, 0);
    EXPECT_EQ(identity->ppid, 0);
    EXPECT_TRUE(identity->kernel_thread);
    EXPECT_FALSE(identity->namespace_pid);
    EXPECT_EQ(memory.read_object<u64>(*info.symbols.init_task + *info.task.real_parent),
              info.symbols.init_task->value())
        << "its own parent";
    // The per-CPU area's initial contents name it too: the image is the area of a base of zero.
    EXPECT_EQ(reader->current(memory, Gva(0)), info.symbols.init_task);
}

} // namespace
} // namespace gnomon::guest::linux_::test
