// SPDX-License-Identifier: Apache-2.0
// Files, folders and memory.
#define _GNU_SOURCE
#include "workload.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <termios.h>
#include <utime.h>

static void reading_and_writing(void) {
    char buffer[9000];
    memset(buffer, 'b', sizeof buffer);
    memcpy(buffer, "\x01\xff\x80\"\\\n\t\0z", 9);
    const int fd = open("/tmp/f", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    check(fd >= 0, "/tmp/f");
    for (size_t size = 0; size < 40; size += 3)
        write(fd, buffer, size);
    write(fd, buffer, sizeof buffer);
    pwrite(fd, "at", 2, 100);
    struct iovec parts[40];
    for (size_t i = 0; i < 40; i++)
        parts[i] = (struct iovec){buffer + i, i};
    writev(fd, parts, 40);
    writev(fd, parts, 3);
    lseek(fd, 0, SEEK_SET);
    readv(fd, parts, 7);
    preadv(fd, parts, 5, 3);
    pwritev(fd, parts, 5, 3);
    preadv2(fd, parts, 2, 0, RWF_HIPRI);
    for (size_t size = 0; size < 40; size += 7)
        read(fd, buffer, size);
    pread(fd, buffer, 50, 90);
    lseek(fd, -5, SEEK_END);
    read(fd, buffer, sizeof buffer);
    read(fd, buffer, sizeof buffer);
    lseek(fd, -1, SEEK_SET);
    lseek(fd, 0, SEEK_DATA);
    ftruncate(fd, 1000);
    fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    fsync(fd);
    fdatasync(fd);
    flock(fd, LOCK_EX | LOCK_NB);
    flock(fd, LOCK_UN);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 5};
    fcntl(fd, F_SETLK, &lock);
    fcntl(fd, F_GETLK, &lock);
    fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    dup2(copy, 101);
    dup3(copy, 102, O_CLOEXEC);
    close(101);
    syscall(SYS_close_range, 100, 110, 0);
    ioctl(fd, FIONREAD, buffer);
    ioctl(fd, TCGETS, buffer);
    close(fd);
    close(fd);
}

