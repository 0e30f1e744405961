// SPDX-License-Identifier: Apache-2.0
// What commands do (ATA/ATAPI-7 volume 1, section 6).
#include "platform/ide/channel.h"

#include "platform/ide/identify.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace gnomon::platform::ide {

void Channel::execute(Command command) {
    Drive& drive = *m_current.drive;
    const u8 opcode = static_cast<u8>(command);
    const u64 multiple = drive.settings.multiple;
    using enum Command;
    // The low half of these was a step rate once.
    if ((opcode & 0xf0) == static_cast<u8>(recalibrate)) return finish();
    if ((opcode & 0xf0) == static_cast<u8>(seek)) return this->seek();
    switch (command) {
    case read_sectors:
    case read_sectors_no_retry: return begin_read(Width::lba28, 1);
    case read_sectors_ext: return begin_read(Width::lba48, 1);
    case read_multiple: return begin_read(Width::lba28, multiple);
    case read_multiple_ext: return begin_read(Width::lba48, multiple);
    case write_sectors:
    case write_sectors_no_retry: return begin_write(Width::lba28, 1, false);
    case write_sectors_ext: return begin_write(Width::lba48, 1, false);
    case write_multiple: return begin_write(Width::lba28, multiple, false);
    case write_multiple_ext: return begin_write(Width::lba48, multiple, false);
    case write_multiple_fua_ext: return begin_write(Width::lba48, multiple, true);
    case read_dma:
    case read_dma_no_retry: return begin_dma(Width::lba28, false, false);
    case read_dma_ext: return begin_dma(Width::lba48, false, false);
    case write_dma:
    case write_dma_no_retry: return begin_dma(Width::lba28, true, false);
    case write_dma_ext: return begin_dma(Width::lba48, true, false);
    case write_dma_fua_ext: return begin_dma(Width::lba48, true, true);
    case data_set_management: return begin_trim();
    case read_verify:
    case read_verify_no_retry: return verify(Width::lba28);
    case read_verify_ext: return verify(Width::lba48);
    case flush_cache:
    case flush_cache_ext: return flush();
    case read_native_max:
    case read_native_max_ext:
        m_current.width = command == read_native_max ? Width::lba28 : Width::lba48;
        m_current.outcome.address = drive.sectors() - 1;
        return finish();
    case execute_device_diagnostic: return this->execute_device_diagnostic();
    case initialize_device_parameters: return this->initialize_device_parameters();
    case set_multiple_mode: return this->set_multiple_mode();
    case set_features: return this->set_features();
    case identify_device: return present(ide::identify_device(drive));
    case old_standby_immediate:
    case old_standby:
    case standby_immediate:
    case standby: drive.standby = true; return finish();
    case old_idle_immediate:
    case old_idle:
    case idle_immediate:
    case idle: drive.standby = false; return finish();
    case old_sleep:
    case sleep: drive.sleeping = true; return finish();
    case old_check_power_mode:
    case check_power_mode: m_current.outcome.count = drive.standby ? 0x00 : 0xff; return finish();
    default: return finish(ErrorBits::abort);
    }
}

void Channel::execute_device_diagnostic() {
    m_current.outcome.signature = true;
    finish();
}

/// Heads and sectors that addresses are made of from now on.
void Channel::initialize_device_parameters() {
    Drive& drive = *m_current.drive;
    const u32 heads = (drive.registers.device() & DeviceBits::head) + 1U,
              sectors = drive.registers.count();
    if (sectors == 0) return finish(ErrorBits::abort);
    const u64 cylinders = std::clamp<u64>(drive.sectors() / (heads * sectors), 1, 65535);
    drive.geometry = {static_cast<u32>(cylinders), heads, sectors};
    finish();
}

void Channel::set_multiple_mode() {
    Drive& drive = *m_current.drive;
    const u8 sectors = drive.registers.count();
    if (sectors > DriveSettings::most_multiple || (sectors != 0 && !std::has_single_bit(sectors)))
        return finish(ErrorBits::abort);
    drive.settings.multiple = sectors;
    finish();
}

void Channel::set_features() {
    Drive& drive = *m_current.drive;
    DriveSettings& settings = drive.settings;
    switch (static_cast<Feature>(drive.registers.feature())) {
    case Feature::enable_write_cache: settings.write_cache = true; break;
    case Feature::disable_write_cache:
        settings.write_cache = false;
        return flush(); // what it holds is written
    case Feature::enable_look_ahead: settings.look_ahead = true; break;
    case Feature::disable_look_ahead: settings.look_ahead = false; break;
    case Feature::keep_settings: settings.revert = false; break;
    case Feature::revert_settings: settings.revert = true; break;
    case Feature::set_transfer_mode:
        if (set_transfer_mode(drive.registers.count())) break;
        return finish(ErrorBits::abort);
    default: return finish(ErrorBits::abort);
    }
    finish();
}

