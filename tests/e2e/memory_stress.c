// SPDX-License-Identifier: Apache-2.0
// Runs in the guest: works the kernel's memory management hard, and checks every page's content.
// memory_stress ROUNDS SEED: mmap, munmap, mremap, mprotect with faults, transparent huge pages
// made, split and collapsed, fork with copy on write, exec in loops, shared files. Status 0 if all
// was right.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum { page = 4096, huge = 2 << 20, area_pages = 2048 }; // 8 MiB: four huge pages

static uint64_t random_state;
static uint64_t next_random(void) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static uint64_t below(uint64_t bound) { return next_random() % bound; }

static void die(const char* what) {
    printf("memory_stress: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The area under test: what each page must hold, and how it is mapped. */
static uint8_t* area;
static uint64_t expected[area_pages]; /* 0: as if never written */
static uint8_t mapped[area_pages], writable[area_pages];
static volatile sig_atomic_t faults;

static uint64_t* word(unsigned n) { return (uint64_t*)(area + (size_t)n * page + 8 * (n % 512)); }

/* A write to a read-only page: allows it, as a garbage collector or a snapshot would. */
static void on_fault(int signal, siginfo_t* info, void* context) {
    (void)signal, (void)context;
    uint8_t* at = (uint8_t*)((uintptr_t)info->si_addr & ~(uintptr_t)(page - 1));
    if (at < area || at >= area + (size_t)area_pages * page) _exit(3);
    const unsigned n = (unsigned)((size_t)(at - area) / page);
    if (!mapped[n] || writable[n]) _exit(4);
    if (mprotect(at, page, PROT_READ | PROT_WRITE) != 0) _exit(5);
    writable[n] = 1;
    ++faults;
}

static void map(unsigned first, unsigned count) {
    if (mmap(area + (size_t)first * page, (size_t)count * page, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        die("mmap");
    for (unsigned n = first; n < first + count; ++n)
        expected[n] = 0, mapped[n] = writable[n] = 1;
}

static void check(unsigned first, unsigned count) {
    for (unsigned n = first; n < first + count; ++n) {
        if (!mapped[n] || *word(n) == expected[n]) continue;
        printf("memory_stress: page %u holds %llx, not %llx\n", n, (unsigned long long)*word(n),
               (unsigned long long)expected[n]);
        exit(2);
    }
}

static void write_pages(unsigned first, unsigned count) {
    for (unsigned n = first; n < first + count; ++n)
        if (mapped[n]) *word(n) = expected[n] = next_random() | 1;
}

static void wait_for(pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) != child) die("waitpid");
    if (status != 0) {
        printf("memory_stress: a child ended with %x\n", (unsigned)status);
        exit(1);
    }
}

static void fork_and_write(void) {
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        random_state ^= 0x1234567;
        check(0, area_pages);
        for (int i = 0; i < 16; ++i) {
            const unsigned first = (unsigned)below(area_pages - 64);
            write_pages(first, 64);
        }
        if (below(2) == 0) { /* a grandchild, while pages are shared by three */
            const pid_t grandchild = fork();
            if (grandchild < 0) die("fork");
            if (grandchild == 0) {
                write_pages(0, 256);
                check(0, area_pages);
                _exit(0);
            }
            wait_for(grandchild);
        }
        check(0, area_pages);
        _exit(0);
    }
    /* Both sides of the copy are written at the same time. */
    const unsigned first = (unsigned)below(area_pages - 128);
    write_pages(first, 128);
    wait_for(child);
    check(0, area_pages);
}

static void execute(const char* self, unsigned depth) {
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        char text[16];
        snprintf(text, sizeof text, "%u", depth);
        execl(self, self, "--exec", text, (char*)0);
        die("exec");
    }
    wait_for(child);
}

static void share_a_file(void) {
    const int file = memfd_create("shared", 0);
    const size_t size = 64 * page;
    if (file < 0 || ftruncate(file, (off_t)size) != 0) die("memfd_create");
    uint64_t* a = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    uint64_t* b = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    uint64_t* c = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    if (a == MAP_FAILED || b == MAP_FAILED || c == MAP_FAILED) die("mmap of a file");
    for (unsigned n = 0; n < 64; ++n) {
        a[n * 512] = n + 1;
        if (b[n * 512] != n + 1 || c[n * 512] != n + 1) die("shared pages differ");
        c[n * 512] = 77;
        b[n * 512] = n + 2;
        if (a[n * 512] != n + 2 || c[n * 512] != 77) die("private copies are shared");
    }
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        for (unsigned n = 0; n < 64; ++n)
            a[n * 512] = n + 3, c[n * 512] = 78;
        _exit(0);
    }
    wait_for(child);
    for (unsigned n = 0; n < 64; ++n)
        if (b[n * 512] != n + 3 || c[n * 512] != 77) die("pages shared with a child");
    munmap(a, size), munmap(b, size), munmap(c, size);
    close(file);
}

