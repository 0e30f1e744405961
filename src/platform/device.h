// SPDX-License-Identifier: Apache-2.0
/// @file What a device on a bus is.
#pragma once

#include "base/types.h"

namespace gnomon::platform {

/// The bits of a value that `size` bytes hold, `size` in 0..8.
[[nodiscard]] constexpr u64 byte_mask(unsigned size) {
    return size >= 8 ? ~u64{0} : (u64{1} << (size * 8)) - 1;
}

/// A device knows offsets into its own range, not where the range lies. Whatever the guest does
/// must be safe: any offset in the range, any value, any size from 1 to 8 with offset + size within
/// the range.
class BusDevice {
public:
    BusDevice() = default;
    BusDevice(const BusDevice&) = delete;
    BusDevice& operator=(const BusDevice&) = delete;
    virtual ~BusDevice() = default;

    /// Bits above `size` bytes are ignored by the bus. Reading may change the device (FIFOs, clear
    /// on read).
    [[nodiscard]] virtual u64 read(u64 offset, unsigned size) = 0;
    /// Bits of `value` above `size` bytes are zero.
    virtual void write(u64 offset, unsigned size, u64 value) = 0;
};

/// A device with an 8-bit data path: as on the ISA bus, a wider access becomes byte cycles at
/// ascending offsets.
class ByteDevice : public BusDevice {
public:
    [[nodiscard]] u64 read(u64 offset, unsigned size) final {
        u64 value = 0;
        for (unsigned i = 0; i < size && i < 8; ++i)
            value |= u64{read_byte(offset + i)} << (8 * i);
        return value;
    }
    void write(u64 offset, unsigned size, u64 value) final {
        for (unsigned i = 0; i < size && i < 8; ++i)
            write_byte(offset + i, static_cast<u8>(value >> (8 * i)));
    }

    [[nodiscard]] virtual u8 read_byte(u64 offset) = 0;
    virtual void write_byte(u64 offset, u8 value) = 0;
};

} // namespace gnomon::platform
