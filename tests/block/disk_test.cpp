// SPDX-License-Identifier: Apache-2.0
/// @file What every disk does, whatever the way to it: operations, sizes, alignments, depths, ends.
#include "block/disk.h"
#include "block/ways.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <gmock/gmock.h>
#include <random>
#include <thread>
#include <utility>

namespace gnomon::platform {
namespace {

using namespace test;

using Disk = DiskTest;

TEST_P(Disk, readsWhatWasWritten) {
    const auto disk = open();
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

TEST_P(Disk, anySizeFromAnyAlignmentInAnyNumberOfSegments) {
    for (const bool direct : {true, false}) {
        DiskOptions options;
        options.direct = direct;
        const auto disk = open(options);
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

TEST_P(Disk, zeroesAndDiscards) {
    const auto disk = open();
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
    if (raw()) {
        EXPECT_EQ(std::filesystem::file_size(m_path), disk_size);
    }
    EXPECT_TRUE(m_lines.empty());
}

TEST_P(Disk, theEndIsTheEnd) {
    const auto disk = open();
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
    if (raw()) {
        EXPECT_EQ(std::filesystem::file_size(m_path), disk_size);
    }
    EXPECT_TRUE(m_lines.empty()) << "the guest's own error is no line";
}

TEST_P(Disk, readOnly) {
    DiskOptions options;
    options.read_only = true;
    const auto disk = open(options);
    EXPECT_TRUE(disk->read_only());
    AlignedMemory memory(4096);
    EXPECT_EQ(perform(*disk, BlockOperation::write, 0, memory.all()), BlockStatus::read_only);
    EXPECT_EQ(perform(*disk, BlockOperation::write_zeroes, 0, 4096), BlockStatus::read_only);
    EXPECT_EQ(perform(*disk, BlockOperation::discard, 0, 4096), BlockStatus::read_only);
    EXPECT_EQ(perform(*disk, BlockOperation::flush), BlockStatus::ok);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 0, memory.all()), BlockStatus::ok);
    EXPECT_THAT(memory.all(), testing::Each(std::byte{0}));
}

TEST_P(Disk, moreRequestsThanThereIsRoomFor) {
    const auto disk = open();
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

TEST_P(Disk, aRequestThatIsDoneSubmitsTheNext) {
    const auto disk = open();
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

TEST_P(Disk, nothingToReapIsNothingToPollFor) {
    const auto disk = open();
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

TEST_P(Disk, aFileThatBecameSmallerIsAnError) {
    if (!raw()) GTEST_SKIP() << "a server's own matter";
    const auto disk = open();
    std::filesystem::resize_file(m_path, 10000);
    AlignedMemory memory(32768);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 0, memory.part(0, 4096)), BlockStatus::ok);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 8192, memory.part(0, 4096)),
              BlockStatus::io_error);
    EXPECT_EQ(perform(*disk, BlockOperation::read, 65536, memory.all()), BlockStatus::io_error);
    ASSERT_THAT(m_lines, testing::SizeIs(1)) << "one line for both";
    EXPECT_THAT(m_lines[0],
                testing::AllOf(testing::HasSubstr(m_path), testing::HasSubstr("4096 bytes at 8192"),
                               testing::HasSubstr("smaller")));
}

TEST_P(Disk, whenItGoesTheHostHasLetGoOfMemory) {
    AlignedMemory memory(disk_size);
    fill(memory.all(), 9);
    {
        const auto disk = open(); // contents, so that reads take their time
        ASSERT_EQ(perform(*disk, BlockOperation::write, 0, memory.all()), BlockStatus::ok);
        ASSERT_EQ(perform(*disk, BlockOperation::flush), BlockStatus::ok);
    }
    for (unsigned round = 0; round < 8; ++round) {
        std::ranges::fill(memory.all(), static_cast<std::byte>(round));
        std::vector<std::unique_ptr<NotedRequest>> requests;
        auto disk = open();
        for (u64 at = 0; at < disk_size; at += 16384) {
            requests.push_back(
                std::make_unique<NotedRequest>(BlockOperation::read, at, memory.part(at, 16384)));
            disk->submit(*requests.back());
            if (requests.size() % (round + 1) == 0) disk->commit();
        }
        disk.reset();
        std::vector<std::byte> at_the_end;
        for (u64 at = 0; at < disk_size; at += 4096)
            at_the_end.push_back(memory.all()[at]);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        for (u64 at = 0; at < disk_size; at += 4096)
            ASSERT_EQ(memory.all()[at], at_the_end[at / 4096]) << "written behind our back";
        for (const auto& request : requests)
            EXPECT_FALSE(request->status);
    }
}

TEST_P(Disk, aHundredThousandRandomRequestsAsInMemory) {
    constexpr u64 sectors = disk_size / 512;
    constexpr unsigned depth = 40;
    const bool all_of_them = GetParam() == Way::io_uring || GetParam() == Way::threads;
    const unsigned count = all_of_them ? 100'000 : 10'000;
    std::vector<u64> model(sectors, 0); // what each sector is filled with
    std::vector<bool> busy(sectors, false);
    struct Running {
        NotedRequest request;
        std::vector<u64> words;
        u64 value = 0;
        bool running = false;
    };
    std::mt19937_64 random(1);
    std::vector<std::unique_ptr<Running>> all;
    for (unsigned i = 0; i < depth; ++i)
        all.push_back(std::make_unique<Running>());
    std::unique_ptr<BlockBackEnd> disk = open();
    unsigned begun = 0;
    const auto begin = [&](Running& one) {
        const u64 length = 1 + random() % (random() % 8 == 0 ? 300 : 16);
        const u64 first = random() % (sectors - length + 1);
        for (u64 i = first; i < first + length; ++i)
            if (busy[i]) return;
        NotedRequest& request = one.request;
        // A flush takes longer than all the others.
        constexpr std::array operations{BlockOperation::read, BlockOperation::write,
                                        BlockOperation::write_zeroes, BlockOperation::discard};
        request.operation =
            random() % 1024 == 0 ? BlockOperation::flush : operations[random() % operations.size()];
        request.offset = first * 512;
        request.size = length * 512;
        request.fua = random() % 512 == 0;
        request.status.reset();
        request.memory.clear();
        one.value = random();
        one.running = true;
        // One word more, so that some are aligned as direct I/O wants it and some are not.
        one.words.assign(length * 64 + 1, 0);
        if (request.operation == BlockOperation::write) std::ranges::fill(one.words, one.value);
        u64* const memory = one.words.data() + random() % 2;
        for (u64 at = 0; at < length;) {
            const u64 part = std::min<u64>(1 + random() % 16, length - at);
            request.memory.push_back({memory + at * 64, part * 512});
            at += part;
        }
        if (request.operation != BlockOperation::flush)
            std::fill_n(busy.begin() + static_cast<std::ptrdiff_t>(first), length, true);
        request.then = [&, first, length, memory] {
            one.running = false;
            ASSERT_EQ(request.status, BlockStatus::ok);
            if (request.operation == BlockOperation::flush) return;
            for (u64 i = first; i < first + length; ++i) {
                busy[i] = false;
                if (request.operation == BlockOperation::write) model[i] = one.value;
                if (request.operation == BlockOperation::write_zeroes) model[i] = 0;
                if (request.operation == BlockOperation::discard) model[i] = ~u64{0};
                if (request.operation != BlockOperation::read) continue;
                const u64* const sector = memory + (i - first) * 64;
                for (u64 word = 0; word < 64; ++word) {
                    // Discarded: the old contents or zeroes.
                    if (model[i] == ~u64{0}) continue;
                    ASSERT_EQ(sector[word], model[i]) << "sector " << i;
                }
            }
        };
        disk->submit(request);
        ++begun;
    };
    while (begun < count && !HasFatalFailure()) {
        for (const auto& one : all)
            if (!one->running) begin(*one);
        disk->commit();
        if (disk->under_way() != 0) {
            ASSERT_TRUE(wait_for_any(*disk));
        }
        if (begun % 5000 != 0) continue;
        NotedRequest flush(BlockOperation::flush, 0, u64{0});
        disk->submit(flush); // for the one that drops
        ASSERT_TRUE(wait_for_all(*disk));
        disk.reset();
        disk = open();
    }
    ASSERT_TRUE(wait_for_all(*disk));
}

INSTANTIATE_TEST_SUITE_P(by, Disk,
                         testing::Values(Way::io_uring, Way::io_uring_cached, Way::threads,
                                         Way::dropping, Way::server, Way::qcow2),
                         name_of_way);

} // namespace
} // namespace gnomon::platform
