// SPDX-License-Identifier: Apache-2.0
/// @file Safepoints (M3.4): where a virtual CPU is that can take an interrupt of a device now.
///
/// Neither EOI nor RFLAGS.IF = 1 is one: handlers that do both and then work are interrupted again
/// and again there, until their stack ends. Having come back from the handler is.
#pragma once

#include "monitor/completions/guest_view.h"

#include <algorithm>
#include <optional>
#include <vector>

namespace gnomon::monitor {

enum class Safepoint : u8 {
    none,
    halted,   ///< HLT with interrupts on and nothing in service
    returned, ///< the handler of the last interrupt has returned
    polled,   ///< the guest reads the status again and again
};

/// The interrupt handlers of devices on one virtual CPU: entered with a context each, and returned
/// when an IRET has led back to it, or when the CPU is seen in that context again.
///
/// A context is CR3, CS and a stack: RSP from where it was when interrupted up to `stack_reach`
/// above it. Below it, within the same reach, the handler is under way. Elsewhere is another stack,
/// of which nothing is known.
class HandlerWatch {
public:
    static constexpr u64 stack_reach = 8192; ///< bytes; not more than stacks are apart

    /// The CPU, in this state, is about to enter a handler. @return how many handlers of `device`
    /// are under way now, this one included.
    unsigned entered(unsigned device, const CpuState& state);
    /// The innermost handler's IRET has been seen.
    void left();
    /// Where the innermost handler returns to; none is under way: nothing.
    [[nodiscard]] std::optional<ReturnContext> awaited() const;
    [[nodiscard]] bool nested() const { return m_frames.size() > 1; }
    /// Whether the last handler to be entered has returned and the CPU is in the context that it
    /// interrupted. Only for states in which nothing is in service and interrupts are taken.
    [[nodiscard]] bool returned(const CpuState& state);
    /// Whether the CPU is below a context that a handler of `device` interrupted.
    [[nodiscard]] bool under_way(unsigned device, const CpuState& state) const;
    /// Whether `returned` can come to be true.
    [[nodiscard]] bool expects_return(const CpuState& state) const;
    /// Whether the innermost handler has not returned, as far as is seen.
    [[nodiscard]] bool awaits_return(const CpuState& state) const {
        return !m_frames.empty() && !is_back(m_frames.back(), state);
    }
    /// Whether any handler has been seen to return.
    [[nodiscard]] bool has_returned() const { return m_back.has_value(); }
    /// Whether any handler has not been seen to return.
    [[nodiscard]] bool in_handler() const { return !m_frames.empty(); }
    /// The CPU idles: no handler is under way.
    void idle() { m_frames.clear(); }

private:
    struct Frame {
        unsigned device = 0;
        u64 cr3 = 0, rsp = 0;
        u16 cs = 0;
    };
    static constexpr std::size_t most_frames = 64;

    [[nodiscard]] static bool same_space(const Frame& frame, const CpuState& state) {
        return frame.cr3 == state.cr3 && frame.cs == state.cs;
    }
    [[nodiscard]] static bool is_back(const Frame& frame, const CpuState& state) {
        return same_space(frame, state) && state.rsp >= frame.rsp &&
               state.rsp - frame.rsp < stack_reach;
    }
    [[nodiscard]] static bool is_below(const Frame& frame, const CpuState& state) {
        return same_space(frame, state) && state.rsp < frame.rsp &&
               frame.rsp - state.rsp <= stack_reach;
    }
    void pop_returned(const CpuState& state);

    std::vector<Frame> m_frames; ///< not returned from, outermost first
    std::optional<Frame> m_back; ///< returned to last
};

/// The judgements that the mechanism rests on. Tests replace one of them to see that it carries
/// weight.
class CompletionRules {
public:
    CompletionRules() = default;
    CompletionRules(const CompletionRules&) = delete;
    CompletionRules& operator=(const CompletionRules&) = delete;
    virtual ~CompletionRules() = default;

    /// Whether a CPU that is not halted is where its handlers have returned to.
    [[nodiscard]] virtual bool handler_returned(HandlerWatch& watch, const CpuState& state) const {
        return state.takes_interrupts && !state.in_service && watch.returned(state);
    }
    /// For how long of its submitter's guest-run time a command has no answer before its nominal
    /// delay, unless the submitter halts: what lies between the doorbell and the flag that the
    /// handler looks at. A part of the nominal delay, since an answer as fast as that is nothing
    /// new to whoever drives such a device, and no more than a cold path takes.
    [[nodiscard]] virtual u64 guard_ns(u64 nominal_ns) const {
        constexpr u64 longest = 50'000;
        return std::min(nominal_ns / 4, longest);
    }
    /// How much of a delay has passed: by guest-run time, so that a CPU which was not scheduled is
    /// not flooded when it returns.
    [[nodiscard]] virtual u64 passed_ns(u64 run_ns, u64 /*virtual_ns*/) const { return run_ns; }
};

} // namespace gnomon::monitor