static void naming(void) {
    struct stat st;
    struct statx stx;
    struct statfs fs;
    char buffer[300];
    struct timespec times[2] = {{1600000000, 5}, {0, UTIME_NOW}};
    struct timeval micros[2] = {{1500000000, 3}, {1400000000, 4}};
    mkdir("/tmp/d", 0755);
    mkdir("/tmp/d", 0755);
    syscall(SYS_mkdirat, AT_FDCWD, "/tmp/d/e", 01777);
    const int dir = open("/tmp/d", O_RDONLY | O_DIRECTORY);
    check(dir >= 0, "/tmp/d");
    syscall(SYS_openat, dir, "file", O_CREAT | O_WRONLY | O_EXCL, 0600);
    syscall(SYS_openat, dir, "file", O_CREAT | O_WRONLY | O_EXCL, 0600);
    link("/tmp/d/file", "/tmp/d/link");
    linkat(dir, "file", dir, "other", 0);
    symlink("a target", "/tmp/d/symbolic");
    symlinkat("file", dir, "symbolic2");
    readlink("/tmp/d/symbolic", buffer, sizeof buffer);
    readlink("/tmp/d/symbolic", buffer, 3);
    readlink("/tmp/d/file", buffer, 3);
    rename("/tmp/d/other", "/tmp/d/renamed");
    renameat2(dir, "renamed", dir, "file", RENAME_NOREPLACE);
    renameat2(dir, "renamed", dir, "file", RENAME_EXCHANGE);
    mknod("/tmp/d/fifo", S_IFIFO | 0600, 0);
    mknod("/tmp/d/null", S_IFCHR | 0666, 0x103);
    chmod("/tmp/d/file", 04755);
    fchmodat(dir, "file", 0600, 0);
    chown("/tmp/d/file", 1, 2);
    lchown("/tmp/d/symbolic", (uid_t)-1, 3);
    fchownat(dir, "file", 0, 0, AT_SYMLINK_NOFOLLOW);
    syscall(SYS_stat, "/tmp/d/file", &st);
    syscall(SYS_lstat, "/tmp/d/symbolic", &st);
    syscall(SYS_fstat, dir, &st);
    syscall(SYS_stat, "/tmp/d/null", &st);
    syscall(SYS_stat, "/tmp/d/fifo", &st);
    syscall(SYS_stat, "/tmp/d/nothing", &st);
    syscall(SYS_newfstatat, dir, "file", &st, 0);
    syscall(SYS_newfstatat, dir, "", &st, AT_EMPTY_PATH);
    syscall(SYS_statx, dir, "file", AT_STATX_SYNC_AS_STAT, STATX_ALL, &stx);
    syscall(SYS_statx, dir, "symbolic", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &stx);
    statfs("/tmp", &fs);
    statfs("/proc", &fs);
    fstatfs(dir, &fs);
    access("/tmp/d/file", R_OK | W_OK);
    syscall(SYS_faccessat2, dir, "file", X_OK, AT_EACCESS);
    utimensat(dir, "file", times, 0);
    utimensat(dir, "file", NULL, 0);
    syscall(SYS_utimes, "/tmp/d/file", micros);
    struct utimbuf old = {100000, 200000};
    syscall(SYS_utime, "/tmp/d/file", &old);
    setxattr("/tmp/d/file", "user.name", "value", 5, 0);
    getxattr("/tmp/d/file", "user.name", buffer, sizeof buffer);
    listxattr("/tmp/d/file", buffer, sizeof buffer);
    setxattr("/tmp/d/file", "trusted.name", "value", 5, XATTR_CREATE);
    getxattr("/tmp/d/file", "trusted.name", buffer, sizeof buffer);
    listxattr("/tmp/d/file", buffer, sizeof buffer);
    removexattr("/tmp/d/file", "trusted.name");
    truncate("/tmp/d/file", 7);
    getcwd(buffer, sizeof buffer);
    getcwd(buffer, 1);
    chdir("/tmp/d");
    fchdir(dir);
    getcwd(buffer, sizeof buffer);
    chdir("/");
    lseek(dir, 0, SEEK_SET);
    while (syscall(SYS_getdents64, dir, buffer, 100) > 0) {
    }
    lseek(dir, 0, SEEK_SET);
    while (syscall(SYS_getdents, dir, buffer, sizeof buffer) > 0) {
    }
    unlinkat(dir, "file", 0);
    unlinkat(dir, "e", AT_REMOVEDIR);
    rmdir("/tmp/d");
    static const char* const left[] = {"link", "renamed", "symbolic", "symbolic2", "fifo", "null"};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++)
        unlinkat(dir, left[i], 0);
    rmdir("/tmp/d");
    close(dir);
    mount("none", "/no/where", "tmpfs", MS_NODEV | MS_NOSUID, "size=1m");
    umount2("/no/where", MNT_DETACH);
    syscall(SYS_close_range, 3, 50, 0);
}

