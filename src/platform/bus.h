// SPDX-License-Identifier: Apache-2.0
/// @file Buses: from an address to the device that answers there.
#pragma once

#include "base/address.h"
#include "base/result.h"
#include "platform/device.h"

#include <string>
#include <string_view>
#include <vector>

namespace gnomon::platform {

/// Address decoding common to ports and MMIO. A device must outlive its presence on the bus.
///
/// Accesses have 1 to 8 bytes (0 does nothing, more is taken as 8). One that lies within one
/// device's range goes to the device as it is. One that touches several ranges, or a range and a
/// hole, is split into bytes, each of which goes where its address leads. Bytes that nobody claims,
/// or past the end of the address space, read as 0xff and are ignored when written. A device may
/// change the bus while it handles an access.
///
/// Not thread-safe.
class AddressDecoder {
public:
    /// The name of the device at `address`, empty where there is none.
    [[nodiscard]] std::string_view name_at(u64 address) const;

protected:
    /// @param space for messages ("port", "memory"). @param last highest address of the space.
    AddressDecoder(std::string_view space, u64 last) : m_space(space), m_last(last) {}

    [[nodiscard]] Result<> insert_range(u64 first, u64 last, BusDevice& device, std::string name);
    bool remove_range(u64 first, const BusDevice& device);
    [[nodiscard]] u64 read_range(u64 address, unsigned size);
    void write_range(u64 address, unsigned size, u64 value);

private:
    struct Entry {
        u64 first = 0, last = 0; ///< inclusive
        BusDevice* device = nullptr;
        std::string name;
    };
    [[nodiscard]] const Entry* find(u64 address) const;

    std::string_view m_space;
    u64 m_last;
    std::vector<Entry> m_entries; ///< ascending, disjoint
};

/// An inclusive range of addresses.
template <class A>
struct BusRange {
    A first;
    A last;
};

/// The 64 Ki ports of IN and OUT.
class PortBus final : public AddressDecoder {
public:
    PortBus() : AddressDecoder("port", 0xffff) {}

    /// Fails if the range is empty (last < first) or overlaps another device's.
    [[nodiscard]] Result<> insert(BusRange<u16> range, BusDevice& device, std::string name) {
        return insert_range(range.first, range.last, device, std::move(name));
    }
    /// Removes the range of `device` that begins at `first`; false if there is none.
    bool remove(u16 first, const BusDevice& device) { return remove_range(first, device); }
    [[nodiscard]] u64 read(u16 port, unsigned size) { return read_range(port, size); }
    void write(u16 port, unsigned size, u64 value) { write_range(port, size, value); }
};

/// Guest-physical memory that is not RAM.
class MmioBus final : public AddressDecoder {
public:
    MmioBus() : AddressDecoder("memory", ~u64{0}) {}

    /// Fails if the range is empty (last < first) or overlaps another device's.
    [[nodiscard]] Result<> insert(BusRange<Gpa> range, BusDevice& device, std::string name) {
        return insert_range(range.first.value(), range.last.value(), device, std::move(name));
    }
    /// Removes the range of `device` that begins at `first`; false if there is none.
    bool remove(Gpa first, const BusDevice& device) { return remove_range(first.value(), device); }
    [[nodiscard]] u64 read(Gpa gpa, unsigned size) { return read_range(gpa.value(), size); }
    void write(Gpa gpa, unsigned size, u64 value) { write_range(gpa.value(), size, value); }
};

} // namespace gnomon::platform
