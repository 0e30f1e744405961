// SPDX-License-Identifier: Apache-2.0
/// @file What can be wrong with a disk's location, and what is said then; and who excludes whom.
#include "base/file_descriptor.h"
#include "block/disk.h"
#include "block/ways.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

namespace gnomon::platform {
namespace {

using namespace test;
using namespace std::string_literals;
using testing::AllOf;
using testing::HasSubstr;

class OpenDisk : public testing::Test {
protected:
    std::string image(const std::string& contents, u64 size, const std::string& name = "disk.img") {
        std::string path = m_folder.file(name, contents);
        std::filesystem::resize_file(path, size);
        return path;
    }
    /// The complaint; empty if the disk was opened.
    static std::string complaint(const std::string& location, const DiskOptions& options = {}) {
        const auto disk = open_disk(location, options);
        if (disk) return {};
        EXPECT_THAT(disk.error().message, HasSubstr(location));
        EXPECT_THAT(disk.error().message, testing::Not(HasSubstr("\n")));
        return disk.error().message;
    }
    TemporaryFolder m_folder;
};

TEST_F(OpenDisk, whatIsNoDisk) {
    const std::string folder = m_folder.path().string();
    EXPECT_THAT(complaint(folder + "/none"), HasSubstr("truncate -s"));
    EXPECT_THAT(complaint(folder), HasSubstr("folder"));
    EXPECT_THAT(complaint("/dev/null"), HasSubstr("character device"));
    EXPECT_THAT(complaint(m_folder.file("empty", "")), HasSubstr("empty"));
    const std::string pipe = folder + "/pipe";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    EXPECT_THAT(complaint(pipe), HasSubstr("pipe")) << "and does not wait for the other end";
    EXPECT_THAT(complaint(image("", 1000)), HasSubstr("truncate -s %512"));
    const FileDescriptor listening(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string socket = folder + "/socket";
    std::memcpy(address.sun_path, socket.c_str(), socket.size());
    ASSERT_EQ(::bind(listening.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_THAT(complaint(socket), HasSubstr("socket"));
    EXPECT_EQ(open_disk("", {}).error().message, "a disk needs the name of its file");
}

TEST_F(OpenDisk, theWayOutOfAnOddSizeIsOne) {
    const std::string path = image("", 1000);
    ASSERT_NE(complaint(path), "");
    ASSERT_EQ(std::system(("truncate -s %512 " + path).c_str()), 0);
    const auto disk = open_disk(path, {});
    ASSERT_TRUE(disk);
    EXPECT_EQ((*disk)->size(), 1024U);
}

TEST_F(OpenDisk, tooLarge) {
    const FileDescriptor memory(::memfd_create("large", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(memory.get(), i64{1} << 58), 0);
    EXPECT_THAT(complaint("/proc/self/fd/" + std::to_string(memory.get())),
                HasSubstr("more than the"));
}

TEST_F(OpenDisk, withoutPermission) {
    if (::geteuid() == 0) GTEST_SKIP() << "root may do everything";
    const std::string path = image("", 4096);
    ASSERT_EQ(::chmod(path.c_str(), 0400), 0);
    EXPECT_THAT(complaint(path), HasSubstr("add readonly"));
    DiskOptions read_only;
    read_only.read_only = true;
    EXPECT_EQ(complaint(path, read_only), "");
    ASSERT_EQ(::chmod(path.c_str(), 0), 0);
    EXPECT_THAT(complaint(path), HasSubstr("permissions"));
    EXPECT_THAT(complaint(path, read_only), HasSubstr("permissions"));
}

TEST_F(OpenDisk, formatsThatARawDiskWouldDestroy) {
    const std::array images{
        std::pair{"KDMV\1"s, "VMDK"},
        std::pair{"# Disk DescriptorFile\n"s, "VMDK"},
        std::pair{"vhdxfile"s, "VHDX"},
        std::pair{"conectix"s, "VHD"},
        std::pair{"QED\0"s, "QED"},
        std::pair{std::string(64, '<') + "\x7f\x10\xda\xbe", "VDI"},
        std::pair{"\x1f\x8b\x08"s, "gzip"},
        std::pair{"QFI\xfb\0\0\0\1"s, "qcow image of version 1"},
    };
    for (const auto& [head, name] : images) {
        const std::string path = image(head, 8192);
        EXPECT_THAT(complaint(path), AllOf(HasSubstr(name), HasSubstr("format=raw")));
        DiskOptions raw;
        raw.format = DiskFormat::raw;
        EXPECT_EQ(complaint(path, raw), "");
    }
    EXPECT_THAT(complaint(image(std::string(7680, '\0') + "conectix", 8192)), HasSubstr("VHD"));
}

TEST_F(OpenDisk, aQcow2ImageThatNamesOtherFilesTakesTrust) {
    const std::string backed = "QFI\xfb\0\0\0\3\0\0\0\0\0\0\1\0"s;
    EXPECT_THAT(complaint(image(backed, 8192)), HasSubstr("format=qcow2"));
    std::string external = "QFI\xfb\0\0\0\3"s + std::string(504, '\0');
    external[79] = 4;
    EXPECT_THAT(complaint(image(external, 8192)), HasSubstr("format=qcow2"));
    DiskOptions options;
    options.format = DiskFormat::qcow2;
    EXPECT_THAT(complaint(image("", 8192), options), HasSubstr("no qcow2 image"));
}

TEST_F(OpenDisk, otherSchemes) {
    for (const char* const location :
         {"http://host/disk.img", "nbds://host", "ssh://host/disk", "NBD+TLS://host"})
        EXPECT_THAT(complaint(location), AllOf(HasSubstr("nbd+unix:///"), HasSubstr("./")));
    EXPECT_THAT(complaint("nbd://127.0.0.1:1"), HasSubstr("Connection refused"));
    EXPECT_THAT(complaint("nbd+unix:///?socket=/nowhere/socket"), HasSubstr("No such file"));
    EXPECT_THAT(complaint("nbd://[::"), testing::Not(HasSubstr("nbd_aio")));
}

TEST_F(OpenDisk, aSecondWriterIsRefused) {
    const std::string path = image("", 8192);
    DiskOptions read_only;
    read_only.read_only = true;
    for (const HostIo io : {HostIo::automatic, HostIo::threads}) {
        DiskOptions options;
        options.io = io;
        auto disk = open_disk(path, options);
        ASSERT_TRUE(disk) << disk.error().message;
        EXPECT_THAT(complaint(path), HasSubstr("another program"));
        EXPECT_THAT(complaint(path, read_only), HasSubstr("another program"));
    }
    const auto reader = open_disk(path, read_only), another = open_disk(path, read_only);
    EXPECT_TRUE(reader && another);
    EXPECT_THAT(complaint(path), HasSubstr("another program"));
}

TEST_F(OpenDisk, aWriterInAnotherProcessIsSeenAndGoneWithIt) {
    const std::string path = image("", u64{1} << 20);
    std::array<int, 2> up{}, down{};
    ASSERT_EQ(::pipe(up.data()), 0);
    ASSERT_EQ(::pipe(down.data()), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        auto disk = open_disk(path, {});
        AlignedMemory memory(u64{1} << 20);
        NotedRequest request(BlockOperation::write, 0, memory.all());
        if (!disk) ::_exit(1);
        (*disk)->submit(request);
        (*disk)->commit();
        char byte = 1;
        static_cast<void>(::write(up[1], &byte, 1));
        static_cast<void>(::read(down[0], &byte, 1)); // until it is killed
        ::_exit(2);
    }
    char byte = 0;
    ASSERT_EQ(::read(up[0], &byte, 1), 1);
    EXPECT_THAT(complaint(path), HasSubstr("another program"));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(complaint(path), "") << "at once, whatever of the ring is still there";
    for (const int fd : {up[0], up[1], down[0], down[1]})
        ::close(fd);
}

/// From now on this process's io_uring_setup fails, as in containers and hardened systems.
bool forbid_io_uring(unsigned error) {
    std::array<sock_filter, 4> program{
        sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST_F(OpenDisk, threadsWhereIoUringIsForbidden) {
    const std::string path = image("", 8192);
    for (const int error : {EPERM, ENOSYS}) {
        const pid_t child = ::fork();
        if (child == 0) {
            DiskOptions rings;
            rings.io = HostIo::io_uring;
            if (!forbid_io_uring(static_cast<unsigned>(error))) ::_exit(1);
            const auto none = open_disk(path, rings);
            if (none || none.error().message.find(std::strerror(error)) == std::string::npos)
                ::_exit(2);
            auto disk = open_disk(path, {});
            if (!disk) ::_exit(3);
            AlignedMemory memory(4096);
            ::_exit(perform(**disk, BlockOperation::write, 0, memory.all()) == BlockStatus::ok &&
                            perform(**disk, BlockOperation::flush) == BlockStatus::ok
                        ? 0
                        : 4);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        EXPECT_TRUE(WIFEXITED(status));
        EXPECT_EQ(WEXITSTATUS(status), 0);
    }
}

TEST_F(OpenDisk, qemuAndWeExcludeEachOther) {
    if (!installed("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
    const std::string path = image("", u64{1} << 20);
    const std::string write = "qemu-img bench -q -c 1 -w -f raw " + path + " >/dev/null 2>&1";
    const std::string read = "qemu-img bench -q -c 1 -f raw " + path + " >/dev/null 2>&1";
    EXPECT_EQ(std::system(write.c_str()), 0);
    {
        const auto disk = open_disk(path, {});
        ASSERT_TRUE(disk);
        EXPECT_NE(std::system(write.c_str()), 0);
    }
    DiskOptions read_only;
    read_only.read_only = true;
    {
        const auto disk = open_disk(path, read_only);
        ASSERT_TRUE(disk);
        EXPECT_NE(std::system(write.c_str()), 0);
        EXPECT_EQ(std::system(read.c_str()), 0);
    }
    if (!installed("qemu-nbd")) GTEST_SKIP() << "qemu-nbd is not installed";
    const std::string socket = (m_folder.path() / "socket").string();
    const Companion server(
        {"qemu-nbd", "--persistent", "--format=raw", "--socket=" + socket, path});
    // It listens before it opens the image, and answers after.
    for (unsigned i = 0; i < 1000 && !open_disk("nbd+unix:///?socket=" + socket, {}); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_THAT(complaint(path), HasSubstr("another program"));
    EXPECT_THAT(complaint(path, read_only), HasSubstr("another program"));
}

} // namespace
} // namespace gnomon::platform
