// SPDX-License-Identifier: Apache-2.0
/// @file The control block: everything that a monitor tells a processor, and the guest's register
/// block (M1.1-M1.3).
///
/// It plays the part of a VMCS or VMCB. The processor allocates it, because the software
/// implementation keeps it next to its own state; the monitor reads and writes it only while no
/// `enter` is under way on it.
#pragma once

#include "base/guest_memory.h"
#include "processor/registers.h"
#include "processor/shadow_entry.h"
#include "processor/write_buffer.h"

#include <bitset>

namespace gnomon::processor {

/// An event to deliver at the next entry, before any guest instruction. Cleared by the processor
/// once delivered.
struct Injection {
    enum class Kind : u8 { none, external_interrupt, nmi, exception, software_interrupt };
    Kind kind = Kind::none;
    u8 vector = 0;
    bool has_error_code = false;
    u8 instruction_length = 0; ///< software_interrupt: RIP pushed = RIP + this
    u32 error_code = 0;
    u64 cr2 = 0; ///< loaded into CR2 when the vector is #PF
};

/// One CPUID leaf as shown to the guest. `subleaf` is ignored unless `has_subleaf`.
struct CpuidLeaf {
    u32 leaf = 0, subleaf = 0;
    bool has_subleaf = false;
    u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// MSR intercepts (M1.2): one bit a register for 0x0-0x1fff, 0xc0000000-0xc0001fff. An MSR that the
/// processor does not hold itself always exits.
struct MsrBitmap {
    std::bitset<0x2000> low, high;
    void set(u32 msr, bool on = true) {
        if (msr < 0x2000)
            low.set(msr, on);
        else if (msr - 0xc0000000U < 0x2000)
            high.set(msr - 0xc0000000U, on);
    }
    [[nodiscard]] bool test(u32 msr) const {
        if (msr < 0x2000) return low.test(msr);
        return msr - 0xc0000000U < 0x2000 && high.test(msr - 0xc0000000U);
    }
};

inline constexpr unsigned execution_hook_count = 4;
inline constexpr unsigned hook_operand_count = 3;

/// What an execution hook leads to instead of an exit: code in monitor mode (M1.4), which has no
/// way to guest memory but these operands.
///
/// Before the instruction at the hook, the processor reads quadwords of guest memory at general
/// register `base` plus `offset`, with the rights of the code there, and stores them into the
/// monitor's pages. Then it goes to `entry` in monitor mode, as a hooked system-call entry does,
/// with every register and flag as it was. If the JMP that leaves the mode goes to the hook, the
/// instruction there comes next, is not hooked once more, and nothing is delivered before it.
///
/// The hook exits all the same, as one without a handler, if an operand is not RAM that can be read
/// without a page fault and within one page; outside 64-bit code; and where the instruction is
/// looked at by itself: with TF, RF or a debug breakpoint, behind STI or MOV SS, and in rings 1
/// and 2.
struct HookHandler {
    Gva entry;        ///< in [monitor_mode_begin, monitor_mode_end); 0: none, the hook exits
    u64 operands = 0; ///< where in the monitor's pages they are stored, in bytes; 8-byte aligned
    u8 base = 0;      ///< Gpr
    i32 offset[hook_operand_count] = {};
};

/// An IRET of the guest that is to be noticed: the one that leads back to a context.
struct ReturnWatch {
    bool armed = false; ///< cleared by the processor behind the IRET
    bool seen = false;  ///< set by it then
    /// It sets ControlBlock::interrupt_window as well.
    bool opens_window = false;
    // The context, as it is behind the IRET.
    u16 cs = 0; ///< selector
    u64 cr3 = 0, rsp = 0;
};

struct ControlBlock {
    RegisterBlock state;

    // --- memory (M2) ---
    Hva ram_base =
        nullptr; ///< GuestMemory::base(): low RAM at +0, RAM from ram_high_base at +ram_low_limit
    u64 ram_low_size = 0, ram_high_size = 0;
    /// The file of which RAM is the shared mapping, from its beginning on; -1: not known. A
    /// processor may map parts of it again.
    int ram_file = -1;
    Hva monitor_pages = nullptr; ///< memory behind frames from monitor_frame_base
    u64 monitor_pages_size = 0;
    Hva shadow_arena = nullptr; ///< memory of the shadow tables
    u64 shadow_root =
        0; ///< byte offset of the level-4 table in the arena. A change takes effect at the next
           ///< entry, and forgets no translation of either root (processor.h)
    u64 monitor_root =
        0; ///< root that is used, instead, in monitor mode (M1.4); 0: no monitor mode
    WriteBuffer write_buffer; ///< M2.3

    // --- the hook (M1) ---
    /// A system-call entry (SYSCALL, SYSENTER) whose vector lies in [begin, end) enters monitor
    /// mode: fetches and data accesses go by monitor_root, nothing is delivered, VMCALL exits; the
    /// first near indirect JMP leaves it.
    Gva monitor_mode_begin, monitor_mode_end;
    bool monitor_mode = false;         ///< the processor is in monitor mode now
    bool monitor_mode_by_hook = false; ///< and got there by an execution hook
    MsrBitmap msr_read_intercept, msr_write_intercept;
    std::bitset<256> int_intercept;     ///< INT n that exits instead of being done
    std::bitset<256> int_delivery_exit; ///< INT n that exits once it has entered its handler, with
                                        ///< nothing about it changed; one that faults does not
    Gva execution_hook[execution_hook_count]; ///< supervisor-mode instruction addresses that exit;
                                              ///< 0: none
    HookHandler hook_handler[execution_hook_count]; ///< of the hooks of the same index
    /// Cleared by the monitor to step over the hook at RIP once. The processor sets it again when
    /// that instruction has begun; until then it delivers nothing but exceptions, which are that
    /// instruction's own.
    bool execution_hook_armed = true;

    // --- events ---
    Injection injection;
    bool interrupt_window = false;
    bool nmi_window = false; ///< exit, as for interrupt_window, once an NMI could be delivered
    bool interrupt_shadow = false; ///< one instruction follows STI, MOV SS or POP SS
    bool nmi_blocked = false;      ///< between delivery of an NMI and IRET
    ReturnWatch return_watch;
    /// DR6 bits of data breakpoints that MOV SS or POP SS met: they trap behind the instruction at
    /// RIP. Whoever completes that one injects #DB for them, and clears this.
    u64 held_debug_traps = 0;

    // --- completion of mmio and io reads ---
    bool io_data_valid = false;
    u64 io_data = 0;

    // --- what the guest is shown ---
    /// Guest TSC = host TSC + offset. A signal handler on the thread that calls `enter` may change
    /// it at any time (std::atomic_ref); what the guest reads is then of before or after.
    u64 tsc_offset = 0;
    u64 tsc_read = 0; ///< host TSC when the guest last read its own; for the same handler
    const CpuidLeaf* cpuid = nullptr;
    u32 cpuid_count = 0;
};

} // namespace gnomon::processor
