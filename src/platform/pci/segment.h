// SPDX-License-Identifier: Apache-2.0
/// @file PCI configuration space: functions, the segment that holds them, and the two ways to them:
/// configuration mechanism #1 and the memory window (ECAM).
///
/// PCI Local Bus Specification 3.0, sections 3.2.2.3 (mechanism #1) and 6.1 (configuration space);
/// PCI Express Base Specification 4.0, section 7.2.2 (ECAM).
#pragma once

#include "base/result.h"
#include "platform/device.h"

#include <compare>
#include <map>

namespace gnomon::platform {

/// Bytes of a function's configuration space, and how many of them mechanism #1 reaches.
inline constexpr unsigned pci_config_size = 4096, pci_conventional_config_size = 256;

/// Bus 0-255, device 0-31, function 0-7.
struct PciAddress {
    u8 bus = 0, device = 0, function = 0;
    friend constexpr auto operator<=>(const PciAddress&, const PciAddress&) = default;
};

/// One function. Accesses never cross a dword: offset in 0..4095, size 1, 2 or 4.
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
    /// Any offset and size are safe; what crosses a dword or lies past the configuration space
    /// reads as all ones and is ignored.
    [[nodiscard]] u32 read(PciAddress address, unsigned offset, unsigned size);
    void write(PciAddress address, unsigned offset, unsigned size, u32 value);

private:
    std::map<PciAddress, PciFunction*> m_functions;
};

/// CONFIG_ADDRESS and CONFIG_DATA. They reach the first 256 bytes of each function.
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

/// The enhanced configuration access mechanism: 4 KiB of memory for each function, bus by bus.
/// Accesses of any width and alignment are served dword by dword.
class PciEcam final : public BusDevice {
public:
    static constexpr u64 bytes_per_bus = u64{32} * 8 * pci_config_size;

    /// `segment` must outlive the device.
    explicit PciEcam(PciSegment& segment) : m_segment(segment) {}
    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;

private:
    PciSegment& m_segment;
};

} // namespace gnomon::platform
