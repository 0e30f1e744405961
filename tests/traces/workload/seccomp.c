// SPDX-License-Identifier: Apache-2.0
// Programs that confine or trace themselves.
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

/// From now on `number` gets `action`, everything else is allowed.
static void install(unsigned number, unsigned action, int by_prctl) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (by_prctl)
        check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "prctl");
    else
        check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0, "seccomp");
}

static void fails(void) {
    edge[0] = 0; // present: what nobody touches, nobody outside the guest can read
    install(SYS_getppid, SECCOMP_RET_ERRNO | 77, 0);
    install(SYS_uname, SECCOMP_RET_ERRNO | 0, 1);
    syscall(SYS_getppid);
    syscall(SYS_uname, edge);
    syscall(SYS_getpid);
    install(SYS_nanosleep, SECCOMP_RET_TRACE | 5, 0); // nobody traces by that: ENOSYS
    rest(5);
}

static void trapped(int number, siginfo_t* info, void* context) {
    (void)number;
    (void)info;
    (void)context;
    syscall(SYS_getpid);
}

static void traps(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = trapped;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSYS, &action, NULL);
    install(SYS_getppid, SECCOMP_RET_TRAP | 9, 0);
    syscall(SYS_getppid, 1, 2, 3);
}

static void killed(void) {
    install(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 1);
    syscall(SYS_getppid);
    _exit(1);
}

static int killed_thread_id;

static void* killed_thread(void* argument) {
    (void)argument;
    killed_thread_id = (int)syscall(SYS_gettid);
    install(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
    syscall(SYS_getppid);
    return NULL;
}

static void lost_thread(void) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, killed_thread, NULL) == 0, "pthread_create");
    rest(3000000);
    // Until it is gone and strace has taken note: later it would be told the process's status.
    while (killed_thread_id == 0 || syscall(SYS_tgkill, getpid(), killed_thread_id, 0) == 0)
        rest(3000000);
    _exit(6);
}

static void strict(void) {
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    syscall(SYS_write, -1, "only", 4);
    syscall(SYS_exit, 8);
}

static void strictly_killed(void) {
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    syscall(SYS_getpid);
}

static void logged(void) {
    unsigned action = SECCOMP_RET_KILL_PROCESS;
    syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action);
    install(SYS_getppid, SECCOMP_RET_LOG, 0);
    syscall(SYS_getppid);
}

/// Every request, to a process that does not exist.
static void ask_nobody(void) {
    const long nobody = 9999999;
    for (long at = 0; at < 930; at += at < 240 || at > 700 ? 4 : 100)
        syscall(SYS_ptrace, PTRACE_POKEUSER, nobody, at, at);
    static const struct {
        long request, address, data;
    } requests[] = {
        {PTRACE_ATTACH, 0, 0},
        {PTRACE_CONT, 1, SIGUSR1},
        {PTRACE_SYSCALL, 0, 0},
        {PTRACE_SEIZE, 0, PTRACE_O_TRACESYSGOOD},
        {PTRACE_SETOPTIONS, 0, 0x7f},
        {PTRACE_SETOPTIONS, 0, 0x80100001},
        {PTRACE_GETEVENTMSG, 0, 1},
        {PTRACE_GETSIGINFO, 0, 1},
        {PTRACE_SETSIGINFO, 0, 1},
        {PTRACE_GETREGS, 1, 2},
        {PTRACE_SETFPREGS, 1, 2},
        {PTRACE_GETREGSET, 1, 1},
        {PTRACE_SETREGSET, 0x202, 1},
        {PTRACE_GETREGSET, 99, 1},
        {PTRACE_PEEKTEXT, 0x1000, 1},
        {PTRACE_PEEKDATA, 0x1000, 0},
        {PTRACE_PEEKUSER, 15 * 8, 1},
        {PTRACE_POKEDATA, 0x1000, 1},
        {PTRACE_PEEKSIGINFO, 1, 1},
        {PTRACE_GETSIGMASK, 8, 1},
        {PTRACE_SETSIGMASK, 8, 1},
        {PTRACE_SETSIGMASK, 4, 1},
        {PTRACE_GET_SYSCALL_INFO, 88, 1},
        {PTRACE_SECCOMP_GET_FILTER, 0, 1},
        {PTRACE_SECCOMP_GET_METADATA, 16, 1},
        {PTRACE_DETACH, 0, SIGSTOP},
        {PTRACE_SINGLESTEP, 1, 0},
        {PTRACE_SINGLEBLOCK, 1, 0},
        {PTRACE_SYSEMU, 1, 2},
        {PTRACE_GET_THREAD_AREA, 1, 2},
        {PTRACE_INTERRUPT, 0, 0},
        {PTRACE_LISTEN, 1, 2},
        {PTRACE_KILL, 1, 2},
        {999, 1, 2},
    };
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        syscall(SYS_ptrace, requests[i].request, nobody, requests[i].address, requests[i].data);
}

