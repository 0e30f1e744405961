// SPDX-License-Identifier: Apache-2.0
/// @file The clock of a running machine: the host's invariant TSC with an offset.
#pragma once

#include "platform/clock.h"

#include <atomic>

namespace gnomon::platform {

/// Guest TSC = host TSC + tsc_offset(), modulo 2^64, so that a processor can run RDTSC without an
/// exit. Starts running at TSC 0. Needs an invariant TSC that is the same on all processors of the
/// host. Threads: one, and `skip` also from a signal handler on it.
class HostClock final : public Clock {
public:
    /// Finds the host's TSC frequency; takes about 10 ms where the host does not state it.
    HostClock();
    /// @param tsc_hz the host's TSC frequency where the caller knows better.
    explicit HostClock(u64 tsc_hz);

    [[nodiscard]] u64 now_ns() const override;
    [[nodiscard]] u64 tsc() const override;
    [[nodiscard]] u64 tsc_hz() const override { return m_rate.hz(); }

    /// What to add to the host's TSC. Changes with every `skip`.
    [[nodiscard]] u64 tsc_offset() const { return m_offset.load(std::memory_order_relaxed); }

    /// The guest's clocks have stood still since the host's TSC was `since`, or since they were
    /// last read if that was later: they never go backwards. Async-signal-safe; a reading that it
    /// interrupts shows the time after it.
    void skip(u64 since);

private:
    TickRate m_rate;
    std::atomic<u64> m_offset;
    mutable std::atomic<u64> m_read = 0; ///< host TSC of the last reading
    static_assert(std::atomic<u64>::is_always_lock_free);
};

/// The frequency of the host's TSC in Hz: what CPUID states (leaf 0x15 on bare metal, leaf
/// 0x40000010 of a hypervisor) if a short measurement confirms it, else measured over 10 ms against
/// CLOCK_MONOTONIC_RAW. Leaf 0x16 is not used: it is the marketed base frequency in MHz, which
/// differs from the TSC's by up to some 0.5 %.
[[nodiscard]] u64 host_tsc_hz();

} // namespace gnomon::platform
