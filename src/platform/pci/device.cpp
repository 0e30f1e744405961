// SPDX-License-Identifier: Apache-2.0
#include "platform/pci/device.h"

#include "base/verify.h"

#include <bit>

namespace gnomon::platform {

namespace {

constexpr u32 bar_port = 1 << 0, bar_wide = 2 << 1;
constexpr u16 status_interrupt = 1 << 3, status_capabilities = 1 << 4;
// MSI-X: message control, at offset 2 of the capability.
constexpr u16 msix_function_mask = 1 << 14, msix_enable = 1 << 15;
// PCI Express: device control, at offset 8 of the capability.
constexpr unsigned express_control = 8;
constexpr u16 express_function_reset = 1 << 15;

constexpr bool overlap(unsigned offset, unsigned size, unsigned first, unsigned count) {
    return offset < first + count && first < offset + size;
}

} // namespace

PciDevice::PciDevice(PciSlot slot, const PciIdentity& identity, std::string name,
                     GuestMemory& memory, DmaListener* listener)
    : m_slot(std::move(slot)), m_name(std::move(name)), m_dma(memory, listener) {
    m_dma.set_enabled(false);
    put(Reg::vendor_id, 2, identity.vendor_id);
    put(Reg::device_id, 2, identity.device_id);
    put(Reg::command, 2, 0,
        Command::memory | Command::bus_master | Command::parity | Command::serr |
            Command::interrupt_disable);
    put(Reg::revision_id, 1, identity.revision_id);
    put(Reg::class_code, 1, identity.class_code & 0xff);
    put(static_cast<unsigned>(Reg::class_code) + 1, 2, identity.class_code >> 8);
    put(Reg::cache_line_size, 1, 0, 0xff);
    put(Reg::latency_timer, 1, 0, 0xff);
    put(Reg::subsystem_vendor_id, 2, identity.subsystem_vendor_id);
    put(Reg::subsystem_id, 2, identity.subsystem_id);
    put(Reg::interrupt_line, 1, m_slot.interrupt_line, 0xff);
    put(Reg::interrupt_pin, 1, 1);
}

PciDevice::~PciDevice() {
    for (const Range& range : m_ranges)
        if (range.size != 0) m_slot.decoder.move(range.decoded, std::nullopt);
    m_slot.pin.set(false);
}

// --- what the device has ---

/// @param writable bits that the guest can change.
void PciDevice::put(unsigned offset, unsigned size, u32 value, u32 writable) {
    VERIFY(offset + size <= pci_config_size);
    for (unsigned i = 0; i < size; ++i) {
        m_config[offset + i] = m_initial[offset + i] = static_cast<u8>(value >> (8 * i));
        m_writable[offset + i] = static_cast<u8>(writable >> (8 * i));
    }
}

void PciDevice::add_range(unsigned bar, const Range& range, PciDecoder::Space space) {
    VERIFY(bar + (range.wide ? 1 : 0) < bar_count && m_ranges[bar].size == 0);
    VERIFY(std::has_single_bit(range.size));
    m_ranges[bar] = range;
    m_ranges[bar].decoded =
        m_slot.decoder.add(space, range.size, *range.device, fmt::format("{}-bar{}", m_name, bar));
    const u64 writable = ~(range.size - 1);
    const unsigned at = static_cast<unsigned>(Reg::bar0) + 4 * bar;
    put(at, 4, range.port ? bar_port : (range.wide ? bar_wide : 0), static_cast<u32>(writable));
    if (range.wide) {
        VERIFY(m_ranges[bar + 1].size == 0);
        put(at + 4, 4, 0, static_cast<u32>(writable >> 32));
    }
}

void PciDevice::add_memory_range(unsigned bar, u64 size, BusDevice& device, bool wide) {
    VERIFY(size >= 16 && (wide || size <= u64{1} << 31));
    add_range(bar, {.size = size, .device = &device, .wide = wide}, PciDecoder::Space::memory);
}

void PciDevice::add_port_range(unsigned bar, u32 size, BusDevice& device) {
    VERIFY(size >= 4 && size <= 256);
    add_range(bar, {.size = size, .device = &device, .port = true}, PciDecoder::Space::port);
    u8& command_writable = m_writable[static_cast<unsigned>(Reg::command)];
    command_writable = static_cast<u8>(command_writable | Command::io);
}

unsigned PciDevice::add_capability(u8 id, std::span<const u8> body, std::span<const u8> writable) {
    const unsigned at = m_capability_end;
    const auto size = static_cast<unsigned>(body.size());
    VERIFY(at + 2 + size <= pci_conventional_config_size && writable.size() <= size);
    put(at, 1, id);
    for (unsigned i = 0; i < size; ++i)
        put(at + 2 + i, 1, body[i], i < writable.size() ? writable[i] : 0);
    put(m_last_capability != 0 ? m_last_capability + 1 : static_cast<unsigned>(Reg::capabilities),
        1, at);
    put(Reg::status, 2, status_capabilities);
    m_last_capability = at;
    m_capability_end = (at + 2 + size + 3) & ~3U;
    return at;
}

void PciDevice::add_msix(unsigned bar, unsigned vectors) {
    VERIFY(!m_msix);
    MsixTable& table = m_msix.emplace(m_slot.messages, vectors);
    add_memory_range(bar, table.range_size(), table);
    const u32 table_at = bar, pending_at = static_cast<u32>(table.pending_offset()) | bar;
    std::array<u8, 10> body{};
    const auto store = [&](unsigned offset, unsigned size, u32 value) {
        for (unsigned i = 0; i < size; ++i)
            body[offset + i] = static_cast<u8>(value >> (8 * i));
    };
    store(0, 2, vectors - 1);
    store(2, 4, table_at);
    store(6, 4, pending_at);
    const std::array<u8, 2> writable = {0, (msix_function_mask | msix_enable) >> 8};
    m_msix_capability = add_capability(capability_msix, body, writable);
}

void PciDevice::add_express() {
    VERIFY(m_express_capability == 0);
    constexpr unsigned size = 0x3c; // version 2
    std::array<u8, size - 2> body{}, writable{};
    body[0] = 0x92;      // version 2, integrated endpoint of the root complex
    body[3] = 0x80;      // device capabilities: role-based error reporting ...
    body[5] = 0x10;      // ... and function-level reset
    body[6] = 0x10;      // device control: relaxed ordering,
    body[7] = 0x28;      // no snoop, read requests of 512 bytes
    writable[6] = 0xff;  // error reporting, relaxed ordering, payload size
    writable[7] = 0xff;  // extended tags, phantom functions, no snoop, read requests, reset
    writable[38] = 0x1f; // device control 2: completion time-out
    m_express_capability = add_capability(capability_express, body, writable);
}

BusDevice* PciDevice::range_device(unsigned bar) const {
    return bar < bar_count ? m_ranges[bar].device : nullptr;
}

u64 PciDevice::range_size(unsigned bar) const { return bar < bar_count ? m_ranges[bar].size : 0; }

// --- configuration space ---

u32 PciDevice::config_value(unsigned offset, unsigned size) const {
    u32 value = 0;
    for (unsigned i = 0; i < size && i < 4 && offset + i < pci_config_size; ++i)
        value |= u32{m_config[offset + i]} << (8 * i);
    return value;
}

void PciDevice::set_config_value(unsigned offset, unsigned size, u32 value) {
    for (unsigned i = 0; i < size && i < 4 && offset + i < pci_config_size; ++i)
        m_config[offset + i] = static_cast<u8>(value >> (8 * i));
}

u16 PciDevice::command() const {
    return static_cast<u16>(config_value(static_cast<unsigned>(Reg::command), 2));
}

u32 PciDevice::config_read(unsigned offset, unsigned size) {
    config_reading(offset, size);
    return config_value(offset, size);
}

void PciDevice::config_write(unsigned offset, unsigned size, u32 value) {
    for (unsigned i = 0; i < size && i < 4 && offset + i < pci_config_size; ++i) {
        const u8 mask = m_writable[offset + i];
        u8& byte = m_config[offset + i];
        byte = static_cast<u8>((byte & ~mask) | ((value >> (8 * i)) & mask));
    }
    if (m_express_capability != 0 &&
        overlap(offset, size, m_express_capability + express_control, 2)) {
        const unsigned at = m_express_capability + express_control;
        if ((config_value(at, 2) & express_function_reset) != 0) {
            reset_function();
            return;
        }
    }
    const bool command_written = overlap(offset, size, static_cast<unsigned>(Reg::command), 2);
    if (command_written) m_dma.set_enabled((command() & Command::bus_master) != 0);
    if (command_written || overlap(offset, size, static_cast<unsigned>(Reg::bar0), 4 * bar_count))
        update_ranges();
    if (command_written || (m_msix && overlap(offset, size, m_msix_capability + 2, 2))) {
        update_messages();
        update_pin();
    }
    config_written(offset, size);
}

void PciDevice::update_ranges() {
    for (unsigned bar = 0; bar < bar_count; ++bar) {
        const Range& range = m_ranges[bar];
        if (range.size == 0) continue;
        const unsigned at = static_cast<unsigned>(Reg::bar0) + 4 * bar;
        u64 base = config_value(at, 4) & ~(range.size - 1);
        if (range.wide) base |= u64{config_value(at + 4, 4)} << 32;
        const bool decoded = (command() & (range.port ? Command::io : Command::memory)) != 0;
        m_slot.decoder.move(range.decoded, decoded ? std::optional(base) : std::nullopt);
    }
}

void PciDevice::reset_function() {
    m_config = m_initial;
    m_dma.set_enabled(false);
    if (m_msix) m_msix->reset();
    m_pin = false;
    update_ranges();
    update_pin();
    function_reset();
}

// --- interrupts ---

void PciDevice::update_messages() {
    if (!m_msix) return;
    const u32 control = config_value(m_msix_capability + 2, 2);
    m_msix->set_state((control & msix_enable) != 0, (control & msix_function_mask) == 0 &&
                                                        (command() & Command::bus_master) != 0);
}

void PciDevice::send(unsigned vector) {
    if (m_msix) m_msix->send(vector);
}

void PciDevice::set_pin(bool asserted) {
    m_pin = asserted;
    update_pin();
}

void PciDevice::update_pin() {
    const unsigned status = static_cast<unsigned>(Reg::status);
    const u32 others = config_value(status, 2) & ~u32{status_interrupt};
    set_config_value(status, 2, others | (m_pin ? status_interrupt : 0));
    m_slot.pin.set(m_pin && !messages_enabled() && (command() & Command::interrupt_disable) == 0);
}

} // namespace gnomon::platform
