// SPDX-License-Identifier: Apache-2.0
/// @file A disk with a volatile write cache, in this process's memory: what the guest was not told
/// is flushed is lost when the process dies. For tests of durability.
#pragma once

#include "base/file_descriptor.h"
#include "platform/block/block_back_end.h"

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <vector>

namespace gnomon::test {

/// Writes are done as soon as they are in memory. Only a flush, or a request with FUA, takes
/// anything to the disk below; flushes run alone, and what is submitted meanwhile waits. Discards
/// and long writes of zeroes go below at once, which a cache may do.
class DroppingBackEnd final : public platform::BlockBackEnd {
public:
    explicit DroppingBackEnd(std::unique_ptr<platform::BlockBackEnd> below);
    ~DroppingBackEnd() override;

    [[nodiscard]] u64 size() const override { return m_below->size(); }
    [[nodiscard]] bool read_only() const override { return m_below->read_only(); }
    void submit(platform::BlockRequest& request) override;
    void commit() override;
    unsigned reap() override;
    [[nodiscard]] int poll_descriptor() const override { return m_poll.get(); }
    [[nodiscard]] unsigned under_way() const override { return m_under_way; }

    /// Sectors that would be lost now.
    [[nodiscard]] std::size_t unflushed() const { return m_cache.size(); }

private:
    static constexpr u64 sector = 512;
    static constexpr u64 longest_cached = u64{1} << 20; ///< of writes of zeroes
    using Sector = std::array<std::byte, sector>;

    /// A request of ours to the disk below.
    class Forwarded final : public platform::BlockRequest {
    public:
        explicit Forwarded(DroppingBackEnd& layer) : m_layer(layer) {}
        void done(platform::BlockStatus status) override { m_layer.below_done(*this, status); }
        platform::BlockRequest* origin = nullptr; ///< null: of a flush
        std::vector<std::byte> contents;

    private:
        DroppingBackEnd& m_layer;
    };
    struct Finished {
        platform::BlockRequest* request;
        platform::BlockStatus status;
    };

    void begin(platform::BlockRequest& request);
    void cache(const platform::BlockRequest& request);
    void forget(u64 offset, u64 size);
    void overlay(const platform::BlockRequest& read);
    void forward(platform::BlockRequest& request);
    Forwarded& send_below(std::unique_ptr<Forwarded> one);
    void write_back();
    void below_done(Forwarded& one, platform::BlockStatus status);
    void flush_advances(platform::BlockStatus status);
    void finish(platform::BlockRequest& request, platform::BlockStatus status);

    FileDescriptor m_poll, m_event; ///< the event: `m_finished` is not empty
    std::map<u64, Sector> m_cache;  ///< by number
    std::deque<platform::BlockRequest*> m_waiting;
    std::map<const Forwarded*, std::unique_ptr<Forwarded>> m_forwarded;
    platform::BlockRequest* m_flush = nullptr; ///< that runs
    bool m_flushing_below = false;             ///< its last step
    platform::BlockStatus m_flush_status = platform::BlockStatus::ok;
    std::vector<Finished> m_finished;
    unsigned m_under_way = 0;
    std::unique_ptr<platform::BlockBackEnd> m_below; ///< goes first: it uses what is forwarded
};

} // namespace gnomon::test
