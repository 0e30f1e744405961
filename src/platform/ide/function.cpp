// SPDX-License-Identifier: Apache-2.0
#include "platform/ide/function.h"

#include "base/verify.h"
#include "platform/layout.h"

namespace gnomon::platform::ide {

namespace {

constexpr unsigned at(PciDevice::Reg reg) { return static_cast<unsigned>(reg); }
constexpr unsigned at(ConfigReg reg) { return static_cast<unsigned>(reg); }
constexpr unsigned timing_of(unsigned channel) {
    return at(ConfigReg::primary_timing) + 2 * channel;
}

/// It takes fast back-to-back transactions and answers them at medium speed.
constexpr u16 piix_status = 0x0280;

} // namespace

Function::Function(PciSlot slot, std::string name, CompletionScheduler& completions,
                   Interrupts interrupts, GuestMemory& memory, DmaListener* listener)
    : PciDevice(std::move(slot), identity, name, memory, listener),
      m_decoder(decoder()), m_channels{
                                Channel(dma(), completions, std::move(interrupts.primary)),
                                Channel(dma(), completions, std::move(interrupts.secondary))} {
    add_register(at(Reg::status), 2, piix_status);
    add_register(at(Reg::interrupt_line), 1, 0, 0xff);
    add_register(at(Reg::interrupt_pin), 1, 0);
    for (unsigned channel = 0; channel < channel_count; ++channel) {
        add_register(timing_of(channel), 2, Timing::decode_enable, Timing::writable);
        Channel& ports = m_channels[channel];
        const std::string number = fmt::format("{}-channel{}", name, channel);
        m_ranges[channel] = {m_decoder.add(PciDecoder::Space::port, command_block_port_count,
                                           ports.command_block(), number + "-command"),
                             m_decoder.add(PciDecoder::Space::port, control_block_port_count,
                                           ports.control_block(), number + "-control")};
    }
    add_register(at(ConfigReg::slave_timing), 1, 0, 0xff);
    add_port_range(bus_master_bar, bus_master_port_count, m_bus_master_ports);
    config_write(at(Reg::bar0) + 4 * bus_master_bar, 4, bus_master_base);
    config_write(at(Reg::command), 2, Command::io);
}

Function::~Function() {
    for (const auto& ranges : m_ranges)
        for (const std::size_t range : ranges)
            m_decoder.move(range, std::nullopt);
}

void Function::attach(unsigned place, DriveParts parts) {
    VERIFY(place < channel_count * drives_per_channel);
    m_channels[place / drives_per_channel].attach(place % drives_per_channel, std::move(parts));
}

void Function::function_reset() {
    for (Channel& channel : m_channels)
        channel.reset();
    place_channels();
}

void Function::config_written(unsigned, unsigned) { place_channels(); }

void Function::place_channels() {
    const bool ports = (config_value(at(Reg::command), 2) & Command::io) != 0;
    for (unsigned channel = 0; channel < channel_count; ++channel) {
        const bool decoded =
            ports && (config_value(timing_of(channel), 2) & Timing::decode_enable) != 0;
        const auto base = [&](u16 port) {
            return decoded ? std::optional<u64>(port) : std::nullopt;
        };
        m_decoder.move(m_ranges[channel][0], base(layout::ide_command_port[channel]));
        m_decoder.move(m_ranges[channel][1], base(layout::ide_control_port[channel]));
    }
}

u8 Function::BusMasterPorts::read_byte(u64 offset) {
    return m_function.m_channels[offset / bus_master_ports_of_channel].read_bus_master(
        offset % bus_master_ports_of_channel);
}

void Function::BusMasterPorts::write_byte(u64 offset, u8 value) {
    m_function.m_channels[offset / bus_master_ports_of_channel].write_bus_master(
        offset % bus_master_ports_of_channel, value);
}

} // namespace gnomon::platform::ide
