// SPDX-License-Identifier: Apache-2.0
/// @file What happened in the guest, as the source of events (the monitor's interposer, or a test)
/// tells it.
///
/// All numbers come from the guest and are untrusted. Events of one machine reach the Tracer one at
/// a time, in the order in which the guest's kernel saw them.
#pragma once

#include "base/types.h"

#include <array>
#include <cstddef>
#include <span>
#include <string>

namespace gnomon::trace {

/// Who made the call. Calls are paired by (key, generation), never by virtual CPU.
struct TaskId {
    i32 pid = 0;        ///< the kernel's task id (strace's pid of a thread)
    i32 tgid = 0;       ///< the process id, shared by its threads
    i32 ppid = 0;       ///< parent's process id
    std::string comm;   ///< at most 15 bytes, any bytes
    u64 key = 0;        ///< the kernel's task pointer; the address-space number (CR3) if !known
    u64 generation = 0; ///< the task's start time: the kernel reuses task pointers; 0 if !known
    bool known = false; ///< whether the guest's kernel is understood, so that the fields above hold
};

/// By which door the kernel was entered. It decides numbering and the width of a word.
enum class Abi : u8 {
    x86_64, ///< SYSCALL from 64-bit code
    x32,    ///< SYSCALL with bit 30 of the number set
    i386,   ///< INT 0x80, SYSENTER, or SYSCALL from compatibility mode
};

/// The bit that marks x32 numbers (asm/unistd.h, __X32_SYSCALL_BIT).
inline constexpr u64 x32_syscall_bit = 0x40000000;

struct SyscallEnter {
    TaskId task;
    Abi abi = Abi::x86_64;
    u64 number = 0;
    std::array<u64, 6> args{};
    u64 timestamp_ns = 0; ///< since the epoch
    u64 user_ip = 0;
    u64 user_sp = 0; ///< 0 if unknown; rt_sigreturn's signal mask is found by it
    unsigned cpu = 0;
};

struct SyscallExit {
    TaskId task;
    i64 result =
        0; ///< the kernel's raw return value: -errno on failure, -512..-516 before a restart
    Abi abi = Abi::x86_64;
    u64 number = 0; ///< pt_regs.orig_ax
    u64 timestamp_ns = 0;
    unsigned cpu = 0;
    /// The first return of a new task (from clone, clone3, fork, vfork): it never entered by
    /// itself.
    bool child_return = false;
};

/// Calls by SYSCALL, entered and returned, of which only the sums are known.
struct SyscallSums {
    u64 number = 0;
    u64 calls = 0;
    u64 errors = 0;
    u64 time_ns = 0; ///< from entering to returning
};

/// A signal that the kernel delivers to a task: struct siginfo, flattened. Fields that the code
/// does not carry are ignored.
struct SignalDelivered {
    TaskId task;
    i32 signo = 0;
    i32 code = 0;  ///< si_code
    i32 error = 0; ///< si_errno
    i32 pid = 0;
    u32 uid = 0;
    i32 status = 0; ///< SIGCHLD: exit code or signal, by the code
    i64 utime = 0;  ///< SIGCHLD, clock ticks
    i64 stime = 0;
    u64 address = 0; ///< SIGSEGV and its kin; SIGSYS: si_call_addr
    u64 value = 0;   ///< sigqueue and timers: si_value
    i32 timer_id = 0;
    i32 overrun = 0;
    i64 band = 0; ///< SIGIO
    i32 fd = 0;
    i32 syscall = 0; ///< SIGSYS
    u32 arch = 0;    ///< SIGSYS: AUDIT_ARCH_*
    u64 timestamp_ns = 0;
    unsigned cpu = 0;
};

struct TaskExited {
    TaskId task;
    i32 exit_code =
        0; ///< as wait4's status: low 7 bits signal, bit 7 core dumped, next byte exit code
    u64 timestamp_ns = 0;
    unsigned cpu = 0;
};

/// The user memory of the task that an event is about, at that moment. Owned by the event's source
/// and used only during the call that it is passed to.
class MemoryReader {
public:
    virtual ~MemoryReader() = default;
    /// Copies `out.size()` bytes from the user address. @return false if any of them is absent or
    /// not user memory; `out` is then unspecified. Memory is present or absent by whole 4 KiB
    /// pages.
    [[nodiscard]] virtual bool read(u64 address, std::span<std::byte> out) = 0;
};

} // namespace gnomon::trace
