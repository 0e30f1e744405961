// SPDX-License-Identifier: Apache-2.0
#include "platform/pci.h"

namespace gnomon::platform {

namespace {

constexpr unsigned config_size = 256;

constexpr bool within_dword(u64 offset, unsigned size) {
    return (size == 1 || size == 2 || size == 4) && (offset & 3) + size <= 4;
}

} // namespace

Result<> PciSegment::insert(PciAddress address, PciFunction& function) {
    if (address.device > 31 || address.function > 7)
        return fail(
            "PCI {:02x}:{:02x}.{} is not an address; use devices 0 to 1f and functions 0 to 7",
            address.bus, address.device, address.function);
    if (!m_functions.emplace(address, &function).second)
        return fail("PCI {:02x}:{:02x}.{} is taken; use another device number", address.bus,
                    address.device, address.function);
    return {};
}

u32 PciSegment::read(PciAddress address, unsigned offset, unsigned size) {
    const u32 ones = static_cast<u32>(byte_mask(size));
    const auto found = m_functions.find(address);
    if (found == m_functions.end() || offset >= config_size || !within_dword(offset, size))
        return ones;
    return found->second->config_read(offset, size) & ones;
}

void PciSegment::write(PciAddress address, unsigned offset, unsigned size, u32 value) {
    const auto found = m_functions.find(address);
    if (found == m_functions.end() || offset >= config_size || !within_dword(offset, size)) return;
    found->second->config_write(offset, size, value & static_cast<u32>(byte_mask(size)));
}

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
    for (unsigned i = 0; i < size && offset + i < config_size; ++i)
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

PciAddress PciConfigPorts::address() const {
    return {static_cast<u8>(m_address >> 16), static_cast<u8>((m_address >> 11) & 31),
            static_cast<u8>((m_address >> 8) & 7)};
}

unsigned PciConfigPorts::config_offset(u64 port_offset) const {
    return static_cast<unsigned>((m_address & 0xfc) + (port_offset & 3));
}

u64 PciConfigPorts::read(u64 offset, unsigned size) {
    if (offset >= 4 && within_dword(offset, size))
        return (m_address & enable) != 0 ? m_segment.read(address(), config_offset(offset), size)
                                         : byte_mask(size);
    if (offset == 0 && size == 4) return m_address;
    if (size == 1) return offset == 1 ? m_byte_at_1.read_byte(0) : 0xff;
    u64 value = 0; // across the two registers: byte by byte
    for (unsigned i = 0; i < size && i < 8; ++i)
        value |= (read(offset + i, 1) & 0xff) << (8 * i);
    return value;
}

void PciConfigPorts::write(u64 offset, unsigned size, u64 value) {
    if (offset >= 4 && within_dword(offset, size)) {
        if ((m_address & enable) != 0)
            m_segment.write(address(), config_offset(offset), size, static_cast<u32>(value));
    } else if (offset == 0 && size == 4) {
        m_address = static_cast<u32>(value) & writable;
    } else if (size == 1) {
        // Bytes do not reach CONFIG_ADDRESS; the one at offset 1 has a meaning of its own.
        if (offset == 1) m_byte_at_1.write_byte(0, static_cast<u8>(value));
    } else {
        for (unsigned i = 0; i < size && i < 8; ++i)
            write(offset + i, 1, (value >> (8 * i)) & 0xff);
    }
}

} // namespace gnomon::platform
