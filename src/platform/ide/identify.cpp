// SPDX-License-Identifier: Apache-2.0
#include "platform/ide/identify.h"

#include <algorithm>
#include <numeric>
#include <string_view>

namespace gnomon::platform::ide {

namespace {

constexpr u64 largest_lba28_capacity = (u64{1} << 28) - 1;

class Words {
public:
    void put(unsigned word, u64 value, unsigned words = 1) {
        for (unsigned i = 0; i < 2 * words; ++i)
            m_bytes[2 * word + i] = static_cast<u8>(value >> (8 * i));
    }
    /// Padded with spaces, the two characters of a word the other way round.
    void put_text(unsigned word, unsigned words, std::string_view text) {
        for (unsigned i = 0; i < 2 * words; ++i)
            m_bytes[2 * word + (i ^ 1)] = i < text.size() ? static_cast<u8>(text[i]) : u8{' '};
    }
    /// Integrity word: signature, and what makes the sum of all bytes 0.
    [[nodiscard]] std::array<u8, sector_bytes> finish() {
        m_bytes[510] = 0xa5;
        const unsigned sum = std::accumulate(m_bytes.begin(), m_bytes.end(), 0U);
        m_bytes[511] = static_cast<u8>(0x100 - (sum & 0xff));
        return m_bytes;
    }

private:
    std::array<u8, sector_bytes> m_bytes{};
};

/// Modes 0 to `most` are possible; which one is in use.
constexpr u32 modes(u8 most, u8 kind, u8 in_use) {
    const bool selected = (in_use & 0xf8) == kind;
    return ((1U << (most + 1)) - 1) | (selected ? 0x100U << (in_use & 7) : 0);
}

} // namespace

std::array<u8, sector_bytes> identify_device(const Drive& drive) {
    const DriveSettings& settings = drive.settings;
    const u64 sectors = drive.sectors();
    const u64 lba28 = std::min(sectors, largest_lba28_capacity);
    const Geometry standard = Geometry::standard(sectors);
    const bool trim = !drive.read_only();
    Words words;
    words.put(0, 0x0040); // a fixed disk
    words.put(1, standard.cylinders);
    words.put(3, standard.heads);
    words.put(6, standard.sectors);
    words.put_text(10, 10, drive.options.serial);
    words.put_text(23, 4, drive.options.firmware);
    words.put_text(27, 20, drive.options.model);
    words.put(47, 0x8000 | DriveSettings::most_multiple);
    words.put(49, 0x0f00); // IORDY, which may be disabled; LBA; DMA
    words.put(50, 0x4000);
    words.put(51, 0x0200); // PIO mode 2 without flow control
    words.put(53, 0x0007); // words 54-58, 64-70 and 88 say something
    words.put(54, drive.geometry.cylinders);
    words.put(55, drive.geometry.heads);
    words.put(56, drive.geometry.sectors);
    words.put(57, std::min(drive.geometry.capacity(), lba28), 2);
    words.put(59, settings.multiple != 0 ? 0x100U | settings.multiple : 0);
    words.put(60, lba28, 2);
    words.put(
        63, modes(DriveSettings::most_multiword_mode, DriveSettings::multiword, settings.dma_mode));
    words.put(64, 0x0003); // PIO modes 3 and 4
    for (const unsigned cycle : {65U, 66U, 67U, 68U})
        words.put(cycle, 120); // ns
    words.put(80, 0x00f0);     // ATA/ATAPI-4 to -7
    // NOP, look-ahead, write cache, power management.
    words.put(82, 0x4068);
    // FLUSH CACHE EXT, FLUSH CACHE, 48-bit addresses.
    words.put(83, 0x7400);
    words.put(84, 0x4040); // WRITE DMA FUA EXT and WRITE MULTIPLE FUA EXT
    words.put(85, 0x4008 | (settings.look_ahead ? 0x40U : 0) | (settings.write_cache ? 0x20U : 0));
    words.put(86, 0x3400);
    words.put(87, 0x4040);
    words.put(88, modes(DriveSettings::most_udma_mode, DriveSettings::udma, settings.dma_mode));
    // After the hardware reset: the cable has 80 conductors, the device was numbered by its jumper.
    words.put(93, drive.second ? 0x6b00 : 0x600b);
    words.put(100, sectors, 4);
    words.put(105, trim ? most_trim_blocks : 0);
    words.put(106, 0x6003); // eight logical sectors in a physical one
    words.put(119, 0x4000);
    words.put(120, 0x4000);
    words.put(169, trim ? 1 : 0);
    words.put(209, 0x4000); // the first logical sector begins a physical one
    words.put(217, drive.options.rotation);
    return words.finish();
}

} // namespace gnomon::platform::ide
