// SPDX-License-Identifier: Apache-2.0
/// @file The 8254 and port B beside a twin that is never told that time passes: counts are computed
/// when somebody looks, so both must read the same.
#include "platform/pit_8254.h"
#include "fuzz/support/machine.h"

using namespace gnomon;
using namespace gnomon::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    platform::ManualClock clock;
    WireTap wires;
    platform::Pit8254 pit(clock, wires.line(0)), twin(clock, wires.line(1));
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        switch (what & 7) {
        case 0:
        case 1:
        case 2: {
            const Access a = take_access(input, 4);
            require(make_access(pit, a) == make_access(twin, a),
                    "what the PIT shows depends on how often it is advanced");
            break;
        }
        case 3: { // a control word and a count, as drivers write them
            const u8 control = input.take<u8>();
            const u8 counter = control >> 6;
            for (platform::Pit8254* one : {&pit, &twin})
                one->write(3, 1, control);
            const u16 count = input.take<u16>();
            for (platform::Pit8254* one : {&pit, &twin})
                for (unsigned i = 0; counter < 3 && i < 2; ++i)
                    one->write(counter, 1, count >> (8 * i) & 0xff);
            break;
        }
        case 4: {
            const Access a = take_access(input, 1);
            require(make_access(pit.system_control_b(), a) ==
                        make_access(twin.system_control_b(), a),
                    "what port B shows depends on how often the PIT is advanced");
            break;
        }
        default: {
            const u64 ns = take_delay(input), before = wires.rises[0];
            const u64 start = clock.now_ns();
            pass(pit, clock, ns, 16);
            // Interrupts are at least a minimum period apart, however fast the counter runs, but
            // for one at each end.
            const u64 most = (clock.now_ns() - start) / platform::minimum_period_ns + 2;
            require(wires.rises[0] - before <= most, "IRQ 0 rises more often than it may");
            break;
        }
        }
        settle(pit, clock);
    }
    return 0;
}
