// SPDX-License-Identifier: Apache-2.0
/// @file Exits: the ways back from `Processor::enter` to host mode.
#pragma once

#include "base/address.h"
#include "processor/registers.h"

namespace gnomon::processor {

enum class ExitReason : u8 {
    kicked,           ///< `kick` was called, or nothing more to do before the monitor looks
    halt,             ///< HLT was executed; RIP is after it
    interrupt_window, ///< ControlBlock::interrupt_window was set and RFLAGS.IF = 1 without
                      ///< interrupt shadow
    page_fault, ///< the shadow tables do not allow an access; RIP at the instruction (restartable)
    mmio,       ///< access to a leaf marked mmio, see MmioExit
    io,         ///< IN, OUT, INS, OUTS, see IoExit
    msr_read,   ///< RDMSR of an intercepted or unknown MSR; RIP at the instruction
    msr_write,  ///< WRMSR likewise, value = EDX:EAX
    control_register,   ///< MOV to CR0, CR3, CR4 (checked, not yet applied), CR8; RIP at the
                        ///< instruction
    invlpg,             ///< INVLPG; `gva` is its operand; RIP at the instruction
    invpcid,            ///< INVPCID (operands checked); RIP at the instruction
    software_interrupt, ///< INT n with its bit set in ControlBlock::int_intercept; RIP at the
                        ///< instruction
    hypercall,          ///< VMCALL in monitor mode; RIP after it
    execution_hook,     ///< RIP equals ControlBlock::execution_hook[index], and no handler took it;
                        ///< not yet executed
    write_buffer_full,  ///< the next write's records do not fit; RIP at the instruction (M2.5)
    triple_fault,       ///< shutdown
    wbinvd,             ///< WBINVD or INVD; RIP at the instruction
    software_interrupt_delivered, ///< INT n with its bit set in ControlBlock::int_delivery_exit has
                                  ///< entered its handler; RIP at the handler's first instruction
};
inline constexpr unsigned exit_reason_count = 18;
/// The reasons' names as the source has them, for reports.
inline constexpr const char* exit_reason_names[exit_reason_count] = {
    "kicked",       "halt",           "interrupt_window",
    "page_fault",   "mmio",           "io",
    "msr_read",     "msr_write",      "control_register",
    "invlpg",       "invpcid",        "software_interrupt",
    "hypercall",    "execution_hook", "write_buffer_full",
    "triple_fault", "wbinvd",         "software_interrupt_delivered"};

/// Details of an exit. Which fields hold is said per reason above; the others are zero.
/// "RIP at the instruction" exits are completed by the monitor: it does the operation and calls
/// `advance` (RIP += instruction_length), or injects an exception, or re-enters to try again.
struct Exit {
    ExitReason reason = ExitReason::kicked;
    u8 instruction_length = 0;

    // page_fault: the access that failed. `error_code` as the architecture would push it were the
    // guest's own tables to forbid the access; bit 0 (present) says whether a shadow leaf was
    // present. `during_delivery`: the access was made while delivering the event that is still in
    // ControlBlock::injection; re-entering retries the delivery.
    // invlpg: gva.
    Gva gva;
    u32 error_code = 0;
    bool during_delivery = false;
    bool implicit_supervisor =
        false; ///< access to a descriptor table or TSS: supervisor whatever CPL, SMAP always

    // control_register: index 0, 3, 4 or 8 and the new value. msr_*: index and value.
    // invpcid: index = type (0-3), value = PCID, gva = address. software_interrupt: index = vector.
    // software_interrupt_delivered: index = vector; value, gva and from_user = RIP pushed, RSP and
    // whether the CPL was 3 at the instruction.
    // execution_hook: index. hypercall: index = RAX's low 32 bits.
    u32 index = 0;
    u64 value = 0;
    bool from_user = false;

    // mmio and io. A read is completed by storing the result into ControlBlock::io_data[0..size)
    // and setting ControlBlock::io_data_valid, then re-entering: the instruction runs again and
    // takes it. A write is complete and RIP is already past it (or at it, for a REP string
    // instruction with more to do); `data` is what it wrote.
    Gpa gpa;            ///< mmio
    u16 port = 0;       ///< io
    u8 size = 0;        ///< bytes: mmio 1..8 (wider accesses come as several exits), io 1, 2 or 4
    bool write = false; ///< direction, from the guest's view
    u64 data = 0;       ///< little endian, zero-extended
};

} // namespace gnomon::processor
