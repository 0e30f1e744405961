// SPDX-License-Identifier: Apache-2.0
// Making processes, naming them, waiting for them.
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

static void collect(pid_t pid) {
    int status;
    struct rusage usage;
    while (wait4(pid, &status, __WALL, &usage) != pid)
        check(errno == EINTR, "wait4");
}

static void forks(void) {
    for (int i = 0; i < 4; i++) {
        const pid_t pid = fork();
        check(pid >= 0, "fork");
        if (pid == 0) {
            syscall(SYS_getppid);
            _exit(i * 17);
        }
        if (i == 3) {
            siginfo_t info;
            waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
            waitid(P_PID, (id_t)pid, &info, WEXITED);
            continue;
        }
        collect(pid);
    }
    int status;
    syscall(SYS_wait4, -1, &status, WNOHANG, NULL);
    const pid_t pid = (pid_t)syscall(SYS_fork);
    if (pid == 0) _exit(1);
    collect(pid);
}

/// A grandchild that outlives its parent.
static void orphan(void) {
    int fds[2];
    char byte;
    check(pipe(fds) == 0, "pipe");
    const pid_t pid = fork();
    if (pid == 0) {
        if (fork() == 0) {
            rest(2000000);
            syscall(SYS_getppid);
            _exit(0);
        }
        _exit(0);
    }
    collect(pid);
    close(fds[1]);
    read(fds[0], &byte, 1); // until the grandchild's end of the pipe is closed
    close(fds[0]);
}

static long raw_clone(unsigned long flags, int* parent_tid, int* child_tid) {
    return syscall(SYS_clone, flags, NULL, parent_tid, child_tid, NULL);
}

static void clones(void) {
    int parent_tid = 0, child_tid = 0, pidfd = 0;
    static const unsigned long kinds[] = {
        SIGCHLD,
        0,
        SIGCHLD | CLONE_PARENT_SETTID,
        SIGCHLD | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID,
        SIGCHLD | CLONE_FS | CLONE_FILES | CLONE_IO,
        SIGCHLD | CLONE_VFORK,
        SIGUSR2 | CLONE_UNTRACED,
    };
    signal(SIGUSR2, SIG_IGN);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        // Nobody traces a child that asked for that: not strace, so not this one.
        if ((kinds[i] & CLONE_UNTRACED) != 0) continue;
        const long pid = raw_clone(kinds[i], &parent_tid, &child_tid);
        check(pid >= 0, "clone");
        if (pid == 0) _exit(3);
        collect((pid_t)pid);
    }
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = CLONE_PIDFD | CLONE_PARENT_SETTID;
    args.pidfd = (uintptr_t)&pidfd;
    args.parent_tid = (uintptr_t)&parent_tid;
    args.exit_signal = SIGCHLD;
    const long pid = syscall(SYS_clone3, &args, sizeof args);
    check(pid >= 0, "clone3");
    if (pid == 0) _exit(4);
    siginfo_t info;
    waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
    syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0);
    close(pidfd);
    syscall(SYS_pidfd_open, getpid(), 0);
    close(pidfd);
    syscall(SYS_clone3, &args, 8);
    args.flags = ~0ull;
    syscall(SYS_clone3, &args, sizeof args);
    syscall(SYS_clone3, NULL, sizeof args);
    raw_clone(CLONE_THREAD, NULL, NULL);
    raw_clone(CLONE_NEWUSER | CLONE_FS, NULL, NULL);
}

static void identities(void) {
    uid_t a, b, c;
    struct utsname names;
    struct sysinfo info;
    struct rusage usage;
    struct rlimit limit;
    struct tms times_used;
    gid_t groups[4] = {10, 20, 30, 40};
    char name[16] = "";
    syscall(SYS_getpid);
    syscall(SYS_gettid);
    syscall(SYS_getppid);
    syscall(SYS_getuid);
    syscall(SYS_geteuid);
    syscall(SYS_getgid);
    syscall(SYS_getegid);
    syscall(SYS_getpgrp);
    getpgid(0);
    getsid(0);
    getresuid(&a, &b, &c);
    getresgid(&a, &b, &c);
    syscall(SYS_setgroups, 4, groups);
    syscall(SYS_getgroups, 4, groups);
    syscall(SYS_getgroups, 0, NULL);
    syscall(SYS_setresuid, -1, -1, -1);
    syscall(SYS_setreuid, 0, -1);
    syscall(SYS_setfsuid, -1);
    uname(&names);
    sysinfo(&info);
    getrusage(RUSAGE_SELF, &usage);
    getrusage(RUSAGE_CHILDREN, &usage);
    getrlimit(RLIMIT_NOFILE, &limit);
    syscall(SYS_getrlimit, RLIMIT_STACK, &limit);
    syscall(SYS_prlimit64, 0, RLIMIT_CORE, &limit, &limit);
    times(&times_used);
    prctl(PR_SET_NAME, "named \"so\"");
    prctl(PR_GET_NAME, name);
    prctl(PR_GET_DUMPABLE);
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_CAPBSET_READ, 3);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    getpriority(PRIO_PROCESS, 0);
    setpriority(PRIO_PROCESS, 0, 1);
    struct sched_param parameter = {0};
    sched_getparam(0, &parameter);
    sched_setscheduler(0, SCHED_OTHER, &parameter);
    sched_getscheduler(0);
    struct timespec t;
    sched_rr_get_interval(0, &t);
    unsigned cpu, node;
    syscall(SYS_getcpu, &cpu, &node, NULL);
    struct timeval tv;
    syscall(SYS_gettimeofday, &tv, NULL);
    syscall(SYS_time, NULL);
    clock_getres(CLOCK_REALTIME, &t);
    syscall(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, &t);
    int header[2] = {0x20080522, 0}, data[6];
    syscall(SYS_capget, header, data);
    syscall(SYS_personality, 0xffffffff);
    umask(umask(0));
}

static void groups_and_sessions(void) {
    setpgid(0, 0);
    syscall(SYS_getpgrp);
    const pid_t pid = fork();
    if (pid == 0) {
        setsid();
        getsid(0);
        _exit(0);
    }
    collect(pid);
}

void run_processes(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        forks();
        clones();
        identities();
        in_child(groups_and_sessions);
        if (i % 4 == 0) orphan();
    }
}
