// SPDX-License-Identifier: Apache-2.0
/// @file The printers that syscall_rows.cpp names: structures behind pointers, and calls of
/// irregular form.
#pragma once

#include "trace/format.h"

namespace gnomon::trace::decode {

// Structures; the address is not 0. What cannot be read is printed as the address.
// time.cpp
void timespec(CallFormatter&, u64);
void timespec64(CallFormatter&, u64); ///< the same on all ABIs
void timeval(CallFormatter&, u64);
void itimerval(CallFormatter&, u64);
void itimerspec(CallFormatter&, u64);
void itimerspec64(CallFormatter&, u64);
void timespec_pair(CallFormatter&, u64); ///< utimensat
void timespec64_pair(CallFormatter&, u64);
void timeval_pair(CallFormatter&, u64); ///< utimes
void utimbuf(CallFormatter&, u64);
void timezone(CallFormatter&, u64);
void timex(CallFormatter&, u64);
void tms(CallFormatter&, u64);
void time_value(CallFormatter&, u64);
// file.cpp
void stat(CallFormatter&, u64);     ///< struct stat of x86-64; old 32-bit struct stat of i386
void stat64(CallFormatter&, u64);   ///< i386
void old_stat(CallFormatter&, u64); ///< i386's first struct stat
void statx(CallFormatter&, u64);
void statfs(CallFormatter&, u64);
void statfs64(CallFormatter&, u64);    ///< i386
void int_pair(CallFormatter&, u64);    ///< pipe, socketpair
void file_offset(CallFormatter&, u64); ///< [loff_t]
void word_offset(CallFormatter&, u64); ///< [off_t]
void mount_data(CallFormatter&, u64);
void string_list(CallFormatter&, u64); ///< listxattr's names; length is the result
// process.cpp
void integer(CallFormatter&, u64); ///< [5]
void unsigned_integer(CallFormatter&, u64);
void word(CallFormatter&, u64);         ///< [5], long
void word_pointer(CallFormatter&, u64); ///< [0x7f...]
void rlimit(CallFormatter&, u64);
void rlimit64(CallFormatter&, u64);
void rusage(CallFormatter&, u64);
void utsname(CallFormatter&, u64);
void sysinfo(CallFormatter&, u64);
void wait_status(CallFormatter&, u64);
void scheduler_parameter(CallFormatter&, u64);
void scheduler_attribute(CallFormatter&, u64);
void capability_header(CallFormatter&, u64);
void capability_data(CallFormatter&, u64);
void robust_list_head(CallFormatter&, u64);
void group_list_in(CallFormatter&, u64);  ///< setgroups
void group_list_out(CallFormatter&, u64); ///< getgroups
void cpu_mask_in(CallFormatter&, u64);
void cpu_mask_out(CallFormatter&, u64);
void user_id(CallFormatter&, u64); ///< [uid_t]
void user_id16(CallFormatter&, u64);
// signal.cpp
void signal_set(CallFormatter&, u64);     ///< 8 bytes
void old_signal_set(CallFormatter&, u64); ///< one word
void signal_stack(CallFormatter&, u64);
void signal_info(CallFormatter&, u64);
void signal_event(CallFormatter&, u64);
/// Prints [INT QUIT] or ~[RTMIN] for a set that has been read; `bits` of it exist.
void signal_set_value(CallFormatter&, u64 set, unsigned bits);
/// Prints the fields of a delivered signal: {si_signo=SIGINT, ...}.
void signal_fields(Text& out, const SignalDelivered& signal);
// io.cpp
void epoll_event(CallFormatter&, u64);
void open_how(CallFormatter&, u64);

// Calls.
void sys_open(CallFormatter&);
void sys_openat(CallFormatter&);
void sys_openat2(CallFormatter&);
void sys_mknod(CallFormatter&);
void sys_mknodat(CallFormatter&);
void sys_fcntl(CallFormatter&);
void sys_statx(CallFormatter&);
void sys_getdents(CallFormatter&);
void sys_lseek32(CallFormatter&);
void sys_llseek(CallFormatter&);
void sys_sendfile(CallFormatter&);
void sys_mount(CallFormatter&);
void sys_umask(CallFormatter&);
void sys_ustat(CallFormatter&);
void sys_fanotify_init(CallFormatter&);
void sys_fanotify_mark(CallFormatter&);
void sys_getcwd(CallFormatter&);
void sys_memfd_create(CallFormatter&);
void sys_swapon(CallFormatter&);
void sys_quotactl(CallFormatter&);
void sys_quotactl_fd(CallFormatter&);
void sys_mq_open(CallFormatter&);
void sys_pread_compat(CallFormatter&);
void sys_pwrite_compat(CallFormatter&);
void sys_truncate64(CallFormatter&);
void sys_ftruncate64(CallFormatter&);
void sys_readahead_compat(CallFormatter&);
void sys_fadvise64_compat(CallFormatter&);
void sys_fadvise64_64(CallFormatter&);
void sys_sync_file_range_compat(CallFormatter&);
void sys_fallocate_compat(CallFormatter&);
void sys_statfs64(CallFormatter&);
void sys_lookup_dcookie_compat(CallFormatter&);

void sys_readv(CallFormatter&);
void sys_writev(CallFormatter&);
void sys_preadv(CallFormatter&);
void sys_pwritev(CallFormatter&);
void sys_preadv2(CallFormatter&);
void sys_pwritev2(CallFormatter&);
void sys_vmsplice(CallFormatter&);
void sys_process_vm(CallFormatter&);
void sys_poll(CallFormatter&);
void sys_ppoll(CallFormatter&);
void sys_ppoll_time64(CallFormatter&);
void sys_select(CallFormatter&);
void sys_old_select(CallFormatter&);
void sys_pselect6(CallFormatter&);
void sys_pselect6_time64(CallFormatter&);
void sys_epoll_ctl(CallFormatter&);
void sys_epoll_wait(CallFormatter&);
void sys_epoll_pwait(CallFormatter&);
void sys_epoll_pwait2(CallFormatter&);
void sys_io_getevents(CallFormatter&);
void sys_io_uring_enter(CallFormatter&);
void sys_io_uring_setup(CallFormatter&);
void sys_ioctl(CallFormatter&);

void sys_mmap(CallFormatter&);
void sys_mmap2(CallFormatter&);
void sys_old_mmap(CallFormatter&);
void sys_mremap(CallFormatter&);
void sys_remap_file_pages(CallFormatter&);
void sys_mincore(CallFormatter&);
void sys_mbind(CallFormatter&);
void sys_set_mempolicy(CallFormatter&);
void sys_shmget(CallFormatter&);
void sys_shmat(CallFormatter&);
void sys_ipc_get(CallFormatter&);
void sys_ipc_control(CallFormatter&);
void sys_ipc(CallFormatter&);
void sys_msgsnd(CallFormatter&);
void sys_msgrcv(CallFormatter&);
void semaphore_operations(CallFormatter&, u64);

void sys_execve(CallFormatter&);
void sys_execveat(CallFormatter&);
void sys_clone(CallFormatter&);
void sys_clone3(CallFormatter&);
void sys_wait4(CallFormatter&);
void sys_waitpid(CallFormatter&);
void sys_waitid(CallFormatter&);
void sys_futex(CallFormatter&);
void sys_prctl(CallFormatter&);
void sys_arch_prctl(CallFormatter&);
void sys_personality(CallFormatter&);
void sys_sched_getscheduler(CallFormatter&);
void sys_sethostname(CallFormatter&);
void sys_getpriority(CallFormatter&);
void sys_prlimit64(CallFormatter&);
void sys_ioprio_set(CallFormatter&);
void sys_ioprio_get(CallFormatter&);
void sys_membarrier(CallFormatter&);
void sys_reboot(CallFormatter&);
void sys_seccomp(CallFormatter&);
/// Prints struct sock_fprog, a program for seccomp.
void filter_program(CallFormatter&, u64 address);
void sys_ptrace(CallFormatter&);
void sys_kexec_load(CallFormatter&);
void sys_kcmp(CallFormatter&);
void sys_keyctl(CallFormatter&);
void sys_syslog(CallFormatter&);

void sys_rt_sigaction(CallFormatter&);
void sys_sigaction(CallFormatter&);
void sys_signal(CallFormatter&);
void sys_rt_sigprocmask(CallFormatter&);
void sys_sigprocmask(CallFormatter&);
void sys_rt_sigpending(CallFormatter&);
void sys_rt_sigsuspend(CallFormatter&);
void sys_sigsuspend(CallFormatter&);
void sys_ssetmask(CallFormatter&);
void sys_sgetmask(CallFormatter&);
void sys_rt_sigtimedwait(CallFormatter&);
void sys_rt_sigtimedwait_time64(CallFormatter&);
void sys_rt_sigreturn(CallFormatter&);
void sys_sigreturn(CallFormatter&);
void sys_signalfd(CallFormatter&);
void sys_signalfd4(CallFormatter&);
void sys_nanosleep(CallFormatter&);
void sys_clock_nanosleep(CallFormatter&);
void sys_clock_nanosleep_time64(CallFormatter&);
void sys_time(CallFormatter&);
void sys_adjtimex(CallFormatter&);

void sys_socketcall(CallFormatter&);
void sys_socket(CallFormatter&);
void sys_socketpair(CallFormatter&);
void sys_bind(CallFormatter&);
void sys_accept(CallFormatter&);
void sys_accept4(CallFormatter&);
void sys_getsockname(CallFormatter&);
void sys_sendto(CallFormatter&);
void sys_recvfrom(CallFormatter&);
void sys_sendmsg(CallFormatter&);
void sys_recvmsg(CallFormatter&);
void sys_sendmmsg(CallFormatter&);
void sys_recvmmsg(CallFormatter&);
void sys_setsockopt(CallFormatter&);
void sys_getsockopt(CallFormatter&);

/// Two 32-bit halves, low first, of a 64-bit argument of i386.
[[nodiscard]] inline u64 wide(const CallFormatter& f, unsigned low) {
    return u64{f.arg32(low)} | u64{f.arg32(low + 1)} << 32;
}
/// Prints an iovec array; its bytes are shown up to `limit` in all if `data`.
void iovec(CallFormatter&, u64 address, u64 count, bool data, u64 limit = ~u64{0});
/// Prints struct sockaddr.
void socket_address(CallFormatter&, u64 address, u64 length);

} // namespace gnomon::trace::decode
