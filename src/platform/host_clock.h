// SPDX-License-Identifier: Apache-2.0
/// @file The clock of a running machine: the host's invariant TSC with an offset.
#pragma once

#include "platform/clock.h"

namespace gnomon::platform {

/// Guest TSC = host TSC + tsc_offset(), modulo 2^64, so that a processor can run RDTSC without an
/// exit. Starts running at TSC 0. Needs an invariant TSC that is the same on all processors of the
/// host. Threads: reading is safe from any thread while no thread pauses or resumes.
class HostClock final : public Clock {
public:
    /// Finds the host's TSC frequency; takes about 10 ms where the host does not state it.
    HostClock();
    /// @param tsc_hz the host's TSC frequency where the caller knows better.
    explicit HostClock(u64 tsc_hz);

    [[nodiscard]] u64 now_ns() const override;
    [[nodiscard]] u64 tsc() const override;
    [[nodiscard]] u64 tsc_hz() const override { return m_rate.hz(); }

    /// What to add to the host's TSC. Changes with every pause, and means nothing while paused.
    [[nodiscard]] u64 tsc_offset() const { return m_offset; }

    [[nodiscard]] bool paused() const { return m_paused; }
    /// The guest's clocks stop. Pausing twice is pausing once.
    void pause();
    /// The guest's clocks go on from where they stopped.
    void resume();

private:
    TickRate m_rate;
    u64 m_offset;
    u64 m_paused_tsc = 0;
    bool m_paused = false;
};

/// The frequency of the host's TSC in Hz: what CPUID states (leaf 0x15 on bare metal, leaf
/// 0x40000010 of a hypervisor) if a short measurement confirms it, else measured over 10 ms against
/// CLOCK_MONOTONIC_RAW. Leaf 0x16 is not used: it is the marketed base frequency in MHz, which
/// differs from the TSC's by up to some 0.5 %.
[[nodiscard]] u64 host_tsc_hz();

} // namespace gnomon::platform