static void moving(void) {
    int a[2], b[2];
    check(pipe(a) == 0 && pipe2(b, O_CLOEXEC | O_NONBLOCK) == 0, "pipe");
    const int fd = open("/tmp/f", O_RDWR);
    check(fd >= 0, "/tmp/f");
    off_t from = 3;
    sendfile(a[1], fd, &from, 20);
    sendfile(a[1], fd, NULL, 20);
    from = 7;
    splice(fd, &from, a[1], NULL, 10, SPLICE_F_MOVE);
    tee(a[0], b[1], 5, SPLICE_F_NONBLOCK);
    struct iovec part = {(void*)"vmspliced", 9};
    vmsplice(b[1], &part, 1, 0);
    char buffer[100];
    read(a[0], buffer, sizeof buffer);
    read(b[0], buffer, sizeof buffer);
    read(b[0], buffer, sizeof buffer);
    const int e = eventfd(5, EFD_NONBLOCK);
    uint64_t value = 7;
    write(e, &value, 8);
    read(e, &value, 8);
    read(e, &value, 8);
    const int i = inotify_init1(IN_NONBLOCK);
    const int w = inotify_add_watch(i, "/tmp", IN_CREATE | IN_DELETE);
    close(open("/tmp/watched", O_CREAT | O_WRONLY, 0600));
    unlink("/tmp/watched");
    read(i, buffer, sizeof buffer);
    inotify_rm_watch(i, w);
    off_t to = 0;
    syscall(SYS_copy_file_range, fd, &from, fd, &to, 4, 0);
    syscall(SYS_close_range, 3, 50, 0);
}

void run_files(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        reading_and_writing();
        naming();
        moving();
    }
}

// --- memory ---

static void mappings(void) {
    const size_t size = 65536;
    char* p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(p != MAP_FAILED, "mmap");
    unsigned char resident[16];
    p[0] = p[8192] = 1;
    mincore(p, size, resident);
    mprotect(p + 4096, 4096, PROT_NONE);
    mprotect(p + 8192, 4096, PROT_READ | PROT_EXEC);
    madvise(p, size, MADV_HUGEPAGE);
    madvise(p, size, MADV_WILLNEED);
    madvise(p, 4096, MADV_DONTNEED);
    madvise(p + 1, 4096, MADV_FREE);
    msync(p, 4096, MS_ASYNC);
    mlock(p, 4096);
    munlock(p, 4096);
    mlock2(p, 4096, MLOCK_ONFAULT);
    char* moved = mremap(p, size, size * 2, MREMAP_MAYMOVE);
    mremap(moved, size * 2, 4096, 0);
    mremap(moved, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (void*)0x700000000000);
    munmap((void*)0x700000000000, 4096);
    mmap((void*)0x700000001000, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    munmap((void*)0x700000001000, 4096);
    mmap((void*)1, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mmap(NULL, 0, PROT_READ, MAP_PRIVATE, -1, 0);
    mmap(NULL, 4096, PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_POPULATE | MAP_STACK | MAP_GROWSDOWN, -1,
         0);
    const int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ftruncate(fd, 8192);
    char* shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    shared[5000] = 3;
    msync(shared, 8192, MS_SYNC | MS_INVALIDATE);
    munmap(shared, 8192);
    mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 4096);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL);
    fcntl(fd, F_GET_SEALS);
    close(fd);
    void* const end = (void*)syscall(SYS_brk, NULL);
    syscall(SYS_brk, (char*)end + 4096);
    syscall(SYS_brk, end);
    const long key = syscall(SYS_pkey_alloc, 0, 0);
    syscall(SYS_pkey_mprotect, edge, 4096, PROT_READ | PROT_WRITE, -1);
    if (key >= 0) syscall(SYS_pkey_free, key);
    syscall(SYS_membarrier, 0, 0, 0);
}

static void system_v(void) {
    const int id = shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600);
    if (id >= 0) {
        char* at = shmat(id, NULL, 0);
        struct shmid_ds status;
        shmctl(id, IPC_STAT, &status);
        at[0] = 1;
        shmdt(at);
        shmctl(id, IPC_RMID, NULL);
    }
    const int queue = msgget(IPC_PRIVATE, 0600);
    struct {
        long type;
        char text[16];
    } message = {7, "a message"};
    if (queue >= 0) {
        msgsnd(queue, &message, 9, 0);
        msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT);
        msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT);
        struct msqid_ds queue_status;
        msgctl(queue, IPC_STAT, &queue_status);
        msgctl(queue, IPC_RMID, NULL);
    }
    const int semaphores = semget(IPC_PRIVATE, 3, 0600);
    if (semaphores >= 0) {
        struct sembuf operations[2] = {{0, 1, 0}, {1, 1, SEM_UNDO}};
        semop(semaphores, operations, 2);
        semctl(semaphores, 0, GETVAL);
        semctl(semaphores, 0, SETVAL, 5);
        operations[0].sem_op = 0;
        operations[0].sem_flg = IPC_NOWAIT;
        struct timespec t = {0, 5};
        semtimedop(semaphores, operations, 1, &t);
        semctl(semaphores, 0, IPC_RMID);
    }
}

