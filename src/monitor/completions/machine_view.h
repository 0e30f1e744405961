// SPDX-License-Identifier: Apache-2.0
/// @file A machine as its completion scheduler sees it.
#pragma once

#include "monitor/completions/guest_view.h"
#include "monitor/completions/run_clock.h"
#include "platform/board.h"
#include "processor/control_block.h"

#include <utility>

namespace gnomon::monitor {

/// Of a machine with one virtual CPU. Threads: the one that runs it.
class MachineView final : public GuestView {
public:
    /// All outlive it.
    MachineView(processor::ControlBlock& block, const platform::Board& board,
                const platform::Clock& clock)
        : m_block(block), m_board(board), m_clock(clock),
          m_run(clock, [] { return host_time_ns(CLOCK_THREAD_CPUTIME_ID); }) {}

    [[nodiscard]] unsigned current_cpu() const override { return 0; }
    /// The same instant between two calls of `moved`: reading the clock is a large part of what
    /// looking at a completion takes.
    [[nodiscard]] u64 now_ns() const override {
        if (!m_now_ns) m_now_ns = m_clock.now_ns();
        return *m_now_ns;
    }
    /// The guest has run, or the thread has waited.
    void moved() { m_now_ns.reset(); }
    [[nodiscard]] u64 run_ns(unsigned) override { return m_run.run_ns(); }
    [[nodiscard]] u64 run_bound_ns(unsigned) override { return m_run.bound_ns(); }
    [[nodiscard]] CpuState state() const override {
        const processor::RegisterBlock& s = m_block.state;
        const bool under_way = m_block.io_data_valid || m_block.monitor_mode ||
                               !m_block.execution_hook_armed ||
                               m_block.injection.kind != processor::Injection::Kind::none;
        return {.takes_interrupts = (s.rflags & processor::rflags::if_) != 0 &&
                                    !m_block.interrupt_shadow && !under_way,
                .in_service = m_board.interrupt_in_service(0),
                .cs = s.segment[processor::seg_cs].selector,
                .cr3 = s.cr3,
                .rsp = s.gpr[processor::rsp]};
    }
    [[nodiscard]] platform::VectorSet active_vectors(unsigned cpu) const override {
        return m_board.active_vectors(cpu);
    }
    void watch_return(const std::optional<ReturnContext>& context, bool exits) override {
        const ReturnContext to = context.value_or(ReturnContext{});
        m_block.return_watch = {.armed = context.has_value(),
                                .opens_window = exits,
                                .cs = to.cs,
                                .cr3 = to.cr3,
                                .rsp = to.rsp};
    }
    [[nodiscard]] bool take_return() override {
        return std::exchange(m_block.return_watch.seen, false);
    }
    /// As RunClock::slept.
    void slept(u64 ns) { m_run.slept(ns); }

private:
    processor::ControlBlock& m_block;
    const platform::Board& m_board;
    const platform::Clock& m_clock;
    mutable std::optional<u64> m_now_ns;
    RunClock m_run;
};

} // namespace gnomon::monitor
