// SPDX-License-Identifier: Apache-2.0
/// @file The layer that loses what was not flushed does, and nothing else.
#include "block/disk.h"
#include "support/dropping_back_end.h"
#include "support/temporary_folder.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <sys/wait.h>
#include <unistd.h>

namespace gnomon::platform {
namespace {

using namespace test;

TEST(DroppingDisk, losesWhatWasNotFlushedWhenTheProcessDies) {
    const TemporaryFolder folder;
    const std::string path = folder.file("disk.img", "");
    std::filesystem::resize_file(path, 65536);
    const pid_t child = ::fork();
    if (child == 0) {
        auto raw = open_disk(path, {});
        if (!raw) ::_exit(1);
        DroppingBackEnd disk(std::move(*raw));
        AlignedMemory memory(4096);
        const auto write = [&](u64 offset, unsigned value, bool fua) {
            std::ranges::fill(memory.all(), static_cast<std::byte>(value));
            NotedRequest request(BlockOperation::write, offset, memory.all());
            request.fua = fua;
            if (perform(disk, request) != BlockStatus::ok) ::_exit(2);
        };
        write(0, 1, false);
        write(4096, 2, false);
        if (perform(disk, BlockOperation::flush) != BlockStatus::ok) ::_exit(3);
        write(4096, 3, false); // lost
        write(8192, 4, true);
        write(12288, 5, false); // lost
        if (perform(disk, BlockOperation::write_zeroes, 0, u64{512}) != BlockStatus::ok) ::_exit(4);
        if (perform(disk, BlockOperation::read, 4096, memory.all()) != BlockStatus::ok ||
            memory.all()[0] != std::byte{3} || disk.unflushed() != 17)
            ::_exit(5);
        ::raise(SIGKILL);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    auto disk = open_disk(path, {});
    ASSERT_TRUE(disk) << disk.error().message;
    AlignedMemory memory(16384);
    ASSERT_EQ(perform(**disk, BlockOperation::read, 0, memory.all()), BlockStatus::ok);
    for (const auto& [offset, value] :
         {std::pair{0, 1}, std::pair{4096, 2}, std::pair{8192, 4}, std::pair{12288, 0}})
        EXPECT_EQ(memory.all()[static_cast<std::size_t>(offset)], static_cast<std::byte>(value));
}

} // namespace
} // namespace gnomon::platform
