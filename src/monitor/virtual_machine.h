// SPDX-License-Identifier: Apache-2.0
/// @file One power-on life of a machine: everything that a reset makes anew, and the loop that runs
/// it.
#pragma once

#include "guest/boot/kernel_image.h"
#include "monitor/completions/machine_view.h"
#include "monitor/completions/scheduler.h"
#include "monitor/disks.h"
#include "monitor/event_thread.h"
#include "monitor/guest_msrs.h"
#include "monitor/heartbeat.h"
#include "monitor/interposer.h"
#include "monitor/machine.h"
#include "monitor/run_statistics.h"
#include "monitor/shadow/shadow_mmu.h"
#include "monitor/timed_observer.h"
#include "platform/board.h"
#include "platform/host_clock.h"
#include "processor/processor.h"

#include <atomic>
#include <memory>
#include <optional>

namespace gnomon::monitor {

/// What outlives a reset.
struct MachineResources {
    MachineOptions options;
    guest::KernelImage kernel;
    std::shared_ptr<KernelKnowledge> knowledge{}; ///< null without an observer
    platform::HostClock clock{};
    Heartbeat heartbeat{clock.tsc_hz()};
    std::atomic<bool> stop = false;
    TimeAccount* time = nullptr; ///< started with the guest; nullptr: time is not measured
    u64 guest_start_ns = 0;      ///< CLOCK_MONOTONIC when the guest ran first

    /// After SIGCONT: takes the time during which the process was stopped out of the clock.
    /// Async-signal-safe, on the machine's thread.
    /// @param tsc_read host TSC when the guest last read its own: its time does not go backwards.
    void skip_stopped_time(u64 tsc_read);
};

/// Built for one life. Threads: the one that calls `run`.
class VirtualMachine {
public:
    /// `resources` must outlive the result.
    [[nodiscard]] static Result<std::unique_ptr<VirtualMachine>>
    create(MachineResources& resources);
    /// What a machine may be made of instead of the usual parts.
    struct Parts {
        std::unique_ptr<processor::Processor> processor; ///< not null
        ShadowOptions shadow;
    };
    /// A machine without a guest: RAM is empty and the register block as after construction.
    /// Whoever wants it to run writes both, tells `shadow` of the root, and calls `step`.
    [[nodiscard]] static Result<std::unique_ptr<VirtualMachine>>
    create_empty(MachineResources& resources, Parts parts);
    VirtualMachine(const VirtualMachine&) = delete;
    VirtualMachine& operator=(const VirtualMachine&) = delete;
    ~VirtualMachine();

    [[nodiscard]] Result<RunOutcome> run();
    /// One turn of the loop: events, an entry, and the exit that it ends with. Does not look at
    /// MachineResources::stop, except while it waits for the end of a HLT.
    [[nodiscard]] Result<std::optional<RunEnd>> step();
    /// Makes `run` look at MachineResources::stop. Async-signal-safe.
    void kick() { m_processor->kick(); }
    /// As Machine::process_continued.
    void process_continued();
    /// What this life has done, without the group "time".
    [[nodiscard]] Statistics report() const;

    // The parts, for whoever has made an empty machine; only while it does not run.
    [[nodiscard]] GuestMemory& memory() { return *m_memory; }
    [[nodiscard]] platform::Board& board() { return *m_board; }
    [[nodiscard]] processor::Processor& processor() { return *m_processor; }
    [[nodiscard]] ShadowMmu& shadow() { return *m_shadow; }
    [[nodiscard]] Interposer* interposer() { return m_interposer.get(); } ///< null: no observer
    [[nodiscard]] const RunStatistics& statistics() const { return m_statistics; }

private:
    explicit VirtualMachine(MachineResources& resources) : m_resources(resources) {}
    [[nodiscard]] Result<> build(Parts parts);
    [[nodiscard]] Result<> boot();

