// SPDX-License-Identifier: Apache-2.0
// How commands reach the back end, and how they end.
#include "platform/ide/channel.h"

#include <algorithm>

namespace gnomon::platform::ide {

/// Of a command, or a block of one, that the back end has no part in.
void Channel::finish(u8 error) {
    m_current.outcome.error = error;
    const Drive& drive = *m_current.drive;
    m_completions.submitted(drive.device, m_request, drive.delays->command_ns());
    m_completions.host_done(m_request);
}

/// It names a sector that there is not.
void Channel::fail(u64 sector) {
    m_current.outcome.address = sector;
    finish(ErrorBits::id_not_found);
}

/// @param data where they are; a buffer serves all steps, regions are for a single one.
void Channel::run_steps(Data data) {
    const Drive& drive = *m_current.drive;
    m_data = data;
    m_request.memory.clear();
    u64 nominal_ns = 0;
    for (const Step& step : m_steps) {
        m_request.operation = step.operation;
        m_request.fua = step.fua;
        m_request.offset = step.sector * sector_bytes;
        m_request.size = step.sectors * sector_bytes;
        nominal_ns = std::max(nominal_ns, drive.delays->nominal_ns(m_request));
    }
    m_timed_steps = m_steps.size();
    m_next_step = 0;
    m_phase = Phase::busy;
    m_completions.submitted(drive.device, m_request, nominal_ns);
    submit_step();
}

/// The request is over for the guest, and for the disk that it would have kept busy.
void Channel::end_timing() {
    for (; m_timed_steps != 0; --m_timed_steps)
        m_current.drive->delays->ended();
}

void Channel::submit_step() {
    const Step& step = m_steps[m_next_step++];
    m_request.operation = step.operation;
    m_request.fua = step.fua;
    m_request.offset = step.sector * sector_bytes;
    m_request.size = step.sectors * sector_bytes;
    m_request.memory.clear();
    if (m_data == Data::buffer) m_request.memory.push_back({m_buffer.data(), m_request.size});
    if (m_data == Data::regions)
        for (const Region& region : m_regions)
            m_request.memory.push_back({region.host, region.size});
    m_at_host = true;
    BlockBackEnd& disk = m_current.drive->disk;
    disk.submit(m_request);
    disk.commit();
}

void Channel::host_done(BlockStatus status) {
    m_at_host = false;
    if (m_ending) return;
    // The data are there, whether the guest is told or not; some of it even if it failed.
    if (m_data == Data::regions && m_request.operation == BlockOperation::read)
        for (const Region& region : m_regions)
            m_dma.written(region.gpa, region.size);
    if (m_phase == Phase::resetting || m_stopping) {
        if (m_current.by_regions) host_let_go_of_regions();
        finish_reset();
        return;
    }
    const Step& step = m_steps[m_next_step - 1];
    m_current.outcome.error = error_of(step.operation, status);
    if (m_current.outcome.error != ErrorBits::none) {
        if (step.operation != BlockOperation::flush) m_current.outcome.address = step.sector;
    } else if (m_next_step < m_steps.size()) {
        submit_step();
        return;
    } else if (m_current.write && m_data == Data::buffer) {
        // Of a write by the data port, which goes on if there is more.
        m_current.sector += step.sectors;
        m_current.left -= step.sectors;
        m_current.next = m_current.left == 0 ? Next::end : Next::data_out;
        if (m_current.left != 0) begin_buffer();
    }
    m_completions.host_done(m_request);
}

u8 Channel::error_of(BlockOperation operation, BlockStatus status) {
    switch (status) {
    case BlockStatus::ok: return ErrorBits::none;
    case BlockStatus::out_of_range: return ErrorBits::id_not_found;
    case BlockStatus::io_error:
        return operation == BlockOperation::read ? ErrorBits::uncorrectable : ErrorBits::abort;
    case BlockStatus::no_space:
    case BlockStatus::read_only: break;
    }
    return ErrorBits::abort;
}

/// All that the guest sees of it, at once.
void Channel::deliver() {
    end_timing();
    Drive& drive = *m_current.drive;
    const Outcome& outcome = m_current.outcome;
    if (m_current.table_exhausted && outcome.error == ErrorBits::none)
        m_bus_master_status = static_cast<u8>(m_bus_master_status & ~BusMasterStatus::active);
    m_current.by_regions = false;
    if (outcome.error == ErrorBits::none && m_current.next != Next::end) {
        begin_block(m_current.next == Next::data_in ? Phase::data_in : Phase::data_out);
        set_interrupt(drive, true);
        return;
    }
    m_phase = Phase::idle;
    m_buffer.clear();
    drive.status = StatusBits::idle | (outcome.error == 0 ? u8{0} : StatusBits::error);
    drive.error = outcome.error;
    if (outcome.count) drive.registers.set_count(*outcome.count);
    if (outcome.address)
        drive.registers.set_address(*outcome.address, m_current.width, drive.geometry);
    if (outcome.signature) {
        for (auto& each : m_drives)
            if (each != nullptr) each->show_signature();
        m_second_selected = false;
    }
    set_interrupt(drive, true);
}

} // namespace gnomon::platform::ide
