// SPDX-License-Identifier: Apache-2.0
// The data port: blocks of a command, by way of a buffer.
#include "platform/ide/channel.h"

#include <algorithm>

namespace gnomon::platform::ide {

/// Data of ours, for the guest to read.
void Channel::present(std::span<const u8> data) {
    const auto bytes = std::as_bytes(data);
    m_buffer.assign(bytes.begin(), bytes.end());
    m_position = 0;
    m_current.next = Next::data_in;
    finish();
}

/// The next part of a read.
void Channel::load_buffer() {
    const u64 sectors = std::min(m_current.left, most_buffered_sectors);
    m_buffer.resize(sectors * sector_bytes);
    m_position = 0;
    m_steps.assign(1, {BlockOperation::read, false, m_current.sector, sectors});
    m_current.sector += sectors;
    m_current.left -= sectors;
    m_current.next = Next::data_in;
    run_steps(Data::buffer);
}

/// Room for the next part of a write.
void Channel::begin_buffer() {
    m_buffer.resize(std::min(m_current.left, most_buffered_sectors) * sector_bytes);
    m_position = 0;
}

/// Buffers hold whole blocks but for the last of a command.
void Channel::begin_block(Phase phase) {
    m_phase = phase;
    m_block_end = std::min(m_position + m_current.block_bytes, m_buffer.size());
}

u8 Channel::read_data() {
    if (m_phase != Phase::data_in) return 0;
    const auto value = static_cast<u8>(m_buffer[m_position++]);
    if (m_position == m_block_end) block_read();
    return value;
}

/// A block that was moved has no interrupt left, whether its status was read or not: the next one's
/// is another edge.
void Channel::block_read() {
    set_interrupt(*m_current.drive, false);
    if (m_position < m_buffer.size()) {
        begin_block(Phase::data_in);
        set_interrupt(*m_current.drive, true);
    } else if (m_current.left != 0) {
        load_buffer();
    } else {
        m_phase = Phase::idle;
        m_buffer.clear();
        m_current.drive->status = StatusBits::idle;
    }
}

void Channel::write_data(u8 value) {
    if (m_phase != Phase::data_out) return;
    m_buffer[m_position++] = static_cast<std::byte>(value);
    if (m_position == m_block_end) block_written();
}

void Channel::block_written() {
    m_phase = Phase::busy;
    set_interrupt(*m_current.drive, false);
    m_completions.command_written(m_current.drive->device);
    if (m_position < m_buffer.size()) {
        m_current.next = Next::data_out;
        finish();
        return;
    }
    m_steps.assign(1, {BlockOperation::write, m_current.fua, m_current.sector,
                       m_buffer.size() / sector_bytes});
    m_current.next = Next::end; // or more, when it is done
    run_steps(Data::buffer);
}

} // namespace gnomon::platform::ide
