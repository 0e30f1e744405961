// SPDX-License-Identifier: Apache-2.0
/// @file Where things lie in a hostile guest. Low memory is mapped to itself.
#pragma once

#include "base/types.h"

namespace gnomon::test::hostile {

/// Guest-physical, and linear.
namespace place {
inline constexpr u64 gdt = 0x1000, idt = 0x2000,
                     tss = 0x3000, ///< the TSS's bit map reaches to 0x5000
    ldt = 0x5000, pml4 = 0x8000, tables = 0x9000, tables_end = 0x20000,
                     handlers = 0x20000,               ///< entry of vector v at + 32 v
    control = 0x24000,                                 ///< GuestControl
    interrupt_stack = 0x2c000, kernel_stack = 0x2e000, ///< their ends
    kernel_code = 0x30000, user_code = 0x38000, code_size = 0x8000, kernel_data = 0x50000,
                     user_data = 0x58000, data_size = 0x8000, scratch = 0x60000,
                     scratch_end = 0x100000,
                     small_pages_end =
                         0x200000, ///< mapped by 4 KiB pages up to here, by large ones above
    identity_end = 0x600000;       ///< beyond a small guest's RAM
inline constexpr u64 memory_size = u64{4} << 20;
} // namespace place

/// Linear only.
namespace place {
/// Pages of every kind side by side, chosen anew for each guest.
inline constexpr u64 windows = u64{1} << 30, window_count = 64;
inline constexpr u64 low_edge =
    0x7fff'ffff'f000; ///< last page below the hole of non-canonical addresses
inline constexpr u64 monitor_range = 0xffff'8000'0000'0000; ///< where the monitor's own pages lie
inline constexpr u64 self_map_slot = 493;         ///< of the PML4, which names itself there
inline constexpr u64 top = 0xffff'ffff'8000'0000; ///< 2 GiB, all of them the first 2 MiB of RAM
} // namespace place

namespace selector {
inline constexpr u16 kernel_code = 0x08, kernel_data = 0x10, user_code32 = 0x1b, user_data = 0x23,
                     user_code = 0x2b, tss = 0x30, kernel_code32 = 0x40, code1 = 0x49, data1 = 0x51,
                     call_gate = 0x58, code16 = 0x6b, expand_down = 0x73, conforming = 0x78,
                     ldt = 0x80;
}

/// Where a handler sends the guest after each exception or system call: 15 registers as POP takes
/// them, then what IRET takes.
struct Resumption {
    u64 gpr[15] = {}; ///< R15 ... R8, RDI, RSI, RBP, RBX, RDX, RCX, RAX
    u64 rip = 0, cs = 0, rflags = 0, rsp = 0, ss = 0;
};
static_assert(sizeof(Resumption) == 160);

inline constexpr unsigned resumption_count = 96;
/// Instructions that a handler executes, counting its own.
inline constexpr unsigned handler_instructions = 20;

/// What the guest's handlers work with; the guest can reach it, so nothing here is to be trusted.
struct GuestControl {
    u64 cursor = 0; ///< address of the next Resumption
    u64 vector_count[256] = {};
    u64 reserved[7] = {};
    Resumption resumption[resumption_count + 1]; ///< the last one ends the guest
};

} // namespace gnomon::test::hostile
