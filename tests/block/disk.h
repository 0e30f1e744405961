// SPDX-License-Identifier: Apache-2.0
/// @file What tests of back ends share: requests that note what became of them, and memory whose
/// alignment is chosen.
#pragma once

#include "platform/block/open_disk.h"

#include <cstdlib>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <poll.h>
#include <span>
#include <string>
#include <vector>

namespace gnomon::test {

using platform::BlockBackEnd;
using platform::BlockOperation;
using platform::BlockRequest;
using platform::BlockStatus;

/// Page-aligned, so that a test can choose any other alignment in it.
class AlignedMemory {
public:
    explicit AlignedMemory(std::size_t size)
        : m_size((size + page_size - 1) / page_size * page_size),
          m_memory(static_cast<std::byte*>(std::aligned_alloc(page_size, m_size)), std::free) {
        std::ranges::fill(all(), std::byte{0xee});
    }
    [[nodiscard]] std::span<std::byte> all() const { return {m_memory.get(), m_size}; }
    [[nodiscard]] std::span<std::byte> part(std::size_t at, std::size_t size) const {
        return all().subspan(at, size);
    }

private:
    std::size_t m_size;
    std::unique_ptr<std::byte, void (*)(void*)> m_memory;
};

class NotedRequest final : public BlockRequest {
public:
    NotedRequest() = default;
    NotedRequest(BlockOperation what, u64 at, u64 bytes) {
        operation = what;
        offset = at;
        size = bytes;
    }
    NotedRequest(BlockOperation what, u64 at, std::span<std::byte> where)
        : NotedRequest(what, at, where.size()) {
        add(where);
    }
    void add(std::span<std::byte> where) { memory.push_back({where.data(), where.size()}); }
    void done(BlockStatus how) override {
        EXPECT_FALSE(status) << "done twice";
        status = how;
        if (then) then();
    }
    std::optional<BlockStatus> status;
    std::function<void()> then;
};

/// Waits as the machine does: in poll, then reaps. @return false if nothing comes in a long time.
inline bool wait_for_any(BlockBackEnd& disk) {
    pollfd fd{disk.poll_descriptor(), POLLIN, 0};
    if (::poll(&fd, 1, 60'000) <= 0) return false;
    disk.reap();
    return true;
}

inline bool wait_for_all(BlockBackEnd& disk) {
    disk.commit();
    while (disk.under_way() != 0)
        if (!wait_for_any(disk)) return false;
    return true;
}

/// One request from its beginning to its end.
inline BlockStatus perform(BlockBackEnd& disk, NotedRequest& request) {
    disk.submit(request);
    EXPECT_TRUE(wait_for_all(disk));
    return request.status.value_or(BlockStatus::io_error);
}
inline BlockStatus perform(BlockBackEnd& disk, BlockOperation operation, u64 offset,
                           std::span<std::byte> memory) {
    NotedRequest request(operation, offset, memory);
    return perform(disk, request);
}
inline BlockStatus perform(BlockBackEnd& disk, BlockOperation operation, u64 offset = 0,
                           u64 size = 0, bool fua = false) {
    NotedRequest request(operation, offset, size);
    request.fua = fua;
    return perform(disk, request);
}

} // namespace gnomon::test
