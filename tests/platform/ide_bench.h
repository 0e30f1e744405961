// SPDX-License-Identifier: Apache-2.0
/// @file An IDE channel with all that it is connected to, and what a driver does with it.
#pragma once

#include "base/verify.h"
#include "fixtures.h"
#include "nvme_bench.h"
#include "platform/ide/channel.h"

namespace gnomon::platform::ide::test {

using nvme::test::FixedDelay;
using nvme::test::HeldCompletions;
using nvme::test::MemoryDisk;
using nvme::test::WrittenPages;

inline constexpr u8 bsy = 0x80, drdy = 0x50, drq = 0x58, err = 0x51;

/// The first disk's byte `i` is i * 7 and more, so that no two sectors are alike.
[[nodiscard]] inline u8 pattern(u64 i) { return static_cast<u8>(i * 7 + (i >> 9) * 13 + 1); }

struct Bench {
    static constexpr u64 memory_bytes = u64{4} << 20, disk_sectors = 20000;
    static constexpr unsigned irq = 14;
    static constexpr u64 table = 0x10000, data = 0x20000;

    /// @param disks how many: 0 to 2.
    explicit Bench(unsigned disk_count = 1, const DriveOptions& options = {},
                   u64 memory_size = memory_bytes, u64 sectors = disk_sectors)
        : memory(*GuestMemory::create(memory_size)) {
        for (MemoryDisk* disk : {&first, &second})
            disk->contents.resize(sectors * 512);
        for (u64 i = 0; i < first.contents.size(); ++i)
            first.contents[i] = pattern(i);
        if (disk_count >= 1)
            channel.attach(0, {"ide0", first, std::make_unique<FixedDelay>(), options});
        if (disk_count >= 2)
            channel.attach(1, {"ide1", second, std::make_unique<FixedDelay>(), options});
    }

    [[nodiscard]] u8 in(unsigned reg) {
        return static_cast<u8>(channel.command_block().read(reg, 1));
    }
    void out(unsigned reg, unsigned value) { channel.command_block().write(reg, 1, value & 0xff); }
    [[nodiscard]] u8 status() { return in(7); }
    [[nodiscard]] u8 alternate() { return static_cast<u8>(channel.control_block().read(0, 1)); }
    void control(unsigned value) { channel.control_block().write(0, 1, value); }
    void software_reset() {
        control(4);
        control(0);
    }
    [[nodiscard]] u8 bus_master_status() { return channel.read_bus_master(2); }
    void set_bus_master_status(unsigned value) {
        channel.write_bus_master(2, static_cast<u8>(value));
    }
    void set_bus_master(unsigned value) { channel.write_bus_master(0, static_cast<u8>(value)); }
    void set_table(u64 gpa) {
        for (unsigned i = 0; i < 4; ++i)
            channel.write_bus_master(4 + i, static_cast<u8>(gpa >> (8 * i)));
    }
    /// One edge of the interrupt since the last call.
    [[nodiscard]] unsigned interrupts() {
        const unsigned rises = lines.rises[irq];
        return rises - std::exchange(m_seen_rises, rises);
    }
    [[nodiscard]] bool line() const { return lines.level[irq]; }

