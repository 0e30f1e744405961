// SPDX-License-Identifier: Apache-2.0
/// @file Names of constants: one table per argument or field, in the order in which strace prints
/// them.
#pragma once

#include "base/types.h"

#include <span>
#include <string_view>

namespace gnomon::trace {

struct Flag {
    u64 value;
    std::string_view name;
};

struct FlagTable {
    std::span<const Flag> entries;
    std::string_view unknown; ///< printed in a comment after a value without a name: "O_???"
};

/// The entry with exactly this value, or nullptr.
[[nodiscard]] const Flag* find_flag(const FlagTable& table, u64 value);

namespace flags {

// files
extern const FlagTable open_access, open_other, access_mode, at, at_access, at_statx;
extern const FlagTable whence, fcntl_command, fd_flags, lock_type, flock_operation, seals,
    mode_type;
extern const FlagTable statx_mask, statx_attributes, fallocate_mode, fadvise, splice, sync_range;
extern const FlagTable rename, mount, umount, xattr, statfs_flags, filesystem_magic, memfd, rwf;
extern const FlagTable memfd_secret, close_range, poll_events, epoll_operation, epoll_events,
    epoll_create;
extern const FlagTable eventfd, signalfd, timerfd_create, timerfd_settime, inotify_init,
    inotify_mask;
extern const FlagTable fanotify_init_class, fanotify_init, fanotify_mark_flags, fanotify_mask;
extern const FlagTable resolve, open_tree, move_mount, fsopen, fsconfig, fsmount, mount_attributes;
extern const FlagTable fspick, mount_setattr, name_to_handle, directory_notify, lease;
// memory
extern const FlagTable mmap_protection, mmap_type, mmap_flags, madvise, mremap, msync, mlockall,
    mlock2;
extern const FlagTable mempolicy_mode, mempolicy_mode_flags, mempolicy_move, move_pages,
    mempolicy_get, pkey_access;
// processes
extern const FlagTable clone, clone3, unshare, setns, wait_options, waitid_type, futex_operation;
extern const FlagTable prctl, arch_prctl, resource, rusage_who, priority_which, scheduler,
    schedattr;
extern const FlagTable personality_flags, socketcall, capability, ptrace, seccomp_mode,
    seccomp_flags, seccomp_action;
extern const FlagTable pidfd_open, rseq, membarrier, membarrier_flags, kcmp, reboot_magic,
    reboot_command;
extern const FlagTable syslog_action, quota_command, quota_type, ioprio_who, ioprio_class;
extern const FlagTable delete_module, finit_module, kexec_architecture, kexec_flags, kexec_file;
extern const FlagTable bpf_command, perf_event_open, keyctl, key_serial, getrandom, userfaultfd,
    swap;
extern const FlagTable ipc_get, shm_get, shm_at, shm_control, message_control, message_flags,
    semaphore_control;
extern const FlagTable io_uring_enter, io_uring_register, io_uring_setup, io_uring_features,
    speculation, landlock_ruleset, landlock_rule;
extern const FlagTable personality_type, securebits, dumpable;
// signals and time
extern const FlagTable signal_how, sigaction_flags, sigaltstack, clock, timer, itimer,
    adjtime_state, adjtime_modes, adjtime_status;
// sockets
extern const FlagTable address_family, socket_type, socket_type_flags, accept_flags, message,
    shutdown;
extern const FlagTable ip_protocol, netlink_protocol, sockopt_level, sockopt_socket, sockopt_ip;
extern const FlagTable sockopt_ipv6, sockopt_tcp, sockopt_udp, sockopt_netlink, sockopt_packet,
    control_message, ethernet_protocol, hardware_type, packet_type;
// terminals and other devices
extern const FlagTable ioctl_request, ioctl_direction, tty_speed;

} // namespace flags
} // namespace gnomon::trace