bool Channel::set_transfer_mode(u8 mode) {
    DriveSettings& settings = m_current.drive->settings;
    const u8 number = mode & 7;
    switch (mode & 0xf8) {
    case DriveSettings::default_pio: return number <= 1; // with or without flow control
    case DriveSettings::pio: return number <= DriveSettings::most_pio_mode;
    case DriveSettings::multiword:
        if (number > DriveSettings::most_multiword_mode) return false;
        break;
    case DriveSettings::udma:
        if (number > DriveSettings::most_udma_mode) return false;
        break;
    default: return false;
    }
    settings.dma_mode = mode;
    return true;
}

void Channel::flush() {
    if (m_current.drive->read_only()) return finish();
    m_steps.assign(1, {BlockOperation::flush, false, 0, 0});
    run_steps(Data::none);
}

bool Channel::take_sectors(Width width) {
    const Drive& drive = *m_current.drive;
    m_current.width = width;
    const std::optional<u64> first = drive.registers.address(width, drive.geometry);
    if (!first) {
        finish(ErrorBits::id_not_found); // the address stands as it was given
        return false;
    }
    m_current.sector = *first;
    m_current.left = drive.registers.sector_count(width);
    const u64 sectors = drive.sectors();
    if (*first >= sectors || m_current.left > sectors - *first) {
        fail(std::max(*first, sectors));
        return false;
    }
    return true;
}

void Channel::seek() {
    const Drive& drive = *m_current.drive;
    const std::optional<u64> sector = drive.registers.address(Width::lba28, drive.geometry);
    finish(sector && *sector < drive.sectors() ? ErrorBits::none : ErrorBits::id_not_found);
}

bool Channel::refuse_write() {
    if (!m_current.drive->read_only()) return false;
    finish(ErrorBits::abort);
    return true;
}

/// @param block_sectors between two interrupts; 0: READ MULTIPLE has no number.
void Channel::begin_read(Width width, u64 block_sectors) {
    if (block_sectors == 0) return finish(ErrorBits::abort);
    if (!take_sectors(width)) return;
    m_current.drive->standby = false;
    m_current.block_bytes = block_sectors * sector_bytes;
    load_buffer();
}

void Channel::begin_write(Width width, u64 block_sectors, bool fua) {
    if (block_sectors == 0) return finish(ErrorBits::abort);
    if (refuse_write() || !take_sectors(width)) return;
    m_current.drive->standby = false;
    m_current.write = true;
    m_current.fua = fua || !m_current.drive->settings.write_cache;
    m_current.block_bytes = block_sectors * sector_bytes;
    begin_buffer();
    begin_block(Phase::data_out); // the first block is asked for without an interrupt
}

void Channel::begin_dma(Width width, bool write, bool fua) {
    if ((write && refuse_write()) || !take_sectors(width)) return;
    m_current.drive->standby = false;
    m_current.write = write;
    m_current.fua = write && (fua || !m_current.drive->settings.write_cache);
    m_phase = Phase::awaiting_dma;
    start_dma();
}

/// A disk that cannot be read shows it; the data go nowhere.
void Channel::verify(Width width) {
    if (!take_sectors(width)) return;
    m_current.drive->standby = false;
    m_steps.clear();
    const u64 end = m_current.sector + m_current.left;
    for (u64 sector = m_current.sector; sector < end; sector += most_buffered_sectors)
        m_steps.push_back(
            {BlockOperation::read, false, sector, std::min(end - sector, most_buffered_sectors)});
    m_buffer.resize(std::min(m_current.left, most_buffered_sectors) * sector_bytes);
    run_steps(Data::buffer);
}

// --- DATA SET MANAGEMENT ---

void Channel::begin_trim() {
    const TaskFile& registers = m_current.drive->registers;
    m_current.width = Width::lba48;
    m_current.left = registers.sector_count(Width::lba48); // blocks of ranges
    if (registers.feature() != data_set_trim || m_current.left > most_trim_blocks)
        return finish(ErrorBits::abort);
    if (refuse_write()) return;
    m_current.write = m_current.trim = true;
    m_phase = Phase::awaiting_dma;
    start_dma();
}

/// The bus master has where the ranges are: 48 bits of address, 16 of count, each. All are looked
/// at before any is discarded.
void Channel::trim() {
    m_phase = Phase::busy;
    m_buffer.clear();
    for (const Region& region : m_regions)
        m_buffer.insert(m_buffer.end(), region.host, region.host + region.size);
    const u64 sectors = m_current.drive->sectors();
    m_steps.clear();
    for (std::size_t at = 0; at < m_buffer.size(); at += sizeof(u64)) {
        u64 range;
        std::memcpy(&range, m_buffer.data() + at, sizeof range);
        const u64 first = range & ((u64{1} << 48) - 1), count = range >> 48;
        if (count == 0) continue;
        if (first >= sectors || count > sectors - first) return fail(std::max(first, sectors));
        m_steps.push_back({BlockOperation::discard, false, first, count});
    }
    if (m_steps.empty()) return finish();
    run_steps(Data::none);
}

} // namespace gnomon::platform::ide
