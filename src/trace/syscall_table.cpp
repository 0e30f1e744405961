// SPDX-License-Identifier: Apache-2.0
#include "trace/syscall_table.h"

#include <algorithm>
#include <cstdlib>
#include <fmt/format.h>
#include <iterator>
#include <seccomp.h>

namespace gnomon::trace {

namespace {

// Numbers that x32 has for itself (asm/unistd_x32.h).
constexpr u64 x32_first = 512;
constexpr u64 x32_count = 36;

// Membership in strace's classes, by name; both ABIs.
constexpr std::string_view file_names[] = {"access",
                                           "acct",
                                           "chdir",
                                           "chmod",
                                           "chown",
                                           "chown32",
                                           "chroot",
                                           "creat",
                                           "execve",
                                           "execveat",
                                           "faccessat",
                                           "faccessat2",
                                           "fanotify_mark",
                                           "fchmodat",
                                           "fchmodat2",
                                           "fchownat",
                                           "fsconfig",
                                           "fspick",
                                           "fstatat64",
                                           "futimesat",
                                           "getcwd",
                                           "getxattr",
                                           "inotify_add_watch",
                                           "lchown",
                                           "lchown32",
                                           "lgetxattr",
                                           "link",
                                           "linkat",
                                           "listxattr",
                                           "llistxattr",
                                           "lremovexattr",
                                           "lsetxattr",
                                           "lstat",
                                           "lstat64",
                                           "mkdir",
                                           "mkdirat",
                                           "mknod",
                                           "mknodat",
                                           "mount",
                                           "mount_setattr",
                                           "move_mount",
                                           "name_to_handle_at",
                                           "newfstatat",
                                           "oldlstat",
                                           "oldstat",
                                           "open",
                                           "open_tree",
                                           "openat",
                                           "openat2",
                                           "pivot_root",
                                           "quotactl",
                                           "readlink",
                                           "readlinkat",
                                           "removexattr",
                                           "rename",
                                           "renameat",
                                           "renameat2",
                                           "rmdir",
                                           "setxattr",
                                           "stat",
                                           "stat64",
                                           "statfs",
                                           "statfs64",
                                           "statx",
                                           "swapoff",
                                           "swapon",
                                           "symlink",
                                           "symlinkat",
                                           "truncate",
                                           "truncate64",
                                           "umount",
                                           "umount2",
                                           "unlink",
                                           "unlinkat",
                                           "uselib",
                                           "utime",
                                           "utimensat",
                                           "utimensat_time64",
                                           "utimes"};
constexpr std::string_view desc_names[] = {"_llseek",
                                           "_newselect",
                                           "bpf",
                                           "cachestat",
                                           "close",
                                           "copy_file_range",
                                           "creat",
                                           "dup",
                                           "dup2",
                                           "dup3",
                                           "epoll_create",
                                           "epoll_create1",
                                           "epoll_ctl",
                                           "epoll_pwait",
                                           "epoll_pwait2",
                                           "epoll_wait",
                                           "eventfd",
                                           "eventfd2",
                                           "execveat",
                                           "faccessat",
                                           "faccessat2",
                                           "fadvise64",
                                           "fadvise64_64",
                                           "fallocate",
                                           "fanotify_init",
                                           "fanotify_mark",
                                           "fchdir",
                                           "fchmod",
                                           "fchmodat",
                                           "fchmodat2",
                                           "fchown",
                                           "fchown32",
                                           "fchownat",
                                           "fcntl",
                                           "fcntl64",
                                           "fdatasync",
                                           "fgetxattr",
                                           "finit_module",
                                           "flistxattr",
                                           "flock",
                                           "fremovexattr",
                                           "fsconfig",
                                           "fsetxattr",
                                           "fsmount",
                                           "fsopen",
                                           "fspick",
                                           "fstat",
                                           "fstat64",
                                           "fstatat64",
                                           "fstatfs",
                                           "fstatfs64",
                                           "fsync",
                                           "ftruncate",
                                           "ftruncate64",
                                           "futimesat",
                                           "getdents",
                                           "getdents64",
                                           "inotify_add_watch",
                                           "inotify_init",
                                           "inotify_init1",
                                           "inotify_rm_watch",
                                           "io_uring_enter",
                                           "io_uring_register",
                                           "io_uring_setup",
                                           "ioctl",
                                           "kexec_file_load",
                                           "landlock_add_rule",
                                           "landlock_create_ruleset",
                                           "landlock_restrict_self",
                                           "linkat",
                                           "lseek",
                                           "memfd_create",
                                           "memfd_secret",
                                           "mkdirat",
                                           "mknodat",
                                           "mmap",
                                           "mmap2",
                                           "mount_setattr",
                                           "move_mount",
                                           "mq_getsetattr",
                                           "mq_notify",
                                           "mq_open",
                                           "mq_timedreceive",
                                           "mq_timedreceive_time64",
                                           "mq_timedsend",
                                           "mq_timedsend_time64",
                                           "name_to_handle_at",
                                           "newfstatat",
                                           "oldfstat",
                                           "open",
                                           "open_by_handle_at",
                                           "open_tree",
                                           "openat",
                                           "openat2",
                                           "perf_event_open",
                                           "pidfd_getfd",
                                           "pidfd_open",
                                           "pidfd_send_signal",
                                           "pipe",
                                           "pipe2",
                                           "poll",
                                           "ppoll",
                                           "ppoll_time64",
                                           "pread64",
                                           "preadv",
                                           "preadv2",
                                           "process_madvise",
                                           "process_mrelease",
                                           "pselect6",
                                           "pselect6_time64",
                                           "pwrite64",
                                           "pwritev",
                                           "pwritev2",
                                           "quotactl_fd",
                                           "read",
                                           "readahead",
                                           "readdir",
                                           "readlinkat",
                                           "readv",
                                           "renameat",
                                           "renameat2",
                                           "select",
                                           "sendfile",
                                           "sendfile64",
                                           "setns",
                                           "signalfd",
                                           "signalfd4",
                                           "socketcall",
                                           "splice",
                                           "statx",
                                           "symlinkat",
                                           "sync_file_range",
                                           "syncfs",
                                           "tee",
                                           "timerfd_create",
                                           "timerfd_gettime",
                                           "timerfd_gettime64",
                                           "timerfd_settime",
                                           "timerfd_settime64",
                                           "unlinkat",
                                           "userfaultfd",
                                           "utimensat",
                                           "utimensat_time64",
                                           "vmsplice",
                                           "write",
                                           "writev"};
constexpr std::string_view process_names[] = {"clone",
                                              "clone3",
                                              "execve",
                                              "execveat",
                                              "exit",
                                              "exit_group",
                                              "fork",
                                              "kill",
                                              "pidfd_send_signal",
                                              "rt_sigqueueinfo",
                                              "rt_tgsigqueueinfo",
                                              "tgkill",
                                              "tkill",
                                              "vfork",
                                              "wait4",
                                              "waitid",
                                              "waitpid"};
constexpr std::string_view network_names[] = {
    "accept",      "accept4",         "bind",    "connect",    "getpeername", "getpmsg",
    "getsockname", "getsockopt",      "listen",  "putpmsg",    "recv",        "recvfrom",
    "recvmmsg",    "recvmmsg_time64", "recvmsg", "send",       "sendfile",    "sendfile64",
    "sendmmsg",    "sendmsg",         "sendto",  "setsockopt", "shutdown",    "socket",
    "socketcall",  "socketpair"};
constexpr std::string_view signal_names[] = {"io_uring_enter",
                                             "kill",
                                             "pause",
                                             "pidfd_send_signal",
                                             "rt_sigaction",
                                             "rt_sigpending",
                                             "rt_sigprocmask",
                                             "rt_sigqueueinfo",
                                             "rt_sigreturn",
                                             "rt_sigsuspend",
                                             "rt_sigtimedwait",
                                             "rt_sigtimedwait_time64",
                                             "rt_tgsigqueueinfo",
                                             "sgetmask",
                                             "sigaction",
                                             "sigaltstack",
                                             "signal",
                                             "signalfd",
                                             "signalfd4",
                                             "sigpending",
                                             "sigprocmask",
                                             "sigreturn",
                                             "sigsuspend",
                                             "ssetmask",
                                             "tgkill",
                                             "tkill"};
constexpr std::string_view ipc_names[] = {
    "ipc",    "msgctl", "msgget", "msgrcv",     "msgsnd",
    "semctl", "semget", "semop",  "semtimedop", "semtimedop_time64",
    "shmat",  "shmctl", "shmdt",  "shmget"};
constexpr std::string_view memory_names[] = {"break",
                                             "brk",
                                             "get_mempolicy",
                                             "io_destroy",
                                             "io_setup",
                                             "io_uring_register",
                                             "madvise",
                                             "map_shadow_stack",
                                             "mbind",
                                             "migrate_pages",
                                             "mincore",
                                             "mlock",
                                             "mlock2",
                                             "mlockall",
                                             "mmap",
                                             "mmap2",
                                             "move_pages",
                                             "mprotect",
                                             "mremap",
                                             "msync",
                                             "munlock",
                                             "munlockall",
                                             "munmap",
                                             "pkey_mprotect",
                                             "remap_file_pages",
                                             "set_mempolicy",
                                             "set_mempolicy_home_node",
                                             "shmat",
                                             "shmdt"};
constexpr std::string_view stat_names[] = {"oldstat", "stat", "stat64"};
constexpr std::string_view lstat_names[] = {"lstat", "lstat64", "oldlstat"};
constexpr std::string_view fstat_names[] = {"fstat",      "fstat64",  "fstatat64",
                                            "newfstatat", "oldfstat", "statx"};
constexpr std::string_view stat_like_names[] = {"fstat",   "fstat64",    "fstatat64", "lstat",
                                                "lstat64", "newfstatat", "oldfstat",  "oldlstat",
                                                "oldstat", "stat",       "stat64",    "statx"};
constexpr std::string_view statfs_names[] = {"statfs", "statfs64"};
constexpr std::string_view fstatfs_names[] = {"fstatfs", "fstatfs64"};
constexpr std::string_view statfs_like_names[] = {"fstatfs", "fstatfs64", "statfs", "statfs64",
                                                  "ustat"};
constexpr std::string_view creds_names[] = {
    "capget",      "capset",      "getegid",    "getegid32",   "geteuid",     "geteuid32",
    "getgid",      "getgid32",    "getgroups",  "getgroups32", "getresgid",   "getresgid32",
    "getresuid",   "getresuid32", "getuid",     "getuid32",    "prctl",       "setfsgid",
    "setfsgid32",  "setfsuid",    "setfsuid32", "setgid",      "setgid32",    "setgroups",
    "setgroups32", "setregid",    "setregid32", "setresgid",   "setresgid32", "setresuid",
    "setresuid32", "setreuid",    "setreuid32", "setuid",      "setuid32"};
constexpr std::string_view clock_names[] = {
    "adjtimex",        "clock_adjtime",       "clock_adjtime64",
    "clock_getres",    "clock_getres_time64", "clock_gettime",
    "clock_gettime64", "clock_settime",       "clock_settime64",
    "gettimeofday",    "settimeofday",        "time"};
constexpr std::string_view pure_names[] = {"getegid", "getegid32", "geteuid", "geteuid32",
                                           "getgid",  "getgid32",  "getpgrp", "getpid",
                                           "getppid", "gettid",    "getuid",  "getuid32"};

struct Class {
    u32 bit;
    std::span<const std::string_view> names;
};

constexpr Class classes[] = {{class_file, file_names},
                             {class_desc, desc_names},
                             {class_process, process_names},
                             {class_network, network_names},
                             {class_signal, signal_names},
                             {class_ipc, ipc_names},
                             {class_memory, memory_names},
                             {class_stat, stat_names},
                             {class_lstat, lstat_names},
                             {class_fstat, fstat_names},
                             {class_stat_like, stat_like_names},
                             {class_statfs, statfs_names},
                             {class_fstatfs, fstatfs_names},
                             {class_statfs_like, statfs_like_names},
                             {class_creds, creds_names},
                             {class_clock, clock_names},
                             {class_pure, pure_names}};

SyscallTable::Entry make_entry(u32 architecture, Abi abi, u64 number, u64 shown) {
    SyscallTable::Entry entry;
    char* name = ::seccomp_syscall_resolve_num_arch(architecture, static_cast<int>(number));
    if (name == nullptr) {
        entry.name = fmt::format("syscall_{:#x}", shown);
        return entry;
    }
    entry.name = name;
    std::free(name);
    entry.row = find_row(abi, entry.name);
    entry.classes = classes_of(entry.name);
    return entry;
}

} // namespace

std::span<const Multiplexed> multiplexed_calls() {
    static constexpr u8 end = 0xff;
    static constexpr Multiplexed calls[] = {
        {"socket", false, 1, {}},
        {"bind", false, 2, {}},
        {"connect", false, 3, {}},
        {"listen", false, 4, {}},
        {"accept", false, 5, {}},
        {"getsockname", false, 6, {}},
        {"getpeername", false, 7, {}},
        {"socketpair", false, 8, {}},
        {"send", false, 9, {}},
        {"recv", false, 10, {}},
        {"sendto", false, 11, {}},
        {"recvfrom", false, 12, {}},
        {"shutdown", false, 13, {}},
        {"setsockopt", false, 14, {}},
        {"getsockopt", false, 15, {}},
        {"sendmsg", false, 16, {}},
        {"recvmsg", false, 17, {}},
        {"accept4", false, 18, {}},
        {"recvmmsg", false, 19, {}},
        {"sendmmsg", false, 20, {}},
        // ipc(call, first, second, third, ptr, fifth)
        {"semop", true, 1, {1, 4, 2, end}},
        {"semget", true, 2, {1, 2, 3, end}},
        {"semctl", true, 3, {1, 2, 3, 4, end}},
        {"semtimedop", true, 4, {1, 4, 2, 5, end}},
        {"msgsnd", true, 11, {1, 4, 2, 3, end}},
        {"msgget", true, 13, {1, 2, end}},
        {"msgctl", true, 14, {1, 2, 4, end}},
        {"shmat", true, 21, {1, 4, 2, end}},
        {"shmdt", true, 22, {4, end}},
        {"shmget", true, 23, {1, 2, 3, end}},
        {"shmctl", true, 24, {1, 2, 4, end}},
    };
    return calls;
}

u32 classes_of(std::string_view name) {
    u32 result = 0;
    for (const Class& one : classes)
        if (std::find(one.names.begin(), one.names.end(), name) != one.names.end())
            result |= one.bit;
    return result;
}

SyscallTable::SyscallTable() {
    for (u64 n = 0; n < max_number; ++n) {
        m_x86_64.push_back(make_entry(SCMP_ARCH_X86_64, Abi::x86_64, n, n));
        m_i386.push_back(make_entry(SCMP_ARCH_X86, Abi::i386, n, n));
    }
    for (u64 n = x32_first; n < x32_first + x32_count; ++n)
        m_x32.push_back(
            make_entry(SCMP_ARCH_X32, Abi::x32, n | x32_syscall_bit, n | x32_syscall_bit));
}

const SyscallTable& SyscallTable::get() {
    static const SyscallTable table;
    return table;
}

const SyscallTable::Entry* SyscallTable::find(Abi abi, u64 number) const {
    switch (abi) {
    case Abi::i386: return number < m_i386.size() ? &m_i386[number] : nullptr;
    case Abi::x32:
        number &= ~x32_syscall_bit;
        if (number >= x32_first && number - x32_first < m_x32.size())
            return &m_x32[number - x32_first];
        [[fallthrough]];
    case Abi::x86_64: return number < m_x86_64.size() ? &m_x86_64[number] : nullptr;
    }
    return nullptr;
}

std::span<const SyscallTable::Entry> SyscallTable::entries(Abi abi) const {
    return abi == Abi::i386 ? m_i386 : m_x86_64;
}

} // namespace gnomon::trace
