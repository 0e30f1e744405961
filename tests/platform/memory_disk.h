// SPDX-License-Identifier: Apache-2.0
/// @file A disk in memory, whose requests are done when the test says so.
#pragma once

#include "platform/block/block_back_end.h"

#include <cstring>
#include <deque>
#include <sys/eventfd.h>
#include <unistd.h>

namespace gnomon::platform::test {

class MemoryDisk final : public BlockBackEnd {
public:
    explicit MemoryDisk(u64 size) : contents(size), m_event(::eventfd(0, EFD_NONBLOCK)) {}
    ~MemoryDisk() override { ::close(m_event); }

    [[nodiscard]] u64 size() const override { return contents.size(); }
    [[nodiscard]] bool read_only() const override { return is_read_only; }
    void submit(BlockRequest& request) override {
        waiting.push_back(&request);
        ++submitted;
        if (request.fua) ++fua;
        if (!automatic) return;
        const u64 one = 1;
        [[maybe_unused]] const auto written = ::write(m_event, &one, sizeof one);
    }
    void commit() override { ++commits; }
    unsigned reap() override {
        u64 count = 0;
        [[maybe_unused]] const auto got = ::read(m_event, &count, sizeof count);
        unsigned done = 0;
        while (!waiting.empty()) {
            finish(0);
            ++done;
        }
        return done;
    }
    [[nodiscard]] int poll_descriptor() const override { return m_event; }
    [[nodiscard]] unsigned under_way() const override {
        return static_cast<unsigned>(waiting.size());
    }

    /// The `n`-th of those that wait is done, with `status`.
    void finish(std::size_t n, BlockStatus status = BlockStatus::ok) {
        BlockRequest& request = *waiting.at(n);
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(n));
        if (status == BlockStatus::ok) status = transfer(request);
        request.done(status);
    }

    std::vector<std::byte> contents;
    std::deque<BlockRequest*> waiting;
    bool is_read_only = false;
    bool automatic = true; ///< false: poll never says that `reap` has something to do
    unsigned submitted = 0, commits = 0, fua = 0, flushes = 0, discards = 0;

private:
    [[nodiscard]] BlockStatus transfer(const BlockRequest& request) {
        if (request.operation == BlockOperation::flush) {
            ++flushes;
            return BlockStatus::ok;
        }
        if (request.size > contents.size() || request.offset > contents.size() - request.size)
            return BlockStatus::out_of_range;
        std::byte* at = contents.data() + request.offset;
        if (request.operation == BlockOperation::discard) ++discards;
        if (request.operation == BlockOperation::write_zeroes) std::memset(at, 0, request.size);
        for (const iovec& part : request.memory) {
            if (request.operation == BlockOperation::read)
                std::memcpy(part.iov_base, at, part.iov_len);
            else
                std::memcpy(at, part.iov_base, part.iov_len);
            at += part.iov_len;
        }
        return BlockStatus::ok;
    }
    int m_event;
};

} // namespace gnomon::platform::test
