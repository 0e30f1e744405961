// SPDX-License-Identifier: Apache-2.0
#include "guest/boot/kernel_image.h"

#include "guest/boot/boot_params.h"
#include "guest/boot/decompress.h"
#include "guest/boot/host_file.h"
#include "guest/boot/little_endian.h"

#include <algorithm>
#include <bit>
#include <elf.h>

namespace gnomon::guest {

namespace {

/// A vmlinux with all its debug information stays below this.
constexpr u64 kernel_file_limit = u64{2} << 30;
constexpr u64 vmlinux_limit = u64{1} << 30;
/// A setup header's oldest usable form ends here (init_size, protocol 2.10).
constexpr u64 minimal_header_end = 0x264;
constexpr u64 sector_size = 512;
/// syssize counts paragraphs of this many bytes.
constexpr u64 paragraph_size = 16;

} // namespace

Result<KernelImage> KernelImage::open(const std::string& path) {
    auto bytes = read_host_file(path, "kernel", kernel_file_limit);
    if (!bytes) return tl::unexpected(std::move(bytes.error()));
    return parse(path, std::move(*bytes));
}

Result<KernelImage> KernelImage::parse(std::string name, std::vector<std::byte> bytes) {
    KernelImage image(std::move(name), std::move(bytes));
    Result<> parsed;
    if (read_at<u32>(image.m_bytes, 0) ==
        std::bit_cast<u32>(std::array<char, 4>{0x7f, 'E', 'L', 'F'})) {
        image.m_format = Format::elf64;
        parsed = image.parse_elf();
    } else if (read_at<u16>(image.m_bytes, boot_params::boot_flag) ==
                   boot_params::boot_flag_value &&
               read_at<u32>(image.m_bytes, boot_params::header) == boot_params::header_magic) {
        image.m_format = Format::bz_image;
        parsed = image.parse_bz_image();
    } else {
        parsed = fail("{} is neither a Linux bzImage nor an ELF file; give a kernel such as "
                      "/boot/vmlinuz or a vmlinux",
                      image.m_name);
    }
    if (!parsed) return tl::unexpected(std::move(parsed.error()));
    return image;
}

Result<> KernelImage::parse_bz_image() {
    const auto cut_short = [&] {
        return fail("the kernel {} is cut short; get a fresh copy", m_name);
    };
    if (m_bytes.size() < minimal_header_end) return cut_short();
    const auto field8 = [&](u64 offset) { return read_at<u8>(m_bytes, offset).value_or(0); };
    const auto field16 = [&](u64 offset) { return read_at<u16>(m_bytes, offset).value_or(0); };
    const auto field32 = [&](u64 offset) { return read_at<u32>(m_bytes, offset).value_or(0); };

    SetupHeader& h = m_setup_header;
    h.version = field16(boot_params::version);
    h.xloadflags = field16(boot_params::xloadflags);
    if (h.version < 0x020c || (h.xloadflags & boot_params::xlf_kernel_64) == 0)
        return fail("the kernel {} has no 64-bit entry (boot protocol {}.{:02}; 2.12 with "
                    "XLF_KERNEL_64 is needed); use an x86-64 Linux 3.8 or later",
                    m_name, h.version >> 8, h.version & 0xff);
    if ((field8(boot_params::loadflags) & boot_params::loaded_high) == 0)
        return fail("the kernel {} is a zImage; build a bzImage", m_name);
    h.relocatable = field8(boot_params::relocatable_kernel) != 0;
    h.alignment = field32(boot_params::kernel_alignment);
    h.preferred_address = read_at<u64>(m_bytes, boot_params::pref_address).value_or(0);
    h.init_size = field32(boot_params::init_size);
    h.initrd_addr_max = field32(boot_params::initrd_addr_max);
    h.command_line_size = field32(boot_params::cmdline_size);
    // The byte at 0x201 is the displacement of the short jump over the header (boot.rst, "jump").
    h.header_end = std::min<u64>(boot_params::header + field8(boot_params::jump + 1),
                                 boot_params::setup_header_limit);
    if (!std::has_single_bit(h.alignment) || h.header_end < minimal_header_end)
        return fail("the kernel {} has a damaged setup header; get a fresh copy", m_name);

    const u64 sectors = field8(boot_params::setup_sects);
    h.kernel_offset = ((sectors == 0 ? 4 : sectors) + 1) * sector_size;
    const u64 wanted = field32(boot_params::syssize) * paragraph_size;
    if (h.kernel_offset >= m_bytes.size() || h.header_end > m_bytes.size()) return cut_short();
    const u64 available = m_bytes.size() - h.kernel_offset;
    // syssize is rounded up, so the last paragraph need not be whole. What follows it (a signature)
    // is not loaded.
    if (wanted == 0 || available + (paragraph_size - 1) < wanted) return cut_short();
    h.kernel_size = std::min(available, wanted);

    const u64 payload_offset = field32(boot_params::payload_offset);
    const u64 payload_size = field32(boot_params::payload_length);
    if (!range_within(payload_offset, payload_size, h.kernel_size)) return cut_short();
    h.payload_offset = h.kernel_offset + payload_offset;
    h.payload_size = payload_size;
    return {};
}

Result<> KernelImage::parse_elf() {
    const auto header = read_at<Elf64_Ehdr>(m_bytes, 0);
    if (!header) return fail("the kernel {} is cut short; get a fresh copy", m_name);
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
        header->e_machine != EM_X86_64)
        return fail("{} is an ELF file for another machine; an x86-64 kernel is needed", m_name);
    if (header->e_type != ET_EXEC)
        return fail("{} is not an executable at fixed addresses (ET_EXEC); give a vmlinux, or link "
                    "with -static -no-pie",
                    m_name);
    if (header->e_phentsize != sizeof(Elf64_Phdr) ||
        !range_within(header->e_phoff, u64{header->e_phnum} * sizeof(Elf64_Phdr), m_bytes.size()))
        return fail("the ELF program headers of {} are damaged or cut short; get a fresh copy",
                    m_name);