    // exits
    [[nodiscard]] std::optional<RunEnd> handle(const processor::Exit& exit);
    void handle_page_fault(const processor::Exit& exit);
    void handle_io(const processor::Exit& exit);
    void handle_mmio(const processor::Exit& exit);
    void handle_msr(const processor::Exit& exit);
    void handle_control_register(const processor::Exit& exit);
    void handle_halt();
    [[nodiscard]] std::optional<u64> read_msr(u32 index);
    [[nodiscard]] bool write_msr(u32 index, u64 value);
    void advance(const processor::Exit& exit);
    void inject(processor::Vector vector, std::optional<u32> error_code = std::nullopt,
                u64 cr2 = 0);

    // events
    void prepare_events();
    void update_deadline();
    void set_deadline(u64 board_ns);
    void set_tsc_offset();
    void pump_serial();
    /// What the host has done for the disks becomes what the guest sees.
    void reap_disks() {
        if (m_disks != nullptr) m_disks->reap();
    }
    /// Has the scheduler deliver what it holds, if this is the time. A halt it is always told of:
    /// no handler is under way then, whether or not anything waits.
    void look_at_completions(bool halted) {
        if (m_completions != nullptr && (halted || m_completions->any_known()))
            deliver_completions(halted);
    }
    void deliver_completions(bool halted);
    [[nodiscard]] std::string state_text() const;
    [[nodiscard]] Result<> check_shadow();

    class SerialAdapter final : public platform::SerialBackEnd {
    public:
        [[nodiscard]] bool try_write(u8 byte) override {
            if (endpoint == nullptr) return true;
            const std::byte b{byte};
            return endpoint->transmitted(std::span(&b, 1)) == 1;
        }
        SerialEndpoint* endpoint = nullptr;
    };
    class Tlb final : public TlbControl {
    public:
        explicit Tlb(processor::Processor& p) : m_processor(p) {}
        void invalidate_all() override { m_processor.invalidate_tlb(); }
        void invalidate(Gva gva) override { m_processor.invalidate_tlb(gva); }
        void invalidate(Gva first, u64 pages, u64 root) override {
            m_processor.invalidate_tlb(first, pages, root);
        }
        void forget_root(u64 root) override { m_processor.forget_root(root); }
        void revoke_writes(Gpa gpa) override { m_processor.revoke_writes(gpa); }
        void invalidate_code(Gpa gpa, u64 size) override { m_processor.invalidate_code(gpa, size); }

    private:
        processor::Processor& m_processor;
    };

    /// Memory that devices write may be page tables or code.
    class DeviceWrites final : public platform::DmaListener {
    public:
        DeviceWrites(ShadowMmu& shadow, processor::Processor& processor)
            : m_shadow(shadow), m_processor(processor) {}
        void dma_written(Gpa gpa, u64 size) override {
            m_shadow.note_write(gpa, size);
            m_processor.invalidate_code(gpa, size);
        }

    private:
        ShadowMmu& m_shadow;
        processor::Processor& m_processor;
    };

    // In the order of construction: what comes later refers to what comes before.
    MachineResources& m_resources;
    std::optional<GuestMemory> m_memory;
    std::array<SerialAdapter, 4> m_serial;
    std::unique_ptr<platform::Board> m_board;
    std::unique_ptr<processor::Processor> m_processor;
    std::unique_ptr<Tlb> m_tlb;
    std::unique_ptr<ShadowMmu> m_shadow;
    std::optional<TimedObserver> m_timed_observer;
    std::unique_ptr<Interposer> m_interposer;
    std::vector<processor::CpuidLeaf> m_cpuid;
    GuestMsrs m_msrs;
    std::optional<DeviceWrites> m_device_writes;
    std::optional<MachineView> m_view;
    std::unique_ptr<Completions> m_completions; ///< null: there are no disks
    std::unique_ptr<Disks> m_disks;             ///< likewise
    std::unique_ptr<EventThread> m_events;
    bool m_triple_fault = false;
    u64 m_coherency_points = 0;
    /// Deadlines may have changed. Disks have none; their interrupts are seen at every entry.
    bool m_board_touched = true;
    u64 m_deadline_ns = 0;               ///< of the board, in virtual time
    u64 m_armed_ns = EventThread::never; ///< the event thread kicks then, or has kicked
    u64 m_tsc_adjust = 0;
    bool m_input_waits = false;
    RunStatistics m_statistics;
    TimeAccount* m_time = nullptr; ///< m_resources.time
};

} // namespace gnomon::monitor
