// SPDX-License-Identifier: Apache-2.0
#include "platform/pci/host_bridge.h"

namespace gnomon::platform {

PciHostBridge::PciHostBridge() {
    const auto put = [this](Reg reg, u32 value, unsigned size) {
        for (unsigned i = 0; i < size; ++i)
            m_config[static_cast<unsigned>(reg) + i] = static_cast<u8>(value >> (8 * i));
    };
    put(Reg::vendor_id, 0x8086, 2);
    put(Reg::device_id, 0x1237, 2);
    put(Reg::command, 0x0006, 2);
    put(Reg::revision_id, 0x02, 1);
    put(Reg::class_code, 0x06'0000, 3);
}

u32 PciHostBridge::config_read(unsigned offset, unsigned size) {
    u32 value = 0;
    for (unsigned i = 0; i < size && offset + i < static_cast<unsigned>(m_config.size()); ++i)
        value |= u32{m_config[offset + i]} << (8 * i);
    return value;
}

void PciHostBridge::config_write(unsigned offset, unsigned size, u32 value) {
    constexpr unsigned command_high = static_cast<unsigned>(Reg::command) + 1;
    constexpr u8 serr_enable =
        1 << 0; // bit 8 of the command register is the only one that can change
    if (offset > command_high || offset + size <= command_high) return;
    m_config[command_high] = static_cast<u8>(value >> (8 * (command_high - offset))) & serr_enable;
}

} // namespace gnomon::platform
