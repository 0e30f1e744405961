// SPDX-License-Identifier: Apache-2.0
/// @file Raw disks through threads that make blocking system calls: where io_uring is forbidden.
#pragma once

#include "platform/block/block_back_end.h"
#include "platform/block/disk_file.h"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace gnomon::platform {

/// Threads are made by the first `commit`s, as many as there is work for, so that they are confined
/// as the machine's thread is. They take no signals.
///
/// `poll_descriptor` is an eventfd that is not zero exactly while `reap` has something to do.
class ThreadBackEnd final : public BlockBackEnd {
public:
    static constexpr unsigned max_threads = 16;

    [[nodiscard]] static Result<std::unique_ptr<BlockBackEnd>>
    create(std::unique_ptr<DiskFile> file, std::unique_ptr<DiskReports> reports);
    ~ThreadBackEnd() override;

    [[nodiscard]] u64 size() const override { return m_file->traits.size; }
    [[nodiscard]] bool read_only() const override { return m_file->traits.read_only; }
    void submit(BlockRequest& request) override;
    void commit() override;
    unsigned reap() override;
    [[nodiscard]] int poll_descriptor() const override { return m_event.get(); }
    [[nodiscard]] unsigned under_way() const override { return m_under_way; }

private:
    struct Finished {
        BlockRequest* request;
        BlockStatus status;
        int error;
    };

    ThreadBackEnd() = default;
    void work();
    /// @return the status, or nothing if the back end goes.
    [[nodiscard]] std::optional<BlockStatus> perform(RequestSteps& steps);
    void finish(const Finished& one);
    [[nodiscard]] bool add_thread();

    std::unique_ptr<DiskFile> m_file;
    std::unique_ptr<DiskReports> m_reports;
    FileDescriptor m_event;
    std::vector<BlockRequest*> m_submitted; ///< since the last commit
    std::vector<Finished> m_reaped;
    unsigned m_under_way = 0;
    std::vector<std::thread> m_threads;

    std::mutex m_mutex; ///< of what follows
    std::condition_variable m_work;
    std::deque<BlockRequest*> m_queue;
    std::vector<Finished> m_finished;
    std::size_t m_idle = 0; ///< threads that wait for work
    bool m_stop = false;
};

} // namespace gnomon::platform
