// SPDX-License-Identifier: Apache-2.0
/// @file What is made of the host's answers, good, short and bad, without a host.
#include "block/disk.h"
#include "platform/block/request_steps.h"

#include <algorithm>
#include <cerrno>
#include <gmock/gmock.h>
#include <vector>

namespace gnomon::platform {
namespace {

using namespace test;
using Kind = HostStep::Kind;

class Steps : public testing::Test {
protected:
    Steps() { traits.size = u64{1} << 30; }
    HostTraits traits;
    RequestSteps steps;
    AlignedMemory memory{65536};
};

TEST_F(Steps, shortTransfersAreContinued) {
    NotedRequest request(BlockOperation::read, 4096, memory.part(0, 4096));
    request.add(memory.part(8192, 8192));
    request.size = 12288;
    steps.start(request, traits);
    EXPECT_EQ(steps.step().kind, Kind::read);
    EXPECT_EQ(steps.step().count, 2U);
    EXPECT_EQ(steps.step().memory, request.memory.data()) << "no copy of the list";
    EXPECT_FALSE(steps.advance(100));
    EXPECT_EQ(steps.step().offset, 4196U);
    EXPECT_EQ(steps.step().size, 12188U);
    EXPECT_EQ(steps.step().memory[0].iov_base, memory.all().data() + 100);
    EXPECT_EQ(steps.step().memory[0].iov_len, 3996U);
    EXPECT_FALSE(steps.advance(3996));
    EXPECT_EQ(steps.step().count, 1U);
    EXPECT_EQ(steps.step().memory[0].iov_base, memory.all().data() + 8192);
    EXPECT_EQ(steps.advance(8192), BlockStatus::ok);
}

TEST_F(Steps, theEndOfTheFileIsAnError) {
    NotedRequest request(BlockOperation::read, 0, memory.part(0, 4096));
    steps.start(request, traits);
    EXPECT_FALSE(steps.advance(1000));
    EXPECT_EQ(steps.advance(0), BlockStatus::io_error);
    EXPECT_EQ(steps.error(), 0);
    traits.memory_alignment = 512; // where the rest could not be asked for
    steps.start(request, traits);
    EXPECT_EQ(steps.advance(1000), BlockStatus::io_error);
}

TEST_F(Steps, errorsOfTheHost) {
    const std::vector<std::pair<int, BlockStatus>> meanings{
        {EIO, BlockStatus::io_error},    {ENOSPC, BlockStatus::no_space},
        {EDQUOT, BlockStatus::no_space}, {EFBIG, BlockStatus::no_space},
        {EROFS, BlockStatus::read_only}, {ENOTCONN, BlockStatus::io_error},
        {EBADF, BlockStatus::io_error}};
    for (const auto& [error, status] : meanings) {
        NotedRequest write(BlockOperation::write, 0, memory.part(0, 4096));
        steps.start(write, traits);
        EXPECT_FALSE(steps.advance(512));
        EXPECT_EQ(steps.advance(-error), status);
        EXPECT_EQ(steps.error(), error);
        NotedRequest flush(BlockOperation::flush, 0, u64{0});
        steps.start(flush, traits);
        EXPECT_EQ(steps.step().kind, Kind::synchronise);
        EXPECT_EQ(steps.advance(-error), status);
    }
}

TEST_F(Steps, interruptedStepsAreRepeatedButNotForever) {
    NotedRequest write(BlockOperation::write, 0, memory.part(0, 4096));
    steps.start(write, traits);
    for (const int error : {EINTR, EAGAIN, ECANCELED}) {
        EXPECT_FALSE(steps.advance(-error));
        EXPECT_EQ(steps.step().kind, Kind::write);
        EXPECT_EQ(steps.step().size, 4096U);
    }
    std::optional<BlockStatus> status;
    for (unsigned i = 0; i < 100'000 && !status; ++i)
        status = steps.advance(-EAGAIN);
    EXPECT_EQ(status, BlockStatus::io_error);
}

TEST_F(Steps, stableWritesAreFlushedWhereTheHostHasNoSuchWrites) {
    NotedRequest write(BlockOperation::write, 0, memory.part(0, 4096));
    write.fua = true;
    steps.start(write, traits);
    EXPECT_TRUE(steps.step().stable);
    EXPECT_EQ(steps.advance(4096), BlockStatus::ok);
    traits.stable_writes = false;
    steps.start(write, traits);
    EXPECT_FALSE(steps.step().stable);
    EXPECT_FALSE(steps.advance(4096));
    EXPECT_EQ(steps.step().kind, Kind::synchronise);
    EXPECT_EQ(steps.advance(-EIO), BlockStatus::io_error);
}

TEST_F(Steps, zeroesByTheBestWayThereIs) {
    NotedRequest zero(BlockOperation::write_zeroes, 512, u64{10} << 20);
    zero.fua = true;
    steps.start(zero, traits);
    EXPECT_EQ(steps.step().kind, Kind::zero_range);
    EXPECT_FALSE(steps.advance(-EOPNOTSUPP));
    EXPECT_EQ(steps.step().kind, Kind::punch_hole);
    EXPECT_FALSE(steps.advance(-EOPNOTSUPP));
    u64 written = 0;
    while (true) {
        ASSERT_EQ(steps.step().kind, Kind::write);
        EXPECT_TRUE(steps.step().stable);
        EXPECT_EQ(steps.step().offset, 512 + written);
        for (unsigned i = 0; i < steps.step().count; ++i) {
            const iovec& one = steps.step().memory[i];
            const std::span bytes(static_cast<const std::byte*>(one.iov_base), one.iov_len);
            ASSERT_EQ(std::ranges::count(bytes, std::byte{0}), std::ssize(bytes));
        }
        written += steps.step().size;
        if (steps.advance(static_cast<i64>(steps.step().size))) break;
    }
    EXPECT_EQ(written, zero.size);
    // Learnt: the next one does not try again.
    steps.start(zero, traits);
    EXPECT_EQ(steps.step().kind, Kind::write);
}

TEST_F(Steps, zeroesThatOneRangeCannotGetAreNotLearnt) {
    NotedRequest zero(BlockOperation::write_zeroes, 512, u64{4096});
    zero.fua = true;
    steps.start(zero, traits);
    EXPECT_FALSE(steps.advance(-EINVAL));
    EXPECT_EQ(steps.step().kind, Kind::punch_hole);
    EXPECT_FALSE(steps.advance(0)) << "and then stable storage";
    EXPECT_EQ(steps.step().kind, Kind::synchronise);
    EXPECT_EQ(steps.advance(0), BlockStatus::ok);
    steps.start(zero, traits);
    EXPECT_EQ(steps.step().kind, Kind::zero_range);
    EXPECT_EQ(steps.advance(-ENOSPC), BlockStatus::no_space);
}

TEST_F(Steps, discardIsAHint) {
    NotedRequest discard(BlockOperation::discard, 0, u64{4096});
    steps.start(discard, traits);
    EXPECT_EQ(steps.step().kind, Kind::punch_hole);
    EXPECT_EQ(steps.advance(-EOPNOTSUPP), BlockStatus::ok);
    steps.start(discard, traits);
    EXPECT_EQ(steps.advance(-EIO), BlockStatus::io_error);
    traits.discard = false;
    steps.start(discard, traits);
    EXPECT_EQ(steps.step().kind, Kind::none);
    EXPECT_EQ(steps.advance(0), BlockStatus::ok);
}

TEST_F(Steps, oddMemoryIsBouncedOnlyForDirectIo) {
    NotedRequest read(BlockOperation::read, 0, memory.part(3, 4096));
    steps.start(read, traits);
    EXPECT_EQ(steps.step().memory[0].iov_base, memory.all().data() + 3);
    traits.memory_alignment = 512;
    steps.start(read, traits);
    auto* const bounced = static_cast<std::byte*>(steps.step().memory[0].iov_base);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bounced) % 4096, 0U);
    std::fill_n(bounced, 4096, std::byte{7});
    EXPECT_FALSE(steps.advance(512));
    EXPECT_EQ(memory.all()[3 + 511], std::byte{7});
    EXPECT_EQ(memory.all()[3 + 512], std::byte{0xee}) << "only what has come";
    std::fill_n(static_cast<std::byte*>(steps.step().memory[0].iov_base), 3584, std::byte{8});
    EXPECT_EQ(steps.advance(3584), BlockStatus::ok);
    EXPECT_EQ(memory.all()[3 + 4095], std::byte{8});
    EXPECT_EQ(memory.all()[3 + 4096], std::byte{0xee});
    // Direct I/O that wants more than it said.
    traits.memory_alignment = 2;
    NotedRequest aligned(BlockOperation::read, 0, memory.part(512, 4096));
    steps.start(aligned, traits);
    EXPECT_EQ(steps.step().memory[0].iov_base, memory.all().data() + 512);
    EXPECT_FALSE(steps.advance(-EINVAL));
    EXPECT_NE(steps.step().memory[0].iov_base, memory.all().data() + 512);
    EXPECT_EQ(steps.advance(-EINVAL), BlockStatus::io_error);
}

TEST_F(Steps, moreSegmentsThanTheKernelTakes) {
    NotedRequest read(BlockOperation::read, 0, u64{0});
    for (unsigned i = 0; i < 3000; ++i)
        read.add(memory.part(i % 8 * 512, 512));
    read.add({});
    read.size = u64{3000} * 512;
    steps.start(read, traits);
    u64 total = 0;
    std::optional<BlockStatus> status;
    while (!status) {
        EXPECT_LE(steps.step().count, 1024U);
        EXPECT_EQ(steps.step().offset, total);
        total += steps.step().size;
        status = steps.advance(static_cast<i64>(steps.step().size));
    }
    EXPECT_EQ(total, read.size);
    EXPECT_EQ(status, BlockStatus::ok);
}

} // namespace
} // namespace gnomon::platform
