// SPDX-License-Identifier: Apache-2.0
/// @file What a device with deadlines offers to whoever runs the machine.
#pragma once

#include "base/types.h"

#include <algorithm>
#include <optional>

namespace gnomon::platform {

/// A device whose state changes with time alone. It keeps no host timer: its owner asks for the
/// next deadline, waits or runs the guest until then, and calls `advance`.
class Timed {
public:
    Timed() = default;
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;
    virtual ~Timed() = default;

    /// The virtual time in ns (Clock::now_ns) at which `advance` has something to do that a guest
    /// can notice without asking, that is, an interrupt; it may lie in the past. None: not until
    /// the guest touches the device.
    [[nodiscard]] virtual std::optional<u64> next_deadline_ns() const = 0;
    /// Does everything that is due at `now_ns`. Any number of missed periods costs the same as one.
    virtual void advance(u64 now_ns) = 0;
};

/// The least time between two interrupts that a device's own period raises. A guest may program a
/// period of a few ns; periods below this are merged, as they would be by a processor that cannot
/// keep up.
inline constexpr u64 minimum_period_ns = 20'000;

/// The earlier of two deadlines, where none is later than any.
[[nodiscard]] constexpr std::optional<u64> earlier(std::optional<u64> a, std::optional<u64> b) {
    if (!a) return b;
    if (!b) return a;
    return std::min(*a, *b);
}

} // namespace gnomon::platform