void run_memory(unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        mappings();
        system_v();
    }
}

// --- bad pointers ---

void run_bad_pointers(unsigned rounds) {
    char* const last = edge + edge_size;
    static const uintptr_t addresses[] = {
        1, 0xfff, 0x7ffffffff000, 0x800000000000, 0xffff888000000000, ~(uintptr_t)0};
    for (unsigned i = 0; i < rounds; i++) {
        for (size_t a = 0; a <= sizeof addresses / sizeof addresses[0]; a++) {
            char* p = a == 0 ? last : (char*)addresses[a - 1];
            syscall(SYS_open, p, 0);
            syscall(SYS_stat, "/", p);
            syscall(SYS_stat, p, p);
            syscall(SYS_write, 1, p, 0);
            syscall(SYS_write, 9999, p, 5);
            syscall(SYS_readlink, "/proc/self/exe", p, 100);
            syscall(SYS_nanosleep, p, NULL);
            syscall(SYS_clock_gettime, 0, p);
            syscall(SYS_pipe, p);
            syscall(SYS_uname, p);
            syscall(SYS_rt_sigaction, 10, p, NULL, 8);
            syscall(SYS_rt_sigprocmask, 0, p, NULL, 8);
            syscall(SYS_rt_sigprocmask, 0, NULL, p, 8);
            syscall(SYS_poll, p, 1, 0);
            syscall(SYS_select, 8, p, NULL, NULL, NULL);
            syscall(SYS_writev, 9999, p, 2);
            syscall(SYS_sendmsg, 9999, p, 0);
            syscall(SYS_connect, 9999, p, 16);
            syscall(SYS_getsockname, 9999, p, p);
            syscall(SYS_wait4, -1, p, 1, p);
            syscall(SYS_futex, p, 1, 1, NULL, NULL, 0);
            syscall(SYS_mount, p, p, p, 0, p);
            syscall(SYS_getcwd, p, 100);
            syscall(SYS_getrandom, p, 8, 0);
            syscall(SYS_prctl, 15, p);
            syscall(SYS_setxattr, p, p, p, 4, 0);
            syscall(SYS_timer_create, 1, p, NULL);
            syscall(SYS_io_setup, 1, p);
            syscall(SYS_epoll_ctl, 9999, 1, 5, p);
            syscall(SYS_sched_setaffinity, 0, 8, p);
            syscall(SYS_utimensat, -100, p, p, 0);
            syscall(SYS_statx, -100, p, 0, 0xfff, p);
            syscall(SYS_clone3, p, 88);
            syscall(SYS_openat2, -100, p, p, 24);
            syscall(SYS_sysinfo, p);
            syscall(SYS_getdents64, 9999, p, 100);
        }
        // Text and structures that cross into what is absent, and that just do not.
        for (size_t before = 0; before < 48; before += 5) {
            memset(last - 64, 'w', 64);
            last[-1] = '\0';
            syscall(SYS_access, last - before, 0);
            last[-1] = 'w';
            syscall(SYS_access, last - before, 0);
            syscall(SYS_write, 9999, last - before, 40);
            syscall(SYS_writev, 9999, last - before, 2);
            syscall(SYS_poll, last - before, 3, 0);
            syscall(SYS_connect, 9999, last - before, 30);
            syscall(SYS_nanosleep, last - before, last);
            syscall(SYS_execve, last - before, last - before, last - before);
        }
        memset(edge, 0, edge_size);
    }
}
