// SPDX-License-Identifier: Apache-2.0
/// @file Raw disks: operations, sizes, alignments, depths and failures, by each way to the host.
#include "block/disk.h"
#include "support/temporary_folder.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <gmock/gmock.h>
#include <utility>

namespace gnomon::platform {
namespace {

using namespace test;

constexpr u64 disk_size = u64{4} << 20;

class RawDisk : public testing::TestWithParam<HostIo> {
protected:
    std::string make(u64 size = disk_size) {
        std::string path = m_folder.file("disk.img", "");
        std::filesystem::resize_file(path, size);
        return path;
    }
    std::unique_ptr<BlockBackEnd> open(const std::string& path, DiskOptions options = {}) {
        options.io = GetParam();
        options.report = [this](const std::string& line) { m_lines.push_back(line); };
        auto disk = open_disk(path, options);
        EXPECT_TRUE(disk) << disk.error().message;
        return disk ? std::move(*disk) : nullptr;
    }
    TemporaryFolder m_folder;
    std::vector<std::string> m_lines;
};

/// Bytes that tell where they belong.
void fill(std::span<std::byte> memory, u64 seed) {
    for (std::size_t i = 0; i < memory.size(); ++i)
        memory[i] = static_cast<std::byte>((seed + i) * 0x9e3779b97f4a7c15ULL >> 56);
}

TEST_P(RawDisk, readsWhatWasWritten) {
    const auto disk = open(make());
    EXPECT_EQ(disk->size(), disk_size);
    EXPECT_FALSE(disk->read_only());
    AlignedMemory memory(8192);
    fill(memory.part(0, 4096), 1);
    EXPECT_EQ(perform(*disk, BlockOperation::write, 8192, memory.part(0, 4096)), BlockStatus::ok);
    EXPECT_EQ(perform(*disk, BlockOperation::flush), BlockStatus::ok);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 8192, memory.part(4096, 4096)), BlockStatus::ok);
    EXPECT_TRUE(std::ranges::equal(memory.part(0, 4096), memory.part(4096, 4096)));
    EXPECT_TRUE(m_lines.empty());
}

TEST_P(RawDisk, anySizeFromAnyAlignmentInAnyNumberOfSegments) {
    const std::string path = make();
    for (const bool direct : {true, false}) {
        DiskOptions options;
        options.direct = direct;
        const auto disk = open(path, options);
        AlignedMemory source(u64{1} << 20), target(u64{1} << 20);
        u64 seed = 0;
        for (const u64 size : {512, 1024, 4096, 12800, 131072, 131584, 600 * 1024}) {
            for (const std::size_t alignment : {0, 1, 2, 4, 512, 1536}) {
                for (const std::size_t segment : {std::size_t{1} << 20, std::size_t{4096},
                                                  std::size_t{512}, std::size_t{300}}) {
                    const auto out = source.part(alignment, size),
                               in = target.part(alignment, size);
                    fill(out, ++seed);
                    std::ranges::fill(in, std::byte{0});
                    NotedRequest write(BlockOperation::write, 512 * (seed % 7), 0);
                    NotedRequest read(BlockOperation::read, write.offset, 0);
                    write.size = read.size = size;
                    for (std::size_t at = 0; at < size; at += segment) {
                        write.add(out.subspan(at, std::min(segment, size - at)));
                        read.add(in.subspan(at, std::min(segment, size - at)));
                    }
                    write.fua = seed % 3 == 0;
                    ASSERT_EQ(perform(*disk, write), BlockStatus::ok);
                    ASSERT_EQ(perform(*disk, read), BlockStatus::ok);
                    ASSERT_TRUE(std::ranges::equal(out, in))
                        << size << " bytes at " << alignment << " by " << segment;
                }
            }
        }
    }
}

