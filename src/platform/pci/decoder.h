// SPDX-License-Identifier: Apache-2.0
/// @file Where the base address registers of all PCI functions lie on the buses.
#pragma once

#include "platform/bus.h"

#include <optional>
#include <string>
#include <vector>

namespace gnomon::platform {

/// The ranges that PCI functions claim with their base address registers, wherever the guest puts
/// them. A range that meets another device's, or runs off the bus, answers nowhere until there is
/// room; of two that overlap the one that was there first stays. RAM is in front of everything.
///
/// Not thread-safe. The buses must outlive it.
class PciDecoder {
public:
    enum class Space : u8 { memory, port };

    PciDecoder(PortBus& ports, MmioBus& memory) : m_ports(ports), m_memory(memory) {}
    PciDecoder(const PciDecoder&) = delete;
    PciDecoder& operator=(const PciDecoder&) = delete;

    /// A range of `size` bytes that lies nowhere as yet. @param device must outlive its stay on the
    /// bus. @return what `move` calls it.
    [[nodiscard]] std::size_t add(Space space, u64 size, BusDevice& device, std::string name);
    /// The range begins at `base` from now on, or nowhere.
    void move(std::size_t range, std::optional<u64> base);
    /// Whether the range answers.
    [[nodiscard]] bool placed(std::size_t range) const { return m_ranges.at(range).placed; }

private:
    struct Range {
        Space space;
        u64 size;
        BusDevice* device;
        std::string name;
        std::optional<u64> base{}; ///< where the guest wants it
        bool placed = false;
    };
    void withdraw(Range& range);
    [[nodiscard]] bool place(const Range& range);

    PortBus& m_ports;
    MmioBus& m_memory;
    std::vector<Range> m_ranges;
};

} // namespace gnomon::platform
