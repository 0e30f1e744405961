// SPDX-License-Identifier: Apache-2.0
// The 32-bit program: freestanding, so that no 32-bit C library is needed. Makes each call by INT
// 0x80 and by the kernel's own entry (SYSENTER or SYSCALL, whichever it chose).
#include <asm/unistd_32.h>

typedef unsigned u32;

static u32 vsyscall_entry;
static char scratch[4096] __attribute__((aligned(4096)));

static int by_interrupt(int number, int a, int b, int c, int d, int e, int f) {
    const int words[2] = {number, f};
    int result;
    __asm__ volatile("pushl %%ebp\n\t"
                     "movl 4(%%eax), %%ebp\n\t"
                     "movl (%%eax), %%eax\n\t"
                     "int $0x80\n\t"
                     "popl %%ebp"
                     : "=a"(result)
                     : "a"(words), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}

static int by_entry(int number, int a, int b, int c, int d, int e, int f) {
    const u32 words[3] = {(u32)number, (u32)f, vsyscall_entry};
    int result;
    __asm__ volatile("pushl %%ebp\n\t"
                     "movl 4(%%eax), %%ebp\n\t"
                     "pushl 8(%%eax)\n\t"
                     "movl (%%eax), %%eax\n\t"
                     "call *(%%esp)\n\t"
                     "addl $4, %%esp\n\t"
                     "popl %%ebp"
                     : "=a"(result)
                     : "a"(words), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}

typedef int (*call_function)(int, int, int, int, int, int, int);

#define P(p) ((int)(p))

struct segment {
    int base;
    u32 length;
};

static void calls(call_function call) {
    int* words = (int*)(scratch + 1024);
    char* text = scratch + 64;
    call(__NR_getpid, 0, 0, 0, 0, 0, 0);
    call(__NR_gettid, 0, 0, 0, 0, 0, 0);
    call(__NR_getuid32, 0, 0, 0, 0, 0, 0);
    call(__NR_getuid, 0, 0, 0, 0, 0, 0);
    call(__NR_brk, 0, 0, 0, 0, 0, 0);
    const int fd = call(__NR_openat, -100, P("/tmp/f32"), 01102, 0600, 0, 0);
    call(__NR_write, fd, P("thirty-two bits"), 15, 0, 0, 0);
    call(__NR__llseek, fd, 0, 3, P(words), 0, 0);
    call(__NR_lseek, fd, 0, 0, 0, 0, 0);
    call(__NR_read, fd, P(text), 5, 0, 0, 0);
    call(__NR_pread64, fd, P(text), 4, 2, 0, 0);
    call(__NR_pwrite64, fd, P(text), 4, 2, 0, 0);
    struct segment segments[2] = {{P("ab"), 2}, {P("cde"), 3}};
    call(__NR_writev, fd, P(segments), 2, 0, 0, 0);
    call(__NR_fstat64, fd, P(text), 0, 0, 0, 0);
    call(__NR_stat64, P("/tmp/f32"), P(text), 0, 0, 0, 0);
    call(__NR_fstatat64, -100, P("/tmp/f32"), P(text), 0, 0, 0);
    call(__NR_statx, -100, P("/tmp/f32"), 0, 0x7ff, P(text), 0);
    call(__NR_ftruncate64, fd, 100, 0, 0, 0, 0);
    call(__NR_fcntl64, fd, 3, 0, 0, 0, 0);
    words[0] = 1, words[1] = 2, words[2] = 3;
    call(__NR_fcntl64, fd, 6, P(words), 0, 0, 0);
    call(__NR_mmap2, 0, 4096, 3, 0x22, -1, 0);
    call(__NR_mmap2, 0, 4096, 1, 2, fd, 0);
    call(__NR_mprotect, P(scratch), 4096, 3, 0, 0, 0);
    call(__NR_close, fd, 0, 0, 0, 0, 0);
    call(__NR_unlink, P("/tmp/f32"), 0, 0, 0, 0, 0);
    call(__NR_access, P("/no/such"), 4, 0, 0, 0, 0);
    words[0] = 0, words[1] = 1000, words[2] = 0, words[3] = 0;
    call(__NR_nanosleep, P(words), P(words + 4), 0, 0, 0, 0);
    call(__NR_clock_gettime, 1, P(words), 0, 0, 0, 0);
    call(__NR_clock_gettime64, 1, P(words), 0, 0, 0, 0);
    call(__NR_gettimeofday, P(words), 0, 0, 0, 0, 0);
    call(__NR_time, P(words), 0, 0, 0, 0, 0);
    words[0] = 0, words[1] = 0, words[2] = 1000, words[3] = 0;
    call(__NR_clock_nanosleep_time64, 1, 0, P(words), 0, 0, 0);
    words[0] = 1, words[1] = 1, words[2] = 0;
    call(__NR_socketcall, 1, P(words), 0, 0, 0, 0);
    words[0] = 1, words[1] = 1, words[2] = 0, words[3] = P(words + 8);
    call(__NR_socketcall, 8, P(words), 0, 0, 0, 0);
    const int s = words[8], t = words[9];
    words[0] = s, words[1] = P("packet"), words[2] = 6, words[3] = 0;
    call(__NR_socketcall, 9, P(words), 0, 0, 0, 0);
    words[0] = t, words[1] = P(text), words[2] = 20, words[3] = 0;
    call(__NR_socketcall, 10, P(words), 0, 0, 0, 0);
    words[0] = 1 << t, words[16] = s;
    call(__NR_close, s, 0, 0, 0, 0, 0);
    call(__NR_close, t, 0, 0, 0, 0, 0);
    words[0] = 0, words[1] = 0;
    call(__NR__newselect, 1, P(words + 8), 0, 0, P(words), 0);
    call(__NR_poll, P(words), 0, 0, 0, 0, 0);
    call(__NR_pipe, P(words), 0, 0, 0, 0, 0);
    call(__NR_close, words[0], 0, 0, 0, 0, 0);
    call(__NR_close, words[1], 0, 0, 0, 0, 0);
    call(__NR_uname, P(text), 0, 0, 0, 0, 0);
    call(__NR_getrlimit, 3, P(words), 0, 0, 0, 0);
    call(__NR_ugetrlimit, 3, P(words), 0, 0, 0, 0);
    call(__NR_futex, P(words), 1, 1, 0, 0, 0);
    call(__NR_kill, call(__NR_getpid, 0, 0, 0, 0, 0, 0), 0, 0, 0, 0, 0);
    words[0] = 0x200, words[1] = 0;
    call(__NR_rt_sigprocmask, 0, P(words), P(words + 2), 8, 0, 0);
    call(__NR_sigprocmask, 1, P(words), P(words + 2), 0, 0, 0);
    words[0] = 1, words[1] = 0, words[2] = 0, words[3] = 0, words[4] = 0;
    call(__NR_rt_sigaction, 10, P(words), P(words + 8), 8, 0, 0);
    call(__NR_sigaction, 10, 0, P(words + 8), 0, 0, 0);
    call(__NR_waitpid, -1, P(words), 1, 0, 0, 0);
    call(__NR_getdents64, 9999, P(text), 100, 0, 0, 0);
    call(__NR_chown, P("/no/such"), -1, 5, 0, 0, 0);
    call(__NR_set_tid_address, P(words), 0, 0, 0, 0, 0);
    call(__NR_statfs64, P("/proc"), 84, P(text), 0, 0, 0);
    call(__NR_getgroups32, 0, 0, 0, 0, 0, 0);
    call(__NR_open, 8, 0, 0, 0, 0, 0);
    call(500, 1, 2, 3, 4, 5, 6);
    call(-1, 1, 2, 3, 4, 5, 6);
}

/// A handler that the kernel calls, with its own way back.
static volatile int handled;
static void handler(int number) { handled = number; }
__asm__(".globl restore\n"
        "restore: popl %eax\n"
        "    movl $119, %eax\n" // sigreturn
        "    int $0x80\n"
        ".globl rt_restore\n"
        "rt_restore: movl $173, %eax\n" // rt_sigreturn
        "    int $0x80\n");
extern void restore(void), rt_restore(void);

static void signals(call_function call, int pid) {
    int action[5] = {P(handler), 0x04000000, P(restore), 0, 0};
    call(__NR_rt_sigaction, 10, P(action), 0, 8, 0, 0);
    call(__NR_kill, pid, 10, 0, 0, 0, 0);
    action[1] = 0x04000004, action[2] = P(rt_restore);
    call(__NR_rt_sigaction, 12, P(action), 0, 8, 0, 0);
    call(__NR_kill, pid, 12, 0, 0, 0, 0);
}

static void children(call_function call) {
    int status = 0;
    int pid = call(__NR_fork, 0, 0, 0, 0, 0, 0);
    if (pid == 0) call(__NR_exit, 3, 0, 0, 0, 0, 0);
    call(__NR_waitpid, pid, P(&status), 0, 0, 0, 0);
    pid = call(__NR_clone, 17, 0, 0, 0, 0, 0);
    if (pid == 0) call(__NR_exit_group, 4, 0, 0, 0, 0, 0);
    call(__NR_wait4, pid, P(&status), 0, P(scratch), 0, 0);
}

void start(u32* stack) __attribute__((noreturn, used));
void start(u32* stack) {
    u32* at = stack + 1 + stack[0] + 1; // behind argc, argv and its end
    while (*at != 0)
        ++at;
    for (++at; at[0] != 0; at += 2)
        if (at[0] == 32) vsyscall_entry = at[1]; // AT_SYSINFO
    const int pid = by_interrupt(__NR_getpid, 0, 0, 0, 0, 0, 0);
    calls(by_interrupt);
    signals(by_interrupt, pid);
    children(by_interrupt);
    if (vsyscall_entry != 0) {
        calls(by_entry);
        signals(by_entry, pid);
        children(by_entry);
    }
    by_interrupt(__NR_exit_group, handled == 12 ? 32 : 1, 0, 0, 0, 0, 0);
    for (;;) {
    }
}
__asm__(".globl _start\n"
        "_start: xorl %ebp, %ebp\n"
        "    movl %esp, %eax\n"
        "    andl $-16, %esp\n"
        "    subl $12, %esp\n"
        "    pushl %eax\n"
        "    call start\n");
