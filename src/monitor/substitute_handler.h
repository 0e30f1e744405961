// SPDX-License-Identifier: Apache-2.0
/// @file The substitute handler (M1.4, M1.5): guest-mode code on monitor pages to which the hooked
/// vectors lead.
///
/// It runs in monitor mode: only it sees these pages, nothing interrupts it, and it never faults.
/// It counts the call, looks up what the monitor wants of it, and then either goes straight to the
/// guest's own handler, or logs the call to a ring without an exit, or makes a hypercall first.
/// Every register and flag that it uses is put back; it needs no stack, since it keeps them in its
/// own page, RIP-relative. One copy for each virtual processor.
#pragma once

#include "base/address.h"
#include "processor/registers.h"

#include <span>

namespace gnomon::monitor {

/// Where the handler of virtual processor 0 lies: Linux leaves this range to hypervisors.
inline constexpr u64 handler_base = 0xffff'8000'0000'0000;

inline constexpr unsigned handler_call_numbers =
    512; ///< calls with higher numbers always make a hypercall
inline constexpr unsigned handler_ring_size = 1024; ///< events; a power of two

/// What the handler does with a call besides counting it.
enum class CallAction : u8 { none = 0, log = 1, hypercall = 2 };

/// One logged call.
struct HandlerEvent {
    u64 number = 0;
    u64 args[6] = {}; ///< RDI, RSI, RDX, R10, R8, R9
    u64 user_rip = 0;
    u64 user_rsp = 0;
    u64 task = 0; ///< the kernel's `current`, 0 while it is not known where that is
    u64 tsc = 0;  ///< host TSC + offset
    u64 cr3 = 0;
};
static_assert(sizeof(HandlerEvent) == 96);

/// The handler's data pages. The monitor writes them while the processor is stopped.
struct HandlerData {
    u64 save_rax = 0, save_rcx = 0, save_rdx = 0, save_flags = 0, save_rbx = 0;
    u64 guest_lstar = 0, guest_cstar = 0, guest_sysenter = 0; ///< where to go on
    u64 current_pointer = 0;              ///< monitor-mode address from which to read `current`
    u64 cr3 = 0;                          ///< the guest's; the monitor keeps it up to date
    u64 no_task = 0;                      ///< what current_pointer names when nothing is known
    u64 ring_head = 0;                    ///< events written; the handler's
    u64 ring_tail = 0;                    ///< events consumed; the monitor's
    u64 calls[handler_call_numbers] = {}; ///< SYSCALL entries by number
    u8 action[handler_call_numbers] = {}; ///< CallAction
    HandlerEvent ring[handler_ring_size];
};

/// Layout in the monitor's pages: code first, then data, then one page for a view of guest memory.
inline constexpr u64 handler_code_size = page_size;
inline constexpr u64 handler_data_size =
    (sizeof(HandlerData) + page_offset_mask) & ~page_offset_mask;
inline constexpr u64 handler_view_offset = handler_code_size + handler_data_size;

/// Entry points and hypercall return addresses, as offsets from handler_base.
struct HandlerLayout {
    u64 syscall = 0, cstar = 0, sysenter = 0;
    u64 end = 0;
    u64 syscall_hypercall = 0, sysenter_hypercall = 0, cstar_hypercall = 0; ///< RIP after VMCALL
};

/// Assembles the handler into `code` (handler_code_size bytes).
[[nodiscard]] HandlerLayout assemble_handler(std::span<u8> code);

} // namespace gnomon::monitor
