// SPDX-License-Identifier: Apache-2.0
// Threads that block on each other, and processes whose threads all end at once.
#define _GNU_SOURCE
#include "workload.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { thread_count = 6 };

struct worker {
    pthread_t thread;
    unsigned rounds;
    int index;
    struct timespec timeout;
    char buffer[256];
};

static struct worker workers[thread_count];
/// Whose turn it is: worker i waits until it is i.
static atomic_int turn;
/// Nobody ends before all have been made: the kernel clears the number of a thread that ends, which
/// strace might then read as the result of the call that made it.
static atomic_int released;

static void wait_for_release(void) {
    while (atomic_load(&released) == 0)
        syscall(SYS_futex, &released, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void release(void) {
    atomic_store(&released, 1);
    syscall(SYS_futex, &released, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0);
}

static void* work(void* argument) {
    struct worker* self = argument;
    wait_for_release();
    for (unsigned i = 0; i < self->rounds; i++) {
        for (int now = atomic_load(&turn); now != self->index; now = atomic_load(&turn)) {
            self->timeout.tv_sec = 5;
            self->timeout.tv_nsec = 0;
            syscall(SYS_futex, &turn, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, now, &self->timeout, NULL,
                    0);
        }
        memset(self->buffer, 'a' + self->index, sizeof self->buffer);
        syscall(SYS_write, -1, self->buffer, (size_t)(i % 40));
        syscall(SYS_gettid);
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, self->buffer);
        syscall(SYS_sched_getaffinity, 0, sizeof self->buffer, self->buffer);
        syscall(SYS_getrandom, self->buffer, 8, 0);
        if (i % 8 == 0) {
            char* page =
                mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            page[0] = 1;
            madvise(page, 8192, MADV_DONTNEED);
            mprotect(page, 4096, PROT_READ);
            munmap(page, 8192);
        }
        sched_yield();
        atomic_store(&turn, (self->index + 1) % thread_count);
        syscall(SYS_futex, &turn, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, thread_count, NULL, NULL, 0);
    }
    return NULL;
}

static void work_together(unsigned rounds) {
    atomic_store(&turn, 0);
    atomic_store(&released, 0);
    for (int i = 0; i < thread_count; i++) {
        workers[i].rounds = rounds;
        workers[i].index = i;
        check(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "pthread_create");
    }
    release();
    for (int i = 0; i < thread_count; i++)
        pthread_join(workers[i].thread, NULL);
}

void run_threads(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++)
        work_together(12);
}

// --- exit_group while others block ---

static int quiet_pipe[2];

static void* block(void* argument) {
    char buffer[8];
    struct timespec hour = {3600, 0};
    struct pollfd fd = {quiet_pipe[0], POLLIN, 0};
    switch ((uintptr_t)argument) {
    case 0: syscall(SYS_futex, &(int){0}, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); break;
    case 1: read(quiet_pipe[0], buffer, sizeof buffer); break;
    case 2: syscall(SYS_nanosleep, &hour, &hour); break;
    case 3: pause(); break;
    case 4: poll(&fd, 1, -1); break;
    default: syscall(SYS_wait4, -1, NULL, 0, NULL); break;
    }
    return NULL;
}

static void start_blocked_threads(void) {
    check(pipe(quiet_pipe) == 0, "pipe");
    for (uintptr_t i = 0; i < 6; i++) {
        pthread_t thread;
        check(pthread_create(&thread, NULL, block, (void*)i) == 0, "pthread_create");
    }
    rest(2000000);
}

static void end_by_exit_group(void) {
    start_blocked_threads();
    _exit(23);
}

static void end_by_signal(void) {
    start_blocked_threads();
    kill(getpid(), SIGKILL);
}

static void end_by_crash(void) {
    start_blocked_threads();
    *(volatile int*)8 = 1;
}

static void* exit_thread(void* argument) {
    rest(1000000);
    syscall(SYS_exit_group, (int)(uintptr_t)argument);
    return NULL;
}

static void end_by_other_thread(void) {
    start_blocked_threads();
    pthread_t thread;
    check(pthread_create(&thread, NULL, exit_thread, (void*)(uintptr_t)7) == 0, "pthread_create");
    pause();
}

/// The leader ends by itself first, then the last thread.
static void* outlive(void* argument) {
    (void)argument;
    rest(3000000);
    syscall(SYS_getpid);
    syscall(SYS_exit, 5);
    return NULL;
}

static void leader_first(void) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, outlive, NULL) == 0, "pthread_create");
    rest(1000000);
    syscall(SYS_exit, 4);
}

void run_group_exit(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        check(WEXITSTATUS(in_child(end_by_exit_group)) == 23, "exit_group");
        check(WTERMSIG(in_child(end_by_signal)) == SIGKILL, "SIGKILL");
        check(WTERMSIG(in_child(end_by_crash)) == SIGSEGV, "SIGSEGV");
        check(WEXITSTATUS(in_child(end_by_other_thread)) == 7, "exit_group of a thread");
        check(WIFEXITED(in_child(leader_first)), "leader first");
    }
}
