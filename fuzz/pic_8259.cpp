// SPDX-License-Identifier: Apache-2.0
/// @file The pair of 8259As with ELCR: command words in any order, wires, acknowledge cycles.
#include "platform/pic_8259.h"
#include "fuzz/support/machine.h"

#include <bit>

using namespace gnomon;
using namespace gnomon::fuzz;

namespace {

/// What the guest has programmed, as far as the data sheet lets one tell from the writes alone.
struct Written {
    int icw = 0; ///< which initialization command word is awaited; 0: none
    bool single = false, icw4 = false;
    u8 base = 0;

    void note(u64 offset, u8 value) {
        if (offset == 0) {
            if ((value & 0x10) == 0) return;
            icw = 2, single = (value & 2) != 0, icw4 = (value & 1) != 0;
        } else if (icw == 2) {
            base = value & 0xf8;
            icw = !single ? 3 : icw4 ? 4 : 0;
        } else if (icw == 3) {
            icw = icw4 ? 4 : 0;
        } else if (icw == 4) {
            icw = 0;
        }
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    WireTap processor;
    platform::Pic8259Pair pair(processor.line(0));
    std::array<Written, 2> written;
    std::array<u8, 2> raised{}; ///< inputs that were ever asserted
    const std::array<platform::BusDevice*, 2> chips = {&pair.master_ports(), &pair.slave_ports()};
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        const unsigned chip = what >> 3 & 1;
        switch (what & 7) {
        case 0:
        case 1:
        case 2: {
            Access a = take_access(input, 2);
            make_access(*chips[chip], a);
            if (a.write)
                for (unsigned i = 0; i < a.size; ++i)
                    written[chip].note(a.offset + i, static_cast<u8>(a.value >> (8 * i)));
            break;
        }
        case 3: make_access(pair.elcr_ports(), take_access(input, 2)); break;
        case 4:
        case 5: {
            const unsigned irq = static_cast<unsigned>(input.below(18));
            const bool asserted = (what & 0x10) != 0;
            pair.set_input(irq, asserted);
            if (asserted && irq < 16 && irq != 2)
                raised[irq / 8] |= static_cast<u8>(1U << (irq % 8));
            break;
        }
        default: {
            const bool was_pending = pair.pending();
            const u64 rises = processor.rises[0];
            const u8 vector = pair.acknowledge();
            const bool from_master = (vector & 0xf8) == written[0].base,
                       from_slave = (vector & 0xf8) == written[1].base;
            require(from_master || from_slave, "a vector is not of a base that was programmed");
            // The input is one that has asked, or the one that stands for a request gone by.
            const auto asked = [&](unsigned chip_number) {
                return (vector & 7) == 7 || (raised[chip_number] >> (vector & 7) & 1) != 0;
            };
            require((from_master && asked(0)) || (from_slave && asked(1)),
                    "a vector of an input that never asked");
            // Nothing to take: the spurious IR7 of the master.
            require(was_pending || vector == (written[0].base | 7),
                    "a vector without a request is not spurious");
            require(!pair.pending() || processor.rises[0] > rises || !was_pending,
                    "INT stays high over an acknowledge without a new edge");
            break;
        }
        }
        require(processor.level[0] == pair.pending(), "the wire is not what the chip says");
        // ELCR never makes the timer, keyboard, cascade, RTC or FPU inputs level-triggered.
        require((pair.elcr_ports().read(0, 2) & 0x2107) == 0, "ELCR has bits that are fixed");
    }
    return 0;
}
