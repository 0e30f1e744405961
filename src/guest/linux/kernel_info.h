// SPDX-License-Identifier: Apache-2.0
/// @file All that the monitor and the tracer know about one guest kernel, learnt from its own
/// image: no profile, no agent. What an image does not tell is absent and listed, never guessed.
#pragma once

#include "guest/linux/btf.h"
#include "guest/linux/kallsyms.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace gnomon::guest::linux_ {

/// Link-time addresses; add the slide for those of the running guest.
struct KernelSymbols {
    std::optional<Gva> text;             ///< _text
    std::optional<Gva> end;              ///< _end
    std::optional<Gva> init_task;        ///< the first task, PID 0
    std::optional<Gva> per_cpu_offset;   ///< __per_cpu_offset[], u64 for each CPU
    std::optional<Gva> linux_banner;     ///< "Linux version ..."
    std::optional<Gva> entry_syscall_64; ///< what IA32_LSTAR is set to
    std::optional<Gva>
        entry_syscall_64_trampoline; ///< what LSTAR derives from with early KPTI (4.15 to 4.19)
    std::optional<Gva> entry_syscall_compat;      ///< what IA32_CSTAR is set to
    std::optional<Gva> entry_sysenter_compat;     ///< what IA32_SYSENTER_EIP is set to
    std::optional<Gva> entry_int80;               ///< the IDT's vector 0x80, under whichever name
    std::optional<Gva> syscall_exit_to_user_mode; ///< RDI = pt_regs, before exit work
    std::optional<Gva> getname_flags;             ///< copies a path from user space
};

/// Byte offsets in `struct task_struct`.
struct TaskLayout {
    std::optional<u32> pid, tgid, comm, real_parent, signal, group_leader, mm;
    std::optional<u32> start_time; ///< u64, nanoseconds of CLOCK_MONOTONIC
    std::optional<u32> start_boottime;
    std::optional<u32> thread_pid, nsproxy, files, fs, cred;
    std::optional<u32> flags;             ///< PF_*
    std::optional<u32> thread_info_flags; ///< TIF_*, u64
    std::optional<u32> exit_code;
    std::optional<u32> stack;   ///< the lowest address of the kernel stack
    std::optional<u32> fs_base; ///< of the user, while the task does not run
};

/// Byte offsets in `struct pid` and its per-namespace numbers.
struct PidLayout {
    std::optional<u32> level;      ///< u32 in struct pid: depth of the namespace
    std::optional<u32> numbers;    ///< array of upid in struct pid, `level` + 1 of them
    std::optional<u32> nr;         ///< i32 in struct upid
    std::optional<u32> upid_bytes; ///< the size of struct upid
};

/// Byte offsets in `struct pt_regs`. All are u64, but of `cs` and `ss` only the low 16 bits are the
/// selector: since 6.9 FRED's event data may share the rest.
struct RegistersLayout {
    std::optional<u32> ax, orig_ax, bx, cx, dx, si, di, bp, sp, r8, r9, r10, r11, r12, r13, r14,
        r15;
    std::optional<u32> ip, cs, flags, ss;
    std::optional<u32> size; ///< of the whole structure
};

/// Byte offsets in `struct ksignal`, a signal that is about to be delivered.
struct SignalLayout {
    std::optional<u32> number; ///< i32
    std::optional<u32> info;   ///< kernel_siginfo
};

/// A per-CPU variable. Up to 6.14 its address is an offset in the per-CPU area; later, a link-time
/// address that the per-CPU base (GS base in kernel mode) displaces as it is, so that the slide
/// counts.
struct PerCpuVariable {
    u64 value = 0;
    bool linked_in_image = false;

    /// @param base the CPU's __per_cpu_offset, which is the kernel's GS base.
    [[nodiscard]] Gva address(Gva base, u64 slide) const {
        return base + (value + (linked_in_image ? slide : 0));
    }
};

/// Threads: immutable after `from_vmlinux`. Self-contained: the image may be dropped.
struct KernelInfo {
    KernelSymbols symbols;
    TaskLayout task;
    PidLayout pid;
    RegistersLayout registers;
    SignalLayout signal;
    std::optional<PerCpuVariable> current_task; ///< the pointer to the task that runs on a CPU
    std::string release; ///< "6.1.0-9-amd64", as uname -r says; empty if unknown
    /// What is not known, one line each, for a diagnostic: names of symbols and members, or why
    /// there are none.
    std::vector<std::string> missing;

    /// The whole tables, for questions beyond the above. Null where the image has none.
    std::shared_ptr<const Kallsyms> kallsyms;
    std::shared_ptr<const Btf> btf;

    /// Fails only when `vmlinux` is no x86-64 ELF image; whatever else it lacks is listed in
    /// `missing`. Takes about 100 ms for a distribution's kernel.
    [[nodiscard]] static Result<KernelInfo> from_vmlinux(std::span<const std::byte> vmlinux);

    /// How far KASLR moved the kernel, from the value that the guest wrote to IA32_LSTAR. nullopt
    /// if that is not where entry_SYSCALL_64 can be: some other handler, another kernel, or a lie.
    [[nodiscard]] std::optional<u64> slide_from(Gva lstar_written_by_guest) const;
    /// The same from any symbol whose link-time and run-time addresses are known.
    [[nodiscard]] std::optional<u64> slide_from(Gva link_time, Gva run_time) const;
};

} // namespace gnomon::guest::linux_
