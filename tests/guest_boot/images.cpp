// SPDX-License-Identifier: Apache-2.0
#include "images.h"

#include <algorithm>
#include <elf.h>

namespace gnomon::guest::test {

Bytes make_bz_image(const BzImageSpec& spec) {
    constexpr std::size_t payload_offset = 0x300;
    const std::size_t kernel_offset = (spec.setup_sects + std::size_t{1}) * 512;
    std::size_t kernel_size = payload_offset + spec.payload.size();
    kernel_size = (kernel_size + 15) & ~std::size_t{15};
    Bytes image(kernel_offset + kernel_size, std::byte{0x90});
    std::fill_n(image.begin(), kernel_offset, std::byte{0});
    set_field<u8>(image, 0x1f1, spec.setup_sects);
    set_field<u32>(image, 0x1f4, static_cast<u32>(kernel_size / 16));
    set_field<u16>(image, 0x1fe, 0xaa55);
    set_field<u8>(image, 0x200, 0xeb);
    set_field<u8>(image, 0x201, 0x6a); // the header ends at 0x26c
    set_field<u32>(image, 0x202, 0x53726448);
    set_field<u16>(image, 0x206, spec.version);
    set_field<u8>(image, 0x211, spec.loadflags);
    set_field<u32>(image, 0x22c, spec.initrd_addr_max);
    set_field<u32>(image, 0x230, spec.alignment);
    set_field<u8>(image, 0x234, spec.relocatable);
    set_field<u16>(image, 0x236, spec.xloadflags);
    set_field<u32>(image, 0x238, spec.command_line_size);
    set_field<u32>(image, 0x248, payload_offset);
    set_field<u32>(image, 0x24c, static_cast<u32>(spec.payload.size()));
    set_field<u64>(image, 0x258, spec.preferred_address);
    set_field<u32>(image, 0x260, spec.init_size);
    std::ranges::copy(spec.payload,
                      image.begin() + static_cast<std::ptrdiff_t>(kernel_offset + payload_offset));
    return image;
}

Bytes make_elf(u64 entry, const std::vector<ElfSegment>& segments) {
    Bytes file(sizeof(Elf64_Ehdr) + segments.size() * sizeof(Elf64_Phdr));
    Elf64_Ehdr header{};
    std::copy_n(ELFMAG, SELFMAG, header.e_ident);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = entry;
    header.e_phoff = sizeof header;
    header.e_ehsize = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = static_cast<u16>(segments.size());
    set_field(std::span(file), 0, header);
    for (std::size_t i = 0; i < segments.size(); ++i) {
        Elf64_Phdr program{};
        program.p_type = PT_LOAD;
        program.p_flags = PF_R | PF_W | PF_X;
        program.p_offset = file.size();
        program.p_paddr = segments[i].physical;
        program.p_vaddr = segments[i].virtual_address;
        program.p_filesz = segments[i].contents.size();
        program.p_memsz = segments[i].memory_size;
        set_field(std::span(file), sizeof header + i * sizeof program, program);
        file.insert(file.end(), segments[i].contents.begin(), segments[i].contents.end());
    }
    return file;
}

Bytes bytes_of(const std::string& text) {
    const auto view = std::as_bytes(std::span(text));
    return {view.begin(), view.end()};
}

Bytes elf_like(std::size_t size) {
    Bytes bytes(size);
    u32 state = 1;
    for (std::size_t i = 0; i < size; ++i) {
        state = state * 1664525 + 1013904223;
        // Random at first, so that a payload has many blocks; then quick to compress.
        bytes[i] = i < 65536 ? static_cast<std::byte>(state >> 28) : bytes[i - 65536];
    }
    set_field<u32>(bytes, 0, 0x464c457f);
    return bytes;
}

} // namespace gnomon::guest::test
