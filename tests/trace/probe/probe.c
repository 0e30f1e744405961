// SPDX-License-Identifier: Apache-2.0
// Makes system calls of which every run prints the same: most fail, by a bad descriptor or a
// missing file, after the tracer has shown what they were asked. The markers are close(1000001) and
// (1000002).
#define _GNU_SOURCE
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

static char* page; // the page after it is absent

static void memory(void) {
    syscall(SYS_mmap, 0, 4096, 0, 0x40022 | (21 << 26), -1, 0);
    syscall(SYS_mmap, 0, 0, PROT_READ | 0x100, 0x34, 5, 0x7000);
    syscall(SYS_mremap, page, 1, 2, 3, page);
    syscall(SYS_mremap, 1, 1, 2, 4, page);
    syscall(SYS_madvise, 1, 5, MADV_DONTNEED);
    syscall(SYS_madvise, 1, 5, 999);
    syscall(SYS_msync, 1, 5, MS_SYNC | MS_INVALIDATE);
    syscall(SYS_mincore, page, 4096, page);
    syscall(SYS_mincore, 0, 4096, 0);
    syscall(SYS_mlock, 0, 0);
    syscall(SYS_mlockall, 0x10);
    syscall(SYS_pkey_mprotect, 1, 2, 3, 4);
    syscall(SYS_shmat, -1, 0, SHM_RDONLY);
    syscall(SYS_shmctl, -1, IPC_RMID, 0);
    struct sembuf operations[2] = {{0, 1, IPC_NOWAIT}, {1, -1, SEM_UNDO}};
    syscall(SYS_semop, -1, operations, 2);
    syscall(SYS_msgsnd, -1, page, 5, IPC_NOWAIT);
}

static void strings(void) {
    memset(page, 0, 4096);
    strcpy(page + 4092, "abc");
    syscall(SYS_open, page + 4092, 0);
    syscall(SYS_write, -1, page + 4000, 50);
    static char big[5000];
    memset(big, 'q', sizeof big - 1);
    syscall(SYS_access, big, 0);
    syscall(SYS_write, -1, big, 100);
    syscall(SYS_write, -1, big, 0);
    syscall(SYS_write, -1, 0, 0);
    syscall(SYS_write, -1, 0, 5);
    syscall(SYS_access, 0, 0);
    syscall(SYS_write, -1,
            "\x01"
            "2\x01"
            "9\0a\x7f\xff\e\a\b\t\v\f\r\n\"\\",
            20);
    struct iovec v[40];
    for (int i = 0; i < 40; i++) {
        v[i].iov_base = page;
        v[i].iov_len = (size_t)i;
    }
    syscall(SYS_writev, -1, v, 40);
    syscall(SYS_writev, -1, page + 4096 - 32, 4);
    syscall(SYS_writev, -1, v, 0);
    syscall(SYS_writev, -1, 0, 3);
    syscall(SYS_readv, -1, v, 2);
    char* argv[40];
    for (int i = 0; i < 39; i++)
        argv[i] = "arg";
    argv[39] = 0;
    syscall(SYS_execve, "/nope", argv, argv);
    syscall(SYS_execve, "/nope", 0, 0);
    syscall(SYS_execve, "/nope", argv + 39, argv + 39);
    char* odd[] = {"q", (char*)1, 0};
    syscall(SYS_execve, "/nope", odd, 0);
    char* large[] = {big, 0};
    syscall(SYS_execveat, AT_FDCWD, "/nope", large, 0, AT_EMPTY_PATH);
}

