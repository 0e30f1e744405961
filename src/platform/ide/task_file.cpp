// SPDX-License-Identifier: Apache-2.0
#include "platform/ide/task_file.h"

#include <algorithm>

namespace gnomon::platform::ide {

namespace {

constexpr u64 largest_lba28 = (u64{1} << 28) - 1;
constexpr u32 most_cylinders = 16383;          // by convention; larger disks are for LBA
constexpr unsigned low = 2, mid = 3, high = 4; // in TaskFile::m_bytes

} // namespace

Geometry Geometry::standard(u64 disk_sectors) {
    constexpr u32 heads = 16, sectors = 63;
    const u64 cylinders = disk_sectors / (heads * sectors);
    // A disk smaller than a cylinder has one, of which not all is there.
    return {static_cast<u32>(std::clamp<u64>(cylinders, 1, most_cylinders)), heads, sectors};
}

void TaskFile::reset() {
    m_bytes = {};
    m_bytes[1].current = 1;
    m_bytes[low].current = 1;
    m_device = 0;
}

void TaskFile::write(CommandBlockReg reg, u8 value) {
    if (reg == CommandBlockReg::device) {
        m_device = value;
    } else if (reg >= CommandBlockReg::error && reg <= CommandBlockReg::lba_high) {
        Byte& byte = m_bytes[static_cast<unsigned>(reg) - 1];
        byte.previous = byte.current;
        byte.current = value;
    }
}

u8 TaskFile::read(CommandBlockReg reg, bool high_order) const {
    if (reg == CommandBlockReg::device) return m_device;
    if (reg < CommandBlockReg::error || reg > CommandBlockReg::lba_high) return 0;
    const Byte& byte = m_bytes[static_cast<unsigned>(reg) - 1];
    return high_order ? byte.previous : byte.current;
}

u32 TaskFile::sector_count(Width width) const {
    if (width == Width::lba28) return count() == 0 ? 256 : count();
    const u32 all = u32{m_bytes[1].previous} << 8 | count();
    return all == 0 ? 65536 : all;
}

std::optional<u64> TaskFile::address(Width width, const Geometry& geometry) const {
    const u64 bytes =
        u64{m_bytes[high].current} << 16 | u64{m_bytes[mid].current} << 8 | m_bytes[low].current;
    if (width == Width::lba48)
        return u64{m_bytes[high].previous} << 40 | u64{m_bytes[mid].previous} << 32 |
               u64{m_bytes[low].previous} << 24 | bytes;
    const u32 head = m_device & DeviceBits::head;
    if ((m_device & DeviceBits::lba) != 0) return u64{head} << 24 | bytes;
    const u32 cylinder = static_cast<u32>(bytes >> 8), sector = m_bytes[low].current;
    if (head >= geometry.heads || sector == 0 || sector > geometry.sectors ||
        cylinder >= geometry.cylinders)
        return std::nullopt;
    return (u64{cylinder} * geometry.heads + head) * geometry.sectors + (sector - 1);
}

void TaskFile::set_address(u64 sector, Width width, const Geometry& geometry) {
    u64 bytes = 0;
    if (width == Width::lba48) {
        bytes = sector;
        m_bytes[high].previous = static_cast<u8>(sector >> 40);
        m_bytes[mid].previous = static_cast<u8>(sector >> 32);
        m_bytes[low].previous = static_cast<u8>(sector >> 24);
    } else if ((m_device & DeviceBits::lba) != 0) {
        bytes = std::min(sector, largest_lba28);
        m_device = static_cast<u8>((m_device & ~DeviceBits::head) | bytes >> 24);
    } else {
        const u64 shown = std::min(sector, geometry.capacity() - 1);
        const u64 track = shown / geometry.sectors;
        m_device = static_cast<u8>((m_device & ~DeviceBits::head) | track % geometry.heads);
        bytes = track / geometry.heads << 8 | (shown % geometry.sectors + 1);
    }
    m_bytes[low].current = static_cast<u8>(bytes);
    m_bytes[mid].current = static_cast<u8>(bytes >> 8);
    m_bytes[high].current = static_cast<u8>(bytes >> 16);
}

} // namespace gnomon::platform::ide
