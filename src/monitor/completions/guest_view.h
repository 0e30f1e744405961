// SPDX-License-Identifier: Apache-2.0
/// @file What the completion scheduler sees of a machine: clocks, and where virtual CPUs are.
#pragma once

#include "base/types.h"
#include "platform/vector_set.h"

#include <optional>

namespace gnomon::monitor {

/// A virtual CPU between two entries.
struct CpuState {
    /// An interrupt would be taken now: RFLAGS.IF = 1, no interrupt shadow, and no event or
    /// instruction is under way.
    bool takes_interrupts = false;
    bool in_service = false; ///< an interrupt, in its local APIC or in the 8259s
    u16 cs = 0;              ///< selector
    u64 cr3 = 0, rsp = 0;
};

/// Where an interrupt handler returns to.
struct ReturnContext {
    u64 cr3 = 0, rsp = 0;
    u16 cs = 0; ///< selector
    friend bool operator==(const ReturnContext&, const ReturnContext&) = default;
};

/// Threads: as the board's.
class GuestView {
public:
    GuestView() = default;
    GuestView(const GuestView&) = delete;
    GuestView& operator=(const GuestView&) = delete;
    virtual ~GuestView() = default;

    /// Whose exit is being handled.
    [[nodiscard]] virtual unsigned current_cpu() const = 0;
    /// The machine's virtual clock; stands still while the process is stopped.
    [[nodiscard]] virtual u64 now_ns() const = 0;
    /// **Guest-run time** of a virtual CPU: the CPU time of the thread that runs it, and the time
    /// of the virtual clock for which that thread slept because the CPU was halted; never more than
    /// has passed on the virtual clock. A thread that is not scheduled, or blocks in the host's
    /// kernel, or is stopped, adds nothing. Monotonic; its beginning has no meaning.
    [[nodiscard]] virtual u64 run_ns(unsigned cpu) = 0;
    /// Not less than `run_ns` now, by at most what the thread was not scheduled for in the last
    /// millisecond; much cheaper. For noting when something began.
    [[nodiscard]] virtual u64 run_bound_ns(unsigned cpu) = 0;
    /// Of `current_cpu` only.
    [[nodiscard]] virtual CpuState state() const = 0;
    /// Vectors that `cpu` has been asked to take and has not finished: requested or in service, at
    /// its local APIC or, for the CPU that they interrupt, the 8259s.
    [[nodiscard]] virtual platform::VectorSet active_vectors(unsigned cpu) const = 0;
    /// From now on the next IRET of `current_cpu` to this context is looked out for, and no other;
    /// nothing: none. @param exits the CPU is to exit behind it.
    virtual void watch_return(const std::optional<ReturnContext>& context, bool exits) = 0;
    /// Whether that IRET has been seen since this was last asked.
    [[nodiscard]] virtual bool take_return() = 0;
};

} // namespace gnomon::monitor
