// SPDX-License-Identifier: Apache-2.0
/// Golden lines, observed of strace 6.1.
#include "fixture.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/stat.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace gnomon::trace::test {
namespace {

constexpr u64 minus_one = ~u64{0};
constexpr u64 at_fdcwd = static_cast<u64>(-100);

class Decoders : public ::testing::Test {
protected:
    FakeMemory m;
    std::string run(std::string_view name, std::vector<u64> args, i64 result) {
        return line(m, name, std::move(args), result);
    }
    std::string run32(std::string_view name, std::vector<u64> args, i64 result) {
        return line(m, name, std::move(args), result, Abi::i386);
    }
    u64 s(std::string_view text) { return m.text(text); }
};

TEST_F(Decoders, Files) {
    EXPECT_EQ(run("openat", {at_fdcwd, s("exfile"), 0x80242, 0640}, 3),
              R"(openat(AT_FDCWD, "exfile", O_RDWR|O_CREAT|O_TRUNC|O_CLOEXEC, 0640) = 3)");
    EXPECT_EQ(run("openat", {5, s("x"), 020200000, 0644}, -22),
              R"(openat(5, "x", O_RDONLY|O_TMPFILE, 0644) = -1 EINVAL (Invalid argument))");
    EXPECT_EQ(run("open", {s("x"), 3}, 4), R"(open("x", O_ACCMODE) = 4)");
    EXPECT_EQ(run("close", {3}, 0), "close(3) = 0");
    EXPECT_EQ(run("lseek", {3, static_cast<u64>(-5), 1}, 0), "lseek(3, -5, SEEK_CUR) = 0");
    EXPECT_EQ(run("lseek", {minus_one, 5, 0x33333}, -9),
              "lseek(-1, 5, 0x33333 /* SEEK_??? */) = -1 EBADF (Bad file descriptor)");
    EXPECT_EQ(run("access", {s("/nope"), 4}, -2),
              R"(access("/nope", R_OK) = -1 ENOENT (No such file or directory))");
    EXPECT_EQ(run("access", {0, 0}, -14), "access(NULL, F_OK) = -1 EFAULT (Bad address)");
    EXPECT_EQ(run("chmod", {s("x"), 0}, 0), R"(chmod("x", 000) = 0)");
    EXPECT_EQ(run("umask", {022}, 022), "umask(022) = 022");
    EXPECT_EQ(run("mknod", {s("n"), 020644, 0x405}, 0),
              R"(mknod("n", S_IFCHR|0644, makedev(0x4, 0x5)) = 0)");
    EXPECT_EQ(run("mknod", {s("n"), 0600, 0}, 0), R"(mknod("n", 0600) = 0)");
    EXPECT_EQ(run("readlink", {s("/proc/self/exe"), s("/tmp/"), 5}, 5),
              R"(readlink("/proc/self/exe", "/tmp/", 5) = 5)");
    EXPECT_EQ(run("getcwd", {s("/srv/ab"), 1024}, 8), R"(getcwd("/srv/ab", 1024) = 8)");
    EXPECT_EQ(run("pipe2", {m.object(std::array<i32, 2>{3, 4}), 02000000}, 0),
              "pipe2([3, 4], O_CLOEXEC) = 0");
    EXPECT_EQ(run("flock", {3, 6}, 0), "flock(3, LOCK_EX|LOCK_NB) = 0");
    EXPECT_EQ(run("renameat2", {at_fdcwd, s("a"), at_fdcwd, s("b"), 1}, 0),
              R"(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE) = 0)");
    EXPECT_EQ(run("unlinkat", {at_fdcwd, s("d"), 0x200}, 0),
              R"(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR) = 0)");
    EXPECT_EQ(run("mount", {s("none"), s("/m"), s("tmpfs"), 6, s("size=1")}, 0),
              R"(mount("none", "/m", "tmpfs", MS_NOSUID|MS_NODEV, "size=1") = 0)");
    EXPECT_EQ(run("mount", {0, 0, 0, 0xC0ED0001, 0}, -14),
              "mount(NULL, NULL, NULL, MS_MGC_VAL|MS_RDONLY, NULL) = -1 EFAULT (Bad address)");
    EXPECT_EQ(run("openat2", {at_fdcwd, s("f"), m.words({0, 0, 8}), 24}, 4),
              R"(openat2(AT_FDCWD, "f", {flags=O_RDONLY, resolve=RESOLVE_BENEATH}, 24) = 4)");
    EXPECT_EQ(run("memfd_create", {s("mf"), 1}, 3), R"(memfd_create("mf", MFD_CLOEXEC) = 3)");
    EXPECT_EQ(run("close_range", {3, 19, 0}, 0), "close_range(3, 19, 0) = 0");
}

TEST_F(Decoders, Strings) {
    EXPECT_EQ(run("write", {1, m.put(std::string(53, 'x')), 53}, 53),
              "write(1, \"" + std::string(32, 'x') + "\"..., 53) = 53");
    EXPECT_EQ(run("write", {1, m.put(std::string(32, 'x')), 32}, 32),
              "write(1, \"" + std::string(32, 'x') + "\", 32) = 32");
    EXPECT_EQ(run("write", {1, 0, 5}, -9), "write(1, NULL, 5) = -1 EBADF (Bad file descriptor)");
    EXPECT_EQ(run("write", {1, 0x10, 0}, 0), "write(1, \"\", 0) = 0");
    EXPECT_EQ(run("write", {1, 0xdead0000, 5}, -14),
              "write(1, 0xdead0000, 5) = -1 EFAULT (Bad address)");
    EXPECT_EQ(run("read", {3, m.put("ello"), 10}, 4), "read(3, \"ello\", 10) = 4");
    EXPECT_EQ(run("read", {3, 0x1234, 10}, 0), "read(3, \"\", 10) = 0");
    EXPECT_EQ(run("read", {3, 0x1234, 10}, -11),
              "read(3, 0x1234, 10) = -1 EAGAIN (Resource temporarily unavailable)");
    // A path is whole up to PATH_MAX; one without an end before absent memory is an address.
    EXPECT_EQ(run("access", {m.text(std::string(5000, 'q')), 0}, -36),
              "access(\"" + std::string(4095, 'q') +
                  "\"..., F_OK) = -1 ENAMETOOLONG (File name too long)");
    m.put_at(0x7000000ffc, "zzzz");
    EXPECT_EQ(run("access", {0x7000000ffc, 0}, -14),
              "access(0x7000000ffc, F_OK) = -1 EFAULT (Bad address)");
    m.put_at(0x7100000ffc, std::string("abc\0", 4));
    EXPECT_EQ(run("access", {0x7100000ffc, 0}, -2),
              "access(\"abc\", F_OK) = -1 ENOENT (No such file or directory)");
    TraceOptions wide;
    wide.string_limit = 60;
    EXPECT_EQ(line(m, "write", {1, m.put(std::string(53, 'y')), 53}, 53, Abi::x86_64, wide),
              "write(1, \"" + std::string(53, 'y') + "\", 53) = 53");
    EXPECT_EQ(run("getrandom", {m.put("\x44\x33\x69\xff"), 4, 1}, 4),
              R"(getrandom("\x44\x33\x69\xff", 4, GRND_NONBLOCK) = 4)");
}

TEST_F(Decoders, Stat) {
    struct stat file {};
    file.st_mode = S_IFREG | 0644;
    file.st_size = 174312;
    EXPECT_EQ(
        run("newfstatat", {3, s(""), m.object(file), 0x1000}, 0),
        R"(newfstatat(3, "", {st_mode=S_IFREG|0644, st_size=174312, ...}, AT_EMPTY_PATH) = 0)");
    file.st_mode = S_IFCHR | 0666;
    file.st_rdev = 0x103;
    EXPECT_EQ(run("fstat", {0, m.object(file)}, 0),
              "fstat(0, {st_mode=S_IFCHR|0666, st_rdev=makedev(0x1, 0x3), ...}) = 0");
    EXPECT_EQ(run("stat", {s("x"), 0x1234}, -2),
              R"(stat("x", 0x1234) = -1 ENOENT (No such file or directory))");
    struct statx extended {};
    extended.stx_mask = 0x17ff;
    extended.stx_mode = S_IFREG | 0600;
    extended.stx_size = 10;
    EXPECT_EQ(
        run("statx", {at_fdcwd, s("f"), 0x100, 0x7ff, m.object(extended)}, 0),
        "statx(AT_FDCWD, \"f\", AT_STATX_SYNC_AS_STAT|AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, "
        "{stx_mask=STATX_BASIC_STATS|STATX_MNT_ID, stx_attributes=0, stx_mode=S_IFREG|0600, "
        "stx_size=10, ...}) = 0");
    EXPECT_EQ(
        run("statfs",
            {s("/"), m.words({0xef53, 4096, 1, 2, 3, 4, 5, 0xe232c8cd24cca8c2, 255, 4096, 0x1020})},
            0),
        "statfs(\"/\", {f_type=EXT2_SUPER_MAGIC, f_bsize=4096, f_blocks=1, f_bfree=2, f_bavail=3, "
        "f_files=4, f_ffree=5, f_fsid={val=[0x24cca8c2, 0xe232c8cd]}, f_namelen=255, "
        "f_frsize=4096, f_flags=ST_VALID|ST_RELATIME}) = 0");
}

TEST_F(Decoders, Fcntl) {
    EXPECT_EQ(run("fcntl", {4, 1030, 0}, 5), "fcntl(4, F_DUPFD_CLOEXEC, 0) = 5");
    EXPECT_EQ(run("fcntl", {4, 3}, 0x8002),
              "fcntl(4, F_GETFL) = 0x8002 (flags O_RDWR|O_LARGEFILE)");
    EXPECT_EQ(run("fcntl", {4, 4, 0x800}, 0), "fcntl(4, F_SETFL, O_RDONLY|O_NONBLOCK) = 0");
    EXPECT_EQ(run("fcntl", {4, 1}, 1), "fcntl(4, F_GETFD) = 0x1 (flags FD_CLOEXEC)");
    EXPECT_EQ(run("fcntl", {4, 1}, 0), "fcntl(4, F_GETFD) = 0");
    EXPECT_EQ(run("fcntl", {4, 2, 1}, 0), "fcntl(4, F_SETFD, FD_CLOEXEC) = 0");
    const u64 lock = m.words({1, 0, 0, 0});
    EXPECT_EQ(run("fcntl", {3, 7, lock}, 0),
              "fcntl(3, F_SETLKW, {l_type=F_WRLCK, l_whence=SEEK_SET, l_start=0, l_len=0}) = 0");
    EXPECT_EQ(
        run("fcntl", {3, 5, m.words({2, 0, 0, 0})}, 0),
        "fcntl(3, F_GETLK, {l_type=F_UNLCK, l_whence=SEEK_SET, l_start=0, l_len=0, l_pid=0}) = 0");
    EXPECT_EQ(run("fcntl", {minus_one, 0x22222, 0x33333}, -9),
              "fcntl(-1, 0x22222 /* F_??? */, 0x33333) = -1 EBADF (Bad file descriptor)");
}

TEST_F(Decoders, Ioctl) {
    EXPECT_EQ(run("ioctl", {1, 0x5413, m.object(std::array<u16, 4>{24, 80, 0, 0})}, 0),
              "ioctl(1, TIOCGWINSZ, {ws_row=24, ws_col=80, ws_xpixel=0, ws_ypixel=0}) = 0");
    EXPECT_EQ(run("ioctl", {1, 0x5401, m.object(std::array<u32, 9>{0x500, 5, 0xbf, 0x8a3b})}, 0),
              "ioctl(1, TCGETS, {c_iflag=ICRNL|IXON, c_oflag=NL0|CR0|TAB0|BS0|VT0|FF0|OPOST|ONLCR, "
              "c_cflag=B38400|CS8|CREAD, "
              "c_lflag=ISIG|ICANON|ECHO|ECHOE|ECHOK|IEXTEN|ECHOCTL|ECHOKE, ...}) "
              "= 0");
    EXPECT_EQ(run("ioctl", {1, 0x5401, 0x1234}, -25),
              "ioctl(1, TCGETS, 0x1234) = -1 ENOTTY (Inappropriate ioctl for device)");
    EXPECT_EQ(run("ioctl", {6, 0x5451}, 0), "ioctl(6, FIOCLEX) = 0");
    EXPECT_EQ(run("ioctl", {6, 0x541b, m.object(i32{1})}, 0), "ioctl(6, FIONREAD, [1]) = 0");
    EXPECT_EQ(
        run("ioctl", {minus_one, 0xabcd1234, 5}, -9),
        "ioctl(-1, _IOC(_IOC_READ, 0x12, 0x34, 0x2bcd), 0x5) = -1 EBADF (Bad file descriptor)");
}

TEST_F(Decoders, Vectors) {
    const u64 hel = m.put("hel");
    const u64 lo = m.put("lo\n\0");
    const std::array<u64, 4> two{hel, 3, lo, 3};
    const u64 v = m.put_last({reinterpret_cast<const char*>(two.data()), sizeof two});
    EXPECT_EQ(run("writev", {3, v, 2}, 6),
              R"(writev(3, [{iov_base="hel", iov_len=3}, {iov_base="lo\n", iov_len=3}], 2) = 6)");
    EXPECT_EQ(run("readv", {3, v, 2}, 4),
              R"(readv(3, [{iov_base="hel", iov_len=3}, {iov_base="l", iov_len=3}], 2) = 4)");
    EXPECT_EQ(
        run("readv", {3, v, 2}, -9),
        fmt::format(
            "readv(3, [{{iov_base={:#x}, iov_len=3}}, {{iov_base={:#x}, iov_len=3}}], 2) = -1 "
            "EBADF (Bad file descriptor)",
            hel, lo));
    EXPECT_EQ(run("writev", {3, v, 0}, 0), "writev(3, [], 0) = 0");
    EXPECT_EQ(run("writev", {3, 0, 3}, -14), "writev(3, NULL, 3) = -1 EFAULT (Bad address)");
    EXPECT_EQ(
        run("writev", {3, v, 3}, -14),
        fmt::format(
            "writev(3, [{{iov_base=\"hel\", iov_len=3}}, {{iov_base=\"lo\\n\", iov_len=3}}, ... "
            "/* {:#x} */], 3) = -1 EFAULT (Bad address)",
            v + 32));
    EXPECT_EQ(run("preadv2", {3, v, 1, 0, 0, 8}, 3),
              R"(preadv2(3, [{iov_base="hel", iov_len=3}], 1, 0, RWF_NOWAIT) = 3)");
}

TEST_F(Decoders, GetdentsCountsEntries) {
    std::string records;
    for (const u16 length : {u16{24}, u16{32}}) {
        std::string one(length, '\0');
        std::memcpy(one.data() + 16, &length, 2);
        records += one;
    }
    const u64 at = m.put(records);
    EXPECT_EQ(run("getdents64", {4, at, 32768}, 56),
              fmt::format("getdents64(4, {:#x} /* 2 entries */, 32768) = 56", at));
    EXPECT_EQ(run("getdents64", {4, at, 32768}, 0),
              fmt::format("getdents64(4, {:#x} /* 0 entries */, 32768) = 0", at));
}

TEST_F(Decoders, Waiting) {
    struct PollFd {
        i32 fd;
        u16 events, revents;
    };
    const u64 fds = m.object(std::array<PollFd, 2>{{{4, 1, 0}, {5, 0x14, 4}}});
    EXPECT_EQ(run("poll", {fds, 2, 10}, 1),
              "poll([{fd=4, events=POLLIN}, {fd=5, events=POLLOUT|POLLHUP}], 2, 10) = 1 "
              "([{fd=5, revents=POLLOUT}])");
    EXPECT_EQ(run("poll", {fds, 1, 1}, 0), "poll([{fd=4, events=POLLIN}], 1, 1) = 0 (Timeout)");
    EXPECT_EQ(run("poll", {m.object(PollFd{-1, 0, 0}), 1, 0}, 0),
              "poll([{fd=-1}], 1, 0) = 0 (Timeout)");
    EXPECT_EQ(run("ppoll", {0, 0, m.words({0, 1000}), m.words({0}), 8}, 0),
              "ppoll(NULL, 0, {tv_sec=0, tv_nsec=1000}, [], 8) = 0 (Timeout)");
    const u64 four = m.words({1 << 4});
    const u64 five = m.words({1 << 5});
    EXPECT_EQ(run("select", {6, 0, five, 0, m.words({0, 5})}, 1),
              "select(6, NULL, [5], NULL, {tv_sec=0, tv_usec=5}) = 1 (out [5], left {tv_sec=0, "
              "tv_usec=5})");
    EXPECT_EQ(run("pselect6", {6, four, 0, 0, m.words({0, 7}), 0}, 0),
              "pselect6(6, [4], NULL, NULL, {tv_sec=0, tv_nsec=7}, NULL) = 0 (Timeout)");
    EXPECT_EQ(run("select", {minus_one, 0, 0x1234, 0, 0}, -22),
              "select(-1, NULL, 0x1234, NULL, NULL) = -1 EINVAL (Invalid argument)");
    const u64 event = m.put(std::string_view("\1\0\0\0\4\0\0\0\0\0\0\0", 12));
    EXPECT_EQ(run("epoll_ctl", {6, 1, 4, event}, 0),
              "epoll_ctl(6, EPOLL_CTL_ADD, 4, {events=EPOLLIN, data={u32=4, u64=4}}) = 0");
    EXPECT_EQ(run("epoll_ctl", {6, 2, 4, 0x1234}, 0), "epoll_ctl(6, EPOLL_CTL_DEL, 4, 0x1234) = 0");
    EXPECT_EQ(run("epoll_wait", {6, event, 1023, 1000}, 1),
              "epoll_wait(6, [{events=EPOLLIN, data={u32=4, u64=4}}], 1023, 1000) = 1");
    EXPECT_EQ(run("epoll_wait", {6, event, 1023, 10}, 0), "epoll_wait(6, [], 1023, 10) = 0");
}

TEST_F(Decoders, Memory) {
    EXPECT_EQ(run("mmap", {0, 8192, 3, 0x22, minus_one, 0}, 0x7f8434200000),
              "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = "
              "0x7f8434200000");
    EXPECT_EQ(
        run("mmap", {0x7f8434200000, 4096, 5, 0x812, 3, 0x7000}, 0x7f8434200000),
        "mmap(0x7f8434200000, 4096, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, "
        "0x7000) = 0x7f8434200000");
    EXPECT_EQ(
        run("mmap", {0, 4096, 0, 0x40022 | 21 << 26, minus_one, 0}, -12),
        "mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB|21<<MAP_HUGE_SHIFT, -1, "
        "0) = -1 ENOMEM (Cannot allocate memory)");
    EXPECT_EQ(run("mprotect", {0x1000, 4096, 1}, 0), "mprotect(0x1000, 4096, PROT_READ) = 0");
    EXPECT_EQ(run("munmap", {0x1000, 4096}, 0), "munmap(0x1000, 4096) = 0");
    EXPECT_EQ(run("brk", {0}, 0x5625b6539000), "brk(NULL) = 0x5625b6539000");
    EXPECT_EQ(run("mremap", {0x1000, 1, 2, 1, 0x5000}, 0x1000),
              "mremap(0x1000, 1, 2, MREMAP_MAYMOVE) = 0x1000");
    EXPECT_EQ(
        run("mremap", {0x1000, 1, 2, 3, 0x5000}, -22),
        "mremap(0x1000, 1, 2, MREMAP_MAYMOVE|MREMAP_FIXED, 0x5000) = -1 EINVAL (Invalid argument)");
    EXPECT_EQ(run("madvise", {0x1000, 8192, 4}, 0), "madvise(0x1000, 8192, MADV_DONTNEED) = 0");
    EXPECT_EQ(run("shmget", {0, 4096, 01600}, 0), "shmget(IPC_PRIVATE, 4096, IPC_CREAT|0600) = 0");
}

TEST_F(Decoders, Processes) {
    EXPECT_EQ(run("clone", {0x1200011, 0, 0, 0x7f0000001a10, 0}, 7716),
              "clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, "
              "child_tidptr=0x7f0000001a10) = 7716");
    const u64 tid = m.object(i32{7757});
    const u64 clone_args =
        m.words({0x3d0f00, 0, tid, tid, 0, 0x7fad0000, 0x7fff80, 0x7fae0000, 0, 0, 0});
    EXPECT_EQ(
        run("clone3", {clone_args, 88}, 7757),
        fmt::format("clone3({{flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|"
                    "CLONE_SYSVSEM|CLONE_SETTLS|CLONE_PARENT_SETTID|CLONE_CHILD_CLEARTID, "
                    "child_tid={0:#x}, parent_tid={0:#x}, exit_signal=0, stack=0x7fad0000, "
                    "stack_size=0x7fff80, tls=0x7fae0000}} => {{parent_tid=[7757]}}, 88) = 7757",
                    tid));
    EXPECT_EQ(run("wait4", {minus_one, m.object(i32{0x8b}), 1, 0}, 5),
              "wait4(-1, [{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}], WNOHANG, "
              "NULL) = 5");
    EXPECT_EQ(run("wait4", {minus_one, m.object(i32{0x137f}), 2, 0}, 5),
              "wait4(-1, [{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}], WSTOPPED, NULL) = 5");
    EXPECT_EQ(run("wait4", {minus_one, m.object(i32{0xffff}), 8, 0}, 5),
              "wait4(-1, [{WIFCONTINUED(s)}], WCONTINUED, NULL) = 5");
    EXPECT_EQ(run("wait4", {minus_one, 0x1234, 1, 0}, 0), "wait4(-1, 0x1234, WNOHANG, NULL) = 0");
    EXPECT_EQ(run("kill", {5, 9}, 0), "kill(5, SIGKILL) = 0");
    EXPECT_EQ(run("kill", {5, 0}, 0), "kill(5, 0) = 0");
    EXPECT_EQ(run("kill", {5, 64}, 0), "kill(5, SIGRT_32) = 0");
    EXPECT_EQ(run("tgkill", {5, 6, 32}, 0), "tgkill(5, 6, SIGRTMIN) = 0");
    EXPECT_EQ(run("arch_prctl", {0x1002, 0x7f5492800740}, 0),
              "arch_prctl(ARCH_SET_FS, 0x7f5492800740) = 0");
    EXPECT_EQ(run("arch_prctl", {0x1003, m.words({0x7ffff7dd0740})}, 0),
              "arch_prctl(ARCH_GET_FS, [0x7ffff7dd0740]) = 0");
    EXPECT_EQ(run("prctl", {15, s("newname")}, 0), R"(prctl(PR_SET_NAME, "newname") = 0)");
    EXPECT_EQ(run("prctl", {38, 1, 0, 0, 0}, 0), "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) = 0");
    EXPECT_EQ(run("prctl", {3}, 1), "prctl(PR_GET_DUMPABLE) = 1 (SUID_DUMP_USER)");
    EXPECT_EQ(
        run("prlimit64", {0, 3, 0, m.words({8192 * 1024, minus_one})}, 0),
        "prlimit64(0, RLIMIT_STACK, NULL, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}) = 0");
    EXPECT_EQ(run("getrusage", {0, m.words({0, 43123, 1, 2})}, 0),
              "getrusage(RUSAGE_SELF, {ru_utime={tv_sec=0, tv_usec=43123}, ru_stime={tv_sec=1, "
              "tv_usec=2}, "
              "...}) = 0");
    EXPECT_EQ(run("getresuid", {m.object(0), m.object(1), m.object(-1)}, 0),
              "getresuid([0], [1], [-1]) = 0");
    EXPECT_EQ(run("sched_getaffinity", {0, 8, m.words({3})}, 8),
              "sched_getaffinity(0, 8, [0 1]) = 8");
    EXPECT_EQ(run("sched_getscheduler", {0}, 0), "sched_getscheduler(0) = 0 (SCHED_OTHER)");
    EXPECT_EQ(run("personality", {0xffffffff}, 0), "personality(0xffffffff) = 0 (PER_LINUX)");
    EXPECT_EQ(run("set_robust_list", {0x1000, 24}, 0), "set_robust_list(0x1000, 24) = 0");
    EXPECT_EQ(run("rseq", {0x1000, 0x20, 0, 0x53053053}, 0),
              "rseq(0x1000, 0x20, 0, 0x53053053) = 0");
    std::string names(390, '\0');
    names.replace(0, 5, "Linux");
    names.replace(65, 2, "vm");
    EXPECT_EQ(run("uname", {m.put(names)}, 0),
              R"(uname({sysname="Linux", nodename="vm", ...}) = 0)");
}

TEST_F(Decoders, Execve) {
    const u64 arg = s("arg");
    const u64 argv = m.words(std::vector<u64>(39, arg));
    const std::string shown = [] {
        std::string text = "[\"arg\"";
        for (int i = 1; i < 32; ++i)
            text += ", \"arg\"";
        return text + ", ...]";
    }();
    EXPECT_EQ(run("execve", {s("/nope"), argv, 0}, -2),
              "execve(\"/nope\", " + shown + ", NULL) = -1 ENOENT (No such file or directory)");
    const u64 odd = m.words({arg, 1, 0});
    EXPECT_EQ(run("execve", {s("/nope"), odd, 0}, -14),
              R"(execve("/nope", ["arg", 0x1], NULL) = -1 EFAULT (Bad address))");
    const u64 one = m.words({arg, 0});
    EXPECT_EQ(
        run("execve", {s("/nope"), one, one}, -2),
        fmt::format("execve(\"/nope\", [\"arg\"], {:#x} /* 1 var */) = -1 ENOENT (No such file or "
                    "directory)",
                    one));
}

TEST_F(Decoders, Futex) {
    EXPECT_EQ(run("futex", {0x1000, 0x80, 2, 0}, 0),
              "futex(0x1000, FUTEX_WAIT_PRIVATE, 2, NULL) = 0");
    EXPECT_EQ(run("futex", {0x1000, 0x81, 1}, 1), "futex(0x1000, FUTEX_WAKE_PRIVATE, 1) = 1");
    EXPECT_EQ(run("futex", {0x1000, 0x189, 0, 0, 0, 0xffffffff}, 0),
              "futex(0x1000, FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 0, NULL, "
              "FUTEX_BITSET_MATCH_ANY) = 0");
    EXPECT_EQ(run("futex", {0x1000, 0x85, 1, 2, 0x1008, 0x14000001}, 0),
              "futex(0x1000, FUTEX_WAKE_OP_PRIVATE, 1, 2, 0x1008, "
              "FUTEX_OP_ADD<<28|0<<12|FUTEX_OP_CMP_GT<<24|0x1) = 0");
    EXPECT_EQ(run("futex", {0x1000, 0x84, 1, 2, 0x1008, 3}, -11),
              "futex(0x1000, FUTEX_CMP_REQUEUE_PRIVATE, 1, 2, 0x1008, 3) = -1 EAGAIN (Resource "
              "temporarily "
              "unavailable)");
}

TEST_F(Decoders, Signals) {
    const u64 action = m.words({0x557432a1edc0, 0x04000000, 0x7fce3a142050, 0xfffffffe7fffffff});
    EXPECT_EQ(run("rt_sigaction", {17, action, 0, 8}, 0),
              "rt_sigaction(SIGCHLD, {sa_handler=0x557432a1edc0, sa_mask=~[RTMIN RT_1], "
              "sa_flags=SA_RESTORER, sa_restorer=0x7fce3a142050}, NULL, 8) = 0");
    EXPECT_EQ(run("rt_sigaction", {2, 0, m.words({0, 0, 0, 0}), 8}, 0),
              "rt_sigaction(SIGINT, NULL, {sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}, 8) = 0");
    EXPECT_EQ(run("rt_sigprocmask", {0, m.words({0x802}), m.words({0}), 8}, 0),
              "rt_sigprocmask(SIG_BLOCK, [INT USR2], [], 8) = 0");
    EXPECT_EQ(run("rt_sigprocmask", {0, m.words({minus_one}), 0, 8}, 0),
              "rt_sigprocmask(SIG_BLOCK, ~[], NULL, 8) = 0");
    EXPECT_EQ(run("rt_sigprocmask", {0, 0x1234, 0, 4}, -22),
              "rt_sigprocmask(SIG_BLOCK, 0x1234, NULL, 4) = -1 EINVAL (Invalid argument)");
    EXPECT_EQ(run("sigaltstack", {0, m.words({0, 2, 0})}, 0),
              "sigaltstack(NULL, {ss_sp=NULL, ss_flags=SS_DISABLE, ss_size=0}) = 0");
    EXPECT_EQ(run("signalfd4", {minus_one, m.words({0x206}), 8, 02000000}, 3),
              "signalfd4(-1, [INT QUIT USR1], 8, SFD_CLOEXEC) = 3");
    const u64 info = m.object(std::array<i32, 32>{2, 0, 0, 0, 7716, 0});
    EXPECT_EQ(run("rt_sigtimedwait", {m.words({2}), info, m.words({1, 0}), 8}, 2),
              "rt_sigtimedwait([INT], {si_signo=SIGINT, si_code=SI_USER, si_pid=7716, si_uid=0}, "
              "{tv_sec=1, tv_nsec=0}, 8) = 2 (SIGINT)");
    SyscallEnter e = enter(task(1, "t"), "rt_sigreturn");
    e.user_sp = m.put(std::string(296, '\0') + std::string("\2\0\0\0\0\0\0\0", 8));
    Bench b;
    b.tracer.on_enter(e, m);
    b.tracer.on_exit(leave(task(1, "t"), "rt_sigreturn", -4), m);
    EXPECT_EQ(b.text(),
              "[pid 1 t] rt_sigreturn({mask=[INT]})    = -1 EINTR (Interrupted system call)\n");
}

TEST_F(Decoders, Time) {
    EXPECT_EQ(run("nanosleep", {m.words({1, 0}), 0x1234}, 0),
              "nanosleep({tv_sec=1, tv_nsec=0}, 0x1234) = 0");
    const u64 left = m.words({0, 5});
    EXPECT_EQ(run("nanosleep", {m.words({1, 0}), left}, -516),
              "nanosleep({tv_sec=1, tv_nsec=0}, {tv_sec=0, tv_nsec=5}) = ? ERESTART_RESTARTBLOCK "
              "(Interrupted by signal)");
    EXPECT_EQ(run("clock_nanosleep", {1, 1, m.words({5, 6}), 0}, 0),
              "clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, {tv_sec=5, tv_nsec=6}, NULL) = 0");
    EXPECT_EQ(run("clock_gettime", {0xfffffffe, m.words({0, 9})}, 0),
              "clock_gettime(0xfffffffe /* CLOCK_??? */, {tv_sec=0, tv_nsec=9}) = 0");
    EXPECT_EQ(
        run("utimensat", {at_fdcwd, s("f"), m.words({1700000000, 0, 5, (1 << 30) - 2}), 0}, 0),
        "utimensat(AT_FDCWD, \"f\", [{tv_sec=1700000000, tv_nsec=0} /* 2023-11-14T22:13:20+0000 "
        "*/, "
        "UTIME_OMIT], 0) = 0");
    EXPECT_EQ(run("timerfd_settime", {22, 0, m.words({0, 0, 1, 5}), 0}, 0),
              "timerfd_settime(22, 0, {it_interval={tv_sec=0, tv_nsec=0}, it_value={tv_sec=1, "
              "tv_nsec=5}}, "
              "NULL) = 0");
    EXPECT_EQ(
        run("times", {m.words({4, 4, 0, 12})}, 99),
        "times({tms_utime=4 /* 0.04 s */, tms_stime=4 /* 0.04 s */, tms_cutime=0, tms_cstime=12 /* "
        "0.12 s */}) = 99");
    EXPECT_EQ(run("time", {0}, 1700000000), "time(NULL) = 1700000000 (2023-11-14T22:13:20+0000)");
}

TEST_F(Decoders, Sockets) {
    EXPECT_EQ(run("socket", {2, 02000001, 0}, 3),
              "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 3");
    EXPECT_EQ(run("socket", {16, 3, 0}, 3), "socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) = 3");
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(53);
    in.sin_addr.s_addr = htonl(0x01010101);
    const u64 v4 = m.object(in);
    EXPECT_EQ(run("connect", {3, v4, 16}, -115),
              "connect(3, {sa_family=AF_INET, sin_port=htons(53), "
              "sin_addr=inet_addr(\"1.1.1.1\")}, 16) = -1 "
              "EINPROGRESS (Operation now in progress)");
    sockaddr_un un{};
    un.sun_family = AF_UNIX;
    std::strcpy(un.sun_path, "/nope/sock");
    EXPECT_EQ(
        run("connect", {3, m.object(un), 13}, -2),
        "connect(3, {sa_family=AF_UNIX, sun_path=\"/nope/sock\"}, 13) = -1 ENOENT (No such file or "
        "directory)");
    un = {};
    un.sun_family = AF_UNIX;
    std::memcpy(un.sun_path, "\0abstr", 6);
    EXPECT_EQ(run("bind", {3, m.object(un), 8}, 0),
              "bind(3, {sa_family=AF_UNIX, sun_path=@\"abstr\"}, 8) = 0");
    sockaddr_in6 in6{};
    in6.sin6_family = AF_INET6;
    in6.sin6_addr.s6_addr[15] = 1;
    EXPECT_EQ(run("bind", {3, m.object(in6), 28}, 0),
              "bind(3, {sa_family=AF_INET6, sin6_port=htons(0), sin6_flowinfo=htonl(0), "
              "inet_pton(AF_INET6, \"::1\", &sin6_addr), sin6_scope_id=0}, 28) = 0");
    EXPECT_EQ(run("bind", {3, m.words32({16, 5, 0}), 12}, 0),
              "bind(3, {sa_family=AF_NETLINK, nl_pid=5, nl_groups=00000000}, 12) = 0");
    EXPECT_EQ(run("sendto", {3, m.put("x"), 1, 0x4000, v4, 16}, 1),
              "sendto(3, \"x\", 1, MSG_NOSIGNAL, {sa_family=AF_INET, sin_port=htons(53), "
              "sin_addr=inet_addr(\"1.1.1.1\")}, 16) = 1");
    EXPECT_EQ(run("setsockopt", {3, 1, 2, m.object(1), 4}, 0),
              "setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0");
    EXPECT_EQ(run("getsockopt", {3, 1, 4, m.object(0), m.object(4)}, 0),
              "getsockopt(3, SOL_SOCKET, SO_ERROR, [0], [4]) = 0");
    EXPECT_EQ(run("shutdown", {3, 1}, 0), "shutdown(3, SHUT_WR) = 0");

    // The length is what it was, and what the call made of it.
    Bench b;
    const u64 length = b.memory.object(u32{128});
    const u64 address = b.memory.object(in);
    b.in(task(1, "t"), "accept", {3, address, length});
    b.memory.put_at(length, std::string_view("\20\0\0\0", 4));
    b.out(task(1, "t"), "accept", 4);
    EXPECT_EQ(b.text(), "[pid 1 t] accept(3, {sa_family=AF_INET, sin_port=htons(53), "
                        "sin_addr=inet_addr(\"1.1.1.1\")}, [128 => 16]) = 4\n");

    const u64 vector = m.words({m.put("xyz"), 3});
    std::string control("\24\0\0\0\0\0\0\0\1\0\0\0\1\0\0\0\3\0\0\0\0\0\0\0", 24);
    const u64 header = m.words({0, 0, vector, 1, m.put(control), 24, 0});
    EXPECT_EQ(
        run("sendmsg", {8, header, 0}, 3),
        "sendmsg(8, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=\"xyz\", iov_len=3}], "
        "msg_iovlen=1, msg_control=[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, "
        "cmsg_data=[3]}], msg_controllen=24, msg_flags=0}, 0) = 3");
    EXPECT_EQ(run("recvmsg", {8, m.words({0, 0, vector, 1, 0, 0, 0}), 0}, 2),
              "recvmsg(8, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=\"xy\", iov_len=3}], "
              "msg_iovlen=1, msg_controllen=0, msg_flags=0}, 0) = 2");
}

TEST_F(Decoders, IoUringSaysWhatItHides) {
    EXPECT_EQ(
        run("io_uring_enter", {3, 1, 1, 1, 0, 8}, 1),
        "io_uring_enter(3, 1, 1, IORING_ENTER_GETEVENTS, NULL, 8) = 1 (requests on the ring bypass "
        "system calls)");
}

TEST_F(Decoders, UnknownNumbersAndErrors) {
    SyscallEnter e;
    e.task = task(1, "t");
    e.number = 999;
    e.args = {1, 2, 3, 0, 5, 6};
    Bench b;
    b.tracer.on_enter(e, m);
    SyscallExit x;
    x.task = e.task;
    x.number = 999;
    x.result = -38;
    b.tracer.on_exit(x, m);
    EXPECT_EQ(b.text(),
              "[pid 1 t] syscall_0x3e7(0x1, 0x2, 0x3, 0, 0x5, 0x6) = -1 ENOSYS (Function not "
              "implemented)\n");
    EXPECT_EQ(run("getpid", {}, -530), "getpid() = -1 (errno 530)");
}

TEST_F(Decoders, I386) {
    EXPECT_EQ(run32("open", {s("x"), 0x80000}, 3), R"(open("x", O_RDONLY|O_CLOEXEC) = 3)");
    EXPECT_EQ(run32("mmap2", {0, 4096, 3, 0x22, 0xffffffff, 5}, 0xf7f00000),
              "mmap2(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0x5000) = "
              "0xf7f00000");
    EXPECT_EQ(run32("mmap", {m.words32({0, 4096, 1, 2, 3, 0x1000})}, 0xf7f00000),
              "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0x1000) = 0xf7f00000");
    EXPECT_EQ(run32("_llseek", {3, 1, 0, m.object(i64{1} << 32), 0}, 0),
              "_llseek(3, 4294967296, [4294967296], SEEK_SET) = 0");
    EXPECT_EQ(run32("pread64", {3, m.put("ab"), 2, 5, 1}, 2),
              "pread64(3, \"ab\", 2, 4294967301) = 2");
    EXPECT_EQ(run32("nanosleep", {m.words32({1, 2}), 0}, 0),
              "nanosleep({tv_sec=1, tv_nsec=2}, NULL) = 0");
    EXPECT_EQ(run32("clock_gettime64", {1, m.words({5, 6})}, 0),
              "clock_gettime64(CLOCK_MONOTONIC, {tv_sec=5, tv_nsec=6}) = 0");
    EXPECT_EQ(run32("setuid", {0xffff}, 0), "setuid(-1) = 0");
    EXPECT_EQ(run32("setuid32", {70000}, 0), "setuid32(70000) = 0");
    EXPECT_EQ(run32("writev", {1, m.words32({static_cast<u32>(m.put("hi")), 2}), 1}, 2),
              R"(writev(1, [{iov_base="hi", iov_len=2}], 1) = 2)");
    EXPECT_EQ(run32("socketcall", {1, m.words32({2, 1, 6})}, 3),
              "socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) = 3");
    EXPECT_EQ(run32("socketcall", {99, 0x1234}, -22),
              "socketcall(99, 0x1234) = -1 EINVAL (Invalid argument)");
    EXPECT_EQ(run32("ipc", {23, 0, 4096, 01600}, 5),
              "shmget(IPC_PRIVATE, 4096, IPC_CREAT|0600) = 5");
    EXPECT_EQ(run32("waitpid", {0xffffffff, m.object(i32{0x100}), 0}, 5),
              "waitpid(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 1}], 0) = 5");
    EXPECT_EQ(run32("sigprocmask", {0, m.words32({2}), 0}, 0),
              "sigprocmask(SIG_BLOCK, [INT], NULL) = 0");
    // Upper halves of registers mean nothing in 32-bit calls; errors are signed 32-bit numbers.
    EXPECT_EQ(run32("close", {0xdeadbeef00000003}, static_cast<i64>(0xfffffff7)),
              "close(3) = -1 EBADF (Bad file descriptor)");
    std::string old(96, '\0');
    const u32 mode = S_IFREG | 0644;
    std::memcpy(old.data() + 16, &mode, 4);
    old[44] = 5;
    EXPECT_EQ(run32("fstat64", {3, m.put(old)}, 0),
              "fstat64(3, {st_mode=S_IFREG|0644, st_size=5, ...}) = 0");
}

TEST(SyscallTable, EveryNumberOfLinux61HasARow) {
    const auto check = [](Abi abi, u64 last) {
        const auto entries = SyscallTable::get().entries(abi);
        for (u64 n = 0; n <= last; ++n) {
            const auto& entry = entries[n];
            if (entry.name.starts_with("syscall_0x")) continue;
            EXPECT_NE(entry.row, nullptr) << entry.name;
        }
    };
    check(Abi::x86_64, 450);
    check(Abi::i386, 450);
    EXPECT_EQ(SyscallTable::get().find(Abi::x86_64, 257)->name, "openat");
    EXPECT_EQ(SyscallTable::get().find(Abi::i386, 295)->name, "openat");
    EXPECT_EQ(SyscallTable::get().find(Abi::x32, x32_syscall_bit | 520)->name, "execve");
    EXPECT_EQ(SyscallTable::get().find(Abi::x86_64, 512), nullptr);
}

} // namespace
} // namespace gnomon::trace::test
