// SPDX-License-Identifier: Apache-2.0
/// @file Raw disks through io_uring: one ring a disk.
#pragma once

#include "platform/block/block_back_end.h"
#include "platform/block/disk_file.h"

#include <deque>
#include <liburing.h>
#include <memory>
#include <vector>

namespace gnomon::platform {

/// The ring serves its one registered file and only by the operations that disks need
/// (IORING_REGISTER_RESTRICTIONS): who takes over the process after it has confined itself does not
/// get io_uring's way around the system-call filter.
///
/// `poll_descriptor` is the ring's own. It keeps in order what the ring has no place for. After its
/// creation it makes no system call but io_uring_enter.
class UringBackEnd final : public BlockBackEnd {
public:
    static constexpr unsigned submission_entries = 128;

    /// @return an error where the kernel has no io_uring, or one without what is needed here, or
    /// does not let the process use it: the reason, without the disk's name. `file` and `reports`
    /// are taken only by success.
    [[nodiscard]] static Result<std::unique_ptr<BlockBackEnd>>
    create(std::unique_ptr<DiskFile>& file, std::unique_ptr<DiskReports>& reports);
    /// Whether the kernel lets this process have a ring.
    [[nodiscard]] static bool available();
    ~UringBackEnd() override;

    [[nodiscard]] u64 size() const override { return m_file->traits.size; }
    [[nodiscard]] bool read_only() const override { return m_file->traits.read_only; }
    void submit(BlockRequest& request) override;
    void commit() override;
    unsigned reap() override;
    [[nodiscard]] int poll_descriptor() const override { return m_ring.ring.ring_fd; }
    [[nodiscard]] unsigned under_way() const override { return m_under_way; }

private:
    /// Owner of the library's structure.
    struct Ring {
        Ring() = default;
        Ring(const Ring&) = delete;
        Ring& operator=(const Ring&) = delete;
        ~Ring() {
            if (open) ::io_uring_queue_exit(&ring);
        }
        io_uring ring{};
        bool open = false;
    };

    UringBackEnd() = default;
    [[nodiscard]] Result<> set_up(int fd);
    [[nodiscard]] io_uring_sqe* free_entry();
    void prepare(io_uring_sqe& entry, RequestSteps& steps);
    void prepare_waiting();
    /// @return whether its request has finished.
    bool take(io_uring_cqe& entry);

    Ring m_ring;
    std::unique_ptr<DiskFile> m_file;
    std::unique_ptr<DiskReports> m_reports;
    std::vector<std::unique_ptr<RequestSteps>> m_all_steps; ///< as many as were ever in the ring
    std::vector<RequestSteps*> m_free_steps;
    std::deque<RequestSteps*> m_next_steps; ///< of requests that have begun
    std::deque<BlockRequest*> m_waiting;    ///< that have not
    unsigned m_in_ring = 0;                 ///< entries prepared whose completion was not taken
    unsigned m_under_way = 0;
};

} // namespace gnomon::platform