static void files(void) {
    syscall(SYS_openat, -100, "/nope/x", 0101, 0644);
    syscall(SYS_openat, 5000, "x", 020200000, 0644);
    syscall(SYS_open, "/nope/x", 3);
    syscall(SYS_chmod, "/nope/x", 0);
    syscall(SYS_chmod, "/nope/x", 07777);
    syscall(SYS_fchownat, -1, "/nope", -1, 5, AT_SYMLINK_NOFOLLOW);
    syscall(SYS_mknod, "/nope/x", 0100600, 0);
    syscall(SYS_mknodat, -1, "/nope/x", 020644, 0x405);
    syscall(SYS_umask, 022);
    syscall(SYS_umask, 0);
    syscall(SYS_lseek, -1, 5L, 4);
    syscall(SYS_ftruncate, -1, 5);
    syscall(SYS_faccessat2, -1, "/nope", 7, AT_EACCESS);
    syscall(SYS_linkat, -1, "/a", -1, "/b/c", AT_SYMLINK_FOLLOW);
    syscall(SYS_renameat2, -1, "/nope/a", -1, "/nope/b", 3);
    syscall(SYS_unlinkat, -1, "/nope/a", AT_REMOVEDIR);
    syscall(SYS_readlink, "/proc/self/exe", page, 3);
    syscall(SYS_readlinkat, -1, "/nope", page, 3);
    struct stat st;
    syscall(SYS_newfstatat, AT_FDCWD, "/dev/null", &st, 0);
    syscall(SYS_stat, "/nope", &st);
    struct statx sx;
    syscall(SYS_statx, AT_FDCWD, "/nope", AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, 0xfff, &sx);
    syscall(SYS_mount, 0, 0, 0, 0xC0ED0001, 0);
    syscall(SYS_mount, "none", "/nope", "tmpfs", 6, "size=1");
    syscall(SYS_mount, "/a", "/nope", "x", 4096, "data");
    syscall(SYS_umount2, "/nope", 2);
    syscall(SYS_setxattr, "/nope", "user.a", "v1", 2, 1);
    syscall(SYS_getxattr, "/nope", "user.a", page, 5);
    struct timespec times[2] = {{1700000000, 123456789}, {0, 5}};
    syscall(SYS_utimensat, -100, "/nope", times, 0x100);
    times[0].tv_nsec = (1 << 30) - 1;
    times[1].tv_nsec = (1 << 30) - 2;
    syscall(SYS_utimensat, -100, "/nope", times, 0);
    struct timeval tv[2] = {{1700000000, 5}, {0, 7}};
    syscall(SYS_utimes, "/nope", tv);
    struct utimbuf ub = {1700000000, 0};
    syscall(SYS_utime, "/nope", &ub);
    unsigned long how[3] = {0, 0, 8};
    syscall(SYS_openat2, -100, "/nope", how, 24);
    int p[2];
    syscall(SYS_pipe2, p, O_CLOEXEC);
    syscall(SYS_pipe, 0);
    syscall(SYS_fcntl, p[0], F_GETFL);
    syscall(SYS_fcntl, p[0], F_SETFL, O_NONBLOCK);
    syscall(SYS_fcntl, p[0], F_GETFD);
    syscall(SYS_fcntl, p[0], F_SETFD, 0);
    syscall(SYS_fcntl, p[0], F_DUPFD_CLOEXEC, 50);
    struct flock lock = {F_WRLCK, 0, 1, 2, 3};
    syscall(SYS_fcntl, -1, F_OFD_SETLK, &lock);
    syscall(SYS_fcntl, -1, F_SETLKW, &lock);
    syscall(SYS_fcntl, -1, F_GETLK, &lock);
    syscall(SYS_fcntl, p[0], F_SETSIG, 10);
    syscall(SYS_fcntl, p[0], F_GETSIG, 0);
    syscall(SYS_fcntl, p[0], F_GETPIPE_SZ, 0);
    syscall(SYS_fcntl, -1, 0x22222, 5);
    int m = (int)syscall(SYS_memfd_create, "x", 3);
    syscall(SYS_fcntl, m, F_ADD_SEALS, 6);
    syscall(SYS_fcntl, m, F_GET_SEALS);
    write(m, "0123456789", 10);
    off_t offset = 3;
    int null = open("/dev/null", O_WRONLY);
    syscall(SYS_sendfile, null, m, &offset, 5);
    syscall(SYS_sendfile, -1, m, 0, 5);
    syscall(SYS_splice, -1, &offset, -1, 0, 5, 3);
    syscall(SYS_lseek, m, 0, 0);
    struct iovec v[2] = {{page, 3}, {page + 5, 4}};
    syscall(SYS_readv, m, v, 2);
    syscall(SYS_preadv, m, v, 2, 2, 0);
    syscall(SYS_pwritev2, -1, v, 2, -1, 0, 3);
    syscall(SYS_pread64, m, page, 4, 1);
    syscall(SYS_getdents64, -1, page, 100);
    syscall(SYS_fallocate, -1, 3, 5, 6);
    syscall(SYS_fadvise64, -1, 5, 6, 4);
    syscall(SYS_flock, -1, 6);
    syscall(SYS_copy_file_range, -1, &offset, -1, 0, 5, 0);
    syscall(SYS_close_range, 5000, 6000, 0);
    syscall(SYS_inotify_add_watch, -1, "/nope", 0xfff);
    syscall(SYS_signalfd4, -1, &(unsigned long){0x206}, 8, 0x1000000);
    syscall(SYS_eventfd2, 3, EPOLL_CLOEXEC);
    struct mq_attr attributes = {0, 10, 100, 0};
    syscall(SYS_mq_open, "/", O_CREAT | O_RDWR, 0600, &attributes);
    syscall(SYS_ioctl, -1, 0x5413, page);
    syscall(SYS_ioctl, -1, 0xabcd1234, 5);
    syscall(SYS_ioctl, m, TCGETS, page);
    struct winsize size = {24, 80, 0, 0};
    syscall(SYS_ioctl, -1, TIOCSWINSZ, &size);
    int tty = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    syscall(SYS_ioctl, tty, TCGETS, page);
}

