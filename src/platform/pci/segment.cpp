// SPDX-License-Identifier: Apache-2.0
#include "platform/pci/segment.h"

#include <algorithm>

namespace gnomon::platform {

namespace {

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
    if (found == m_functions.end() || offset >= pci_config_size || !within_dword(offset, size))
        return ones;
    return found->second->config_read(offset, size) & ones;
}

void PciSegment::write(PciAddress address, unsigned offset, unsigned size, u32 value) {
    const auto found = m_functions.find(address);
    if (found == m_functions.end() || offset >= pci_config_size || !within_dword(offset, size))
        return;
    found->second->config_write(offset, size, value & static_cast<u32>(byte_mask(size)));
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

namespace {

/// The part of an access at `offset` that is one configuration access: the most of 4, 2 or 1 bytes
/// that lies within a dword.
unsigned first_part(u64 offset, unsigned size) {
    for (const unsigned part : {4U, 2U})
        if (size >= part && within_dword(offset, part)) return part;
    return 1;
}

PciAddress ecam_address(u64 offset) {
    return {static_cast<u8>(offset >> 20), static_cast<u8>((offset >> 15) & 31),
            static_cast<u8>((offset >> 12) & 7)};
}

} // namespace

u64 PciEcam::read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned done = 0; done < std::min(size, 8U);) {
        const u64 at = offset + done;
        const unsigned part = first_part(at, std::min(size, 8U) - done);
        const auto config = static_cast<unsigned>(at % pci_config_size);
        value |= u64{m_segment.read(ecam_address(at), config, part)} << (8 * done);
        done += part;
    }
    return value;
}

void PciEcam::write(u64 offset, unsigned size, u64 value) {
    for (unsigned done = 0; done < std::min(size, 8U);) {
        const u64 at = offset + done;
        const unsigned part = first_part(at, std::min(size, 8U) - done);
        const auto config = static_cast<unsigned>(at % pci_config_size);
        m_segment.write(ecam_address(at), config, part, static_cast<u32>(value >> (8 * done)));
        done += part;
    }
}

} // namespace gnomon::platform