static void step(const char* self) {
    const unsigned first = (unsigned)below(area_pages), left = area_pages - first;
    const unsigned count = 1 + (unsigned)below(left < 600 ? left : 600);
    uint8_t* const at = area + (size_t)first * page;
    const size_t size = (size_t)count * page;
    uint8_t* const huge_page = area + below(4) * huge;
    const unsigned huge_first = (unsigned)((size_t)(huge_page - area) / page);
    switch (below(14)) {
    case 0: map(first, count); break;
    case 1:
        if (munmap(at, size) != 0) die("munmap");
        memset(mapped + first, 0, count);
        break;
    case 2: { /* read-only, so that the next write faults */
        unsigned end = first;
        while (end < first + count && mapped[end])
            ++end;
        if (end == first) break;
        if (mprotect(at, (size_t)(end - first) * page, PROT_READ) != 0) die("mprotect");
        memset(writable + first, 0, end - first);
        break;
    }
    case 3:
    case 4:
    case 5: write_pages(first, count); break;
    case 6: check(0, area_pages); break;
    case 7: /* a huge page */
        map(huge_first, huge / page);
        (void)madvise(huge_page, huge, MADV_HUGEPAGE);
        write_pages(huge_first, huge / page);
        break;
    case 8: /* collapse, where the kernel can */
        (void)madvise(huge_page, huge, MADV_COLLAPSE);
        check(huge_first, huge / page);
        break;
    case 9: { /* thrown away: reads as zeros */
        for (unsigned n = first; n < first + count; ++n)
            if (!mapped[n]) return;
        if (madvise(at, size, MADV_DONTNEED) != 0) die("madvise");
        memset(expected + first, 0, count * sizeof expected[0]);
        break;
    }
    case 10: { /* moved away and back */
        map(huge_first, huge / page);
        (void)madvise(huge_page, huge, MADV_HUGEPAGE);
        write_pages(huge_first, huge / page);
        uint8_t* const room = mmap(0, huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED) die("mmap");
        uint8_t* const away = mremap(huge_page, huge, huge, MREMAP_MAYMOVE | MREMAP_FIXED, room);
        if (away != room) die("mremap");
        if (*(uint64_t*)away != expected[huge_first] && huge_first % 512 == 0)
            die("moved pages have changed");
        if (mremap(away, huge, huge, MREMAP_MAYMOVE | MREMAP_FIXED, huge_page) != huge_page)
            die("mremap back");
        check(huge_first, huge / page);
        break;
    }
    case 11: fork_and_write(); break;
    case 12: execute(self, 1 + (unsigned)below(3)); break;
    default: share_a_file(); break;
    }
}

static void put(const char* file, const char* text) {
    const int fd = open(file, O_WRONLY);
    if (fd < 0) return; /* a kernel without it */
    if (write(fd, text, strlen(text)) < 0) printf("memory_stress: %s stays as it is\n", file);
    close(fd);
}

int main(int argc, char** argv) {
    if (argc == 3 && strcmp(argv[1], "--exec") == 0) {
        const unsigned depth = (unsigned)atoi(argv[2]);
        uint8_t* p = malloc(1 << 20);
        if (p == 0) die("malloc");
        memset(p, (int)depth, 1 << 20);
        if (depth > 1) execute(argv[0], depth - 1);
        for (size_t i = 0; i < 1 << 20; i += page)
            if (p[i] != depth) return 6;
        return 0;
    }
    if (argc != 3) {
        printf("usage: memory_stress ROUNDS SEED\n");
        return 2;
    }
    const unsigned long rounds = strtoul(argv[1], 0, 0);
    random_state = strtoull(argv[2], 0, 0);
    put("/sys/kernel/mm/transparent_hugepage/enabled", "always");
    put("/sys/kernel/mm/transparent_hugepage/defrag", "always");
    put("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "1");
    put("/sys/kernel/mm/transparent_hugepage/khugepaged/alloc_sleep_millisecs", "1");
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(SIGSEGV, &action, 0) != 0) die("sigaction");
    uint8_t* const reserved = mmap(0, (size_t)(area_pages * page + huge), PROT_NONE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) die("mmap");
    area = (uint8_t*)(((uintptr_t)reserved + huge - 1) & ~(uintptr_t)(huge - 1));
    map(0, area_pages);
    for (unsigned long n = 0; n < rounds; ++n)
        step(argv[0]);
    check(0, area_pages);
    printf("memory_stress: %lu rounds, %d faults taken, right\n", rounds, (int)faults);
    return 0;
}