    for (u64 i = 0; i < header->e_phnum; ++i) {
        const auto program = read_at<Elf64_Phdr>(m_bytes, header->e_phoff + i * sizeof(Elf64_Phdr));
        if (!program || program->p_type != PT_LOAD || program->p_memsz == 0) continue;
        if (program->p_filesz > program->p_memsz ||
            !range_within(program->p_offset, program->p_filesz, m_bytes.size()) ||
            program->p_paddr + (program->p_memsz - 1) < program->p_paddr ||
            program->p_vaddr + (program->p_memsz - 1) < program->p_vaddr)
            return fail("segment {} of {} is damaged or cut short; get a fresh copy", i, m_name);
        m_segments.push_back({.physical_address = program->p_paddr,
                              .virtual_address = program->p_vaddr,
                              .memory_size = program->p_memsz,
                              .file_offset = program->p_offset,
                              .file_size = program->p_filesz});
    }
    if (m_segments.empty()) return fail("{} has nothing to load; give a linked kernel", m_name);
    std::ranges::sort(m_segments, {}, &Segment::physical_address);
    for (std::size_t i = 1; i < m_segments.size(); ++i)
        if (m_segments[i].physical_address - m_segments[i - 1].physical_address <
            m_segments[i - 1].memory_size)
            return fail("segments of {} overlap in physical memory, near {:#x}; get a fresh copy",
                        m_name, m_segments[i].physical_address);
    return find_entry(header->e_entry);
}

Result<> KernelImage::find_entry(u64 entry) {
    for (const Segment& segment : m_segments)
        if (entry >= segment.physical_address &&
            entry - segment.physical_address < segment.memory_size) {
            m_entry = entry;
            return {};
        }
    for (const Segment& segment : m_segments)
        if (entry >= segment.virtual_address &&
            entry - segment.virtual_address < segment.memory_size) {
            m_entry = segment.physical_address + (entry - segment.virtual_address);
            return {};
        }
    return fail("the entry {:#x} of {} lies in none of its segments; get a fresh copy", entry,
                m_name);
}

Result<std::vector<std::byte>> extract_vmlinux(const KernelImage& image) {
    const auto bytes = image.bytes();
    if (image.format() == KernelImage::Format::elf64)
        return std::vector<std::byte>(bytes.begin(), bytes.end());
    const KernelImage::SetupHeader& header = image.setup_header();
    if (header.payload_size == 0)
        return fail("the kernel {} does not say where its payload is; give its vmlinux",
                    image.name());
    auto vmlinux = decompress(bytes.subspan(header.payload_offset, header.payload_size),
                              image.name(), vmlinux_limit);
    if (vmlinux && detect_compression(*vmlinux) != Compression::none)
        return fail("the payload of the kernel {} is not an ELF vmlinux; give its vmlinux",
                    image.name());
    return vmlinux;
}

} // namespace gnomon::guest
