// SPDX-License-Identifier: Apache-2.0
#include "guest/boot/linux_boot.h"

#include "images.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::guest::test {
namespace {

using ::testing::HasSubstr;

constexpr u64 mib = u64{1} << 20;

GuestMemory make_memory(u64 size) {
    auto memory = GuestMemory::create(size);
    if (!memory) throw std::runtime_error(memory.error().message);
    return std::move(*memory);
}

KernelImage make_kernel(const BzImageSpec& spec = {}) {
    auto image = KernelImage::parse("the-kernel", make_bz_image(spec));
    if (!image) throw std::runtime_error(image.error().message);
    return std::move(*image);
}

template <class T>
T peek(const GuestMemory& memory, u64 address) {
    T value{};
    EXPECT_TRUE(memory.read_object(Gpa(address), value)) << std::hex << address;
    return value;
}

std::string error_of(GuestMemory& memory, const LinuxBootInputs& inputs) {
    const auto state = load_linux(memory, inputs);
    return state ? std::string("loaded") : state.error().message;
}

/// The linear address translated by the boot page tables, or all ones.
u64 translate(const GuestMemory& memory, u64 cr3, u64 linear) {
    u64 table = cr3;
    for (unsigned shift = 39;; shift -= 9) {
        const u64 entry = peek<u64>(memory, table + ((linear >> shift) & 511) * 8);
        if ((entry & 3) != 3) return ~u64{0};
        const u64 frame = entry & 0x000ffffffffff000;
        if (shift == 12 || (entry & 0x80) != 0) return frame + (linear & ((u64{1} << shift) - 1));
        table = frame;
    }
}

TEST(LinuxBoot, EntersABzImageAtItsPreferredAddress) {
    GuestMemory memory = make_memory(64 * mib);
    const KernelImage kernel = make_kernel({.payload = elf_like(5000)});
    const Bytes initrd = elf_like(10'001);
    const auto state = load_linux(memory, {.kernel = kernel,
                                           .initrd = initrd,
                                           .command_line = "console=ttyS0 x=y",
                                           .acpi_rsdp = Gpa(0xe0000)});
    ASSERT_TRUE(state) << state.error().message;
    EXPECT_EQ(state->rip, 0x1000200u);
    EXPECT_EQ(state->rflags, 2u);
    EXPECT_EQ(state->cr0, 0x80010031u);
    EXPECT_EQ(state->cr4, 0x20u);
    EXPECT_EQ(state->efer, 0x500u);
    EXPECT_EQ(state->rsp % 16, 0u);

    const auto& header = kernel.setup_header();
    Bytes loaded(header.kernel_size);
    ASSERT_TRUE(memory.read(Gpa(0x1000000), loaded));
    EXPECT_TRUE(std::ranges::equal(
        loaded, kernel.bytes().subspan(header.kernel_offset, header.kernel_size)));

    const u64 params = state->rsi;
    EXPECT_EQ(peek<u32>(memory, params + 0x202), 0x53726448u);
    EXPECT_EQ(peek<u16>(memory, params + 0x206), 0x020f);
    EXPECT_EQ(peek<u8>(memory, params + 0x210), 0xff);
    EXPECT_EQ(peek<u32>(memory, params + 0x260), 0x100000u); // a field copied from the file
    EXPECT_EQ(peek<u8>(memory, params + 0x1ef), 0);          // the sentinel
    EXPECT_EQ(peek<u64>(memory, params + 0x070), 0xe0000u);
    EXPECT_EQ(peek<u64>(memory, params + 0x250), 0u);

    const u64 initrd_address = peek<u32>(memory, params + 0x218);
    EXPECT_EQ(initrd_address, (64 * mib - initrd.size()) & ~u64{4095});
    EXPECT_EQ(peek<u32>(memory, params + 0x21c), initrd.size());
    Bytes placed(initrd.size());
    ASSERT_TRUE(memory.read(Gpa(initrd_address), placed));
    EXPECT_TRUE(placed == initrd);

    const u64 line = peek<u32>(memory, params + 0x228);
    EXPECT_STREQ(reinterpret_cast<const char*>(memory.hva(Gpa(line), 100)), "console=ttyS0 x=y");
}

TEST(LinuxBoot, DescribesTheMemory) {
    GuestMemory memory = make_memory((u64{3} << 30) + 512 * mib);
    const KernelImage kernel = make_kernel();
    const auto state = load_linux(memory, {.kernel = kernel});
    ASSERT_TRUE(state) << state.error().message;
    const u64 params = state->rsi;
    ASSERT_EQ(peek<u8>(memory, params + 0x1e8), 4);
    struct Range {
        u64 address, size;
        u32 type;
    };
    const Range expected[] = {{0, 0xa0000, 1},
                              {0xe0000, 0x20000, 2},
                              {0x100000, (u64{3} << 30) - 0x100000, 1},
                              {u64{4} << 30, 512 * mib, 1}};
    for (u64 i = 0; i < 4; ++i) {
        EXPECT_EQ(peek<u64>(memory, params + 0x2d0 + 20 * i), expected[i].address);
        EXPECT_EQ(peek<u64>(memory, params + 0x2d8 + 20 * i), expected[i].size);
        EXPECT_EQ(peek<u32>(memory, params + 0x2e0 + 20 * i), expected[i].type);
    }
}

TEST(LinuxBoot, MapsFourGibToThemselves) {
    GuestMemory memory = make_memory(32 * mib);
    const KernelImage kernel = make_kernel();
    const auto state = load_linux(memory, {.kernel = kernel});
    ASSERT_TRUE(state) << state.error().message;
    for (const u64 address :
         {u64{0}, u64{0x7123}, u64{0x1000200}, u64{0xc0000000}, u64{0xfee00123}, u64{0xffffffff}})
        EXPECT_EQ(translate(memory, state->cr3, address), address);
    EXPECT_EQ(translate(memory, state->cr3, u64{1} << 32), ~u64{0});
}

TEST(LinuxBoot, MakesFlatDescriptors) {
    GuestMemory memory = make_memory(32 * mib);
    const KernelImage kernel = make_kernel();
    const auto state = load_linux(memory, {.kernel = kernel});
    ASSERT_TRUE(state) << state.error().message;
    EXPECT_EQ(state->cs, 0x10);
    EXPECT_EQ(state->ds, 0x18);
    EXPECT_EQ(state->gdt_limit, 47u);
    const u64 code = peek<u64>(memory, state->gdt_base + state->cs);
    EXPECT_EQ(code & 0x00ff00000000ffff, 0x00af00000000ffffu); // G, L, limit, base 0
    EXPECT_EQ((code >> 40) & 0xff, 0x9bu);
    const u64 data = peek<u64>(memory, state->gdt_base + state->ds);
    EXPECT_EQ((data >> 40) & 0xff, 0x93u);
    const u64 tss = peek<u64>(memory, state->gdt_base + state->tr);
    EXPECT_EQ((tss >> 40) & 0xff, 0x8bu);
    EXPECT_EQ(((tss >> 16) & 0xffffff) | ((tss >> 56) << 24), state->tr_base);
    EXPECT_EQ(tss & 0xffff, state->tr_limit);
}

TEST(LinuxBoot, MovesARelocatableKernelIntoSmallMemory) {
    GuestMemory memory = make_memory(16 * mib);
    const KernelImage kernel = make_kernel({.init_size = 8 * mib});
    const auto state = load_linux(memory, {.kernel = kernel});
    ASSERT_TRUE(state) << state.error().message;
    EXPECT_EQ(state->rip, 2 * mib + 0x200);
}

TEST(LinuxBoot, SaysHowMuchMemoryIsNeeded) {
    GuestMemory small = make_memory(8 * mib);
    const KernelImage large = make_kernel({.init_size = 8 * mib});
    EXPECT_EQ(
        error_of(small, {.kernel = large}),
        "the kernel the-kernel needs 10 MiB of memory below 3 GiB and the guest has 8 MiB; give "
        "it more memory");
    const KernelImage fixed = make_kernel({.relocatable = 0});
    EXPECT_THAT(error_of(small, {.kernel = fixed}), HasSubstr("needs 17 MiB"));
    const KernelImage high =
        make_kernel({.relocatable = 0, .preferred_address = ~u64{0} - 0xfffff});
    EXPECT_THAT(error_of(small, {.kernel = high}), HasSubstr("use a relocatable kernel"));
    GuestMemory tiny = make_memory(1 * mib);
    EXPECT_THAT(error_of(tiny, {.kernel = large}), HasSubstr("needs 10 MiB"));
    const KernelImage huge = make_kernel({.alignment = u32{1} << 31, .init_size = 0xffffffff});
    EXPECT_THAT(error_of(small, {.kernel = huge}), HasSubstr("give it more memory"));
}

TEST(LinuxBoot, SaysThatTheInitrdDoesNotFit) {
    GuestMemory memory = make_memory(32 * mib);
    const KernelImage kernel = make_kernel(); // from 16 to 17 MiB
    const Bytes exact(15 * mib), larger(15 * mib + 1);
    EXPECT_EQ(error_of(memory, {.kernel = kernel, .initrd = exact}), "loaded");
    EXPECT_THAT(error_of(memory, {.kernel = kernel, .initrd = larger}),
                HasSubstr("give the guest at least 33 MiB"));
    const KernelImage picky = make_kernel({.initrd_addr_max = 20 * mib - 1});
    const Bytes small(3 * mib);
    const auto state = load_linux(memory, {.kernel = picky, .initrd = small});
    ASSERT_TRUE(state) << state.error().message;
    EXPECT_EQ(peek<u32>(memory, state->rsi + 0x218), 17 * mib);
    EXPECT_THAT(error_of(memory, {.kernel = picky, .initrd = exact}), HasSubstr("accepts none"));
}

TEST(LinuxBoot, ChecksTheCommandLine) {
    GuestMemory memory = make_memory(32 * mib);
    const KernelImage kernel = make_kernel();
    EXPECT_EQ(error_of(memory, {.kernel = kernel, .command_line = std::string(255, 'x')}),
              "loaded");
    const auto state =
        load_linux(memory, {.kernel = kernel, .command_line = std::string(256, 'x')});
    ASSERT_FALSE(state);
    EXPECT_TRUE(state.error().usage);
    EXPECT_THAT(state.error().message, HasSubstr("256 characters"));
    EXPECT_THAT(error_of(memory, {.kernel = kernel, .command_line = std::string("a\0b", 3)}),
                HasSubstr("NUL"));
    const KernelImage generous = make_kernel({.command_line_size = 0xffffffff});
    EXPECT_THAT(error_of(memory, {.kernel = generous, .command_line = std::string(0x10000, 'x')}),
                HasSubstr("takes 65535"));
    EXPECT_EQ(error_of(memory, {.kernel = generous, .command_line = std::string(0xffff, 'x')}),
              "loaded");
}

TEST(LinuxBoot, PassesASeed) {
    GuestMemory memory = make_memory(32 * mib);
    const KernelImage kernel = make_kernel();
    std::array<std::byte, 32> seed{};
    seed.fill(std::byte{0x5a});
    const auto state = load_linux(memory, {.kernel = kernel, .rng_seed = seed});
    ASSERT_TRUE(state) << state.error().message;
    const u64 data = peek<u64>(memory, state->rsi + 0x250);
    EXPECT_EQ(peek<u64>(memory, data), 0u);
    EXPECT_EQ(peek<u32>(memory, data + 8), 9u);
    EXPECT_EQ(peek<u32>(memory, data + 12), 32u);
    EXPECT_EQ((peek<std::array<std::byte, 32>>(memory, data + 16)), seed);
}

TEST(LinuxBoot, LoadsAnElfKernelAndClearsItsBss) {
    GuestMemory memory = make_memory(32 * mib);
    const auto kernel = KernelImage::parse(
        "elf",
        make_elf(0xffffffff81000040, {{0x1000000, 0xffffffff81000000, 3 * mib, elf_like(4097)}}));
    ASSERT_TRUE(kernel) << kernel.error().message;
    ASSERT_TRUE(memory.write_object(Gpa(0x1000000 + 2 * mib), u64{0xdead}));
    const Bytes initrd(100);
    const auto state = load_linux(memory, {.kernel = *kernel, .initrd = initrd});
    ASSERT_TRUE(state) << state.error().message;
    EXPECT_EQ(state->rip, 0x1000040u);
    EXPECT_EQ(peek<u32>(memory, 0x1000000), 0x464c457fu);
    EXPECT_EQ(peek<u64>(memory, 0x1000000 + 2 * mib), 0u);
    EXPECT_EQ(peek<u32>(memory, state->rsi + 0x202), 0x53726448u);
    EXPECT_EQ(peek<u32>(memory, state->rsi + 0x218), 32 * mib - 4096);
}

TEST(LinuxBoot, RefusesElfSegmentsThatLieBadly) {
    GuestMemory memory = make_memory(4 * mib);
    const auto message = [&](u64 address, u64 size) {
        const auto kernel =
            KernelImage::parse("elf", make_elf(address, {{address, address, size, Bytes(8)}}));
        return kernel ? error_of(memory, {.kernel = *kernel}) : kernel.error().message;
    };
    EXPECT_EQ(message(0x1000, 0x5000), "loaded");
    EXPECT_EQ(message(0x20000, 0x80000), "loaded");
    EXPECT_EQ(message(0x100000, 3 * mib), "loaded");
    EXPECT_THAT(message(0x1000, 0x5001), HasSubstr("loader's structures"));
    EXPECT_THAT(message(0x1ffff, 16), HasSubstr("loader's structures"));
    EXPECT_THAT(message(0x20000, 0x80001), HasSubstr("not RAM on a PC"));
    EXPECT_THAT(message(0xfffff, 16), HasSubstr("not RAM on a PC"));
    EXPECT_THAT(message(0x100000, 3 * mib + 1), HasSubstr("outside the guest's memory"));
    EXPECT_THAT(message(u64{1} << 40, 16), HasSubstr("outside the guest's memory"));
    EXPECT_THAT(message(0x100000, u64{1} << 62), HasSubstr("outside the guest's memory"));
}

TEST(LinuxBoot, RebootsWithTheSameInputs) {
    GuestMemory memory = make_memory(32 * mib);
    const KernelImage kernel = make_kernel({.payload = elf_like(5000)});
    const Bytes initrd = elf_like(1000);
    const LinuxBootInputs inputs{.kernel = kernel, .initrd = initrd, .command_line = "a b"};
    const auto first = load_linux(memory, inputs);
    ASSERT_TRUE(first);
    std::vector<std::byte> before(memory.size());
    ASSERT_TRUE(memory.read(Gpa(0), before));
    // The guest has left nothing as it was.
    for (const auto& [begin, end] : {std::pair{boot_data_begin, boot_data_end},
                                     std::pair{16 * mib, 17 * mib}, std::pair{31 * mib, 32 * mib}})
        std::fill(memory.base() + begin, memory.base() + end, std::byte{0xcc});
    const auto second = load_linux(memory, inputs);
    ASSERT_TRUE(second);
    EXPECT_EQ(second->rip, first->rip);
    const auto same = [&](u64 address, u64 size) {
        return std::memcmp(memory.base() + address, before.data() + address, size) == 0;
    };
    EXPECT_TRUE(same(second->rsi, 4096));
    EXPECT_TRUE(same(second->cr3, 6 * 4096));
    EXPECT_TRUE(same(second->gdt_base, second->gdt_limit + 1));
    EXPECT_TRUE(same(0x1000000, kernel.setup_header().kernel_size));
    EXPECT_TRUE(same(peek<u32>(memory, second->rsi + 0x228), 4));
    EXPECT_TRUE(same(peek<u32>(memory, second->rsi + 0x218), initrd.size()));
}

/// Whatever the file says, loading ends in a state or an error, with nothing written outside RAM.
TEST(LinuxBoot, SurvivesDamagedKernels) {
    GuestMemory memory = make_memory(24 * mib);
    const Bytes initrd(5000);
    const Bytes originals[] = {
        make_bz_image({.payload = Bytes(600)}),
        make_elf(0x1000000, {{0x1000000, 0xffffffff81000000, 0x5000, Bytes(100)},
                             {0x1200000, 0xffffffff81200000, 0x2000, Bytes(100)}})};
    u32 state = 99;
    const auto random = [&] {
        state = state * 1664525 + 1013904223;
        return state >> 8;
    };
    unsigned loaded = 0, refused = 0;
    for (int round = 0; round < 6000; ++round) {
        Bytes file = originals[round % 2];
        const std::size_t header = round % 2 == 0 ? 0x1f0 : 0;
        const std::size_t header_size = round % 2 == 0 ? 0x80 : 64 + 2 * 56;
        for (unsigned flips = 0; flips <= random() % 3; ++flips)
            file[header + random() % header_size] = static_cast<std::byte>(random());
        if (random() % 8 == 0) file.resize(random() % file.size());
        const auto kernel = KernelImage::parse("k", std::move(file));
        if (kernel &&
            load_linux(memory, {.kernel = *kernel, .initrd = initrd, .command_line = "a"}))
            ++loaded;
        else
            ++refused;
        if (kernel) (void)extract_vmlinux(*kernel);
    }
    EXPECT_GT(loaded, 100u);
    EXPECT_GT(refused, 100u);
}

} // namespace
} // namespace gnomon::guest::test