static void waiting(void) {
    struct pollfd f[40];
    for (int i = 0; i < 40; i++)
        f[i] = (struct pollfd){-1, 0, 0};
    syscall(SYS_poll, f, 40, 0);
    f[0] = (struct pollfd){5000, POLLIN | POLLHUP, 0};
    syscall(SYS_poll, f, 2, 0);
    syscall(SYS_poll, page + 4096 - 8, 2, 0);
    syscall(SYS_poll, f, 0, 0);
    struct timespec zero = {0, 0};
    unsigned long mask = 2;
    syscall(SYS_ppoll, f, 1, &zero, &mask, 8);
    int p[2];
    pipe(p);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(p[1], &set);
    struct timeval tv = {0, 0};
    syscall(SYS_select, p[1] + 1, 0, &set, 0, &tv);
    syscall(SYS_select, -1, 0, &set, 0, &tv);
    syscall(SYS_select, 1, 0, page + 4096, 0, 0);
    void* sized[2] = {&mask, (void*)8};
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    syscall(SYS_pselect6, p[0] + 1, &set, 0, 0, &zero, sized);
    int e = (int)syscall(SYS_epoll_create1, 0);
    struct epoll_event event = {EPOLLOUT | EPOLLET, {.u64 = 0x100000005}};
    syscall(SYS_epoll_ctl, e, EPOLL_CTL_ADD, p[1], &event);
    syscall(SYS_epoll_wait, e, &event, 4, 0);
    syscall(SYS_epoll_pwait, e, &event, 4, 0, &mask, 8);
    syscall(SYS_epoll_ctl, e, EPOLL_CTL_DEL, p[1], &event);
    syscall(SYS_epoll_pwait2, e, &event, 4, &zero, 0, 8);
    int word = 0;
    syscall(SYS_futex, &word, 0x84, 1, 2, page, 3);
    syscall(SYS_futex, &word, 0x85, 1, 2, page, 0x14000001);
    syscall(SYS_futex, &word, 3, 1, 2, page);
    syscall(SYS_futex, &word, 10, 1, 0, 0, 5);
    syscall(SYS_futex, &word, 0x80, 1, 0);
    syscall(SYS_futex, &word, 0x189, 1, 0, 0, -1);
    syscall(SYS_futex, &word, 99, 1, 0, 0, -1);
    struct timespec past = {5, 6};
    syscall(SYS_clock_nanosleep, 1, 1, &past, 0);
    syscall(SYS_nanosleep, &zero, &past);
    syscall(SYS_clock_gettime, 99, page);
    syscall(SYS_timer_gettime, 77, page);
    struct itimerspec timer = {{0, 0}, {1, 5}};
    syscall(SYS_timerfd_settime, -1, 1, &timer, 0);
}

