// SPDX-License-Identifier: Apache-2.0
/// @file MSI-X: a table of messages, and which of them wait to be sent.
///
/// PCI Local Bus Specification 3.0, section 6.8.2.
#pragma once

#include "platform/apic_bus.h"
#include "platform/device.h"

#include <vector>

namespace gnomon::platform {

/// Table and pending bits, as they lie in a memory range of `range_size` bytes: the table at its
/// beginning, the pending bits at `pending_offset`. What is neither reads as 0.
class MsixTable final : public BusDevice {
public:
    static constexpr unsigned max_vectors = 2048, entry_size = 16;
    /// Within an entry. Dwords; bytes and words of them can be written too.
    enum class Reg : u8 {
        address_low = 0,  // rw bits 31:2, reset 0
        address_high = 4, // rw reset 0
        data = 8,         // rw reset 0
        control = 12,     // rw bit 0: masked, reset 1
    };

    /// @param bus must outlive it. @param vectors 1 to max_vectors (VERIFY).
    MsixTable(ApicBus& bus, unsigned vectors);

    [[nodiscard]] unsigned vectors() const { return m_vectors; }
    [[nodiscard]] u64 pending_offset() const { return m_pending_offset; }
    [[nodiscard]] u64 range_size() const { return 2 * m_pending_offset; }

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;

    /// What the capability and the command register say. Messages that waited and no longer have to
    /// are sent.
    /// @param open not masked as a whole, and the function may master the bus.
    void set_state(bool enabled, bool open);
    [[nodiscard]] bool enabled() const { return m_enabled; }
    /// As InterruptVectors::send.
    void send(unsigned vector);
    /// As at power-on, with MSI-X off.
    void reset();

private:
    [[nodiscard]] u32 dword(unsigned vector, Reg reg) const;
    [[nodiscard]] bool masked(unsigned vector) const;
    [[nodiscard]] u8 byte_at(u64 offset) const;
    void send_if_waiting(unsigned vector);

    ApicBus& m_bus;
    unsigned m_vectors;
    u64 m_pending_offset;
    std::vector<u8> m_entries;
    std::vector<bool> m_pending;
    bool m_enabled = false, m_open = false;
};

} // namespace gnomon::platform
