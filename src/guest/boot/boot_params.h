// SPDX-License-Identifier: Apache-2.0
/// @file Offsets and values of Linux's x86 `boot_params` ("zero page") and of the setup header in
/// it.
///
/// From Linux, Documentation/arch/x86/boot.rst and zero-page.rst. The setup header has the same
/// offsets in a bzImage file and in boot_params.
#pragma once

#include "base/types.h"

namespace gnomon::guest::boot_params {

inline constexpr u64 size = 4096;

// Outside the setup header.
inline constexpr u64 acpi_rsdp_addr = 0x070; ///< u64
inline constexpr u64 e820_entries = 0x1e8;   ///< u8, how many of e820_table are valid
inline constexpr u64 e820_table = 0x2d0;     ///< E820Entry[128]

// The setup header, 0x1f1 up to the end that its jump gives.
inline constexpr u64 setup_sects = 0x1f1;        ///< u8, real-mode sectors without the first
inline constexpr u64 syssize = 0x1f4;            ///< u32, size of the rest in paragraphs
inline constexpr u64 vid_mode = 0x1fa;           ///< u16
inline constexpr u64 boot_flag = 0x1fe;          ///< u16, boot_flag_value
inline constexpr u64 jump = 0x200;               ///< a short jump over the header
inline constexpr u64 header = 0x202;             ///< u32, header_magic
inline constexpr u64 version = 0x206;            ///< u16
inline constexpr u64 type_of_loader = 0x210;     ///< u8
inline constexpr u64 loadflags = 0x211;          ///< u8
inline constexpr u64 ramdisk_image = 0x218;      ///< u32
inline constexpr u64 ramdisk_size = 0x21c;       ///< u32
inline constexpr u64 cmd_line_ptr = 0x228;       ///< u32
inline constexpr u64 initrd_addr_max = 0x22c;    ///< u32
inline constexpr u64 kernel_alignment = 0x230;   ///< u32
inline constexpr u64 relocatable_kernel = 0x234; ///< u8
inline constexpr u64 xloadflags = 0x236;         ///< u16
inline constexpr u64 cmdline_size = 0x238;       ///< u32
inline constexpr u64 payload_offset = 0x248;     ///< u32, from the start of the loaded part
inline constexpr u64 payload_length = 0x24c;     ///< u32
inline constexpr u64 setup_data = 0x250;         ///< u64, a list of SetupData
inline constexpr u64 pref_address = 0x258;       ///< u64
inline constexpr u64 init_size = 0x260;          ///< u32
/// boot_params has another field here, so no header may reach further.
inline constexpr u64 setup_header_limit = 0x290;

inline constexpr u16 boot_flag_value = 0xaa55;
inline constexpr u32 header_magic = 0x53726448; ///< "HdrS"
inline constexpr u8 loader_undefined = 0xff;    ///< type_of_loader of a loader without a number
inline constexpr u8 loaded_high = 1;            ///< loadflags: the kernel belongs at 1 MiB or above
inline constexpr u16 video_normal = 0xffff;
inline constexpr u16 xlf_kernel_64 = 1; ///< xloadflags: the 64-bit entry at 0x200 exists

/// How far behind the load address a bzImage's 64-bit entry lies.
inline constexpr u64 entry_64_offset = 0x200;

/// One range of the memory map (20 bytes, packed).
struct [[gnu::packed]] E820Entry {
    u64 address;
    u64 size;
    u32 type;
};
static_assert(sizeof(E820Entry) == 20);
inline constexpr u32 e820_ram = 1;
inline constexpr u32 e820_reserved = 2;

/// The head of an element of the setup_data list; its data follow.
struct SetupData {
    u64 next;
    u32 type;
    u32 length;
};
static_assert(sizeof(SetupData) == 16);
inline constexpr u32 setup_rng_seed = 9;

} // namespace gnomon::guest::boot_params
