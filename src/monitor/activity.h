// SPDX-License-Identifier: Apache-2.0
/// @file What the machine's thread books its time to (TimeAccount): the processor's activities, and
/// behind them the monitor's.
#pragma once

#include "base/time_account.h"
#include "processor/activity.h"

namespace gnomon::monitor {

enum class Activity : unsigned {
    exit_handling = processor::activity_count, ///< what is not in the following ones
    shadow_faults,                             ///< page faults: walks and fills
    drains,                                    ///< applying the guest write buffer
    root_loads,                                ///< changes of address space and of paging mode
    trace,                                     ///< the observer: decoding and writing the trace
    shadow_check,                              ///< the strict walker
    events,                                    ///< timers, interrupts, input; the run loop
    idle,                                      ///< the guest waits in HLT
    set_up,                                    ///< making the machine anew after a reset
    count,
};
static_assert(static_cast<unsigned>(Activity::count) <= TimeAccount::activities);

/// Books the time of a scope.
class Booked : public TimedScope {
public:
    Booked(TimeAccount* account, Activity activity)
        : TimedScope(account, static_cast<unsigned>(activity)) {}
};

} // namespace gnomon::monitor
