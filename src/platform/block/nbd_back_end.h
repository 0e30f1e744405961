// SPDX-License-Identifier: Apache-2.0
/// @file Disks that a server holds, by the NBD protocol.
#pragma once

#include "base/file_descriptor.h"
#include "platform/block/block_back_end.h"
#include "platform/block/disk_reports.h"
#include "platform/block/qemu_nbd.h"
#include "platform/block/request_steps.h"

#include <deque>
#include <memory>
#include <string>
#include <vector>

struct nbd_handle;

namespace gnomon::platform {

/// It needs no thread: the connection's descriptor is watched by `poll_descriptor`, an epoll
/// instance, and `reap` moves what can be moved without waiting. When the server is gone every
/// request fails; one line says so.
class NbdBackEnd final : public BlockBackEnd {
public:
    /// How long a server may take to be reached and to agree.
    static constexpr u64 patience_ns = 30'000'000'000;
    /// Requests that the server is given at a time; others wait here, in order.
    static constexpr unsigned max_at_server = 64;

    /// @param uri nbd:// or nbd+unix://
    [[nodiscard]] static Result<std::unique_ptr<BlockBackEnd>>
    connect(const std::string& uri, bool read_only, DiskReport report);
    /// @param server started for this disk; it goes with it. @param path the image, for the user.
    [[nodiscard]] static Result<std::unique_ptr<BlockBackEnd>>
    adopt(std::unique_ptr<QemuNbd> server, const std::string& path, bool read_only,
          DiskReport report);
    ~NbdBackEnd() override;

    [[nodiscard]] u64 size() const override { return m_traits.size; }
    [[nodiscard]] bool read_only() const override { return m_traits.read_only; }
    [[nodiscard]] bool is_served() const override { return true; }
    void submit(BlockRequest& request) override;
    void commit() override;
    unsigned reap() override;
    [[nodiscard]] int poll_descriptor() const override { return m_poll.get(); }
    [[nodiscard]] unsigned under_way() const override { return m_under_way; }

private:
    struct HandleClosed {
        void operator()(nbd_handle* handle) const;
    };
    /// One request at the server.
    struct Slot {
        RequestSteps steps;
        NbdBackEnd* end = nullptr;
        i64 result = 0; ///< of the step that has completed
    };

    NbdBackEnd(std::string name, DiskReport report)
        : m_reports(std::move(name), std::move(report)) {}
    [[nodiscard]] Result<> set_up(bool read_only);
    [[nodiscard]] Result<> finish_connecting();
    [[nodiscard]] Result<> learn_traits(bool read_only);
    [[nodiscard]] std::string reason() const;
    void begin(Slot& slot);
    void completed(Slot& slot, i64 result);
    [[nodiscard]] bool take(Slot& slot);
    void move();
    void notice_end();
    void watch();
    static int on_completion(void* slot, int* error);

    DiskReports m_reports;
    std::unique_ptr<QemuNbd> m_server; ///< outlives the connection
    HostTraits m_traits;
    FileDescriptor m_poll, m_event; ///< the event: `m_completed` is not empty
    std::vector<std::unique_ptr<Slot>> m_slots;
    std::vector<Slot*> m_free_slots;
    std::vector<Slot*> m_completed, m_taken;
    std::deque<BlockRequest*> m_waiting;
    unsigned m_under_way = 0;
    unsigned m_watched = 0; ///< events of the connection's descriptor
    bool m_signalled = false;
    bool m_gone = false;
    std::unique_ptr<nbd_handle, HandleClosed> m_handle; ///< goes first: nothing completes after it
};

} // namespace gnomon::platform
