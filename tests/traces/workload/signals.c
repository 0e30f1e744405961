// SPDX-License-Identifier: Apache-2.0
// Signals: every way to send, wait for and handle them.
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static volatile sig_atomic_t seen;

static void count(int number) {
    (void)number;
    seen++;
}

static void count_info(int number, siginfo_t* info, void* context) {
    (void)number;
    (void)info;
    (void)context;
    seen++;
    syscall(SYS_getpid);
}

static void handle(int number, int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    if ((flags & SA_SIGINFO) != 0)
        action.sa_sigaction = count_info;
    else
        action.sa_handler = count;
    action.sa_flags = flags;
    sigaddset(&action.sa_mask, SIGUSR2);
    check(sigaction(number, &action, NULL) == 0, "sigaction");
}

static void raise_all(void) {
    for (int number = 1; number <= 64; number++) {
        if (number == SIGKILL || number == SIGSTOP || number == 32 || number == 33) continue;
        handle(number, SA_SIGINFO | (number % 2 == 0 ? SA_RESTART : SA_NODEFER));
        kill(getpid(), number);
    }
    union sigval value;
    value.sival_ptr = (void*)0x12345678;
    sigqueue(getpid(), SIGRTMIN + 3, value);
    sigqueue(getpid(), SIGUSR1, value);
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
    syscall(SYS_tkill, syscall(SYS_gettid), SIGTERM);
}

static void block_and_wait(void) {
    sigset_t set, old;
    siginfo_t info;
    handle(SIGUSR1, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, &old);
    kill(getpid(), SIGUSR1);
    sigpending(&set);
    sigsuspend(&old);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    struct timespec zero = {0, 0};
    sigtimedwait(&set, &info, &zero);
    kill(getpid(), SIGUSR1);
    sigwaitinfo(&set, &info);
    struct timespec little = {0, 100000};
    sigtimedwait(&set, &info, &little);

    const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    kill(getpid(), SIGUSR1);
    struct signalfd_siginfo read_info;
    read(fd, &read_info, sizeof read_info);
    read(fd, &read_info, sizeof read_info);
    close(fd);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void timers(void) {
    timer_t timer;
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGRTMIN + 1;
    event.sigev_value.sival_int = 77;
    handle(SIGRTMIN + 1, SA_SIGINFO);
    handle(SIGALRM, SA_SIGINFO);
    handle(SIGVTALRM, SA_SIGINFO);
    check(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0, "timer_create");
    struct itimerspec spec = {{0, 0}, {0, 300000}};
    const int before = seen;
    timer_settime(timer, 0, &spec, NULL);
    while (seen == before)
        rest(200000);
    timer_gettime(timer, &spec);
    timer_getoverrun(timer);
    timer_delete(timer);

    struct itimerval interval = {{0, 0}, {0, 500}};
    const int then = seen;
    setitimer(ITIMER_REAL, &interval, NULL);
    while (seen == then)
        pause();
    getitimer(ITIMER_REAL, &interval);
    alarm(100);
    alarm(0);
}

static void on_other_stack(void) {
    static char stack[16384];
    stack_t alternate = {.ss_sp = stack, .ss_flags = 0, .ss_size = sizeof stack};
    stack_t old;
    sigaltstack(&alternate, &old);
    handle(SIGUSR1, SA_ONSTACK | SA_SIGINFO | SA_RESETHAND);
    kill(getpid(), SIGUSR1);
    alternate.ss_flags = SS_DISABLE;
    sigaltstack(&alternate, &old);
    sigaltstack(NULL, &old);
}

static void descriptor_signals(void) {
    int fds[2];
    check(pipe(fds) == 0, "pipe");
    handle(SIGIO, SA_SIGINFO);
    handle(SIGPIPE, SA_SIGINFO);
    handle(SIGRTMIN + 4, SA_SIGINFO);
    fcntl(fds[0], F_SETOWN, getpid());
    fcntl(fds[0], F_SETFL, O_ASYNC | O_NONBLOCK);
    write(fds[1], "x", 1);
    fcntl(fds[0], F_SETSIG, SIGRTMIN + 4);
    write(fds[1], "y", 1);
    close(fds[0]);
    write(fds[1], "z", 1);
    close(fds[1]);
}

void run_signals(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        raise_all();
        block_and_wait();
        timers();
        on_other_stack();
        descriptor_signals();
    }
}

// --- faults ---

static sigjmp_buf back;

static void jump_back(int number, siginfo_t* info, void* context) {
    (void)number;
    (void)info;
    (void)context;
    siglongjmp(back, 1);
}

static void fault(int number, void (*cause)(void)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = jump_back;
    action.sa_flags = SA_SIGINFO;
    sigaction(number, &action, NULL);
    if (sigsetjmp(back, 1) == 0) {
        cause();
        errno = 0;
        die("no fault");
    }
}

static void read_absent(void) { (void)*(volatile int*)0x1000; }
static void write_only_read(void) {
    *(volatile char*)(uintptr_t)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 1;
}
static void non_canonical(void) { (void)*(volatile int*)0x8000000000000000; }
static void divide(void) {
    __asm__ volatile("xorl %%ecx, %%ecx; divl %%ecx" ::: "eax", "ecx", "edx");
}
static void undefined(void) { __asm__ volatile("ud2"); }
static void breakpoint(void) { __asm__ volatile("int3"); }
static void privileged(void) { __asm__ volatile("hlt"); }
static void beyond_file(void) {
    const int fd = memfd_create("short", 0);
    const char* page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)*(const volatile char*)page;
}

static void crash(void) { *(volatile int*)16 = 1; }
static void give_up(void) { abort(); }
static void trap(void) { breakpoint(); }
static void stop_dead(void) { kill(getpid(), SIGKILL); }
static void terminate(void) { raise(SIGTERM); }

void run_faults(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        fault(SIGSEGV, read_absent);
        fault(SIGSEGV, write_only_read);
        fault(SIGSEGV, non_canonical);
        fault(SIGSEGV, privileged);
        fault(SIGFPE, divide);
        fault(SIGILL, undefined);
        fault(SIGTRAP, breakpoint);
        fault(SIGBUS, beyond_file);
        signal(SIGSEGV, SIG_DFL);
        signal(SIGTRAP, SIG_DFL);
        check(WTERMSIG(in_child(crash)) == SIGSEGV, "crash");
        check(WTERMSIG(in_child(give_up)) == SIGABRT, "abort");
        check(WTERMSIG(in_child(trap)) == SIGTRAP, "trap");
        check(WTERMSIG(in_child(stop_dead)) == SIGKILL, "kill");
        check(WTERMSIG(in_child(terminate)) == SIGTERM, "terminate");
    }
}
