// SPDX-License-Identifier: Apache-2.0
/// @file The sandbox from inside: each test is a child process that confines itself and then tries.
#include "base/guarded_mapping.h"
#include "sandbox/sandbox.h"

#include "base/file_descriptor.h"

#include <array>
#include <asm/prctl.h>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace gnomon::sandbox {
namespace {

using testing::HasSubstr;

constexpr int in_force = 42; ///< a child's exit status: it did all that it tried

struct Ended {
    int status = -1;
    std::string err;
};

/// Runs `body` in a child; its result is the exit status.
Ended in_child(const std::function<int()>& body) {
    std::array<int, 2> ends{-1, -1};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const FileDescriptor read_end(ends[0]);
    FileDescriptor write_end(ends[1]);
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::dup2(write_end.get(), STDERR_FILENO);
        ::alarm(20);
        ::_exit(body());
    }
    write_end.reset();
    Ended ended;
    std::array<char, 512> block{};
    for (ssize_t got = 0; (got = ::read(read_end.get(), block.data(), block.size())) > 0;)
        ended.err.append(block.data(), static_cast<std::size_t>(got));
    EXPECT_EQ(::waitpid(pid, &ended.status, 0), pid);
    return ended;
}

void say_last_words() { static_cast<void>(::write(STDERR_FILENO, "last words\n", 11)); }

bool confined() { return restrict_system_calls(say_last_words).has_value(); }

class SystemCalls : public testing::Test {
protected:
    void SetUp() override {
        if (!supported()) GTEST_SKIP() << "this build is instrumented";
    }
};

struct Attempt {
    const char* name;
    long number;
    std::array<long, 6> arguments{};
};

long address(const void* p) { return static_cast<long>(reinterpret_cast<std::uintptr_t>(p)); }

