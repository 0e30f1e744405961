// SPDX-License-Identifier: Apache-2.0
/// @file The keyboard controller: commands and data in any order.
#include "platform/i8042.h"
#include "fuzz/support/machine.h"

using namespace gnomon;
using namespace gnomon::fuzz;
using platform::I8042;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    WireTap wires;
    platform::PowerControl power;
    I8042 controller(wires.line(0), power);
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        platform::BusDevice& port =
            (what & 1) != 0 ? controller.data_port() : controller.command_port();
        const u8 value = input.take<u8>();
        const bool had_reset = power.pending().has_value();
        if ((what & 2) != 0) {
            port.write(0, 1, value);
            // Pulses of the output port, and what may be the byte that follows D1h.
            const bool pulse = (what & 1) == 0 && value >= 0xf0 && (value & 1) == 0;
            const bool byte = (what & 1) != 0 && (value & 1) == 0;
            require(had_reset || !power.pending() || pulse || byte,
                    "a reset that nothing asks for");
            require(!pulse || power.pending().has_value(), "a pulse of the reset line is lost");
        } else {
            static_cast<void>(port.read(0, 1));
        }
        const u64 status = controller.command_port().read(0, 1);
        require((status & static_cast<u8>(I8042::Status::input_full)) == 0,
                "the controller is busy, which it never is");
        require(!wires.level[0] || (status & static_cast<u8>(I8042::Status::output_full)) != 0,
                "an interrupt without a byte to read");
    }
    static_cast<void>(controller.data_port().read(0, 1));
    require((controller.command_port().read(0, 1) & static_cast<u8>(I8042::Status::output_full)) ==
                0,
            "the output buffer stays full after it was read");
    controller.command_port().write(0, 1, static_cast<u8>(I8042::Command::self_test));
    require(controller.data_port().read(0, 1) == 0x55, "the self-test fails");
    return 0;
}
