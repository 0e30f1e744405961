// SPDX-License-Identifier: Apache-2.0
/// @file A kernel file: a Linux bzImage (boot protocol 2.12 or later, with its 64-bit entry) or an
/// x86-64 ELF executable (a Linux vmlinux, or a small guest that needs no operating system).
#pragma once

#include "base/result.h"
#include "base/types.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace gnomon::guest {

/// The contents of a kernel file with its headers checked: every offset and size here lies inside
/// `bytes()`. Whether it fits a given guest's RAM is for the loader (guest/boot/linux_boot.h).
/// A value; immutable after construction, so any number of threads may read it.
class KernelImage {
public:
    enum class Format : u8 { bz_image, elf64 };

    /// The fields of a bzImage's setup header that a loader needs (Linux, arch/x86/boot.rst).
    struct SetupHeader {
        u16 version = 0;           ///< boot protocol, 0x020c or later
        u16 xloadflags = 0;        ///< XLF_*; XLF_KERNEL_64 is set
        bool relocatable = false;  ///< may be loaded elsewhere than at the preferred address
        u32 alignment = 0;         ///< of the load address of a relocatable kernel; a power of two
        u64 preferred_address = 0; ///< where it runs without moving itself
        u64 init_size =
            0; ///< bytes from the load address that it uses before it reads the e820 map
        u64 initrd_addr_max = 0;   ///< highest address of an initrd's last byte
        u32 command_line_size = 0; ///< longest command line, without the NUL
        u64 header_end = 0;        ///< file offset behind the setup header, which begins at 0x1f1
        u64 kernel_offset =
            0;               ///< file offset of the part that is loaded, behind the real-mode code
        u64 kernel_size = 0; ///< bytes to load
        u64 payload_offset = 0; ///< file offset of the compressed vmlinux
        u64 payload_size = 0;   ///< its size; 0 when the file names none
    };

    /// One PT_LOAD program header. Segments do not overlap in physical memory.
    struct Segment {
        u64 physical_address = 0;
        u64 virtual_address = 0;
        u64 memory_size = 0; ///< at least file_size; the rest is zeros
        u64 file_offset = 0;
        u64 file_size = 0;
    };

    /// Reads and checks the file. Errors name the file and what to do.
    [[nodiscard]] static Result<KernelImage> open(const std::string& path);
    /// The same for contents at hand. @param name stands for the file in errors.
    [[nodiscard]] static Result<KernelImage> parse(std::string name, std::vector<std::byte> bytes);

    [[nodiscard]] Format format() const { return m_format; }
    [[nodiscard]] const std::string& name() const { return m_name; }
    [[nodiscard]] std::span<const std::byte> bytes() const { return m_bytes; }
    /// Meaningful for Format::bz_image only.
    [[nodiscard]] const SetupHeader& setup_header() const { return m_setup_header; }
    /// Meaningful for Format::elf64 only; at least one, sorted by physical address.
    [[nodiscard]] std::span<const Segment> segments() const { return m_segments; }
    /// Format::elf64: the physical address to begin at, inside a segment.
    [[nodiscard]] u64 entry() const { return m_entry; }

private:
    KernelImage(std::string name, std::vector<std::byte> bytes)
        : m_name(std::move(name)), m_bytes(std::move(bytes)) {}
    [[nodiscard]] Result<> parse_bz_image();
    [[nodiscard]] Result<> parse_elf();
    [[nodiscard]] Result<> find_entry(u64 entry);

    std::string m_name;
    std::vector<std::byte> m_bytes;
    Format m_format = Format::bz_image;
    SetupHeader m_setup_header;
    std::vector<Segment> m_segments;
    u64 m_entry = 0;
};

/// The ELF vmlinux of a kernel: decompressed from a bzImage, or a copy of an ELF image. That of a
/// distribution's bzImage has no symbol table but keeps its `.BTF` section and kallsyms.
[[nodiscard]] Result<std::vector<std::byte>> extract_vmlinux(const KernelImage& image);

} // namespace gnomon::guest
