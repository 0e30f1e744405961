// SPDX-License-Identifier: Apache-2.0
/// @file The host bridge: how systems recognize that there is a PCI bus.
#pragma once

#include "platform/pci/segment.h"

#include <array>

namespace gnomon::platform {

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
    std::array<u8, 256> m_config{}; ///< what lies behind it reads as 0
};

} // namespace gnomon::platform
