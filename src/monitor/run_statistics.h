// SPDX-License-Identifier: Apache-2.0
/// @file What the run loop counts, and the monitor's statistics by name.
#pragma once

#include "base/statistics.h"
#include "monitor/activity.h"
#include "monitor/shadow/shadow_mmu.h"
#include "processor/exit.h"

namespace gnomon::monitor {

struct ExitTally {
    u64 count = 0;
    u64 ticks = 0; ///< of the TSC, with all that is done for the exit; only if time is measured
};

/// Counts of exits and the work behind them.
struct RunStatistics {
    ExitTally exits[processor::exit_reason_count];
    u64 interrupts = 0, injected_page_faults = 0;
    u64 idle_periods = 0; ///< HLTs
};

/// Groups "machine", "exits", "shadow" and "shadow_flushes". @param ns_per_tick 0: time was not
/// measured.
[[nodiscard]] Statistics run_statistics(const RunStatistics& run, const ShadowStatistics& shadow,
                                        double ns_per_tick);

/// Group "time": what was booked, by activity. The activities do not overlap.
[[nodiscard]] StatisticGroup time_statistics(const TimeAccount& account);

} // namespace gnomon::monitor
