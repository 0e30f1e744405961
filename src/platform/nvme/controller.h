// SPDX-License-Identifier: Apache-2.0
/// @file An NVMe 1.4 controller with one namespace.
///
/// NVM Express Base Specification 1.4. The device is BAR 0; the PCI function that carries it is
/// not known here. From doorbell to interrupt: `write` takes the doorbell (controller.cpp),
/// `run_queues` fetches commands and `execute` starts them (commands.cpp, admin_commands.cpp,
/// io_commands.cpp), the back end calls `host_done`, the completion scheduler `deliver`, and that
/// writes the completion entry and interrupts (queue_work.cpp).
///
/// What is not offered, and said so in Identify and CAP: SGLs, fused operations, metadata, several
/// namespaces, firmware update, format, security, a controller memory buffer.
#pragma once

#include "platform/block/delay_model.h"
#include "platform/clock.h"
#include "platform/device.h"
#include "platform/dma.h"
#include "platform/interrupt_vectors.h"
#include "platform/nvme/async_events.h"
#include "platform/nvme/features.h"
#include "platform/nvme/options.h"
#include "platform/nvme/registers.h"
#include "platform/nvme/request.h"

#include <memory>

namespace gnomon::platform::nvme {

/// What a controller works with. All must outlive it.
struct Parts {
    InterruptVectors& vectors;
    Dma& dma;
    BlockBackEnd& disk; ///< nothing else uses it
    CompletionScheduler& completions;
    DelayModel& delays;
    const Clock& clock;
};

/// Threads: the machine's. One doorbell costs at most what its ring holds.
class Controller final : public BusDevice {
public:
    /// @param name for the completion scheduler's reports: "nvme0".
    Controller(const Parts& parts, Options options, std::string name);
    /// Waits until the back end has nothing of it any more.
    ~Controller() override;

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;

    /// Reset by the bus (function-level, or of the whole machine): all is as at power-on, but for
    /// requests that the back end has not let go of; until it has, CSTS.RDY stays.
    void reset();

    [[nodiscard]] unsigned vectors() const { return m_options.vectors; }

    /// @private Of its requests.
    void host_done(Request& request, BlockStatus status);
    void deliver(Request& request);

private:
    /// Commands that may be under way at once, besides what the rings hold.
    static constexpr std::size_t most_io_requests = 1024, most_admin_requests = 32;

    enum class State : u8 {
        disabled,
        ready,
        resetting, ///< the back end has not let go of everything
    };
    enum class Shutdown : u8 { none, occurring, complete };

    /// The flush of a shutdown, which no command asked for.
    class ShutdownFlush final : public BlockRequest {
    public:
        explicit ShutdownFlush(Controller& controller) : m_controller(controller) {
            operation = BlockOperation::flush;
        }
        void done(BlockStatus status) override { m_controller.shutdown_flushed(status); }
        bool of_this_shutdown = false; ///< no reset came between

    private:
        Controller& m_controller;
    };

    class RequestPool {
    public:
        RequestPool(Controller& controller, bool admin, std::size_t most)
            : m_controller(controller), m_admin(admin), m_most(most) {}
        [[nodiscard]] Request* take();
        void give_back(Request& request);
        [[nodiscard]] auto& all() { return m_all; }

    private:
        Controller& m_controller;
        bool m_admin;
        std::size_t m_most;
        std::vector<std::unique_ptr<Request>> m_all;
        std::vector<Request*> m_free;
    };

    // controller.cpp: registers and states
    [[nodiscard]] u32 read_dword(u64 offset) const;
    void write_dword(u64 offset, u32 value);
    void write_cc(u32 value);
    void write_doorbell(u64 offset, u32 value);
    [[nodiscard]] u32 csts() const;
    void enable();
    void begin_reset();
    void finish_reset();
    void begin_shutdown();
    void advance_shutdown();
    void shutdown_flushed(BlockStatus status);
    void host_let_go();
    /// Whether commands are fetched.
    [[nodiscard]] bool working() const {
        return m_state == State::ready && !m_fatal && m_shutdown == Shutdown::none;
    }
    [[nodiscard]] bool read_only() const { return m_options.read_only || m_disk.read_only(); }
    [[nodiscard]] u64 page_bytes() const { return page_size << Cc::page_shift(m_enabled_cc); }