void run_seccomp(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        in_child(fails);
        in_child(traps);
        check(WTERMSIG(in_child(killed)) == SIGSYS, "killed");
        in_child(lost_thread);
        check(WEXITSTATUS(in_child(strict)) == 8, "strict");
        check(WTERMSIG(in_child(strictly_killed)) == SIGKILL, "strict");
        in_child(logged);
        // Under strace these fail; elsewhere run_ptrace shows them at work.
        syscall(SYS_ptrace, PTRACE_PEEKUSER, getppid(), 0, edge);
        ask_nobody();
        syscall(SYS_ptrace, PTRACE_CONT, getpid(), 0, SIGUSR1);
    }
}

// --- ptrace ---

static void tracee(void) {
    int status;
    check(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0, "PTRACE_TRACEME");
    kill(getpid(), SIGSTOP);
    for (int i = 0; i < 40; i++) {
        syscall(SYS_getpid);
        syscall(SYS_write, -1, "traced", 6);
        syscall(SYS_close, 1000 + i);
    }
    const pid_t child = fork();
    if (child == 0) _exit(3);
    waitpid(child, &status, 0);
    rest(100000);
    syscall(SYS_getppid); // the tracer lets the kernel not do this one
    syscall(SYS_getuid);  // and makes this one getgid
    _exit(12);
}

static const char* call_name(long number) {
    static const struct {
        long number;
        const char* name;
    } names[] = {
        {SYS_kill, "kill"},           {SYS_getpid, "getpid"},         {SYS_write, "write"},
        {SYS_close, "close"},         {SYS_clone, "clone"},           {SYS_wait4, "wait4"},
        {SYS_nanosleep, "nanosleep"}, {SYS_exit_group, "exit_group"}, {SYS_getppid, "getppid"},
        {SYS_getuid, "getuid"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].number == number) return names[i].name;
    return "unknown";
}

static void print_call(pid_t pid, long number, long result) {
    printf("%d %s ", (int)pid, call_name(number));
    if (number == SYS_exit_group)
        puts("?");
    else if (result < 0 && result >= -4095)
        printf("-1 %s\n", strerrorname_np((int)-result));
    else
        printf("%ld\n", result);
}

/// Follows a child call by call and prints what it asked for, and what it got.
void run_ptrace(unsigned rounds) {
    setvbuf(stdout, NULL, _IOFBF, 65536);
    for (unsigned i = 0; i < rounds; i++) {
        const pid_t pid = fork();
        check(pid >= 0, "fork");
        if (pid == 0) tracee();
        int status;
        check(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "waitpid");
        check(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0,
              "PTRACE_SETOPTIONS");
        // Where the tracee is stopped: on the way out of kill().
        long asked = SYS_kill;
        print_call(pid, asked, 0);
        int inside = 0, deliver = 0;
        while (1) {
            check(ptrace(PTRACE_SYSCALL, pid, NULL, (void*)(uintptr_t)deliver) == 0,
                  "PTRACE_SYSCALL");
            deliver = 0;
            check(waitpid(pid, &status, 0) == pid, "waitpid");
            if (WIFEXITED(status)) break;
            check(WIFSTOPPED(status), "the tracee was killed");
            if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
                deliver = WSTOPSIG(status);
                continue;
            }
            struct user_regs_struct registers;
            check(ptrace(PTRACE_GETREGS, pid, NULL, &registers) == 0, "PTRACE_GETREGS");
            inside = !inside;
            if (!inside) {
                print_call(pid, asked, (long)registers.rax);
                continue;
            }
            asked = (long)registers.orig_rax;
            if (asked == SYS_exit_group) print_call(pid, asked, 0);
            if (asked == SYS_getppid) registers.orig_rax = (unsigned long)-1;
            if (asked == SYS_getuid) registers.orig_rax = SYS_getgid;
            check(ptrace(PTRACE_SETREGS, pid, NULL, &registers) == 0, "PTRACE_SETREGS");
        }
        check(WEXITSTATUS(status) == 12, "the tracee failed");
    }
    fflush(stdout);
}
