// SPDX-License-Identifier: Apache-2.0
/// @file The ISA bridge of a PIIX3: function 0 of the chip whose function 1 is the IDE controller.
///
/// Intel 82371SB (PIIX3), section 2.2.
#pragma once

#include "platform/pci/segment.h"

#include <array>

namespace gnomon::platform {

/// Its registers keep what is written and have no effect: interrupts of PCI are wired as layout.h
/// says, whatever the routing registers hold.
class PciIsaBridge final : public PciFunction {
public:
    enum class Reg : u8 {
        vendor_id = 0x00,             // r- 8086h
        device_id = 0x02,             // r- 7000h
        command = 0x04,               // r- 0007h: ports, memory, bus master
        status = 0x06,                // r- 0280h: fast back-to-back, medium DEVSEL
        revision_id = 0x08,           // r- 00h
        class_code = 0x09,            // r- 060100h: ISA bridge
        header_type = 0x0e,           // r- 80h: there are other functions
        io_recovery = 0x4c,           // rw IORT, reset 4Dh
        bus_chip_select = 0x4e,       // rw XBCS, 16 bits, reset 0003h
        interrupt_routing = 0x60,     // rw PIRQRC[A:D], 4 bytes, reset 80h: not routed
        top_of_memory = 0x69,         // rw TOM, reset 02h
        miscellaneous_status = 0x6a,  // rw MSTAT, 16 bits, reset 0000h
        board_interrupt = 0x70,       // rw MBIRQ0 and 1, reset 80h
        dma_features = 0x76,          // rw MBDMA0 and 1, reset 0Ch
        chip_select = 0x78,           // rw PCSC, 16 bits, reset 0002h
        deterministic_latency = 0x82, // rw DLC, reset 00h
    };
    PciIsaBridge();
    [[nodiscard]] u32 config_read(unsigned offset, unsigned size) override;
    void config_write(unsigned offset, unsigned size, u32 value) override;

private:
    // What lies behind them reads as 0.
    std::array<u8, pci_conventional_config_size> m_config{}, m_writable{};
};

} // namespace gnomon::platform
