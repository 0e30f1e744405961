// SPDX-License-Identifier: Apache-2.0
/// @file PCI configuration space: functions, the segment that holds them, and configuration
/// mechanism #1.
///
/// PCI Local Bus Specification 3.0, sections 3.2.2.3 (mechanism #1) and 6.1 (configuration space).
#pragma once

#include "base/result.h"
#include "platform/device.h"

#include <array>
#include <compare>
#include <map>

namespace gnomon::platform {

/// Bus 0-255, device 0-31, function 0-7.
struct PciAddress {
    u8 bus = 0, device = 0, function = 0;
    friend constexpr auto operator<=>(const PciAddress&, const PciAddress&) = default;
};

/// One function. Accesses never cross a dword: offset in 0..255, size 1, 2 or 4.
class PciFunction {
public:
    PciFunction() = default;
    PciFunction(const PciFunction&) = delete;
    PciFunction& operator=(const PciFunction&) = delete;
    virtual ~PciFunction() = default;
    [[nodiscard]] virtual u32 config_read(unsigned offset, unsigned size) = 0;
    virtual void config_write(unsigned offset, unsigned size, u32 value) = 0;
};

/// All functions. An address without one reads as all ones, which is how software finds out.
class PciSegment {
public:
    /// `function` must outlive the segment. Fails if the address is impossible or taken.
    [[nodiscard]] Result<> insert(PciAddress address, PciFunction& function);
    /// Any offset and size are safe; what crosses a dword or lies past 256 reads as all ones and is
    /// ignored.
    [[nodiscard]] u32 read(PciAddress address, unsigned offset, unsigned size);
    void write(PciAddress address, unsigned offset, unsigned size, u32 value);

private:
    std::map<PciAddress, PciFunction*> m_functions;
};

/// The host bridge of an Intel 82441FX, without its chipset registers.
class PciHostBridge final : public PciFunction {
public:
    enum class Reg : u8 {
        vendor_id = 0x00,   // r- 8086h
        device_id = 0x02,   // r- 1237h
        command = 0x04,     // rw reset 0006h: memory and bus master, which stay set
        status = 0x06,      // r- reset 0000h
        revision_id = 0x08, // r- 02h
        class_code = 0x09,  // r- 060000h: host bridge
        header_type = 0x0e, // r- 00h
    };
    PciHostBridge();
    [[nodiscard]] u32 config_read(unsigned offset, unsigned size) override;
    void config_write(unsigned offset, unsigned size, u32 value) override;

private:
    std::array<u8, 256> m_config{};
};

/// CONFIG_ADDRESS and CONFIG_DATA.
class PciConfigPorts final : public BusDevice {
public:
    enum class Reg : u8 {
        config_address = 0, // rw dword accesses only, reset 00000000h
        config_data = 4,    // rw 1, 2 or 4 bytes within the dword
    };
    /// @param byte_at_1 what a byte access at offset 1 (0xcf9) means: the reset control register.
    /// Both must outlive the device.
    PciConfigPorts(PciSegment& segment, ByteDevice& byte_at_1)
        : m_segment(segment), m_byte_at_1(byte_at_1) {}

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;

private:
    static constexpr u32 enable = u32{1} << 31, writable = 0x80ff'fffc;
    [[nodiscard]] PciAddress address() const;
    [[nodiscard]] unsigned config_offset(u64 port_offset) const;

    PciSegment& m_segment;
    ByteDevice& m_byte_at_1;
    u32 m_address = 0;
};

} // namespace gnomon::platform
