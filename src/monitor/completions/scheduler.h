// SPDX-License-Identifier: Apache-2.0
/// @file The completion scheduler (M3.1-M3.5): when the guest learns that a request of a virtual
/// device is done.
///
/// A request has a **nominal delay**, that of the device's physical counterpart (M3.1, M3.2;
/// platform/block/disk_profile.h). Its completion **matures** when the submitting CPU has run for
/// so long since (GuestView::run_ns), or `cap_ns` after that time on the virtual clock, as far as
/// it was watched. If the host is later, it is delivered at once. Otherwise it waits (M3.3,
/// delay_queues.h) until it matures or a **safepoint** of the CPU that takes the interrupt comes
/// (M3.4, safepoints.h), whichever is first (M3.5). What is early keeps to these rules:
///
/// - not within the guard window of a command (CompletionRules::guard_ns), judged on the CPU that
///   submitted it; a CPU that halts has ended its window;
/// - one unacknowledged interrupt per line, one new interrupt per return, and one completion per
///   interrupt unless the device allows batches;
/// - not before the age that the device's guest has been found to need (BackOff).
///
/// What has matured waits as well, for a short while, if an interrupt of its line is not yet
/// acknowledged or the handler is seen to be under way.
///
/// Nothing here assumes one virtual CPU. Threads: the board's lock is held around every call but
/// `any_known`.
#pragma once