TEST_P(RawDisk, zeroesAndDiscards) {
    const auto disk = open(make());
    AlignedMemory memory(65536);
    const auto reads_back = [&](u64 offset, u64 size) {
        const auto in = memory.part(0, size);
        EXPECT_EQ(perform(*disk, BlockOperation::read, offset, in), BlockStatus::ok);
        return in;
    };
    for (const bool fua : {false, true}) {
        fill(memory.all(), 5);
        ASSERT_EQ(perform(*disk, BlockOperation::write, 0, memory.all()), BlockStatus::ok);
        EXPECT_EQ(perform(*disk, BlockOperation::write_zeroes, 512, 8192, fua), BlockStatus::ok);
        EXPECT_THAT(reads_back(512, 8192), testing::Each(std::byte{0}));
        EXPECT_THAT(reads_back(0, 512), testing::Contains(testing::Ne(std::byte{0})));
        EXPECT_THAT(reads_back(8704, 512), testing::Contains(testing::Ne(std::byte{0})));
        EXPECT_EQ(perform(*disk, BlockOperation::discard, 16384, 16384), BlockStatus::ok);
        EXPECT_THAT(reads_back(8704, 512), testing::Contains(testing::Ne(std::byte{0})));
    }
    EXPECT_EQ(std::filesystem::file_size(m_folder.path() / "disk.img"), disk_size);
    EXPECT_TRUE(m_lines.empty());
}

TEST_P(RawDisk, theEndIsTheEnd) {
    const auto disk = open(make());
    AlignedMemory memory(8192);
    const auto page = memory.part(0, 4096);
    EXPECT_EQ(perform(*disk, BlockOperation::read, disk_size - 4096, page), BlockStatus::ok);
    for (const u64 at : {disk_size - 3584, disk_size, disk_size + 4096, ~u64{0} - 511, u64{1} << 63,
                         ~u64{0} - 4095}) {
        for (const BlockOperation operation : {BlockOperation::read, BlockOperation::write})
            EXPECT_EQ(perform(*disk, operation, at, page), BlockStatus::out_of_range);
        EXPECT_EQ(perform(*disk, BlockOperation::discard, at, 4096), BlockStatus::out_of_range);
        EXPECT_EQ(perform(*disk, BlockOperation::write_zeroes, at, 4096),
                  BlockStatus::out_of_range);
    }
    EXPECT_EQ(perform(*disk, BlockOperation::write_zeroes, 512, ~u64{0} - 511),
              BlockStatus::out_of_range);
    // Nothing, at the very end.
    EXPECT_EQ(perform(*disk, BlockOperation::read, disk_size), BlockStatus::ok);
    EXPECT_EQ(std::filesystem::file_size(m_folder.path() / "disk.img"), disk_size);
    EXPECT_TRUE(m_lines.empty()) << "the guest's own error is no line";
}

TEST_P(RawDisk, readOnly) {
    DiskOptions options;
    options.read_only = true;
    const auto disk = open(make(), options);
    EXPECT_TRUE(disk->read_only());
    AlignedMemory memory(4096);
    EXPECT_EQ(perform(*disk, BlockOperation::write, 0, memory.all()), BlockStatus::read_only);
    EXPECT_EQ(perform(*disk, BlockOperation::write_zeroes, 0, 4096), BlockStatus::read_only);
    EXPECT_EQ(perform(*disk, BlockOperation::discard, 0, 4096), BlockStatus::read_only);
    EXPECT_EQ(perform(*disk, BlockOperation::flush), BlockStatus::ok);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 0, memory.all()), BlockStatus::ok);
    EXPECT_THAT(memory.all(), testing::Each(std::byte{0}));
}

TEST_P(RawDisk, moreRequestsThanThereIsRoomFor) {
    const auto disk = open(make());
    constexpr std::size_t count = disk_size / 4096;
    AlignedMemory out(disk_size), in(disk_size);
    fill(out.all(), 77);
    for (const auto& [operation, memory] :
         {std::pair{BlockOperation::write, &out}, std::pair{BlockOperation::read, &in}}) {
        std::vector<std::unique_ptr<NotedRequest>> requests;
        for (std::size_t i = 0; i < count; ++i) {
            requests.push_back(
                std::make_unique<NotedRequest>(operation, i * 4096, memory->part(i * 4096, 4096)));
            disk->submit(*requests.back());
        }
        EXPECT_EQ(disk->under_way(), count);
        ASSERT_TRUE(wait_for_all(*disk));
        for (const auto& request : requests)
            ASSERT_EQ(request->status, BlockStatus::ok);
    }
    EXPECT_TRUE(std::ranges::equal(out.all(), in.all()));
}

