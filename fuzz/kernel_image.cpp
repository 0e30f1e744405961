// SPDX-License-Identifier: Apache-2.0
/// @file Kernel files: whatever is parsed must load into a small guest's memory, or say why not;
/// and what is loaded must be what the boot protocol promises.
#include "fuzz/support/input.h"
#include "guest/boot/boot_params.h"
#include "guest/boot/linux_boot.h"

#include <vector>

using namespace gnomon;
using namespace gnomon::fuzz;
namespace params = gnomon::guest::boot_params;

namespace {

constexpr u64 memory_bytes = u64{8} << 20;

/// One memory for all inputs, since making one costs more than an input does.
GuestMemory& memory() {
    static GuestMemory shared = std::move(GuestMemory::create(memory_bytes).value());
    return shared;
}

template <class T>
T read(u64 address) {
    T value{};
    require(memory().read_object(Gpa(address), value), "a boot structure lies outside RAM");
    return value;
}

void check_parsed(const guest::KernelImage& image) {
    const u64 size = image.bytes().size();
    const auto within = [size](u64 offset, u64 length) {
        return offset <= size && length <= size - offset;
    };
    if (image.format() == guest::KernelImage::Format::bz_image) {
        const auto& header = image.setup_header();
        require(within(header.kernel_offset, header.kernel_size), "the kernel is not in the file");
        require(within(header.payload_offset, header.payload_size),
                "the payload is not in the file");
        require(header.header_end <= params::setup_header_limit, "the header is too long");
        require((header.alignment & (header.alignment - 1)) == 0, "the alignment is no power of 2");
        return;
    }
    require(!image.segments().empty(), "an ELF image without segments");
    const guest::KernelImage::Segment* last = nullptr;
    bool entered = false;
    for (const auto& s : image.segments()) {
        require(within(s.file_offset, s.file_size), "a segment is not in the file");
        require(s.file_size <= s.memory_size, "a segment's file part is larger than it is");
        // One may end at the end of the address space, where there is no RAM.
        require(Gpa(s.physical_address).range_fits(s.memory_size), "a segment wraps");
        require(last == nullptr ||
                    (s.physical_address >= last->physical_address &&
                     s.physical_address - last->physical_address >= last->memory_size),
                "segments overlap or are not sorted");
        last = &s;
        entered = entered || image.entry() - s.physical_address < s.memory_size;
    }
    require(entered, "the entry is in no segment");
}

void check_loaded(const guest::BootState& state, std::span<const std::byte> initrd,
                  std::string_view command_line) {
    require(memory().is_ram(Gpa(state.rip)), "the entry is not RAM");
    require(memory().hva(Gpa(state.rsp - 4096), 4096) != nullptr, "the stack is not RAM");
    require(state.cr3 % page_size == 0 && memory().hva(Gpa(state.cr3), page_size) != nullptr,
            "the page tables are not RAM");
    // The page at the entry is mapped to itself.
    const u64 pml4e = read<u64>(state.cr3), pdpte = read<u64>((pml4e & ~0xfffULL) + 0);
    const u64 pde = read<u64>((pdpte & ~0xfffULL) + (state.rip >> 21) * 8);
    require((pml4e & pdpte & pde & 1) != 0 && (pde & 0x80) != 0 &&
                (pde & 0xfffe00000) == (state.rip & ~0x1fffffULL),
            "the entry is not mapped to itself");

    const u64 zero_page = state.rsi;
    require(read<u32>(zero_page + params::header) == params::header_magic, "no boot_params");
    const u8 entries = read<u8>(zero_page + params::e820_entries);
    u64 last_end = 0;
    for (unsigned i = 0; i < entries; ++i) {
        const auto e =
            read<params::E820Entry>(zero_page + params::e820_table + i * sizeof(params::E820Entry));
        require(e.address >= last_end && e.size != 0, "the memory map overlaps or is not sorted");
        last_end = e.address + e.size;
        require(e.type != params::e820_ram || memory().hva(Gpa(e.address), e.size) != nullptr,
                "the memory map has RAM that is none");
    }
    const u32 line = read<u32>(zero_page + params::cmd_line_ptr);
    for (std::size_t i = 0; i <= command_line.size(); ++i)
        require(read<char>(line + i) == (i < command_line.size() ? command_line[i] : '\0'),
                "the command line is not in memory");
    const u32 image = read<u32>(zero_page + params::ramdisk_image);
    require(read<u32>(zero_page + params::ramdisk_size) == initrd.size(), "the initrd's size");
    if (initrd.empty()) return;
    const Hva there = memory().hva(Gpa(image), initrd.size());
    require(there != nullptr && std::memcmp(there, initrd.data(), initrd.size()) == 0,
            "the initrd is not in memory");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    const auto image = guest::KernelImage::parse("fuzz", {bytes.begin(), bytes.end()});
    if (!image) {
        require(image.error().message.find('\n') == std::string::npos, "an error of several lines");
        return 0;
    }
    check_parsed(*image);
    // Initrd and command line are pieces of the file: their sizes vary with it.
    const auto initrd = bytes.subspan(size / 2, size % 7 == 0 ? 0 : size / 3);
    std::string command_line(reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 64));
    std::erase(command_line, '\0');
    const auto state = guest::load_linux(
        memory(), {.kernel = *image, .initrd = initrd, .command_line = command_line});
    if (state) check_loaded(*state, initrd, command_line);
    // The payload: parsed again, as the monitor does. Its size is bounded by the target
    // `decompress`.
    if (image->format() == guest::KernelImage::Format::elf64) {
        const auto vmlinux = guest::extract_vmlinux(*image);
        require(vmlinux.has_value() && std::ranges::equal(*vmlinux, bytes),
                "the vmlinux of an ELF image is not the image");
    }
    return 0;
}