#include "monitor/completions/back_off.h"
#include "monitor/completions/completion_statistics.h"
#include "monitor/completions/delay_queues.h"
#include "monitor/completions/guest_view.h"
#include "monitor/completions/policy.h"
#include "monitor/completions/safepoints.h"

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gnomon::monitor {

class Completions final : public platform::CompletionScheduler {
public:
    static constexpr u64 never = ~u64{0};
    /// How much longer than its nominal delay a completion waits on the virtual clock at most. Of
    /// the time between two looks no more than `watched_step_ns` counts: after one long time in
    /// which nobody ran, the guest is where it was, perhaps just behind its doorbell.
    static constexpr u64 cap_ns = 1'000'000'000, watched_step_ns = cap_ns / 16;
    /// A running CPU is not interrupted sooner than this to look for a safepoint.
    static constexpr u64 shortest_wait_ns = 50'000;
    /// Even guest-run time may have passed without an instruction of the guest: what a hypervisor
    /// below the host takes is CPU time for the host. So of a stretch from an entry to the next
    /// exit no more than this counts, and of what is between exit and entry nothing, for maturity
    /// and for guard windows; a running CPU for which something waits is made to exit so often.
    static constexpr u64 stretch_ns = 100'000, close_stretch_ns = 10'000;
    static constexpr unsigned most_lines = 2048; ///< of a device
    /// Latencies of what no handler takes are noted for so many at a time.
    static constexpr std::size_t most_told = 4096;

    /// @param view outlives it. @param rules null: the usual ones.
    Completions(const CompletionPolicy& policy, GuestView& view, unsigned cpus,
                std::shared_ptr<const CompletionRules> rules = nullptr);

    // --- for devices ---

    [[nodiscard]] unsigned add_device(std::string name) override;
    void allow_batches(unsigned device) override { m_devices[device].batches = true; }
    void submitted(unsigned device, platform::Completion& completion, u64 nominal_ns) override;
    void host_done(platform::Completion& completion) override;
    void cancel(platform::Completion& completion) override;
    using CompletionScheduler::command_written;
    void command_written(unsigned device, unsigned line) override;
    void status_polled(unsigned device) override;
    void trouble(unsigned device, platform::GuestTrouble sign) override;

    // --- for the loop that runs a virtual CPU ---

    /// `cpu` was entered, and for so long of the virtual clock it did not exit. To be called while
    /// `any_known`.
    void ran(unsigned cpu, u64 ns);

    /// Whether `look` is to be called: a request that has a delay is under way. One relaxed load,
    /// from any thread.
    [[nodiscard]] bool any_known() const { return m_known.load(std::memory_order_relaxed) != 0; }
    /// Delivers what may be delivered now. To be called at exits of `cpu`, which is the current
    /// one, before it is entered again or goes to wait. @param halted it waits in HLT. @return
    /// whether anything was delivered.
    bool look(unsigned cpu, bool halted);
    /// When to call `look` again at the latest, on the virtual clock; `never` if there is no need.
    [[nodiscard]] u64 next_look_ns(unsigned cpu) const;
    /// Whether `cpu`, which does not take interrupts now, is to exit as soon as it does.
    [[nodiscard]] bool wants_window(unsigned cpu) const {
        return any_known() && m_cpus[cpu].window;
    }
    /// `cpu`, the current one, is about to enter the handler of an external interrupt.
    void interrupt_injected(unsigned cpu, u8 vector);

    [[nodiscard]] Statistics report() const;

private:
    using Completion = platform::Completion;
    class Delivering;

    /// One of a device's interrupts.
    struct Line {
        unsigned device = 0;
        unsigned cpu = 0;         ///< that took its last interrupt; until then, that submitted last
        LineQueue queue;          ///< the local delay queue
        bool queued = false;      ///< in Cpu::lines
        bool held = false;        ///< something of it has matured and waits for the handler
        std::optional<u8> vector; ///< at `cpu`, of its last interrupt
        // The guard window: the last command and who wrote it.
        unsigned guard_cpu = 0;
        u64 guard_ns = 0, guard_run_ns = 0, guard_seen_ns = 0;
        std::vector<u64> told; ///< submission of what was delivered and no handler has seen
    };
    struct Device {
        std::string name;
        bool batches = false;
        bool timed = false;       ///< has had a nominal delay
        unsigned polls = 0;       ///< since the last command or interrupt
        std::vector<Line*> lines; ///< by the device's own number; null: not used yet
        BackOff back_off;
        DeviceStatistics statistics;
    };
    struct Cpu {
        bool halted = false;
        HandlerWatch watch;
        std::vector<Line*> lines;                    ///< with something in their queue
        std::array<std::vector<Line*>, 256> vectors; ///< whose interrupts they are
        bool window = false;
        std::optional<ReturnContext> awaited; ///< as GuestView::watch_return was told last
        bool return_exits = false;
        bool return_wanted = false; ///< something waits for nothing but the return from a handler
        u64 early_look_ns = never;
        u64 looked_ns = 0;
        // The last reading of its guest-run time, and when that was.
        std::optional<u64> run_at_ns;
        u64 run_ns = 0;
        u64 seen_ns = 0, closely_seen_ns = 0; ///< virtual time, by stretches of such lengths
        u64 wanted_seen_ns = 0; ///< at which all that it has submitted has had its delay
        /// How often in a row it halted before it was to be interrupted for a look: setting the
        /// thread that does this going is dear, and for nothing with a CPU that halts by itself.
        unsigned halts_seen = 0;
    };
    static constexpr unsigned most_halts_seen = 5;
    [[nodiscard]] static u64 patience_ns(const Cpu& cpu) {
        return shortest_wait_ns << cpu.halts_seen;
    }

    [[nodiscard]] Line& line_of(unsigned device, unsigned line);
    /// Where `cpu` is now; counts what it has slept since the last call.
    void observe(unsigned cpu, bool halted);
    /// Takes what has been seen of the current CPU's returns from handlers.
    void follow_returns(unsigned cpu);
    void expect_return(Cpu& cpu);
    void open_guard(Line& line, unsigned cpu, u64 now, u64 run);
    /// GuestView::run_ns, read once for each `now`.
    [[nodiscard]] u64 run_ns(unsigned cpu, u64 now);
    [[nodiscard]] u64 age_ns(const Completion& completion, u64 now, u64 enough);
    /// How much of the longest wait is left.
    [[nodiscard]] u64 cap_left_ns(const Completion& completion) const;
    [[nodiscard]] bool delays(const Completion& completion) const;
    void enqueue(Completion& completion, u64 look_ns);
    void dequeue(Completion& completion);
    /// How much of its delay is left, in ns; 0: it has matured.
    [[nodiscard]] u64 left_ns(const Completion& completion, u64 now);
    [[nodiscard]] bool surely_guarded(const Line& line, u64 now) const;
    [[nodiscard]] bool guard_over(const Line& line, const Completion& completion, u64 now);
    [[nodiscard]] bool old_enough(const Device& device, const Completion& completion, u64 now);
    [[nodiscard]] bool unacknowledged(const Line& line) const;
    [[nodiscard]] bool busy(const Line& line) const;
    [[nodiscard]] bool held_back(const Completion& completion, u64 now);
    bool look_for_matured(u64 now);
    bool look_for_held(unsigned cpu, u64 now);
    void deliver_matured(Completion& completion, u64 now);
    template <typename Ready>
    bool choose(Line& line, Ready ready);
    bool look_for_safepoint(unsigned cpu, bool halted, u64 now);
    bool deliver_early(Line& line, Delivery kind, u64 now);
    void take(Completion& completion);
    void forget(Completion& completion);
    void deliver_one(Completion& completion, Delivery kind);
    void deliver_chosen(Line& line, Delivery kind);
    void tell(Line& line, Completion& completion, Delivery kind);
    void find_interrupt(Line& line, const std::vector<platform::VectorSet>& before);
    void set_vector(Line& line, unsigned cpu, u8 vector);
    void record_told(Line& line, u64 now);

    CompletionPolicy m_policy;
    GuestView& m_view;
    std::shared_ptr<const CompletionRules> m_rules;
    std::deque<Device> m_devices; ///< deques: what is in them stays where it is
    std::deque<Line> m_lines;
    std::vector<Cpu> m_cpus;
    GlobalQueue m_global;
    std::deque<std::vector<platform::VectorSet>> m_before; ///< of each delivery under way
    u64 m_watched_ns = 0, m_watched_at_ns = 0;             ///< by steps, and of the last
    u64 m_next_order = 0;
    std::size_t m_depth = 0;           ///< how many those are
    std::atomic<unsigned> m_known = 0; ///< submitted, with a delay
};

} // namespace gnomon::monitor
