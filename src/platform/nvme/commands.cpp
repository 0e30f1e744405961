// SPDX-License-Identifier: Apache-2.0
// What all commands share: how they begin, how their data moves, how they end.
#include "platform/nvme/controller.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace gnomon::platform::nvme {

void Controller::execute(Request& request) {
    const u8 flags = request.command.flags;
    if ((flags & (SubmissionEntry::fuse_mask | SubmissionEntry::psdt_mask)) != 0) {
        finish(request, Status::invalid_field);
    } else if (request.admin) {
        if (const auto status = execute_admin(request)) finish(request, *status);
    } else {
        const Status status = prepare_io(request);
        if (status == Status::success && !request.steps.empty())
            start_steps(request);
        else
            finish(request, status);
    }
}

/// Of a command that the back end has no part in.
void Controller::finish(Request& request, Status status) {
    request.status = status;
    if (!request.admin) account_io(request);
    if (status != Status::success) note_error(request);
    request.line = request.queue->completion_queue;
    m_completions.submitted(m_device, request, m_delays.command_ns());
    m_completions.host_done(request);
}

void Controller::start_steps(Request& request) {
    u64 nominal_ns = 0;
    for (std::size_t i = 0; i < request.steps.size(); ++i) {
        request.load_step(i);
        nominal_ns = std::max(nominal_ns, m_delays.nominal_ns(request));
    }
    request.timed = true;
    request.load_step(0);
    request.line = request.queue->completion_queue;
    m_completions.submitted(m_device, request, nominal_ns);
    submit_step(request);
}

void Controller::end_delays(Request& request) {
    if (!std::exchange(request.timed, false)) return;
    for (std::size_t i = 0; i < request.steps.size(); ++i)
        m_delays.ended();
}

void Controller::submit_step(Request& request) {
    request.at_host = true;
    ++request.queue->at_host;
    ++m_at_host;
    if (m_io_at_host++ == 0) m_busy_since_ns = m_clock.now_ns();
    m_submitted = true;
    m_disk.submit(request);
}

void Controller::host_done(Request& request, BlockStatus block_status) {
    request.at_host = false;
    --m_at_host;
    if (--m_io_at_host == 0) m_health.busy_ns += m_clock.now_ns() - m_busy_since_ns;
    // The data are there, whether the guest is told or not.
    if (request.operation == BlockOperation::read && request.private_buffer.empty() && !m_ending)
        for (const Segment& segment : request.segments)
            m_dma.written(segment.gpa, segment.size);
    SubmissionQueue* const queue = request.queue;
    if (queue != nullptr) --queue->at_host;

    if (request.state == Request::State::abandoned) {
        release(request);
        if (queue != nullptr && queue->at_host == 0 && queue->deletion != nullptr) {
            Request& deletion = *queue->deletion;
            --m_completion[queue->completion_queue]->submission_queues;
            m_submission[queue->id].reset();
            finish(deletion, Status::success);
        }
        host_let_go();
        return;
    }
    request.status = status_of(request, block_status);
    if (request.status == Status::success && request.next_step < request.steps.size()) {
        request.load_step(request.next_step);
        submit_step(request);
        if (!m_running) {
            m_submitted = false;
            m_disk.commit();
        }
        return;
    }
    account_io(request);
    if (request.status != Status::success) note_error(request);
    m_completions.host_done(request);
    host_let_go();
}

Status Controller::map_data(Request& request, u64 length) {
    if (length > max_transfer_bytes) return Status::invalid_field;
    return walk_prps(m_dma, {request.command.prp1, request.command.prp2}, length, page_bytes(),
                     request.segments);
}

Status Controller::send_data(Request& request, std::span<const std::byte> data, u64 length) {
    if (const Status status = map_data(request, length); status != Status::success) return status;
    for (const Segment& segment : request.segments) {
        const std::size_t there = std::min<std::size_t>(data.size(), segment.size);
        if (there != 0) std::memcpy(segment.host, data.data(), there);
        std::memset(segment.host + there, 0, segment.size - there);
        data = data.subspan(there);
        m_dma.written(segment.gpa, segment.size);
    }
    return Status::success;
}

Status Controller::receive_data(Request& request, std::span<std::byte> data) {
    if (const Status status = map_data(request, data.size()); status != Status::success)
        return status;
    for (const Segment& segment : request.segments) {
        std::memcpy(data.data(), segment.host, segment.size);
        data = data.subspan(segment.size);
    }
    return Status::success;
}

/// The error log has more to say of it.
void Controller::note_error(Request& request) {
    request.status = with_more(request.status);
    const SubmissionEntry& command = request.command;
    const bool has_block = !request.admin && command.opcode != u8(IoOpcode::flush) &&
                           command.opcode != u8(IoOpcode::dataset_management);
    m_errors.add({request.queue->id, command.command_id, request.status,
                  has_block ? command.cdw10 | u64{command.cdw11} << 32 : 0, command.namespace_id});
}

} // namespace gnomon::platform::nvme
