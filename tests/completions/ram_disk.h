// SPDX-License-Identifier: Apache-2.0
/// @file A disk in memory, as slow and as unfair as a test wants.
#pragma once

#include "base/file_descriptor.h"
#include "base/result.h"
#include "platform/block/block_back_end.h"

#include <deque>
#include <memory>

namespace gnomon::test {

struct RamDiskOptions {
    u64 blocks = 1024; ///< of 4 KiB; each begins with its number
    /// How many requests `reap` finishes at most in one call.
    std::size_t per_reap = ~std::size_t{0};
    u64 latency_ns = 0; ///< from `submit`
    /// Nothing is done until so many wait; then all of these are, before any that come meanwhile.
    std::size_t gather = 1;
    /// Every so many commits the thread sleeps for `steal_ns`, as one that the host does not
    /// schedule; 0: never.
    u64 steal_every = 0, steal_ns = 0;
    /// Where it notes, for each request with a latency, how long after its time `done` has come
    /// back, in ns; null: nowhere.
    std::shared_ptr<std::vector<u64>> told_after_ns;
};

class RamDisk final : public platform::BlockBackEnd {
public:
    static constexpr u64 block_bytes = 4096;

    [[nodiscard]] static Result<std::unique_ptr<RamDisk>> create(const RamDiskOptions& options);

    [[nodiscard]] u64 size() const override { return m_contents.size(); }
    [[nodiscard]] bool read_only() const override { return false; }
    void submit(platform::BlockRequest& request) override;
    void commit() override;
    unsigned reap() override;
    [[nodiscard]] int poll_descriptor() const override { return m_ready.get(); }
    [[nodiscard]] unsigned under_way() const override {
        return static_cast<unsigned>(m_waiting.size());
    }

private:
    struct Waiting {
        platform::BlockRequest* request = nullptr;
        u64 ready_ns = 0; ///< CLOCK_MONOTONIC
    };
    explicit RamDisk(const RamDiskOptions& options);
    /// Lets go what has been gathered. @return whether anything may be done now or later.
    [[nodiscard]] bool release();
    [[nodiscard]] platform::BlockStatus perform(const platform::BlockRequest& request);
    void arm();
    void disarm();

    RamDiskOptions m_options;
    std::vector<std::byte> m_contents;
    std::deque<Waiting> m_waiting; ///< in the order of their times
    std::size_t m_released = 0;    ///< how many of them may be done
    FileDescriptor m_ready;        ///< readable once the first is ready
    bool m_armed = false;
    u64 m_commits = 0;
};

} // namespace gnomon::test