static void processes(void) {
    int signals[] = {0, 1, 31, 32, 33, 64, 65, -1};
    for (int i = 0; i < 8; i++)
        syscall(SYS_kill, 9999999, signals[i]);
    int status;
    syscall(SYS_wait4, -1, &status, 0x40000001, 0);
    syscall(SYS_waitid, 1, 999, page, WEXITED | WNOHANG, 0);
    syscall(SYS_prctl, 15, "probe");
    syscall(SYS_prctl, 16, page);
    syscall(SYS_prctl, 3);
    syscall(SYS_prctl, 23, 7);
    syscall(SYS_prctl, 38, 1, 0, 0, 0);
    syscall(SYS_prctl, 99999, 1, 2, 3, 4);
    syscall(SYS_arch_prctl, 0x1003, page);
    syscall(SYS_arch_prctl, 0x1001, page);
    syscall(SYS_personality, 0xffffffff);
    syscall(SYS_prlimit64, 0, 99, 0, page);
    struct rlimit limit = {8192 * 1024, RLIM_INFINITY};
    syscall(SYS_setrlimit, 99, &limit);
    syscall(SYS_sched_setaffinity, 9999999, 8, &(unsigned long){5});
    struct sched_param parameter = {5};
    syscall(SYS_sched_setscheduler, 9999999, SCHED_FIFO, &parameter);
    syscall(SYS_getpriority, 0, 9999999);
    unsigned groups[3] = {1, 2, 3};
    syscall(SYS_setgroups, 100000, groups);
    syscall(SYS_setresuid, -1, -1, -1);
    syscall(SYS_capget, &(int[2]){0x20080522, 9999999}, page);
    syscall(SYS_reboot, 1, 2, 3);
    syscall(SYS_membarrier, 1 << 20, 0);
    syscall(SYS_kcmp, 9999999, 9999999, 0, 1, 2);
    syscall(SYS_unshare, 0x800000000000);
    syscall(SYS_setns, -1, CLONE_NEWNET);
    syscall(SYS_clone3, page, 8);
    syscall(SYS_iopl, 4);
    syscall(SYS_sethostname, page, 1 << 20);
    syscall(SYS_keyctl, 3, 12345);
    syscall(SYS_bpf, 99, 0, 0);
    syscall(999, 1, 2, 3, 4, 5, 6);

    unsigned long act[4] = {1, 0x54000000, 0, 0x3ffffffffffff};
    syscall(SYS_rt_sigaction, 100, act, 0, 8);
    for (int bits = 40; bits < 45; bits++) {
        act[3] = (1UL << bits) - 1;
        syscall(SYS_rt_sigaction, 100, act, 0, 8);
    }
    syscall(SYS_rt_sigaction, 2, act, 0, 4);
    syscall(SYS_rt_sigaction, 10, 0, act, 8);
    unsigned long masks[] = {0, 1UL << 31, 0xffffffffUL, 1UL << 63};
    for (int i = 0; i < 4; i++)
        syscall(SYS_rt_sigprocmask, 99, masks + i, 0, 8);
    syscall(SYS_rt_sigprocmask, 2, masks, masks + 1, 8);
    syscall(SYS_rt_sigpending, page, 8);
    syscall(SYS_sigaltstack, 0, page);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGCHLD;
    info.si_pid = 5;
    info.si_uid = 6;
    info.si_status = 9;
    for (int code = -6; code < 7; code++) {
        info.si_code = code;
        syscall(SYS_rt_sigqueueinfo, 9999999, 11, &info);
    }
    info.si_code = 1;
    int numbers[] = {SIGSEGV, SIGBUS, SIGIO, SIGSYS, SIGUSR1, 0};
    for (int i = 0; i < 6; i++) {
        info.si_signo = numbers[i];
        syscall(SYS_rt_sigqueueinfo, 9999999, 11, &info);
    }
    unsigned long usr1 = 1UL << 9;
    syscall(SYS_rt_sigtimedwait, &usr1, page, &(struct timespec){0, 0}, 8);
}

