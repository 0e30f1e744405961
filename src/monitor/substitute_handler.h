// SPDX-License-Identifier: Apache-2.0
/// @file The substitute handler (M1.4, M1.5): guest-mode code on monitor pages to which the hooked
/// vectors lead, and the hook at the kernel's way back.
///
/// It runs in monitor mode: only it sees these pages, nothing interrupts it, and it never faults.
/// It counts the call, looks up what the monitor wants of it, and then either goes straight to the
/// guest's own handler, or logs the call to a ring without an exit, or makes a hypercall first. So
/// it does at the call's return. Of calls of which the monitor wants only sums, it keeps the books
/// itself: it remembers who has entered which call when, and adds up at the return.
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

/// What the handler does with a call, or its return, besides counting its entry. `sum`: adds it to
/// the sums of its number when it returns; if that cannot be, the entry is logged.
enum class CallAction : u8 { none = 0, log = 1, hypercall = 2, sum = 3 };

/// One logged call or return.
struct HandlerEvent {
    enum Kind : u32 { entry, exit };
    u32 number = 0; ///< EAX; exit: pt_regs.orig_ax, its low half
    u32 kind = entry;
    u64 args[6] = {}; ///< RDI, RSI, RDX, R10, R8, R9; exit: the result, and nothing
    u64 user_rip = 0;
    u64 user_rsp = 0;
    u64 task = 0; ///< the kernel's `current`, 0 while it is not known where that is
    u64 tsc = 0;  ///< host TSC + offset
    u64 cr3 = 0;
};
static_assert(sizeof(HandlerEvent) == 96);

/// A call under way that the handler will add up. The place is the task's by `pending_slot`.
struct PendingCall {
    u64 task = 0; ///< 0: none
    u64 number = 0;
    u64 tsc = 0; ///< as HandlerEvent's
    u64 reserved = 0;
};
static_assert(sizeof(PendingCall) == 32);
inline constexpr unsigned handler_pending_bits = 8;
inline constexpr u64 pending_slot_factor = 0x9e3779b97f4a7c15;
[[nodiscard]] constexpr u64 pending_slot(u64 task) {
    return task * pending_slot_factor >> (64 - handler_pending_bits);
}

/// Sums of the calls of one number that have returned.
struct CallSums {
    u64 calls = 0;
    u64 errors = 0; ///< results from -4095 to -1
    u64 ticks = 0;  ///< of the TSC, from entry to return
};

/// The words of pt_regs that the return handler is given.
struct ReturnOperands {
    u64 ax = 0, orig_ax = 0, cs = 0;
};

/// The handler's data pages. The monitor writes them while the processor is stopped.
struct HandlerData {
    u64 save_rax = 0, save_rcx = 0, save_rdx = 0, save_flags = 0, save_rbx = 0;
    u64 guest_lstar = 0, guest_cstar = 0, guest_sysenter = 0; ///< where to go on
    u64 return_hook = 0;                  ///< likewise, at a return: the hook's address
    ReturnOperands returned;              ///< stored by the processor at a return
    u64 current_pointer = 0;              ///< monitor-mode address from which to read `current`
    u64 cr3 = 0;                          ///< the guest's; the monitor keeps it up to date
    u64 no_task = 0;                      ///< what current_pointer names when nothing is known
    u64 ring_head = 0;                    ///< events written; the handler's
    u64 ring_tail = 0;                    ///< events consumed; the monitor's
    u64 calls[handler_call_numbers] = {}; ///< SYSCALL entries by number
    u8 action[handler_call_numbers] = {}; ///< CallAction at the entry
    u8 return_action[handler_call_numbers] = {}; ///< CallAction at returns that end no PendingCall
    CallSums sums[handler_call_numbers] = {};
    PendingCall pending[1U << handler_pending_bits] = {};
    HandlerEvent ring[handler_ring_size];
};

/// Layout in the monitor's pages: code first, then data, then one page for a view of guest memory.
inline constexpr u64 handler_code_size = page_size;
inline constexpr u64 handler_data_size =
    (sizeof(HandlerData) + page_offset_mask) & ~page_offset_mask;
inline constexpr u64 handler_view_offset = handler_code_size + handler_data_size;

/// Entry points and hypercall return addresses, as offsets from handler_base.
struct HandlerLayout {
    u64 syscall = 0, cstar = 0, sysenter = 0, returned = 0;
    u64 end = 0;
    /// RIP after VMCALL
    u64 syscall_hypercall = 0, sysenter_hypercall = 0, cstar_hypercall = 0, return_hypercall = 0;
};

/// Assembles the handler into `code` (handler_code_size bytes).
[[nodiscard]] HandlerLayout assemble_handler(std::span<u8> code);

} // namespace gnomon::monitor
