// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

char* edge;
const char* self_path;
const char* compat_path;

void die(const char* what) {
    fprintf(stderr, "workload: %s: %s\n", what, strerror(errno));
    _exit(99);
}

void check(int good, const char* what) {
    if (!good) die(what);
}

void rest(long nanoseconds) {
    struct timespec t = {0, nanoseconds};
    syscall(SYS_nanosleep, &t, NULL);
}

int in_child(void (*body)(void)) {
    const pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        body();
        _exit(0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) != pid)
        check(errno == EINTR, "waitpid");
    return status;
}

struct subject {
    const char* name;
    void (*run)(unsigned rounds);
};

static const struct subject subjects[] = {
    {"threads", run_threads},   {"group-exit", run_group_exit},
    {"signals", run_signals},   {"faults", run_faults},
    {"restarts", run_restarts}, {"processes", run_processes},
    {"exec", run_exec},         {"files", run_files},
    {"memory", run_memory},     {"sockets", run_sockets},
    {"waiting", run_waiting},   {"seccomp", run_seccomp},
    {"compat", run_compat},     {"bad-pointers", run_bad_pointers},
    {"ptrace", run_ptrace},
};

static void run(const struct subject* subject, unsigned rounds) {
    const pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        subject->run(rounds);
        _exit(0);
    }
    int status = 0;
    check(waitpid(pid, &status, 0) == pid, "waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "workload: %s ended with status %#x\n", subject->name, (unsigned)status);
        _exit(98);
    }
}

/// workload ROUNDS SUBJECT...: `all` is every subject but ptrace.
int main(int argc, char** argv) {
    // How the program calls itself, by exec: a status to end with.
    if (argc == 3 && strcmp(argv[1], "--end") == 0) return atoi(argv[2]);
    if (argc < 3) {
        fputs("usage: workload ROUNDS SUBJECT...\n", stderr);
        return 2;
    }
    self_path = "/proc/self/exe";
    compat_path = "/bin/workload32";
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    edge = mmap(NULL, edge_size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(edge != MAP_FAILED, "mmap");
    check(munmap(edge + edge_size, 4096) == 0, "munmap");
    const unsigned rounds = (unsigned)atoi(argv[1]);
    for (int i = 2; i < argc; i++) {
        const int all = strcmp(argv[i], "all") == 0;
        int known = 0;
        for (size_t s = 0; s < sizeof subjects / sizeof subjects[0]; s++) {
            const int is_ptrace = subjects[s].run == run_ptrace;
            if (all ? is_ptrace : strcmp(argv[i], subjects[s].name) != 0) continue;
            known = 1;
            run(&subjects[s], rounds);
        }
        if (!known) {
            fprintf(stderr, "workload: no subject %s\n", argv[i]);
            return 2;
        }
    }
    return 0;
}
