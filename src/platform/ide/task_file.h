// SPDX-License-Identifier: Apache-2.0
/// @file What the command block says of a command, and what a command says there in return.
#pragma once

#include "platform/ide/registers.h"

#include <array>
#include <optional>

namespace gnomon::platform::ide {

/// How a command's address and count are to be read.
enum class Width : u8 {
    lba28, ///< or cylinder, head, sector: DeviceBits::lba says
    lba48, ///< with what was written to the registers before
};

/// Cylinders, heads and sectors that stand for addresses.
struct Geometry {
    u32 cylinders = 0, heads = 0, sectors = 0;

    friend bool operator==(const Geometry&, const Geometry&) = default;
    /// What a disk of this size has unless it is told otherwise: 16 heads, 63 sectors.
    [[nodiscard]] static Geometry standard(u64 disk_sectors);
    [[nodiscard]] u64 capacity() const { return u64{cylinders} * heads * sectors; }
};

/// One drive's registers from Feature to Device, as they were written. Those from Feature to LBA
/// High are two bytes deep.
class TaskFile {
public:
    /// As after a reset: the signature of an ATA disk.
    void reset();
    void write(CommandBlockReg reg, u8 value);
    /// @param high_order the byte that was written before the last one. Not of Status and Error.
    [[nodiscard]] u8 read(CommandBlockReg reg, bool high_order) const;

    [[nodiscard]] u8 feature() const { return m_bytes[0].current; }
    [[nodiscard]] u8 count() const { return m_bytes[1].current; }
    [[nodiscard]] u8 device() const { return m_device; }
    void set_count(u8 value) { m_bytes[1].current = value; }
    void set_device(u8 value) { m_device = value; }
    [[nodiscard]] bool second_selected() const { return (m_device & DeviceBits::second) != 0; }

    /// 1 to 256, or 65536 with Width::lba48: 0 stands for the most.
    [[nodiscard]] u32 sector_count(Width width) const;
    /// The first sector; nothing if cylinder, head and sector are not the geometry's.
    [[nodiscard]] std::optional<u64> address(Width width, const Geometry& geometry) const;
    /// The address of an error, or the largest one, in the form that `address` reads. One that has
    /// no place there is shown as the largest that has.
    void set_address(u64 sector, Width width, const Geometry& geometry);

private:
    struct Byte {
        u8 current = 0, previous = 0;
    };
    std::array<Byte, 5> m_bytes{}; ///< Feature, Sector Count, LBA Low, LBA Mid, LBA High
    u8 m_device = 0;
};

} // namespace gnomon::platform::ide
