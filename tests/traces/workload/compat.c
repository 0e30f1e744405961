// SPDX-License-Identifier: Apache-2.0
// 32-bit calls: from 64-bit code, and by the 32-bit program.
#define _GNU_SOURCE
#include "workload.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

/// A 32-bit call; the numbers are i386's.
static long int80(long number, long a, long b, long c, long d, long e) {
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static void from_64_bit_code(char* low) {
    const long at = (long)low;
    strcpy(low, "/no/such/file");
    strcpy(low + 64, "/proc/self/exe");
    int80(20, 0, 0, 0, 0, 0);                 // getpid
    int80(5, at, 0101, 0644, 0, 0);           // open
    int80(295, -100, at + 64, 0, 0, 0);       // openat
    int80(195, at + 64, at + 128, 0, 0, 0);   // stat64
    int80(106, at + 64, at + 128, 0, 0, 0);   // stat
    int80(122, at + 512, 0, 0, 0, 0);         // uname
    int80(116, at + 512, 0, 0, 0, 0);         // sysinfo
    int80(78, at + 512, 0, 0, 0, 0);          // gettimeofday
    int80(85, at + 64, at + 512, 100, 0, 0);  // readlink
    int80(57, 0, 0, 0, 0, 0);                 // setpgid: by number, x86-64's fork
    int80(58, 0, 0, 0, 0, 0);                 // ulimit: by number, x86-64's vfork
    int80(60, 022, 0, 0, 0, 0);               // umask: by number, x86-64's exit
    const long pid = int80(2, 0, 0, 0, 0, 0); // fork
    if (pid == 0) {
        int80(20, 0, 0, 0, 0, 0);
        int80(252, 14, 0, 0, 0, 0); // exit_group
    }
    int80(114, pid, at + 512, 0, at + 600, 0); // wait4
    int80(7, -1, at + 512, 1, 0, 0);           // waitpid
}

/// The kernel takes the low half of RAX as a signed number; bit 30 says x32.
static void odd_numbers(void) {
    static const unsigned long numbers[] = {
        ~0ul,         0xffffffff, 0x80000000, 0x100000000 + SYS_getpid,
        0x40000000,   0x40000027, 0x40000200, 0x7fffffff,
        0xfffffffe00, 999,        450,        0x123456789abcdef,
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        long result;
        __asm__ volatile("xorl %%r10d, %%r10d; movl $5, %%r8d; movl $6, %%r9d; syscall"
                         : "=a"(result)
                         : "a"(numbers[i]), "D"(1ul), "S"(2ul), "d"(3ul)
                         : "rcx", "r8", "r9", "r10", "r11", "memory");
    }
}

void run_compat(unsigned rounds) {
    char* low =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    check(low != MAP_FAILED, "mmap");
    for (unsigned i = 0; i < rounds; i++) {
        from_64_bit_code(low);
        odd_numbers();
        const pid_t pid = vfork();
        if (pid == 0) {
            char* const argv[] = {"workload32", "a word", NULL};
            char* const environment[] = {"A=b", NULL};
            execve(compat_path, argv, environment);
            _exit(127);
        }
        int status;
        check(waitpid(pid, &status, 0) == pid, "waitpid");
        check(WIFEXITED(status) && WEXITSTATUS(status) == 32, "the 32-bit program failed");
    }
}
