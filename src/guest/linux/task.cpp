// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/task.h"

#include "guest/linux/kernel_range.h"

#include <algorithm>
#include <array>

namespace gnomon::guest::linux_ {

namespace {

constexpr std::size_t comm_bytes = 16;          ///< TASK_COMM_LEN
constexpr i32 max_pid = i32{1} << 22;           ///< PID_MAX_LIMIT, exclusive
constexpr u32 max_pid_namespace_level = 32;     ///< MAX_PID_NS_LEVEL
constexpr u64 kernel_object_alignment_mask = 7; ///< of anything that a kernel pointer names

std::optional<Gva> read_pointer(const GuestVirtualMemory& memory, Gva at) {
    const auto value = memory.read_object<u64>(at);
    if (!value || (*value & kernel_object_alignment_mask) != 0 || !in_kernel_half(Gva(*value)))
        return std::nullopt;
    return Gva(*value);
}

std::optional<i32> read_pid(const GuestVirtualMemory& memory, Gva at) {
    const auto value = memory.read_object<i32>(at);
    if (!value || *value < 0 || *value >= max_pid) return std::nullopt;
    return value;
}

} // namespace

Result<TaskReader> TaskReader::create(const KernelInfo& info, u64 slide) {
    if (!info.task.pid || !info.task.tgid || !info.task.comm)
        return fail("the kernel image does not tell where a task keeps its pid, tgid and comm; "
                    "programs are "
                    "not named. Use a kernel with CONFIG_DEBUG_INFO_BTF");
    return TaskReader({.pid = *info.task.pid, .tgid = *info.task.tgid, .comm = *info.task.comm},
                      info, slide);
}

std::optional<TaskIdentity> TaskReader::identify(const GuestVirtualMemory& memory, Gva task) const {
    if (!in_kernel_half(task) || (task.value() & kernel_object_alignment_mask) != 0)
        return std::nullopt;
    const auto pid = read_pid(memory, task + m_required.pid);
    const auto tgid = read_pid(memory, task + m_required.tgid);
    const auto comm = memory.read_object<std::array<char, comm_bytes>>(task + m_required.comm);
    if (!pid || !tgid || !comm) return std::nullopt;

    TaskIdentity identity;
    identity.task = task;
    identity.pid = *pid;
    identity.tgid = *tgid;
    // The last byte is always NUL in a sound kernel; whatever is there is not part of the name.
    identity.comm.assign(comm->begin(), std::find(comm->begin(), comm->end() - 1, '\0'));
    if (const auto offset = m_task.start_time ? m_task.start_time : m_task.start_boottime) {
        const auto start_time = memory.read_object<u64>(task + *offset);
        if (!start_time) return std::nullopt;
        identity.start_time = *start_time;
    }
    if (m_task.real_parent)
        if (const auto parent = read_pointer(memory, task + *m_task.real_parent))
            identity.ppid = read_pid(memory, *parent + m_required.tgid).value_or(0);
    if (m_task.mm) identity.kernel_thread = memory.read_object<u64>(task + *m_task.mm) == u64{0};

    identity.namespace_pid = namespace_number(memory, task);
    if (identity.namespace_pid && m_task.group_leader)
        if (const auto leader = read_pointer(memory, task + *m_task.group_leader))
            identity.namespace_tgid = namespace_number(memory, *leader);
    return identity;
}

std::optional<i32> TaskReader::namespace_number(const GuestVirtualMemory& memory, Gva task) const {
    if (!m_task.thread_pid || !m_pid.level || !m_pid.numbers || !m_pid.nr || !m_pid.upid_bytes)
        return std::nullopt;
    // Null once the task has been reaped.
    const auto pid = read_pointer(memory, task + *m_task.thread_pid);
    if (!pid) return std::nullopt;
    const auto level = memory.read_object<u32>(*pid + *m_pid.level);
    if (!level || *level == 0 || *level > max_pid_namespace_level) return std::nullopt;
    return read_pid(memory,
                    *pid + (u64{*m_pid.numbers} + u64{*level} * *m_pid.upid_bytes + *m_pid.nr));
}

std::optional<Gva> TaskReader::current(const GuestVirtualMemory& memory, Gva kernel_gs_base) const {
    if (!m_current) return std::nullopt;
    return read_pointer(memory, m_current->address(kernel_gs_base, m_slide));
}

} // namespace gnomon::guest::linux_
