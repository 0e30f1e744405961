// SPDX-License-Identifier: Apache-2.0
/// @file An experiment: the system-call registers, gates, breakpoints and mappings as a hostile
/// guest may set them, one program of a few instructions that enters the kernel, and a record of
/// every event until it ends.
#pragma once

#include "transcript.h"

/// How the program enters.
enum class Entry : u8 { syscall, sysenter, int80, vmcall, vmmcall, count };
/// Where the program runs.
enum class Place : u8 { user64, user32, kernel, user_top, kernel_top, count };
/// The instruction before.
enum class Before : u8 {
    nothing,
    sti,         ///< with an interrupt pending, where that is allowed
    mov_ss,      ///< kernel: from a watched address
    set_tf,      ///< POPF that sets TF
    write_lstar, ///< kernel: WRMSR of LSTAR to `lstar`; until then it held another address
    send_nmi,    ///< kernel: to itself
    swapgs,      ///< kernel
    count
};
/// What LSTAR, CSTAR and SYSENTER_EIP name.
enum class Target : u8 {
    handler,       ///< the guest's handler in its own image
    user_page,     ///< a copy of it on a page for user mode: SMEP forbids
    monitor_range, ///< a copy at the addresses that the monitor uses for itself
    monitor_entry, ///< exactly at the address of the hook
    monitor_data,  ///< where the monitor keeps its data
    straddling,    ///< a copy across the end of a page there
    top,           ///< a copy at the top of the address space
    itself,        ///< the entering instruction
    low,           ///< code that ends the experiment
    count
};
/// What the guest maps at `monitor_range`.
enum class Window : u8 {
    nothing,
    plain,
    not_executable,
    for_user,
    read_only,
    reserved_bit, ///< a frame beyond the physical address width
    count
};
enum class Return : u8 { end, iret, sysret64, sysret32, sysexit64, sysexit32, noncanonical, count };
/// What the gate of vector 0x80 is.
enum class Gate : u8 { interrupt, trap, task, not_present, dpl0, count };

struct Setup {
    Entry entry = Entry::syscall;
    Place place = Place::user64;
    Before before = Before::nothing;
    Target target = Target::handler;
    Window window = Window::nothing;
    Return how_back = Return::end;
    Gate gate = Gate::interrupt;
    bool sce = true, smep = false, smap = false;
    bool mend = false;    ///< a page fault on the window maps it, and goes on
    bool null_cs = false; ///< SYSENTER_CS = 0
    bool same_stack =
        false; ///< #DB stays on the stack of the code it comes from, the user's in the handler
    bool other_tables = false; ///< under a CR3 that maps only what exceptions need
    u32 fmask = 0x47700;
    u64 flags = flag_fixed;
    u64 back_flags = flag_fixed; ///< in R11, or the frame's RFLAGS
    u64 kernel_gs = 0;
    u64 number = 0;
    u64 breakpoint[4] = {};
    u64 dr7 = 0x400;
    u64 registers = 1; ///< seed of the general registers
};

/// Places that breakpoints may name.
[[nodiscard]] u64 address_of_target(const Setup& s);
[[nodiscard]] u64 address_of_entry(const Setup& s);
[[nodiscard]] u64 watched_address(const Setup& s); ///< what Before::mov_ss reads

void prepare_experiments(const Options& options);
void run_experiment(const Setup& s);

/// Runs `size` bytes at CPL 0 with RCX, RDX:RAX as given, and notes where that ended.
void run_bytes(const u8* bytes, u64 size, u64 rcx, u64 rdx, u64 rax);

/// The range that Linux leaves to hypervisors, where the hook of this monitor is.
constexpr u64 monitor_range = 0xffff800000000000;
constexpr unsigned window_pages = 40;
