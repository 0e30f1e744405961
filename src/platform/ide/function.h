// SPDX-License-Identifier: Apache-2.0
/// @file The IDE function of a PIIX3: two channels at the legacy ports and interrupts, and their
/// bus master.
///
/// Intel 82371SB (PIIX3), section 2.3.
#pragma once

#include "platform/ide/channel.h"
#include "platform/pci/device.h"

namespace gnomon::platform::ide {

/// Legacy mode only, as PIIX3: BAR 0 to 3 do not exist, and there is no interrupt pin. BAR 4: the
/// bus master's 16 ports. A channel's ports answer while the command register lets ports and IDETIM
/// lets the channel.
///
/// As firmware leaves it: ports on, both channels enabled, the bus master's ports at
/// `bus_master_base`. It becomes bus master when the guest says so.
class Function final : public PciDevice {
public:
    static constexpr PciIdentity identity = {.vendor_id = 0x8086,
                                             .device_id = 0x7010,
                                             .class_code = 0x01'0180, // legacy, bus master
                                             .revision_id = 0};
    static constexpr unsigned bus_master_bar = 4;
    static constexpr u16 bus_master_base = 0xc000;

    /// The lines of the two channels: IRQ 14 and 15.
    struct Interrupts {
        InterruptLine primary, secondary;
    };

    /// @param slot its pin is not used. All arguments must outlive it, as must what `slot` names.
    Function(PciSlot slot, std::string name, CompletionScheduler& completions,
             Interrupts interrupts, GuestMemory& memory, DmaListener* listener);
    ~Function() override;

    /// Before the guest runs. @param place 0 to 3, with no disk as yet (VERIFY): first and second
    /// of the primary channel, then of the secondary one.
    void attach(unsigned place, DriveParts parts);

private:
    class BusMasterPorts final : public ByteDevice {
    public:
        explicit BusMasterPorts(Function& function) : m_function(function) {}
        [[nodiscard]] u8 read_byte(u64 offset) override;
        void write_byte(u64 offset, u8 value) override;

    private:
        Function& m_function;
    };

    void function_reset() override;
    void config_written(unsigned offset, unsigned size) override;
    void place_channels();

    PciDecoder& m_decoder;
    std::array<Channel, channel_count> m_channels;
    BusMasterPorts m_bus_master_ports{*this};
    /// In the decoder: command block and control block of each channel.
    std::array<std::array<std::size_t, 2>, channel_count> m_ranges{};
};

} // namespace gnomon::platform::ide