    /// With LBA.
    void command(unsigned opcode, u64 lba = 0, unsigned count = 1, unsigned device = 0) {
        out(2, count);
        out(3, static_cast<unsigned>(lba));
        out(4, static_cast<unsigned>(lba >> 8));
        out(5, static_cast<unsigned>(lba >> 16));
        out(6, 0xe0 | device << 4 | (lba >> 24 & 0xf));
        out(7, opcode);
    }
    void command_ext(unsigned opcode, u64 lba = 0, unsigned count = 1, unsigned device = 0) {
        out(6, 0xe0 | device << 4);
        out(2, count >> 8);
        out(3, static_cast<unsigned>(lba >> 24));
        out(4, static_cast<unsigned>(lba >> 32));
        out(5, static_cast<unsigned>(lba >> 40));
        out(2, count);
        out(3, static_cast<unsigned>(lba));
        out(4, static_cast<unsigned>(lba >> 8));
        out(5, static_cast<unsigned>(lba >> 16));
        out(7, opcode);
    }
    /// A command of no data, with a feature: status, read as the handler does.
    [[nodiscard]] u8 simple(unsigned opcode, unsigned feature = 0, unsigned count = 0) {
        out(1, feature);
        out(2, count);
        out(7, opcode);
        return status();
    }
    [[nodiscard]] std::vector<u8> read_block(unsigned bytes, unsigned width = 2) {
        std::vector<u8> block;
        for (unsigned i = 0; i < bytes; i += width) {
            const u64 value = channel.command_block().read(0, width);
            for (unsigned k = 0; k < width; ++k)
                block.push_back(static_cast<u8>(value >> (8 * k)));
        }
        return block;
    }
    void write_block(unsigned bytes, u8 seed, unsigned width = 2) {
        for (unsigned i = 0; i < bytes; i += width) {
            u64 value = 0;
            for (unsigned k = 0; k < width; ++k)
                value |= u64{static_cast<u8>(seed + i + k)} << (8 * k);
            channel.command_block().write(0, width, value);
        }
    }
    [[nodiscard]] std::vector<u16> identify(unsigned device = 0) {
        out(6, 0xe0 | device << 4);
        out(7, 0xec);
        if (status() != drq) return std::vector<u16>(256);
        const std::vector<u8> bytes = read_block(512);
        std::vector<u16> words(256);
        std::memcpy(words.data(), bytes.data(), 512);
        return words;
    }
    /// Writes the table at `table`: base, count and flags of each.
    void put_table(const std::vector<PrdEntry>& entries, u64 at = table) {
        for (const PrdEntry& entry : entries) {
            VERIFY(memory.write_object(Gpa(at), entry));
            at += sizeof entry;
        }
    }
    /// As drivers do it: table, direction, command, start.
    void dma(unsigned opcode, u64 lba, unsigned count, bool to_memory,
             const std::vector<PrdEntry>& entries) {
        put_table(entries);
        set_table(table);
        set_bus_master_status(6);
        set_bus_master(to_memory ? 8 : 0);
        command(opcode, lba, count);
        set_bus_master(to_memory ? 9 : 1);
    }
    [[nodiscard]] std::vector<u8> guest_bytes(u64 gpa, u64 size) {
        std::vector<u8> bytes(size);
        VERIFY(memory.read(Gpa(gpa), std::as_writable_bytes(std::span(bytes))));
        return bytes;
    }
    void put_bytes(u64 gpa, const std::vector<u8>& bytes) {
        VERIFY(memory.write(Gpa(gpa), std::as_bytes(std::span(bytes))));
    }
    /// What the first disk had in the beginning.
    [[nodiscard]] static std::vector<u8> sectors(u64 lba, u64 count) {
        std::vector<u8> bytes(count * 512);
        for (u64 i = 0; i < bytes.size(); ++i)
            bytes[i] = pattern(lba * 512 + i);
        return bytes;
    }
    [[nodiscard]] static std::vector<u8> of_disk(const MemoryDisk& disk, u64 lba, u64 count) {
        const auto at = disk.contents.begin() + static_cast<std::ptrdiff_t>(lba * 512);
        return {at, at + static_cast<std::ptrdiff_t>(count * 512)};
    }
    /// The address as the registers hold it after an error.
    [[nodiscard]] u64 error_lba28() {
        return in(3) | u64{in(4)} << 8 | u64{in(5)} << 16 | u64{in(6) & 0xfU} << 24;
    }
    [[nodiscard]] u64 error_lba48() {
        control(0);
        const u64 low = in(3) | u64{in(4)} << 8 | u64{in(5)} << 16;
        control(0x80);
        const u64 high = in(3) | u64{in(4)} << 8 | u64{in(5)} << 16;
        control(0);
        return high << 24 | low;
    }

    GuestMemory memory;
    WrittenPages written;
    Dma bus{memory, &written};
    HeldCompletions completions;
    platform::test::RecordingSink lines;
    MemoryDisk first{0}, second{0};
    Channel channel{bus, completions, lines.line(irq)};

private:
    unsigned m_seen_rises = 0;
};

} // namespace gnomon::platform::ide::test