TEST_F(SystemCalls, WhatNoMachineNeedsEndsTheProcessWithALine) {
    const char* const path = "/dev/null";
    const std::array<const char*, 2> arguments{"/bin/true", nullptr};
    const long parent = ::getpid();
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const long page = 4096;
    const std::vector<Attempt> attempts{
        // files by path
        {"openat", SYS_openat, {AT_FDCWD, address(path), O_RDONLY}},
        {"open", SYS_open, {address(path), O_RDONLY}},
        {"openat2", SYS_openat2, {AT_FDCWD, address(path)}},
        {"creat", SYS_creat, {address(path), 0600}},
        {"unlink", SYS_unlink, {address("/nonexistent")}},
        {"rename", SYS_rename, {address("/nonexistent"), address("/nonexistent")}},
        {"mkdir", SYS_mkdir, {address("/nonexistent/x"), 0700}},
        {"readlink", SYS_readlink, {address("/proc/self/exe"), 0, 0}},
        {"chdir", SYS_chdir, {address("/")}},
        {"mount", SYS_mount},
        {"getdents64", SYS_getdents64, {0, 0, 0}},
        // the network and other processes
        {"socket", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
        {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, 0}},
        {"connect", SYS_connect, {0, address(&name), sizeof name}},
        {"sendto an address",
         SYS_sendto,
         {1, address(path), 1, MSG_DONTWAIT | MSG_NOSIGNAL, address(&name), sizeof name}},
        {"sendmsg", SYS_sendmsg, {1, 0, 0}},
        {"recvmsg", SYS_recvmsg, {0, 0, 0}},
        {"kill", SYS_kill, {parent, 0}},
        {"tgkill another", SYS_tgkill, {parent, parent, 0}},
        {"tkill", SYS_tkill, {parent, 0}},
        {"pidfd_open", SYS_pidfd_open, {parent, 0}},
        {"ptrace", SYS_ptrace, {0}},
        {"process_vm_readv", SYS_process_vm_readv, {parent}},
        {"process_vm_writev", SYS_process_vm_writev, {parent}},
        {"prlimit64", SYS_prlimit64, {parent}},
        // programs and processes
        {"execve", SYS_execve, {address("/bin/true"), address(arguments.data()), 0}},
        {"execveat", SYS_execveat, {AT_FDCWD, address("/bin/true"), address(arguments.data())}},
        {"fork", SYS_fork},
        {"vfork", SYS_vfork},
        {"clone without a thread's flags", SYS_clone, {SIGCHLD}},
        {"clone into a namespace", SYS_clone, {CLONE_NEWUSER | SIGCHLD}},
        {"unshare", SYS_unshare, {CLONE_NEWUSER}},
        {"setns", SYS_setns, {0, 0}},
        // memory
        {"mmap W+X",
         SYS_mmap,
         {0, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
        {"mmap W+X, shared and low",
         SYS_mmap,
         {0, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_32BIT, 0, 0}},
        {"mmap X", SYS_mmap, {0, page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
        {"mmap X, at an address",
         SYS_mmap,
         {0x10000, page, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_32BIT | MAP_FIXED, 0, 0}},
        {"mprotect X", SYS_mprotect, {0, page, PROT_READ | PROT_EXEC}},
        {"mprotect W+X", SYS_mprotect, {0, page, PROT_READ | PROT_WRITE | PROT_EXEC}},
        {"pkey_mprotect", SYS_pkey_mprotect, {0, page, PROT_READ, 0}},
        {"mremap to an address", SYS_mremap, {0, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, 0}},
        {"remap_file_pages", SYS_remap_file_pages, {0, page, 0, 0, 0}},
        {"shmat", SYS_shmat, {0, 0, 0}},
        {"userfaultfd", SYS_userfaultfd, {0}},
        {"process_madvise", SYS_process_madvise, {0}},
        // descriptors
        {"ioctl TIOCSTI", SYS_ioctl, {0, TIOCSTI, address(path)}},
        {"ioctl TCSETSW", SYS_ioctl, {0, TCSETSW, address(path)}},
        {"dup2", SYS_dup2, {1, 0}},
        {"fcntl", SYS_fcntl, {1, F_DUPFD, 0}},
        {"pwrite64", SYS_pwrite64, {1, address(path), 1, 0}},
        {"io_uring_setup", SYS_io_uring_setup, {1, 0}},
        // only with disks
        {"io_uring_enter", SYS_io_uring_enter, {0, 0, 0, 0, 0, 0}},
        {"preadv", SYS_preadv, {0, 0, 0, 0}},
        {"pwritev2", SYS_pwritev2, {1, 0, 0, 0, 0, 0}},
        {"fallocate", SYS_fallocate, {1, 0, 0, 1}},
        {"epoll_create1", SYS_epoll_create1, {0}},
        {"newfstatat", SYS_newfstatat, {AT_FDCWD, address(path), 0, 0}},
        {"splice", SYS_splice, {0, 0, 1, 0, 1, 0}},
        // the process's own rights
        {"prctl", SYS_prctl, {PR_SET_DUMPABLE, 1}},
        {"arch_prctl ARCH_SET_FS", SYS_arch_prctl, {ARCH_SET_FS, 0}},
        {"seccomp", SYS_seccomp, {0, 0, 0}},
        {"setuid", SYS_setuid, {0}},
        {"capset", SYS_capset, {0, 0}},
        {"personality", SYS_personality, {0x0400000}},
        {"chroot", SYS_chroot, {address("/")}},
        // the kernel's less visited places
        {"bpf", SYS_bpf, {0}},
        {"perf_event_open", SYS_perf_event_open, {0}},
        {"keyctl", SYS_keyctl, {0}},
        {"add_key", SYS_add_key, {0}},
        {"modify_ldt", SYS_modify_ldt, {0}},
        {"init_module", SYS_init_module, {0}},
        {"kexec_load", SYS_kexec_load, {0}},
        {"a call that does not exist", 987},
    };
    for (const Attempt& attempt : attempts) {
        const Ended ended = in_child([&] {
            if (!confined()) return 3;
            const auto& a = attempt.arguments;
            ::syscall(attempt.number, a[0], a[1], a[2], a[3], a[4], a[5]);
            return in_force;
        });
        EXPECT_TRUE(WIFEXITED(ended.status)) << attempt.name;
        EXPECT_EQ(WEXITSTATUS(ended.status), 1) << attempt.name;
        EXPECT_EQ(ended.err,
                  fmt::format("last words\ngnomon: internal error: system call {} is not in "
                              "the sandbox; --no-seccomp runs without it\n",
                              attempt.number))
            << attempt.name;
    }
}

TEST_F(SystemCalls, OtherAbisKill) {
    const Ended x32 = in_child([] {
        if (!confined()) return 3;
        ::syscall(0x40000000 | SYS_getpid);
        return in_force;
    });
    EXPECT_TRUE(WIFSIGNALED(x32.status)) << x32.status;
    EXPECT_EQ(WTERMSIG(x32.status), SIGSYS);
    const Ended i386 = in_child([] {
        if (!confined()) return 3;
        long result = 20; // getpid
        asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
        return in_force;
    });
    // A kernel without the 32-bit entry answers with SIGSEGV.
    EXPECT_TRUE(WIFSIGNALED(i386.status)) << i386.status;
}

TEST_F(SystemCalls, WhatAMachineNeedsWorks) {
    const Ended ended = in_child([] {
        std::array<int, 2> ends{-1, -1};
        if (::pipe(ends.data()) != 0 || !confined()) return 3;

        std::atomic<int> done = 0;
        std::thread([&] { done = 1; }).join();
        if (done != 1) return 4;

        // A block large enough to be a mapping of its own, grown by mremap.
        void* block = std::malloc(std::size_t{4} << 20);
        block = std::realloc(block, std::size_t{64} << 20);
        if (block == nullptr) return 5;
        std::free(block);

        // The code memory of a machine that starts anew.
        const int code = ::memfd_create("code", MFD_CLOEXEC);
        if (code < 0 || ::ftruncate(code, 8192) != 0) return 6;
        void* writable = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, code, 0);
        const auto executable = GuardedMapping::create(
            8192, {.protection = PROT_READ | PROT_EXEC, .descriptor = code, .below_2gib = true});
        if (writable == MAP_FAILED || !executable) return 7;
        const std::array<unsigned char, 6> returns_42{0xb8, 42, 0, 0, 0, 0xc3};
        std::memcpy(writable, returns_42.data(), returns_42.size());
        if (reinterpret_cast<int (*)()>(executable->base())() != 42) return 8;
        if (::munmap(writable, 8192) != 0) return 9;

        char byte = 'x';
        pollfd wanted{ends[0], POLLIN, 0};
        if (::write(ends[1], &byte, 1) != 1 || ::poll(&wanted, 1, 1000) != 1 ||
            ::read(ends[0], &byte, 1) != 1)
            return 10;

        static std::atomic<int> signals = 0;
        ::signal(SIGUSR1, [](int) { ++signals; });
        if (::raise(SIGUSR1) != 0 || signals != 1) return 11;

        std::fputs("words\n", stderr);
        return in_force;
    });
    EXPECT_TRUE(WIFEXITED(ended.status)) << WTERMSIG(ended.status);
    EXPECT_EQ(WEXITSTATUS(ended.status), in_force) << ended.err;
    EXPECT_EQ(ended.err, "words\n");
}

TEST_F(SystemCalls, WhatDisksNeedWorksWhereThereAreDisks) {
    const Ended ended = in_child([] {
        const int file = ::memfd_create("disk", MFD_CLOEXEC);
        if (file < 0 || ::ftruncate(file, 8192) != 0 ||
            !restrict_system_calls(say_last_words, {.disks = true}))
            return 3;
        char byte = 'x';
        iovec part{&byte, 1};
        if (::pwritev2(file, &part, 1, 100, RWF_DSYNC) != 1 || ::fdatasync(file) != 0) return 4;
        byte = 0;
        if (::preadv(file, &part, 1, 100) != 1 || byte != 'x') return 5;
        if (::fallocate(file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 4096) != 0) return 6;
        if (::syscall(SYS_io_uring_enter, -1, 0, 0, 0, nullptr, 0) != -1 || errno != EBADF)
            return 7;
        const int epoll = ::epoll_create1(EPOLL_CLOEXEC), event = ::eventfd(1, EFD_CLOEXEC);
        epoll_event wanted{};
        wanted.events = EPOLLIN | EPOLLET;
        if (::epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted) != 0 ||
            ::epoll_wait(epoll, &wanted, 1, 1000) != 1)
            return 8;
        return in_force;
    });
    EXPECT_TRUE(WIFEXITED(ended.status)) << WTERMSIG(ended.status);
    EXPECT_EQ(WEXITSTATUS(ended.status), in_force) << ended.err;
    // Making a ring, or opening a file, is no part of it.
    for (const long number : {SYS_io_uring_setup, SYS_io_uring_register, SYS_openat}) {
        const Ended refused = in_child([&] {
            if (!restrict_system_calls(say_last_words, {.disks = true})) return 3;
            ::syscall(number, 1, 0, 0, 0);
            return in_force;
        });
        EXPECT_EQ(WEXITSTATUS(refused.status), 1) << number;
    }
}

TEST_F(SystemCalls, AbortIsStillAnAbort) {
    const Ended ended = in_child([]() -> int {
        if (!confined()) return 3;
        std::abort();
    });
    EXPECT_TRUE(WIFSIGNALED(ended.status)) << ended.err;
    EXPECT_EQ(WTERMSIG(ended.status), SIGABRT);
}

TEST_F(SystemCalls, AKernelThatRefusesIsAnErrorWithAWayOut) {
    const Ended ended = in_child([] {
        // As a container's own filter may do: seccomp() answers EPERM.
        std::array<sock_filter, 4> program{{
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        }};
        const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
        if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
            ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
            return 2;
        const auto restricted = restrict_system_calls(say_last_words);
        if (restricted) return 3;
        std::fputs(restricted.error().message.c_str(), stderr);
        return restricted.error().usage ? 4 : in_force;
    });
    EXPECT_EQ(WEXITSTATUS(ended.status), in_force) << ended.err;
    EXPECT_THAT(ended.err, testing::AllOf(HasSubstr("seccomp"), HasSubstr("--no-seccomp")));
}

TEST_F(SystemCalls, HeapCorruptionIsStillToldByTheLibrary) {
    const Ended ended = in_child([] {
        if (!confined()) return 3;
        void* volatile block = std::malloc(100);
        std::free(block);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuse-after-free"
        std::free(block); // NOLINT: what is tested
#pragma GCC diagnostic pop
        return in_force;
    });
    EXPECT_TRUE(WIFSIGNALED(ended.status)) << ended.err;
    EXPECT_EQ(WTERMSIG(ended.status), SIGABRT);
    EXPECT_THAT(ended.err, HasSubstr("double free"));
}

TEST_F(SystemCalls, ThreadsThatRunAlreadyAreConfinedToo) {
    const Ended ended = in_child([] {
        std::atomic<bool> go = false;
        std::thread thread([&] {
            go.wait(false);
            ::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
        });
        if (!confined()) return 3;
        go = true;
        go.notify_all();
        thread.join();
        return in_force;
    });
    EXPECT_EQ(WEXITSTATUS(ended.status), 1);
    EXPECT_THAT(ended.err, HasSubstr(fmt::format("system call {} ", SYS_socket)));
}

TEST_F(SystemCalls, NoPrivilegesAreGainedAnyMore) {
    const Ended ended = in_child([] {
        if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0) return 2;
        const FileDescriptor status(::open("/proc/self/status", O_RDONLY));
        if (!confined()) return 3;
        std::array<char, 8192> text{};
        if (::read(status.get(), text.data(), text.size() - 1) <= 0) return 4;
        if (std::strstr(text.data(), "NoNewPrivs:\t1") == nullptr) return 5;
        return std::strstr(text.data(), "Seccomp:\t2") != nullptr ? in_force : 6;
    });
    EXPECT_EQ(WEXITSTATUS(ended.status), in_force) << ended.err;
}

// ---------------------------------------------------------------- Landlock

class Files : public testing::Test {
protected:
    void SetUp() override {
        if (!supported()) GTEST_SKIP() << "this build is instrumented";
        std::string name = (std::filesystem::temp_directory_path() / "gnomon.XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        m_folder = name;
        for (const char* file : {"kernel", "other", "tty"}) {
            const FileDescriptor fd(::open((m_folder / file).c_str(), O_WRONLY | O_CREAT, 0600));
            ASSERT_EQ(::write(fd.get(), "x", 1), 1);
        }
        std::filesystem::create_symlink("kernel", m_folder / "link");
        const Ended probe = in_child([] { return restrict_files({}).active ? in_force : 2; });
        if (WEXITSTATUS(probe.status) != in_force) GTEST_SKIP() << "the kernel has no Landlock";
    }
    void TearDown() override {
        std::error_code ignored;
        std::filesystem::remove_all(m_folder, ignored);
    }
    [[nodiscard]] std::string path(const char* name) const { return (m_folder / name).string(); }
    /// errno of opening; 0 if it works.
    [[nodiscard]] int open_error(const char* name, int flags) const {
        const FileDescriptor fd(::open(path(name).c_str(), flags | O_CLOEXEC, 0600));
        return fd ? 0 : errno;
    }
    std::filesystem::path m_folder;
};

TEST_F(Files, OnlyWhatIsKeptCanBeOpened) {
    const Ended ended = in_child([&] {
        const FileDescriptor before(::open(path("other").c_str(), O_RDWR));
        const std::array kept{OpenableFile{path("link"), false}, OpenableFile{path("tty"), true},
                              OpenableFile{path("missing"), false}, OpenableFile{m_folder, false}};
        if (!restrict_files(kept).active) return 2;
        if (open_error("kernel", O_RDONLY) != 0 || open_error("link", O_RDONLY) != 0) return 3;
        if (open_error("kernel", O_WRONLY) != EACCES) return 4;
        if (open_error("tty", O_WRONLY) != 0 || open_error("tty", O_RDONLY) != EACCES) return 5;
        if (open_error("other", O_RDONLY) != EACCES) return 6;
        if (open_error("new", O_WRONLY | O_CREAT) != EACCES) return 7;
        if (::mkdir(path("folder").c_str(), 0700) == 0 || errno != EACCES) return 8;
        if (::unlink(path("other").c_str()) == 0 || errno != EACCES) return 9;
        if (FileDescriptor(::open("/etc/passwd", O_RDONLY))) return 10;
        if (FileDescriptor(::open(m_folder.c_str(), O_RDONLY | O_DIRECTORY))) return 11;
        ::execl("/bin/true", "true", nullptr);
        if (errno != EACCES) return 12;
        // What is open stays open.
        char byte = 0;
        if (::pread(before.get(), &byte, 1, 0) != 1 || byte != 'x') return 13;
        if (::ftruncate(before.get(), 0) != 0) return 14;
        const FileDescriptor memory(::memfd_create("memory", MFD_CLOEXEC));
        if (!memory || ::ftruncate(memory.get(), 4096) != 0) return 15;
        std::atomic<int> inherited = 0;
        std::thread([&] { inherited = open_error("other", O_RDONLY); }).join();
        return inherited == EACCES ? in_force : 16;
    });
    EXPECT_EQ(WEXITSTATUS(ended.status), in_force) << ended.err;
}

TEST_F(Files, BothStepsTogether) {
    const Ended ended = in_child([&] {
        const std::array kept{OpenableFile{path("kernel"), false}};
        if (!restrict_files(kept).active || !confined()) return 2;
        std::atomic<int> done = 0;
        std::thread([&] { done = 1; }).join();
        return done == 1 ? in_force : 3;
    });
    EXPECT_EQ(WEXITSTATUS(ended.status), in_force) << ended.err;
}

} // namespace
} // namespace gnomon::sandbox
