// SPDX-License-Identifier: Apache-2.0
// Starting programs: vfork, scripts, threads that exec, and every way to fail.
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char* const no_environment[] = {NULL};
static char* const some_environment[] = {"HOME=/", "A=b", NULL};

static void write_file(const char* path, const char* text, mode_t mode) {
    const int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    check(fd >= 0, path);
    check(write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
    fchmod(fd, mode);
    close(fd);
}

static int collect(pid_t pid) {
    int status = 0;
    check(pid >= 0, "no child");
    while (waitpid(pid, &status, 0) != pid)
        check(errno == EINTR, "waitpid");
    return status;
}

static void vforks(void) {
    char* const argv[] = {"workload", "--end", "31", NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        execve(self_path, argv, no_environment);
        _exit(127);
    }
    check(WEXITSTATUS(collect(pid)) == 31, "vfork");
    pid = vfork();
    if (pid == 0) {
        execve("/no/such/program", argv, some_environment);
        _exit(126);
    }
    check(WEXITSTATUS(collect(pid)) == 126, "vfork");
    pid = vfork();
    if (pid == 0) _exit(5);
    collect(pid);
    pid = vfork();
    if (pid == 0) {
        kill(getpid(), SIGKILL);
        _exit(1);
    }
    collect(pid);
}

static void failures(void) {
    char* const argv[] = {"a", "b", NULL};
    char long_path[5000];
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    execve("/no/such/program", argv, no_environment);
    execve("/tmp/not-executable", argv, no_environment);
    execve("/tmp/no-format", argv, no_environment);
    execve("/tmp/bad-interpreter", argv, no_environment);
    execve("/tmp/short-elf", argv, no_environment);
    execve("/tmp/not-executable/under", argv, no_environment);
    execve("/tmp/loop", argv, no_environment);
    execve("/tmp", argv, no_environment);
    execve(long_path, argv, no_environment);
    execve("", argv, no_environment);
    execve(NULL, argv, no_environment);
    execve("/tmp/no-format", (char* const*)8, no_environment);
    execve(edge + edge_size, argv, no_environment);
    memcpy(edge + edge_size - 6, "/xyz/", 6);
    execve(edge + edge_size - 6, argv, no_environment);
    memcpy(edge + edge_size - 6, "/xyz/z", 6);
    execve(edge + edge_size - 6, argv, no_environment);
    char* const bad[] = {"a", (char*)16, NULL};
    execve("/no/such/program", bad, some_environment);
    execve(self_path, bad, some_environment);
    syscall(SYS_execveat, -1, "relative", argv, no_environment, 0);
    syscall(SYS_execveat, AT_FDCWD, "/no/such", argv, no_environment, AT_SYMLINK_NOFOLLOW);
    syscall(SYS_execveat, AT_FDCWD, "", argv, no_environment, AT_EMPTY_PATH);
    // More than fits: a quarter of the stack's limit.
    static char* many[300];
    static char big[32768];
    memset(big, 'e', sizeof big - 1);
    for (size_t i = 0; i < 299; i++)
        many[i] = big;
    execve(self_path, many, no_environment);
}

static void exec_script(void) {
    char* const argv[] = {"script", "one", "two", NULL};
    execve("/tmp/script", argv, some_environment);
    die("script");
}

static void exec_descriptor(void) {
    char* const argv[] = {"workload", "--end", "32", NULL};
    const int fd = open(self_path, O_RDONLY | O_CLOEXEC);
    syscall(SYS_execveat, fd, "", argv, some_environment, AT_EMPTY_PATH);
    die("execveat");
}

static void exec_many_arguments(void) {
    char* argv[64] = {"workload", "--end", "33"};
    char* environment[200];
    char texts[200][16];
    for (int i = 0; i < 199; i++) {
        snprintf(texts[i], sizeof texts[i], "V%d=%d", i, i);
        environment[i] = texts[i];
    }
    environment[199] = NULL;
    execve(self_path, argv, environment);
    die("execve");
}

static void* exec_in_thread(void* argument) {
    (void)argument;
    char* const argv[] = {"workload", "--end", "34", NULL};
    rest(1000000);
    execve(self_path, argv, no_environment);
    die("execve");
}

static void* wait_forever(void* argument) {
    pause();
    return argument;
}

static void exec_from_thread(void) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, wait_forever, NULL) == 0, "pthread_create");
    check(pthread_create(&thread, NULL, exec_in_thread, NULL) == 0, "pthread_create");
    for (;;)
        pause();
}

/// The program's name and words lie in pages of the file that nobody has touched yet: the tracer
/// outside finds them absent when the call is made.
static void exec_from_untouched_pages(void) {
    const int fd = open("/tmp/words", O_RDONLY | O_CLOEXEC);
    check(fd >= 0, "/tmp/words");
    char* words = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    static char* argv[4];
    argv[0] = words + 32;
    argv[1] = words + 48;
    argv[2] = words + 64;
    syscall(SYS_execve, words, argv, no_environment);
    die("execve");
}

void run_exec(unsigned rounds) {
    mkdir("/tmp", 01777);
    write_file("/tmp/not-executable", "#!/bin/busybox sh\n", 0644);
    write_file("/tmp/no-format", "neither one nor the other\n", 0755);
    write_file("/tmp/bad-interpreter", "#!/no/such/shell\n", 0755);
    write_file("/tmp/short-elf",
               "\x7f"
               "ELF",
               0755);
    write_file("/tmp/script", "#!/bin/busybox sh\nexit 9\n", 0755);
    const int fd = open("/tmp/words", O_CREAT | O_RDWR | O_TRUNC, 0600);
    char words[80] = "/proc/self/exe";
    strcpy(words + 32, "workload");
    strcpy(words + 48, "--end");
    strcpy(words + 64, "35");
    check(write(fd, words, sizeof words) == sizeof words, "/tmp/words");
    close(fd);
    symlink("loop", "/tmp/loop");
    for (unsigned i = 0; i < rounds; i++) {
        vforks();
        in_child(failures);
        check(WEXITSTATUS(in_child(exec_script)) == 9, "script");
        check(WEXITSTATUS(in_child(exec_descriptor)) == 32, "descriptor");
        check(WEXITSTATUS(in_child(exec_many_arguments)) == 33, "many arguments");
        check(WEXITSTATUS(in_child(exec_from_thread)) == 34, "exec from a thread");
        check(WEXITSTATUS(in_child(exec_from_untouched_pages)) == 35, "untouched pages");
    }
}
