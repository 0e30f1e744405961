// SPDX-License-Identifier: Apache-2.0
/// @file Disks whose host fails: no room, a server that dies or stops, an image that is none.
#include "block/disk.h"
#include "block/ways.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <iterator>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>

namespace gnomon::platform {
namespace {

using namespace test;
using testing::HasSubstr;

using FailingDisk = DiskTest;

/// A limit that comes after the disk was opened, as a full file system would.
TEST_P(FailingDisk, noRoom) {
    if (!raw()) GTEST_SKIP() << "a server has a limit of its own";
    const auto disk = open();
    AlignedMemory memory(4096);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const rlimit limit{65536, before.rlim_max};
    std::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    const BlockStatus outside = perform(*disk, BlockOperation::write, 65536, memory.all());
    const BlockStatus again = perform(*disk, BlockOperation::write, 65536, memory.all());
    const BlockStatus inside = perform(*disk, BlockOperation::write, 0, memory.all());
    ::setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_EQ(outside, BlockStatus::no_space);
    EXPECT_EQ(again, BlockStatus::no_space);
    EXPECT_EQ(inside, BlockStatus::ok);
    ASSERT_THAT(m_lines, testing::SizeIs(1));
    EXPECT_THAT(m_lines[0], testing::AllOf(HasSubstr(m_path), HasSubstr("write of 4096 bytes at "
                                                                        "65536 failed")));
}

TEST_P(FailingDisk, theLimitOfFilesIsSeenBefore) {
    if (!raw()) GTEST_SKIP() << "a server has a limit of its own";
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const rlimit limit{65536, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    const auto disk = open_disk(m_path, {});
    ::setrlimit(RLIMIT_FSIZE, &before);
    ASSERT_FALSE(disk);
    EXPECT_THAT(disk.error().message, HasSubstr("ulimit -f"));
}

/// A tmpfs of 1 MiB under a file of 4 MiB, in a child with a mount namespace of its own.
TEST_P(FailingDisk, aFullFileSystem) {
    if (!raw()) GTEST_SKIP() << "a server has a file system of its own";
    constexpr int no_namespace = 77;
    const pid_t child = ::fork();
    if (child == 0) {
        const std::string place = m_folder.path().string();
        if (::unshare(CLONE_NEWNS | (::geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0 ||
            ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount("gnomon", place.c_str(), "tmpfs", 0, "size=1m") != 0)
            ::_exit(no_namespace);
        m_path = m_folder.file("full.img", "");
        std::filesystem::resize_file(m_path, disk_size);
        const auto disk = open();
        if (disk == nullptr) ::_exit(1);
        AlignedMemory memory(65536);
        unsigned good = 0, full = 0;
        for (u64 at = 0; at < disk_size; at += memory.all().size()) {
            const BlockStatus status = perform(*disk, BlockOperation::write, at, memory.all());
            if (status == BlockStatus::ok) ++good;
            if (status == BlockStatus::no_space) ++full;
        }
        const bool right = good >= 8 && good <= 16 && good + full == disk_size / 65536 &&
                           m_lines.size() == 1 && m_lines[0].find("No space") != std::string::npos;
        ::_exit(right ? 0 : 2);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == no_namespace) GTEST_SKIP() << "no mount namespaces here";
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

INSTANTIATE_TEST_SUITE_P(by, FailingDisk,
                         testing::Values(Way::io_uring, Way::io_uring_cached, Way::threads),
                         name_of_way);

using ServedDisk = DiskTest;

TEST_P(ServedDisk, aServerThatDiesFailsAllAndIsSaidOnce) {
    const auto disk = open();
    AlignedMemory memory(u64{1} << 20);
    std::vector<std::unique_ptr<NotedRequest>> requests;
    for (u64 i = 0; i < 200; ++i) {
        requests.push_back(std::make_unique<NotedRequest>(
            i % 2 == 0 ? BlockOperation::read : BlockOperation::write, i * 16384 % disk_size,
            memory.part(i * 4096 % memory.all().size(), 4096)));
        disk->submit(*requests.back());
    }
    m_server->signal(SIGSTOP); // so that some are under way for sure
    disk->commit();
    m_server->kill(SIGKILL);
    ASSERT_TRUE(wait_for_all(*disk));
    EXPECT_TRUE(std::ranges::any_of(
        requests, [](const auto& request) { return request->status == BlockStatus::io_error; }));
    for (const BlockOperation operation :
         {BlockOperation::flush, BlockOperation::write_zeroes, BlockOperation::discard})
        EXPECT_EQ(perform(*disk, operation, 0, u64{4096}), BlockStatus::io_error);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 0, memory.part(0, 4096)), BlockStatus::io_error);
    pollfd fd{disk->poll_descriptor(), POLLIN, 0};
    EXPECT_EQ(::poll(&fd, 1, 0), 0) << "nothing left to do";
    ASSERT_THAT(m_lines, testing::SizeIs(1));
    EXPECT_THAT(m_lines[0], HasSubstr("the server is gone"));
}

TEST_P(ServedDisk, aServerThatIsIdleWhenItDies) {
    const auto disk = open();
    m_server->kill(SIGKILL);
    ASSERT_TRUE(wait_for_any(*disk)) << "the end is seen without a request";
    EXPECT_THAT(m_lines, testing::SizeIs(1));
    AlignedMemory memory(4096);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 0, memory.all()), BlockStatus::io_error);
}

TEST_P(ServedDisk, itGoesWhileTheServerDoesNotAnswer) {
    auto disk = open();
    AlignedMemory memory(u64{4} << 20);
    NotedRequest write(BlockOperation::write, 0, memory.all()); // more than a socket takes
    m_server->signal(SIGSTOP);
    disk->submit(write);
    disk->commit();
    EXPECT_EQ(disk->reap(), 0U);
    disk.reset();
    EXPECT_FALSE(write.status);
}

INSTANTIATE_TEST_SUITE_P(by, ServedDisk, testing::Values(Way::server), name_of_way);

using Qcow2Disk = DiskTest;

/// Whether a qemu-nbd runs that has this image among its arguments.
bool served(const std::string& path) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        std::ifstream file(entry.path() / "cmdline");
        const std::string line(std::istreambuf_iterator<char>(file), {});
        if (line.starts_with("qemu-nbd") && line.find(path) != std::string::npos) return true;
    }
    return false;
}

