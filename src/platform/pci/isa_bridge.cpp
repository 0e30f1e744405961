// SPDX-License-Identifier: Apache-2.0
#include "platform/pci/isa_bridge.h"

namespace gnomon::platform {

PciIsaBridge::PciIsaBridge() {
    const auto put = [this](Reg reg, unsigned size, u32 value, u32 writable = 0) {
        for (unsigned i = 0; i < size; ++i) {
            m_config[static_cast<unsigned>(reg) + i] = static_cast<u8>(value >> (8 * i));
            m_writable[static_cast<unsigned>(reg) + i] = static_cast<u8>(writable >> (8 * i));
        }
    };
    put(Reg::vendor_id, 2, 0x8086);
    put(Reg::device_id, 2, 0x7000);
    put(Reg::command, 2, 0x0007);
    put(Reg::status, 2, 0x0280);
    put(Reg::class_code, 3, 0x06'0100);
    put(Reg::header_type, 1, 0x80);
    put(Reg::io_recovery, 1, 0x4d, 0xff);
    put(Reg::bus_chip_select, 2, 0x0003, 0xffff);
    put(Reg::interrupt_routing, 4, 0x8080'8080, 0x8f8f'8f8f);
    put(Reg::top_of_memory, 1, 0x02, 0xff);
    put(Reg::miscellaneous_status, 2, 0, 0xffff);
    put(Reg::board_interrupt, 2, 0x8080, 0xefef);
    put(Reg::dma_features, 2, 0x0c0c, 0x8f8f);
    put(Reg::chip_select, 2, 0x0002, 0xffff);
    put(Reg::deterministic_latency, 1, 0, 0x0f);
}

u32 PciIsaBridge::config_read(unsigned offset, unsigned size) {
    u32 value = 0;
    for (unsigned i = 0; i < size && offset + i < m_config.size(); ++i)
        value |= u32{m_config[offset + i]} << (8 * i);
    return value;
}

void PciIsaBridge::config_write(unsigned offset, unsigned size, u32 value) {
    for (unsigned i = 0; i < size && offset + i < m_config.size(); ++i) {
        const u8 mask = m_writable[offset + i];
        u8& byte = m_config[offset + i];
        byte = static_cast<u8>((byte & ~mask) | ((value >> (8 * i)) & mask));
    }
}

} // namespace gnomon::platform
