// SPDX-License-Identifier: Apache-2.0
/// @file The ACPI PM1 block and the PM timer: every shape of access beside a twin that is never
/// told that time passes, the power button, and power-off.
#include "platform/acpi_pm.h"
#include "fuzz/support/machine.h"

using namespace gnomon;
using namespace gnomon::fuzz;
using platform::AcpiPm;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    platform::ManualClock clock;
    WireTap wires;
    platform::PowerControl power, twin_power;
    AcpiPm pm(clock, wires.line(0), power), twin(clock, wires.line(1), twin_power);
    u64 last_ns = 0, last_timer = 0;
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        switch (what & 3) {
        case 0:
        case 1: {
            const Access a = take_access(input, 12);
            const bool off = power.pending().has_value();
            require(make_access(pm, a) == make_access(twin, a),
                    "what the PM block shows depends on how often it is advanced");
            require(off || !power.pending() || (a.write && a.offset <= 5 && a.offset + a.size > 5),
                    "the machine goes off without a write to PM1 control");
            break;
        }
        case 2:
            if ((what & 0x0c) == 0x0c) {
                pm.press_power_button();
                twin.press_power_button();
            }
            break;
        default: pass(pm, clock, take_delay(input), 8); break;
        }
        settle(pm, clock);
        require(power.pending() == twin_power.pending(), "the twins disagree on power");
        const u64 status = pm.read(0, 2), enable = pm.read(2, 2), control = pm.read(4, 2);
        require((control & AcpiPm::Control::sci_enable) != 0, "SCI_EN is clear");
        require((control & (AcpiPm::Control::sleep_enable | AcpiPm::Control::global_release)) == 0,
                "a write-only bit reads as set");
        require(((status & enable) != 0) == wires.level[0], "SCI is not status and enable");
        const u64 timer = pm.read(8, 4);
        const u64 ticks = platform::TickRate(3'579'545).ticks(clock.now_ns());
        require(timer == (ticks & 0xffff'ffff), "the PM timer is not at its frequency");
        require(clock.now_ns() - last_ns > 1'000'000'000 || clock.now_ns() < last_ns ||
                    ((timer - last_timer) & 0xffff'ffff) < 0x8000'0000,
                "the PM timer runs backwards");
        last_ns = clock.now_ns(), last_timer = timer;
    }
    return 0;
}