TEST_P(Qcow2Disk, itsServerGoesWithIt) {
    auto disk = open();
    EXPECT_TRUE(served(m_path));
    AlignedMemory memory(65536);
    fill(memory.all(), 3);
    EXPECT_EQ(perform(*disk, BlockOperation::write, 0, memory.all()), BlockStatus::ok);
    EXPECT_THAT(open_disk(m_path, {}).error().message, HasSubstr("lock"));
    disk.reset();
    EXPECT_FALSE(served(m_path));
    disk = open();
    AlignedMemory in(65536);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 0, in.all()), BlockStatus::ok);
    EXPECT_TRUE(std::ranges::equal(memory.all(), in.all()));
    EXPECT_TRUE(m_lines.empty());
}

TEST_P(Qcow2Disk, itsServerGoesWithAProcessThatIsKilled) {
    const pid_t child = ::fork();
    if (child == 0) {
        const auto disk = open_disk(m_path, {});
        if (!disk || !served(m_path)) ::_exit(1);
        ::raise(SIGKILL);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status));
    for (unsigned i = 0; i < 3000 && served(m_path); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_FALSE(served(m_path));
    EXPECT_NE(open(), nullptr) << "and its lock with it";
}

TEST_P(Qcow2Disk, aBrokenImageIsRefusedInItsServersWords) {
    const std::string path =
        m_folder.file("broken", std::string("QFI\xfb\0\0\0\3", 8) + std::string(4088, '\0'));
    const auto disk = open_disk(path, {});
    ASSERT_FALSE(disk);
    EXPECT_THAT(disk.error().message, testing::AllOf(HasSubstr(path), HasSubstr("qemu-nbd: "),
                                                     testing::Not(HasSubstr("\n"))));
}

INSTANTIATE_TEST_SUITE_P(by, Qcow2Disk, testing::Values(Way::qcow2), name_of_way);

} // namespace
} // namespace gnomon::platform