    // queue_work.cpp: rings, completions, interrupts
    void run_queues();
    bool run_queue(SubmissionQueue& queue);
    void post(Request& request);
    [[nodiscard]] bool write_completion(CompletionQueue& queue, const Request& request);
    void post_held(CompletionQueue& queue);
    void interrupt(const CompletionQueue& queue);
    void update_pin();
    void release(Request& request);
    /// Ends requests without telling the guest: those of `queue`, or all. Whether any I/O was under
    /// way.
    bool abandon(const SubmissionQueue* queue);
    void raise(const Event& event);
    void tell_events();
    [[nodiscard]] SubmissionQueue* submission_queue(u32 id) {
        return id < m_submission.size() ? m_submission[id].get() : nullptr;
    }
    [[nodiscard]] CompletionQueue* completion_queue(u32 id) {
        return id < m_completion.size() ? m_completion[id].get() : nullptr;
    }

    // commands.cpp: what all commands share
    void execute(Request& request);
    void finish(Request& request, Status status);
    void start_steps(Request& request);
    void submit_step(Request& request);
    void end_delays(Request& request);
    [[nodiscard]] Status map_data(Request& request, u64 length);
    /// Moves data between a buffer of ours and the command's; what the command asks for beyond the
    /// buffer is zero.
    [[nodiscard]] Status send_data(Request& request, std::span<const std::byte> data, u64 length);
    [[nodiscard]] Status receive_data(Request& request, std::span<std::byte> data);
    void note_error(Request& request);

    // admin_commands.cpp. Those that return nothing go on by themselves.
    [[nodiscard]] std::optional<Status> execute_admin(Request& request);
    [[nodiscard]] Status create_completion_queue(const SubmissionEntry& command);
    [[nodiscard]] Status create_submission_queue(const SubmissionEntry& command);
    [[nodiscard]] Status delete_completion_queue(const SubmissionEntry& command);
    [[nodiscard]] std::optional<Status> delete_submission_queue(Request& request);
    [[nodiscard]] Status identify(Request& request);
    [[nodiscard]] Status get_log_page(Request& request);
    [[nodiscard]] Status set_features(Request& request);
    [[nodiscard]] Status get_features(Request& request);
    [[nodiscard]] Status abort(Request& request);
    [[nodiscard]] std::optional<Status> await_event(Request& request);
    [[nodiscard]] u8 critical_warning() const;

    // io_commands.cpp. What succeeds has steps for the back end, or nothing to do.
    [[nodiscard]] Status prepare_io(Request& request);
    [[nodiscard]] Status prepare_transfer(Request& request, BlockOperation operation);
    [[nodiscard]] Status prepare_compare(Request& request);
    [[nodiscard]] Status prepare_write_zeroes(Request& request);
    [[nodiscard]] Status prepare_dataset_management(Request& request);
    [[nodiscard]] Status check_blocks(u64 first, u64 count) const;
    [[nodiscard]] static Status status_of(const Request& request, BlockStatus status);
    [[nodiscard]] static bool equals_guest_data(const Request& request);
    void account_io(const Request& request);

    InterruptVectors& m_vectors;
    Dma& m_dma;
    BlockBackEnd& m_disk;
    CompletionScheduler& m_completions;
    DelayModel& m_delays;
    const Clock& m_clock;
    const Options m_options;
    const unsigned m_device; ///< the scheduler's number for it
    const u64 m_powered_on_ns;

    u32 m_interrupt_mask = 0, m_cc = 0, m_aqa = 0;
    u64 m_asq = 0, m_acq = 0;
    u32 m_enabled_cc = 0; ///< CC as it was when the controller was enabled
    State m_state = State::disabled;
    Shutdown m_shutdown = Shutdown::none;
    bool m_fatal = false, m_subsystem_was_reset = false;

    /// By identifier; 0 is the admin queue.
    std::vector<std::unique_ptr<SubmissionQueue>> m_submission;
    std::vector<std::unique_ptr<CompletionQueue>> m_completion;
    RequestPool m_io_requests{*this, false, most_io_requests};
    RequestPool m_admin_requests{*this, true, most_admin_requests};
    ShutdownFlush m_shutdown_flush{*this};
    unsigned m_at_host = 0; ///< requests that the back end has
    unsigned m_io_at_host = 0;
    u64 m_busy_since_ns = 0;
    bool m_running = false;   ///< inside run_queues
    bool m_starved = false;   ///< commands wait for a request or for room in a completion queue
    bool m_submitted = false; ///< since the last commit
    bool m_pin = false;
    bool m_ending = false; ///< being destroyed: nobody is left to hear of anything

    Features m_features;
    AsyncEvents m_events;
    ErrorLog m_errors;
    Health m_health;
};

} // namespace gnomon::platform::nvme
