// SPDX-License-Identifier: Apache-2.0
/// @file The host's clocks, in nanoseconds. What the guest is told of time comes from
/// platform/host_clock.h instead.
#pragma once

#include "base/types.h"

#include <ctime>

namespace gnomon {

/// Any thread; async-signal-safe.
[[nodiscard]] inline u64 host_time_ns(clockid_t clock) {
    timespec t{};
    ::clock_gettime(clock, &t);
    return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
}

/// Since 1970.
[[nodiscard]] inline u64 utc_now_ns() { return host_time_ns(CLOCK_REALTIME); }
/// Since the host's start.
[[nodiscard]] inline u64 monotonic_ns() { return host_time_ns(CLOCK_MONOTONIC); }

/// The host's TSC. Where general registers alone may be used, too (processor/soft/calls.h).
[[nodiscard]] inline u64 read_tsc() { return __builtin_ia32_rdtsc(); }

} // namespace gnomon
