// SPDX-License-Identifier: Apache-2.0
/// @file PCI configuration mechanism #1 with the host bridge and the reset control register inside
/// its ports.
#include "fuzz/support/machine.h"
#include "platform/pci/host_bridge.h"
#include "platform/reset_control.h"

using namespace gnomon;
using namespace gnomon::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    platform::PowerControl power;
    platform::ResetControl reset(power);
    platform::PciSegment segment;
    platform::PciHostBridge bridge;
    require(segment.insert({0, 0, 0}, bridge).has_value(), "the host bridge has no place");
    require(!segment.insert({0, 0, 0}, bridge).has_value(), "a place is given twice");
    platform::PciConfigPorts ports(segment, reset);
    bool may_reset = false;
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        if ((what & 1) != 0) { // an address as drivers write it
            const u32 address = (what & 2) != 0 ? input.take<u32>() : 0x80000000 | input.take<u8>();
            ports.write(0, 4, address);
            require(ports.read(0, 4) == (address & 0x80ff'fffc), "CONFIG_ADDRESS does not hold");
        } else if ((what & 2) != 0) {
            const platform::PciAddress where{static_cast<u8>(input.below(2)),
                                             static_cast<u8>(input.below(33)),
                                             static_cast<u8>(input.below(9))};
            const unsigned offset = input.take<u16>(), width = what >> 2 & 7;
            if ((what & 0x80) != 0)
                segment.write(where, offset, width, input.take<u32>());
            else if (const u64 ones = platform::byte_mask(std::min(width, 4U));
                     (segment.read(where, offset, width) & ones) != ones)
                require(where == platform::PciAddress{}, "a function where there is none");
        } else {
            const Access a = take_access(input, 8);
            // Wider accesses than a byte are split, but for the dword that is CONFIG_ADDRESS.
            may_reset = may_reset || (a.write && a.offset <= 1 && a.offset + a.size > 1 &&
                                      (a.offset != 0 || a.size != 4));
            make_access(ports, a);
        }
        require(!power.pending() || may_reset, "a reset without a write to 0xcf9");
        require(segment.read({0, 0, 0}, 0, 4) == 0x12378086,
                "the host bridge changed its identity");
        require(segment.read({0, 0, 0}, 8, 4) == 0x06000002, "the host bridge changed its class");
        require((segment.read({0, 0, 0}, 4, 2) & 6) == 6, "the host bridge lost memory or master");
    }
    return 0;
}
