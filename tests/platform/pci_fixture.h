// SPDX-License-Identifier: Apache-2.0
/// @file A board with memory, as a guest's driver of a PCI device sees it.
#pragma once

#include "base/verify.h"
#include "platform/board.h"
#include "platform/clock.h"

#include <gtest/gtest.h>

namespace gnomon::platform::test {

class PciHost {
public:
    /// CPU 0's local APIC is enabled, as an operating system leaves it.
    PciHost() {
        auto made_memory = GuestMemory::create(u64{8} << 20);
        VERIFY(made_memory.has_value());
        m_memory.emplace(std::move(*made_memory));
        auto made_board = Board::create({.memory_bytes = m_memory->size()}, m_clock);
        VERIFY(made_board.has_value());
        m_board = std::move(*made_board);
        m_board->mmio_write(0, Gpa(0xfee000f0), 4, 0x1ff);
    }
    [[nodiscard]] Board& board() { return *m_board; }
    [[nodiscard]] GuestMemory& memory() { return *m_memory; }
    [[nodiscard]] PciSegment& segment() { return m_board->pci(); }

    /// By the window, device `device` of bus 0.
    [[nodiscard]] u32 config_read(unsigned device, unsigned offset, unsigned size) {
        return static_cast<u32>(m_board->mmio_read(0, config_address(device, offset), size));
    }
    void config_write(unsigned device, unsigned offset, unsigned size, u32 value) {
        m_board->mmio_write(0, config_address(device, offset), size, value);
    }
    /// The offset of a capability behind `after`, or 0. Fails on a list that does not end.
    [[nodiscard]] unsigned find_capability(unsigned device, u8 id, unsigned after = 0) {
        unsigned at = config_read(device, after == 0 ? 0x34 : after + 1, 1);
        for (unsigned count = 0; at != 0; ++count) {
            if (count > 48) {
                ADD_FAILURE() << "the list of capabilities does not end";
                return 0;
            }
            if (config_read(device, at, 1) == id) return at;
            at = config_read(device, at + 1, 1);
        }
        return 0;
    }
    /// The next interrupt of CPU 0, served at once; 0 if there is none.
    [[nodiscard]] unsigned take_interrupt() {
        const auto vector = m_board->acknowledge_interrupt(0);
        m_board->mmio_write(0, Gpa(0xfee000b0), 4, 0);
        return vector.value_or(0);
    }

private:
    static Gpa config_address(unsigned device, unsigned offset) {
        return Gpa(layout::pci_ecam_base + (u64{device} << 15) + offset);
    }
    ManualClock m_clock;
    std::optional<GuestMemory> m_memory;
    std::unique_ptr<Board> m_board;
};

} // namespace gnomon::platform::test
