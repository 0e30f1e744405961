// SPDX-License-Identifier: Apache-2.0
/// @file The I/O APIC with a local APIC that takes and finishes its interrupts: registers of every
/// shape, and wires that rise and fall.
#include "platform/io_apic.h"
#include "fuzz/support/machine.h"
#include "platform/local_apic.h"

#include <vector>

using namespace gnomon;
using namespace gnomon::fuzz;
using platform::IoApic;

namespace {

u64 read_entry(IoApic& apic, unsigned pin) {
    const u64 select = apic.read(0, 4);
    u64 value = 0;
    for (unsigned half = 0; half < 2; ++half) {
        apic.write(0, 4, 0x10 + 2 * pin + half);
        value |= apic.read(0x10, 4) << (32 * half);
    }
    apic.write(0, 4, select);
    return value;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    platform::ManualClock clock;
    platform::ApicBus bus;
    platform::LocalApic local({}, clock, bus);
    IoApic apic(bus);
    bus.attach(local);
    bus.attach(apic);
    local.write(0xf0, 4, 0x1ff); // enabled, as the guest's kernel does first
    std::array<bool, IoApic::pin_count> wire{};
    std::vector<u8> in_service;
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        switch (what & 7) {
        case 0: make_access(apic, take_access(input, platform::layout::io_apic_size)); break;
        case 1:
        case 2: { // an entry as drivers write it
            const unsigned pin = static_cast<unsigned>(input.below(IoApic::pin_count));
            apic.write(0, 4, 0x10 + 2 * pin + (what >> 3 & 1));
            apic.write(0x10, 4, input.take<u32>() & ((what & 0x40) != 0 ? ~0U : 0xa8ffU));
            break;
        }
        case 3:
        case 4: {
            const u64 pin = input.below(IoApic::pin_count);
            wire[pin] = (what & 0x10) != 0;
            apic.set_input(static_cast<unsigned>(pin), wire[pin]);
            break;
        }
        case 5:
            if (const auto vector = local.acknowledge()) in_service.push_back(*vector);
            break;
        case 6:
            if (!in_service.empty()) {
                local.write(0xb0, 4, 0);
                in_service.pop_back();
            }
            break;
        default: // the local APIC goes and comes
            local.write(0xf0, 4, (what & 0x10) != 0 ? 0x1ff : 0xff);
            break;
        }
        for (unsigned pin = 0; pin < IoApic::pin_count; ++pin) {
            const u64 entry = read_entry(apic, pin);
            const u64 visible = IoApic::Entry::writable | IoApic::Entry::remote_irr;
            require((entry & ~visible) == 0, "an entry shows bits that it does not have");
            const u64 mode = entry >> 8 & 7;
            const bool level = (entry & IoApic::Entry::level) != 0 && mode <= 1;
            const bool under_way = (entry & IoApic::Entry::remote_irr) != 0;
            require(level || !under_way, "Remote IRR is set in an edge-triggered entry");
            // What waits at an unmasked level-triggered input is under way, unless nobody takes it.
            const bool asks = wire[pin] && level && (entry & IoApic::Entry::masked) == 0;
            const bool physical = (entry & IoApic::Entry::logical) == 0;
            const u64 destination = entry >> 56;
            if (asks && physical && (destination == 0 || destination == 0xff) &&
                (entry & 0xff) >= 16 && local.enabled())
                require(under_way, "an asserted level-triggered input is not delivered");
        }
        require(!local.deliverable() || *local.deliverable() >= 16, "a vector below 16");
    }
    return 0;
}
