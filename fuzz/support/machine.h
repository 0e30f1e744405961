// SPDX-License-Identifier: Apache-2.0
/// @file What the targets of devices share: an observed interrupt wire, and checks of deadlines.
#pragma once

#include "fuzz/support/input.h"
#include "platform/clock.h"
#include "platform/device.h"
#include "platform/interrupt_line.h"
#include "platform/timer.h"

#include <array>

namespace gnomon::fuzz {

/// The input of an interrupt controller that only remembers.
class WireTap final : public platform::InterruptSink {
public:
    void set_input(unsigned pin, bool asserted) override {
        require(pin < level.size(), "a device drives a wire that it was not given");
        require(level[pin] != asserted, "a wire reports a change that is none");
        level[pin] = asserted;
        if (asserted) ++rises[pin];
    }
    [[nodiscard]] platform::InterruptLine line(unsigned pin) { return {*this, pin}; }

    std::array<bool, 32> level{};
    std::array<u64, 32> rises{};
};

/// One access of a guest to a device of `length` bytes: every width that fits, at every offset.
struct Access {
    bool write = false;
    u64 offset = 0;
    unsigned size = 1;
    u64 value = 0;
};
[[nodiscard]] inline Access take_access(Input& input, u64 length) {
    Access a;
    const u8 shape = input.take<u8>();
    a.write = (shape & 1) != 0;
    a.offset = input.below(length);
    // Half of all accesses are bytes or words, as drivers make them.
    constexpr std::array<unsigned, 8> sizes = {1, 1, 2, 4, 1, 3, 8, 5};
    a.size = static_cast<unsigned>(std::min<u64>(sizes[(shape >> 1) & 7], length - a.offset));
    if (a.write) a.value = (shape & 0x80) != 0 ? input.number() : input.take<u8>();
    a.value &= platform::byte_mask(a.size);
    return a;
}
/// Makes the access; what was read, zero for a write.
inline u64 make_access(platform::BusDevice& device, const Access& a) {
    if (!a.write) return device.read(a.offset, a.size) & platform::byte_mask(a.size);
    device.write(a.offset, a.size, a.value);
    return 0;
}

/// A time to let pass, from a nanosecond to hours.
[[nodiscard]] inline u64 take_delay(Input& input) {
    const u8 shape = input.take<u8>();
    return (u64{input.take<u8>()} + 1) << (shape % 36);
}

/// Advances to the present and checks what a run loop relies on: whatever was due is done, so that
/// the next deadline is in the future; and it stands where it is while nothing happens.
inline void settle(platform::Timed& device, const platform::Clock& clock) {
    device.advance(clock.now_ns());
    const auto deadline = device.next_deadline_ns();
    require(!deadline || *deadline > clock.now_ns(), "a deadline is past after it was dealt with");
    require(device.next_deadline_ns() == deadline, "asking for the deadline changes it");
}

/// Lets time pass as a run loop does, from deadline to deadline, at most `most` of them; then the
/// rest at once.
inline void pass(platform::Timed& device, platform::ManualClock& clock, u64 ns, unsigned most) {
    const u64 end = clock.now_ns() + ns;
    for (unsigned i = 0; i < most; ++i) {
        const auto deadline = device.next_deadline_ns();
        if (!deadline || *deadline > end) break;
        clock.advance_to(*deadline);
        settle(device, clock);
    }
    clock.advance_to(end);
    settle(device, clock);
}

} // namespace gnomon::fuzz
