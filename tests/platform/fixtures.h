// SPDX-License-Identifier: Apache-2.0
/// @file What the tests of devices share.
#pragma once

#include "platform/device.h"
#include "platform/interrupt_line.h"

#include <array>
#include <random>

namespace gnomon::platform::test {

/// Records what its inputs do.
class RecordingSink final : public InterruptSink {
public:
    void set_input(unsigned pin, bool asserted) override {
        level.at(pin) = asserted;
        if (asserted) ++rises.at(pin);
    }
    [[nodiscard]] InterruptLine line(unsigned pin) { return InterruptLine(*this, pin); }

    std::array<bool, 32> level{};
    std::array<unsigned, 32> rises{};
};

/// Reads and writes every offset of a device of `length` bytes in every width with edge values and
/// random ones, as a hostile guest would. `between` runs after each access, for instance to move
/// the clock.
template <class F>
void abuse(BusDevice& device, u64 length, unsigned rounds, F between) {
    std::mt19937_64 random(length * 1000 + rounds);
    constexpr std::array<u64, 6> edges = {0, 1, 0x7f, 0x80, ~u64{0}, 0x5555'5555'5555'5555};
    for (unsigned round = 0; round < rounds; ++round)
        for (u64 offset = 0; offset < length; ++offset)
            for (unsigned size = 1; size <= 8 && size <= length - offset; ++size) {
                const u64 pick = random();
                const u64 value = pick % 3 == 0 ? edges[pick / 3 % edges.size()] : random();
                if (random() % 2 == 0) device.write(offset, size, value & byte_mask(size));
                static_cast<void>(device.read(offset, size));
                between(random);
            }
}

} // namespace gnomon::platform::test