static void sockets(void) {
    int s[2];
    syscall(SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, s);
    syscall(SYS_sendto, s[0], "hi", 2, MSG_NOSIGNAL, 0, 0);
    syscall(SYS_recvfrom, s[1], page, 10, 0, 0, 0);
    struct sockaddr_storage address;
    memset(&address, 0, sizeof address);
    socklen_t length = sizeof address;
    syscall(SYS_recvfrom, s[1], page, 10, MSG_DONTWAIT, &address, &length);
    syscall(SYS_getsockname, s[0], &address, &length);
    syscall(SYS_accept4, -1, &address, &length, SOCK_CLOEXEC);
    syscall(SYS_accept, -1, 0, 0);
    struct iovec v = {"hello", 5};
    struct mmsghdr m[2];
    memset(m, 0, sizeof m);
    m[0].msg_hdr.msg_iov = &v;
    m[0].msg_hdr.msg_iovlen = 1;
    m[1] = m[0];
    syscall(SYS_sendmmsg, s[0], m, 2, 0);
    syscall(SYS_sendmmsg, -1, m, 2, 0);
    syscall(SYS_recvmsg, -1, &m[0].msg_hdr, MSG_DONTWAIT);
    struct iovec in = {page, 10};
    m[0].msg_hdr.msg_iov = &in;
    syscall(SYS_recvmsg, s[1], &m[0].msg_hdr, MSG_DONTWAIT);
    struct sockaddr_in v4 = {AF_INET, 0x5000, {0x0100007f}, {0}};
    char control[64];
    memset(control, 0, sizeof control);
    struct cmsghdr* c = (struct cmsghdr*)control;
    m[0].msg_hdr.msg_iov = &v;
    m[0].msg_hdr.msg_name = &v4;
    m[0].msg_hdr.msg_namelen = sizeof v4;
    m[0].msg_hdr.msg_control = control;
    m[0].msg_hdr.msg_controllen = 32;
    c->cmsg_len = 28;
    int levels[][2] = {{1, 1}, {1, 2}, {0, 8}, {41, 50}, {99, 50}};
    for (int i = 0; i < 5; i++) {
        c->cmsg_level = levels[i][0];
        c->cmsg_type = levels[i][1];
        syscall(SYS_sendmsg, -1, m, 0);
    }
    struct sockaddr_un un = {AF_UNIX, "/nope/x"};
    syscall(SYS_connect, -1, &un, 110);
    syscall(SYS_connect, -1, &un, 5);
    syscall(SYS_connect, -1, &un, 2);
    memset(&un, 0, sizeof un);
    un.sun_family = AF_UNIX;
    memcpy(un.sun_path + 1, "abstr", 5);
    syscall(SYS_bind, -1, &un, 8);
    syscall(SYS_bind, -1, &un, 1);
    struct sockaddr_in6 v6 = {AF_INET6, 0x5000, 0x01000000, {{{0xfe, 0x80}}}, 0};
    syscall(SYS_bind, -1, &v6, 28);
    syscall(SYS_bind, -1, &v6, 24);
    syscall(SYS_bind, -1, &v4, 16);
    syscall(SYS_bind, -1, &v4, 8);
    unsigned netlink[3] = {16, 5, 0x11};
    syscall(SYS_bind, -1, netlink, 12);
    address.ss_family = 99;
    syscall(SYS_bind, -1, &address, 20);
    syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 12345);
    syscall(SYS_socket, 999, 15, 7);
    int one = 1;
    struct linger linger = {1, 5};
    syscall(SYS_setsockopt, -1, SOL_SOCKET, SO_REUSEADDR, &one, 4);
    syscall(SYS_setsockopt, -1, SOL_SOCKET, SO_LINGER, &linger, 8);
    syscall(SYS_setsockopt, -1, SOL_SOCKET, 20, page, 16);
    syscall(SYS_setsockopt, -1, 6, 1, &one, 4);
    syscall(SYS_setsockopt, -1, 6, 13, "cubic", 5);
    syscall(SYS_setsockopt, -1, 41, 26, &one, 4);
    syscall(SYS_setsockopt, -1, 300, 26, &one, 4);
    syscall(SYS_setsockopt, -1, SOL_SOCKET, SO_REUSEADDR, &one, -1);
    length = 4;
    syscall(SYS_getsockopt, s[0], SOL_SOCKET, SO_TYPE, page, &length);
    length = 2;
    syscall(SYS_getsockopt, s[0], SOL_SOCKET, SO_TYPE, page, &length);
    syscall(SYS_getsockopt, s[0], SOL_SOCKET, SO_TYPE, page, 0);
    syscall(SYS_shutdown, s[0], SHUT_WR);
    syscall(SYS_listen, -1, 5);
}

