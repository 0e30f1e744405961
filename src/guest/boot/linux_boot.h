// SPDX-License-Identifier: Apache-2.0
/// @file Entering a kernel by Linux's 64-bit boot protocol: what lies where in RAM, and the
/// processor state to begin with (Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
///
/// The loader's own structures take [boot_data_begin, boot_data_end) of low memory; the ACPI tables
/// lie in [0xe0000, 0x100000) (guest/acpi/tables.h); a bzImage is placed at its preferred address
/// or else as low as its alignment allows above 1 MiB; the initrd lies as high as it may.
#pragma once

#include "base/address.h"
#include "base/guest_memory.h"
#include "base/result.h"
#include "guest/boot/kernel_image.h"

#include <array>
#include <optional>
#include <span>
#include <string_view>

namespace gnomon::guest {

/// Guest-physical range of the GDT, TSS, boot_params, stack, page tables, seed and command line.
inline constexpr u64 boot_data_begin = 0x6000;
inline constexpr u64 boot_data_end = 0x20000;

/// The state of the boot processor at the kernel's first instruction. Everything not named here is
/// as after reset. Segments are flat: selectors refer to the GDT in guest memory, whose CS and DS
/// descriptors have base 0, limit 4 GiB, DPL 0, present and accessed; CS has L set.
struct BootState {
    u64 rip = 0;
    u64 rsi = 0;    ///< boot_params, for Linux; the same for other guests
    u64 rsp = 0;    ///< top of a 4 KiB stack
    u64 rflags = 2; ///< interrupts off
    u64 cr0 = 0;    ///< PE, ET, NE, WP, PG
    u64 cr3 = 0;    ///< page tables that map the first 4 GiB to themselves
    u64 cr4 = 0;    ///< PAE
    u64 efer = 0;   ///< LME, LMA
    u64 gdt_base = 0;
    u32 gdt_limit = 0;
    u64 idt_base = 0;
    u32 idt_limit = 0;
    u16 cs = 0; ///< __BOOT_CS
    u16 ds = 0; ///< __BOOT_DS, for DS, ES, SS, FS and GS
    u16 tr = 0; ///< a busy 64-bit TSS, for processors that want a valid TR
    u64 tr_base = 0;
    u32 tr_limit = 0;
};

/// What to boot. The views must outlive the call only.
struct LinuxBootInputs {
    const KernelImage& kernel;
    std::span<const std::byte> initrd{}; ///< may be empty
    std::string_view command_line{};     ///< without a NUL
    std::optional<Gpa> acpi_rsdp{};      ///< passed to the kernel; without it the kernel searches
    /// Given to the guest's random number generator, so that it need not wait for entropy. Fixed
    /// bytes make runs repeatable.
    std::optional<std::array<std::byte, 32>> rng_seed{};
};

/// Places kernel, initrd, command line and boot structures in RAM. Nothing of an earlier boot
/// matters: calling it again with the same inputs is a reboot. On an error RAM may be partly
/// written. Does not write ACPI tables. No guest processor may run meanwhile.
[[nodiscard]] Result<BootState> load_linux(GuestMemory& memory, const LinuxBootInputs& inputs);

} // namespace gnomon::guest
