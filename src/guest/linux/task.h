// SPDX-License-Identifier: Apache-2.0
/// @file Who is running: tasks of the guest's kernel, read from its memory.
#pragma once

#include "guest/linux/kernel_info.h"
#include "guest/linux/memory_reader.h"

#include <optional>
#include <string>

namespace gnomon::guest::linux_ {

/// One thread, as its kernel saw it at the moment of reading.
struct TaskIdentity {
    Gva task;     ///< its task_struct. Reused after it ends: (task, start_time) is what names it
    i32 pid = 0;  ///< the thread (gettid) in the initial PID namespace
    i32 tgid = 0; ///< the process (getpid), likewise
    i32 ppid = 0; ///< the parent's process; 0 if there is none or it cannot be read
    u64 start_time = 0; ///< nanoseconds since boot; 0 if the kernel's layout does not tell
    /// At most 15 bytes, as the task set them: any byte but NUL may occur. Whoever prints it
    /// escapes it.
    std::string comm;
    /// The thread and process as they see themselves, when inside a PID namespace of their own.
    std::optional<i32> namespace_pid;
    std::optional<i32> namespace_tgid;
    bool kernel_thread =
        false; ///< has no user address space (nor does a task that is past exit_mm)
};

/// Reads tasks of one running kernel. Nothing is remembered from call to call: comm changes by
/// prctl, and an execve outside the leading thread changes even pid and start_time of a task_struct
/// in use. The guest may have written anything: what cannot be a task is nullopt, and nothing read
/// is trusted further than its plausibility. Threads: any; immutable.
class TaskReader {
public:
    /// @param slide how far KASLR moved the kernel (KernelInfo::slide_from).
    /// Fails if the kernel image did not tell where a task keeps pid, tgid and comm.
    [[nodiscard]] static Result<TaskReader> create(const KernelInfo& info, u64 slide);

    /// @param memory a view that maps kernel data (kernel_cr3 in page_walk.h).
    [[nodiscard]] std::optional<TaskIdentity> identify(const GuestVirtualMemory& memory,
                                                       Gva task) const;

    /// The task that runs on a CPU.
    /// @param kernel_gs_base the CPU's GS base in kernel mode: IA32_KERNEL_GS_BASE before the
    /// entry's SWAPGS, IA32_GS_BASE after it; equal to its __per_cpu_offset.
    [[nodiscard]] std::optional<Gva> current(const GuestVirtualMemory& memory,
                                             Gva kernel_gs_base) const;

private:
    struct Required {
        u32 pid, tgid, comm;
    };
    TaskReader(Required required, const KernelInfo& info, u64 slide)
        : m_required(required), m_task(info.task), m_pid(info.pid), m_current(info.current_task),
          m_slide(slide) {}

    /// The number of `task` in the namespace it was created in, unless that is the initial one.
    [[nodiscard]] std::optional<i32> namespace_number(const GuestVirtualMemory& memory,
                                                      Gva task) const;

    Required m_required;
    TaskLayout m_task;
    PidLayout m_pid;
    std::optional<PerCpuVariable> m_current;
    u64 m_slide;
};

} // namespace gnomon::guest::linux_
