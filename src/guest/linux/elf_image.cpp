// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/elf_image.h"

#include <algorithm>
#include <cstring>
#include <elf.h>

namespace gnomon::guest::linux_ {

namespace {

/// A kernel has about five; the bound keeps a hostile table from multiplying the work of every
/// search.
constexpr std::size_t max_loadable_segments = 32;

template <class T>
bool read_at(std::span<const std::byte> file, u64 offset, T& out) {
    if (offset > file.size() || file.size() - offset < sizeof(T)) return false;
    std::memcpy(&out, file.data() + offset, sizeof(T));
    return true;
}

std::optional<std::span<const std::byte>> slice(std::span<const std::byte> file, u64 offset,
                                                u64 size) {
    if (offset > file.size() || size > file.size() - offset) return std::nullopt;
    return file.subspan(offset, size);
}

} // namespace

Result<ElfImage> ElfImage::parse(std::span<const std::byte> file) {
    Elf64_Ehdr header;
    if (!read_at(file, 0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return fail("the kernel image is not an ELF file; give a vmlinux or a bzImage");
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_machine != EM_X86_64)
        return fail("the kernel image is not for x86-64; give a 64-bit x86 kernel");
    if (header.e_phnum == 0 || header.e_phentsize != sizeof(Elf64_Phdr))
        return fail("the kernel image has no usable program headers; the file is damaged");

    ElfImage image;
    image.m_file = file;
    for (u32 i = 0; i < header.e_phnum; ++i) {
        Elf64_Phdr program;
        const u64 offset = header.e_phoff + u64{i} * sizeof program;
        if (offset < header.e_phoff || !read_at(file, offset, program))
            return fail(
                "the kernel image's program header {} lies outside the file; the file is cut short",
                i);
        if (program.p_type != PT_LOAD) continue;
        const auto bytes = slice(file, program.p_offset, program.p_filesz);
        if (!bytes || program.p_memsz < program.p_filesz ||
            !Gva(program.p_vaddr).range_fits(program.p_memsz))
            return fail(
                "the kernel image's segment {} lies outside the file; the file is cut short", i);
        if (image.m_segments.size() == max_loadable_segments)
            return fail("the kernel image has more than {} segments; it is no Linux kernel",
                        max_loadable_segments);
        image.m_segments.push_back({.address = Gva(program.p_vaddr),
                                    .memory_size = program.p_memsz,
                                    .bytes = *bytes,
                                    .executable = (program.p_flags & PF_X) != 0});
    }
    if (image.m_segments.empty())
        return fail("the kernel image has nothing to load; the file is damaged");
    return image;
}

std::optional<ElfImage::Section> ElfImage::section(std::string_view name) const {
    Elf64_Ehdr header;
    if (!read_at(m_file, 0, header) || header.e_shentsize != sizeof(Elf64_Shdr))
        return std::nullopt;
    const auto header_at = [&](u64 index, Elf64_Shdr& out) {
        const u64 offset = header.e_shoff + index * sizeof out;
        return offset >= header.e_shoff && read_at(m_file, offset, out);
    };
    Elf64_Shdr names;
    if (header.e_shstrndx >= header.e_shnum || !header_at(header.e_shstrndx, names))
        return std::nullopt;
    const auto strings = slice(m_file, names.sh_offset, names.sh_size);
    if (!strings) return std::nullopt;

    for (u32 i = 0; i < header.e_shnum; ++i) {
        Elf64_Shdr section;
        if (!header_at(i, section)) return std::nullopt;
        // A match is the name and its terminator, all inside the string table.
        if (section.sh_name >= strings->size() || strings->size() - section.sh_name <= name.size())
            continue;
        const std::byte* candidate = strings->data() + section.sh_name;
        if (std::memcmp(candidate, name.data(), name.size()) != 0 ||
            candidate[name.size()] != std::byte{0})
            continue;
        if (section.sh_type == SHT_NOBITS) return Section{Gva(section.sh_addr), {}};
        const auto bytes = slice(m_file, section.sh_offset, section.sh_size);
        if (!bytes) return std::nullopt;
        return Section{Gva(section.sh_addr), *bytes};
    }
    return std::nullopt;
}

std::optional<std::span<const std::byte>> ElfImage::at(Gva address, u64 size) const {
    const auto bytes = at_most(address, size);
    if (bytes.size() != size) return std::nullopt;
    return bytes;
}

std::span<const std::byte> ElfImage::at_most(Gva address, u64 size) const {
    for (const Segment& segment : m_segments) {
        const u64 offset = address - segment.address;
        if (offset < segment.bytes.size())
            return segment.bytes.subspan(offset,
                                         std::min<u64>(size, segment.bytes.size() - offset));
    }
    return {};
}

} // namespace gnomon::guest::linux_