static long int80(long number, long a, long b, long c, long d, long e) {
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static void no_int80(int signal) {
    (void)signal;
    syscall(SYS_close, 1000002);
    _exit(0);
}

static void i386(void) {
    signal(SIGSEGV, no_int80); // a kernel without IA32 emulation
    char* low =
        mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    const long at = (long)low;
    strcpy(low, "/nope/x");
    int80(5, at, 0101, 0644, 0, 0);      // open
    int80(295, -100, at, 0x80000, 0, 0); // openat
    int80(6, 999999, 0, 0, 0, 0);        // close
    int80(195, at, at + 64, 0, 0, 0);    // stat64
    unsigned* words = (unsigned*)(low + 512);
    words[0] = (unsigned)at;
    words[1] = 5;
    int80(146, 999999, at + 512, 1, 0, 0); // writev
    int80(140, 999999, 1, 5, at, 1);       // _llseek
    int80(180, 999999, at, 5, 1, 2);       // pread64
    words[0] = 2;
    words[1] = 1;
    words[2] = 12345;
    int80(102, 1, at + 512, 0, 0, 0);  // socketcall: socket
    int80(102, 99, at + 512, 0, 0, 0); // socketcall: unknown
    int80(192, 0, 0, 1, 0x22, 999999); // mmap2 (fails: length 0)
    int80(175, 99, at + 512, 0, 8, 0); // rt_sigprocmask
    int80(126, 99, at + 512, 0, 0, 0); // sigprocmask
    words[0] = 0;
    words[1] = 0;
    int80(162, at + 512, 0, 0, 0, 0); // nanosleep
    int80(37, 9999999, 15, 0, 0, 0);  // kill
    int80(403, 99, at, 0, 0, 0);      // clock_gettime64
    int80(500, 1, 2, 3, 4, 5);
}

int main(void) {
    page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page + 4096, 4096, PROT_NONE);
    syscall(SYS_close, 1000001);
    memory();
    strings();
    files();
    waiting();
    processes();
    sockets();
    i386();
    syscall(SYS_close, 1000002);
    return 0;
}
