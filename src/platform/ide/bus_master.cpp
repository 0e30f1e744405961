// SPDX-License-Identifier: Apache-2.0
// The bus master: its registers, and the transfers that it makes.
#include "platform/ide/channel.h"

namespace gnomon::platform::ide {

u8 Channel::read_bus_master(unsigned offset) {
    switch (static_cast<BusMasterReg>(offset)) {
    case BusMasterReg::command: return m_bus_master_command;
    case BusMasterReg::status: // shows completions too
        if (const Drive* const polled = selected()) m_completions.status_polled(polled->device);
        return m_bus_master_status;
    default: break;
    }
    const unsigned table = static_cast<unsigned>(BusMasterReg::table);
    return offset >= table ? static_cast<u8>(m_table >> (8 * (offset - table))) : u8{0};
}

void Channel::write_bus_master(unsigned offset, u8 value) {
    switch (static_cast<BusMasterReg>(offset)) {
    case BusMasterReg::command: write_bus_master_command(value); return;
    case BusMasterReg::status: {
        const u8 clears = value & (BusMasterStatus::error | BusMasterStatus::interrupt);
        m_bus_master_status =
            static_cast<u8>((m_bus_master_status & ~(clears | BusMasterStatus::capable)) |
                            (value & BusMasterStatus::capable));
        return;
    }
    default: break;
    }
    const unsigned table = static_cast<unsigned>(BusMasterReg::table);
    if (offset < table) return;
    const unsigned shift = 8 * (offset - table);
    m_table = ((m_table & ~(u32{0xff} << shift)) | u32{value} << shift) & ~u32{3};
}

void Channel::write_bus_master_command(u8 value) {
    const u8 before = m_bus_master_command;
    u8 now = value & BusMasterCommand::writable;
    if ((m_bus_master_status & BusMasterStatus::active) != 0)
        now = static_cast<u8>((now & ~BusMasterCommand::to_memory) |
                              (before & BusMasterCommand::to_memory));
    m_bus_master_command = now;
    const u8 changed = before ^ now;
    if ((changed & BusMasterCommand::start) == 0) return;
    if ((now & BusMasterCommand::start) == 0) {
        stop_dma();
        return;
    }
    m_bus_master_status |= BusMasterStatus::active;
    if (m_phase == Phase::awaiting_dma) {
        m_completions.command_written(m_current.drive->device);
        start_dma();
    }
}

/// If the drive waits for it and the bus master is started. Each start begins at the table's
/// beginning. What a table has no room for is not begun: the bus master stops without an interrupt,
/// and the drive waits on, to be reset in the end.
void Channel::start_dma() {
    if (m_phase != Phase::awaiting_dma || (m_bus_master_status & BusMasterStatus::active) == 0)
        return;
    // Both wait for the other to drive the bus.
    const bool to_memory = (m_bus_master_command & BusMasterCommand::to_memory) != 0;
    if (to_memory == m_current.write) return;
    const PrdResult result = walk_prds(m_dma, m_table, m_current.left * sector_bytes, m_regions);
    if (result == PrdResult::too_short || result == PrdResult::unreachable) {
        m_bus_master_status = static_cast<u8>(m_bus_master_status & ~BusMasterStatus::active);
        if (result == PrdResult::unreachable) m_bus_master_status |= BusMasterStatus::error;
        return;
    }
    m_current.table_exhausted = result == PrdResult::exhausted;
    m_current.next = Next::end;
    if (m_current.trim) {
        trim();
        return;
    }
    m_current.by_regions = true;
    m_steps.assign(1, {m_current.write ? BlockOperation::write : BlockOperation::read,
                       m_current.fua, m_current.sector, m_current.left});
    run_steps(Data::regions);
}

/// A transfer under way is lost: the drive is where it was before it.
void Channel::stop_dma() {
    if (m_phase == Phase::busy && m_current.by_regions && !m_stopping) {
        abandon(GuestTrouble::abort);
        if (!m_at_host) {
            m_current.by_regions = false;
            m_phase = Phase::awaiting_dma;
        } else {
            m_stopping = true;
        }
    }
    // The bus master is not idle while the back end may use the guest's memory.
    if (!(m_at_host && m_current.by_regions))
        m_bus_master_status = static_cast<u8>(m_bus_master_status & ~BusMasterStatus::active);
}

void Channel::host_let_go_of_regions() {
    m_current.by_regions = false;
    if ((m_bus_master_command & BusMasterCommand::start) == 0)
        m_bus_master_status = static_cast<u8>(m_bus_master_status & ~BusMasterStatus::active);
    if (!m_stopping) return;
    m_stopping = false;
    m_phase = Phase::awaiting_dma;
    start_dma(); // it may have been started again
}

} // namespace gnomon::platform::ide