TEST_P(RawDisk, aRequestThatIsDoneSubmitsTheNext) {
    const auto disk = open(make());
    AlignedMemory memory(4096);
    NotedRequest request(BlockOperation::read, 0, memory.all());
    unsigned times = 0;
    request.then = [&] {
        EXPECT_EQ(request.status, BlockStatus::ok);
        if (++times == 1000) return;
        request.status.reset();
        disk->submit(request);
    };
    disk->submit(request);
    ASSERT_TRUE(wait_for_all(*disk));
    EXPECT_EQ(times, 1000U);
}

TEST_P(RawDisk, nothingToReapIsNothingToPollFor) {
    const auto disk = open(make());
    AlignedMemory memory(4096);
    pollfd fd{disk->poll_descriptor(), POLLIN, 0};
    EXPECT_EQ(disk->reap(), 0U);
    EXPECT_EQ(::poll(&fd, 1, 0), 0);
    NotedRequest request(BlockOperation::read, disk_size, 512); // refused at once,
    request.add(memory.part(0, 512));
    disk->submit(request);
    disk->commit();
    EXPECT_FALSE(request.status); // but not from here
    EXPECT_EQ(::poll(&fd, 1, 60'000), 1);
    EXPECT_EQ(disk->reap(), 1U);
    EXPECT_EQ(request.status, BlockStatus::out_of_range);
    EXPECT_EQ(::poll(&fd, 1, 0), 0);
}

TEST_P(RawDisk, aFileThatBecameSmallerIsAnError) {
    const std::string path = make();
    const auto disk = open(path);
    std::filesystem::resize_file(path, 10000);
    AlignedMemory memory(32768);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 0, memory.part(0, 4096)), BlockStatus::ok);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 8192, memory.part(0, 4096)),
              BlockStatus::io_error);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 65536, memory.all()), BlockStatus::io_error);
    ASSERT_THAT(m_lines, testing::SizeIs(1)) << "one line for both";
    EXPECT_THAT(m_lines[0],
                testing::AllOf(testing::HasSubstr(path), testing::HasSubstr("4096 bytes at 8192"),
                               testing::HasSubstr("smaller")));
}

TEST_P(RawDisk, nothingIsLostWhenItGoesWithRequestsUnderWay) {
    const std::string path = make();
    AlignedMemory memory(disk_size);
    for (unsigned round = 0; round < 8; ++round) {
        std::vector<std::unique_ptr<NotedRequest>> requests;
        auto disk = open(path);
        for (u64 at = 0; at < disk_size; at += 16384) {
            requests.push_back(std::make_unique<NotedRequest>(
                at % 32768 == 0 ? BlockOperation::read : BlockOperation::write, at,
                memory.part(at, 16384)));
            disk->submit(*requests.back());
            if (requests.size() % (round + 1) == 0) disk->commit();
        }
        disk.reset();
        // Nobody writes to it any more; a sanitizer or a wrong pattern would tell.
        fill(memory.all(), round);
        for (std::size_t i = 0; i < requests.size(); ++i)
            EXPECT_FALSE(requests[i]->status);
        AlignedMemory expected(disk_size);
        fill(expected.all(), round);
        EXPECT_TRUE(std::ranges::equal(memory.all(), expected.all()));
    }
}

INSTANTIATE_TEST_SUITE_P(ways, RawDisk, testing::Values(HostIo::io_uring, HostIo::threads),
                         [](const auto& way) {
                             return way.param == HostIo::io_uring ? "io_uring" : "threads";
                         });

} // namespace
} // namespace gnomon::platform
