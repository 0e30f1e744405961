// SPDX-License-Identifier: Apache-2.0
// Calls that a signal interrupts: restarted, given up, or resumed by restart_syscall.
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

static void ignore_it(int number) { (void)number; }

static void handle(int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = ignore_it;
    action.sa_flags = flags;
    check(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
}

static int fds[2];

/// A child that sends its parent a signal, and then what the parent waits for.
static pid_t disturb(int number, int times) {
    const pid_t parent = getpid(), child = fork();
    check(child >= 0, "fork");
    if (child != 0) return child;
    for (int i = 0; i < times; i++) {
        rest(1500000);
        kill(parent, number);
    }
    rest(1500000);
    write(fds[1], "data", 4);
    _exit(0);
}

static void reap(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) != child)
        check(errno == EINTR, "waitpid");
}

static void drain(void) {
    char buffer[16];
    read(fds[0], buffer, sizeof buffer);
}

static void interrupted_read(int flags) {
    char buffer[16];
    handle(flags);
    const pid_t child = disturb(SIGUSR1, 2);
    while (read(fds[0], buffer, sizeof buffer) < 0)
        check(errno == EINTR, "read");
    reap(child);
}

static void interrupted_sleeps(int flags) {
    handle(flags);
    pid_t child = disturb(SIGUSR1, 1);
    struct timespec t = {0, 4000000}, left;
    syscall(SYS_nanosleep, &t, &left);
    reap(child);
    drain();
    child = disturb(SIGUSR1, 1);
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, &left);
    reap(child);
    drain();
}

static void interrupted_polls(int flags) {
    handle(flags);
    struct pollfd fd = {fds[0], POLLIN, 0};
    pid_t child = disturb(SIGUSR1, 1);
    while (poll(&fd, 1, 1000) < 0)
        check(errno == EINTR, "poll");
    reap(child);
    drain();
    fd_set set;
    child = disturb(SIGUSR1, 1);
    do {
        FD_ZERO(&set);
        FD_SET(fds[0], &set);
    } while (select(fds[0] + 1, &set, NULL, NULL, NULL) < 0);
    reap(child);
    drain();
    const int e = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.u64 = 5}};
    epoll_ctl(e, EPOLL_CTL_ADD, fds[0], &event);
    child = disturb(SIGUSR1, 1);
    while (epoll_wait(e, &event, 1, -1) < 0)
        check(errno == EINTR, "epoll_wait");
    close(e);
    reap(child);
    drain();
}

static void interrupted_futex(int flags) {
    handle(flags);
    int word = 0;
    struct timespec t = {0, 4000000};
    const pid_t child = disturb(SIGUSR1, 1);
    syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0);
    reap(child);
    drain();
}

static void interrupted_wait(int flags) {
    handle(flags);
    const pid_t child = disturb(SIGUSR1, 2);
    reap(child);
    drain();
}

/// Stopped and continued: poll, nanosleep and futex are then resumed by restart_syscall.
static void resumed(void) {
    const pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        struct timespec t = {0, 20000000}, left;
        struct pollfd fd = {fds[0], POLLIN, 0};
        int word = 0;
        syscall(SYS_nanosleep, &t, &left);
        poll(&fd, 1, 20);
        syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0);
        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, &left);
        read(fds[0], &word, sizeof word);
        _exit(0);
    }
    for (int i = 0; i < 5; i++) {
        int status;
        rest(5000000);
        kill(child, SIGSTOP);
        waitpid(child, &status, WUNTRACED);
        rest(1000000);
        kill(child, SIGCONT);
        waitpid(child, &status, WCONTINUED);
        rest(20000000);
    }
    write(fds[1], "data", 4);
    reap(child);
}

void run_restarts(unsigned rounds) {
    check(pipe(fds) == 0, "pipe");
    for (unsigned i = 0; i < rounds; i++) {
        for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
            interrupted_read(flags);
            interrupted_sleeps(flags);
            interrupted_polls(flags);
            interrupted_futex(flags);
            interrupted_wait(flags);
        }
        resumed();
    }
}
