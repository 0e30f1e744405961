// SPDX-License-Identifier: Apache-2.0
/// @file The completion scheduler with clocks and processors that tests move.
#pragma once

#include "monitor/completions/scheduler.h"

#include <functional>
#include <gtest/gtest.h>

namespace gnomon::monitor::test {
using platform::GuestTrouble;
using platform::VectorSet;
using Kind = CompletionPolicy::Kind;

inline constexpr u64 us = 1'000, ms = 1'000'000;
inline constexpr u64 nominal = 8 * ms; // the guard is at its longest
inline constexpr u64 guard = 50 * us;
inline constexpr u8 vector = 0x50;

/// Two virtual CPUs; the tests say which is at its exit.
class FakeView final : public GuestView {
public:
    [[nodiscard]] unsigned current_cpu() const override { return current; }
    [[nodiscard]] u64 now_ns() const override { return now; }
    [[nodiscard]] u64 run_ns(unsigned cpu) override {
        ++run_readings;
        return run[cpu];
    }
    [[nodiscard]] u64 run_bound_ns(unsigned cpu) override { return run[cpu]; }
    [[nodiscard]] CpuState state() const override { return cpus[current]; }
    [[nodiscard]] VectorSet active_vectors(unsigned cpu) const override { return active[cpu]; }

    void watch_return(const std::optional<ReturnContext>& context, bool exits) override {
        awaited = context;
        return_exits = exits;
        returned = false;
    }
    [[nodiscard]] bool take_return() override { return std::exchange(returned, false); }

    unsigned current = 0;
    u64 now = 1'000 * ms;
    u64 run[2] = {};
    CpuState cpus[2];
    VectorSet active[2];
    unsigned run_readings = 0;
    std::optional<ReturnContext> awaited; ///< an IRET to there is looked out for
    bool return_exits = false, returned = false;
};

class CompletionTest : public testing::Test {
protected:
    /// A request; the device raises its interrupt when it is delivered.
    class Request final : public platform::Completion {
    public:
        explicit Request(CompletionTest& test) : m_test(test) {}
        void deliver() override {
            ++delivered;
            m_test.order.push_back(this);
            if (m_test.interrupts)
                m_test.view.active[m_test.target].set(static_cast<u8>(m_test.raised + line));
            if (then) then();
        }
        unsigned delivered = 0;
        std::function<void()> then;

    private:
        CompletionTest& m_test;
    };

    CompletionTest() {
        for (CpuState& cpu : view.cpus)
            cpu = {.takes_interrupts = true,
                   .in_service = false,
                   .cs = 8,
                   .cr3 = 0x1000,
                   .rsp = 0x8000};
    }
    void use(CompletionPolicy policy, std::shared_ptr<const CompletionRules> rules = nullptr) {
        completions.emplace(policy, view, 2, std::move(rules));
        device = completions->add_device("disk0");
    }
    void SetUp() override { use({}); }

    /// A request that the host does at once.
    Request& request(u64 delay = nominal, unsigned line = 0) {
        Request& made = submit(delay, line);
        completions->host_done(made);
        return made;
    }
    Request& submit(u64 delay = nominal, unsigned line = 0) {
        Request& made = requests.emplace_back(*this);
        made.line = line;
        completions->submitted(device, made, delay);
        return made;
    }
    /// The current CPU runs, with exits now and then.
    void pass(u64 ns) {
        for (u64 step = 0; ns != 0; ns -= step) {
            step = std::min<u64>(ns, Completions::close_stretch_ns);
            steal_unseen(step);
        }
    }
    /// It is halted, and was when the scheduler looked last.
    void sleep(u64 ns) {
        view.now += ns;
        view.run[view.current] += ns;
    }
    /// Another CPU runs.
    void pass_on(unsigned cpu, u64 ns) {
        const unsigned before = std::exchange(view.current, cpu);
        pass(ns);
        view.current = before;
    }
    /// The host lets nobody run.
    void steal(u64 ns) { view.now += ns; }
    /// One stretch from an entry to an exit. Perhaps a hypervisor below the host lets nobody run,
    /// and the host does not know.
    void steal_unseen(u64 ns) {
        view.now += ns;
        view.run[view.current] += ns;
        completions->ran(view.current, ns);
    }
    bool look() { return completions->look(view.current, false); }
    bool halt() { return completions->look(view.current, true); }

    [[nodiscard]] CpuState& cpu() { return view.cpus[view.current]; }
    /// The interrupt that was raised is taken: the handler begins, on the same stack.
    void enter_handler(u8 taken = vector) {
        ASSERT_TRUE(view.active[view.current].test(taken)) << "no interrupt was raised";
        completions->interrupt_injected(view.current, taken);
        cpu().takes_interrupts = false;
        cpu().in_service = true;
        saved_rsp.push_back(cpu().rsp);
        cpu().rsp -= 200;
    }
    void end_of_interrupt(u8 taken = vector) {
        view.active[view.current].clear(taken);
        cpu().in_service = false;
    }
    void leave_handler() {
        cpu().takes_interrupts = true;
        cpu().rsp = saved_rsp.back();
        saved_rsp.pop_back();
    }
    /// The same by an IRET. @return whether the CPU exits behind it.
    bool leave_handler_by_iret() {
        leave_handler();
        const bool seen =
            view.awaited == ReturnContext{.cr3 = cpu().cr3, .rsp = cpu().rsp, .cs = cpu().cs};
        if (!seen) return false;
        view.awaited.reset();
        view.returned = true;
        return view.return_exits;
    }
    /// One request that is delivered at HLT, and its handler: from then on there is a context.
    void make_context() {
        Request& first = request();
        EXPECT_TRUE(halt());
        EXPECT_EQ(first.delivered, 1U);
        enter_handler();
        end_of_interrupt();
        leave_handler();
        look();
    }
    [[nodiscard]] u64 statistic(const std::string& name) const {
        const Statistics all = completions->report();
        const Statistic* const found = find(all, "completions_disk0", name);
        EXPECT_NE(found, nullptr) << name;
        return found != nullptr ? found->value : 0;
    }

    FakeView view;
    std::optional<Completions> completions;
    unsigned device = 0;
    std::deque<Request> requests;
    std::vector<const Request*> order;
    std::vector<u64> saved_rsp;
    bool interrupts = true;
    unsigned target = 0;
    u8 raised = vector;
};

} // namespace gnomon::monitor::test
