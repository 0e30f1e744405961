// SPDX-License-Identifier: Apache-2.0
// The NVM command set (NVMe 1.4, section 6).
#include "platform/nvme/controller.h"

#include <cstring>

namespace gnomon::platform::nvme {

namespace {

constexpr u32 force_unit_access = u32{1} << 30; // CDW12 of reads and writes

u64 first_block(const SubmissionEntry& command) { return command.cdw10 | u64{command.cdw11} << 32; }
u64 block_count(const SubmissionEntry& command) { return u64{command.cdw12 & 0xffff} + 1; }

/// Of Dataset Management.
struct Range {
    u32 attributes = 0;
    u32 blocks = 0;
    u64 first = 0;
};
static_assert(sizeof(Range) == 16);
constexpr std::size_t most_ranges = 256;
constexpr u32 deallocate = 1 << 2; // CDW11

} // namespace

Status Controller::prepare_io(Request& request) {
    const SubmissionEntry& command = request.command;
    const auto opcode = static_cast<IoOpcode>(command.opcode);
    switch (opcode) {
    case IoOpcode::flush:
        if (command.namespace_id != the_namespace && command.namespace_id != all_namespaces)
            return Status::invalid_namespace;
        if (!read_only()) request.steps.push_back({BlockOperation::flush, false, 0, 0});
        return Status::success;
    case IoOpcode::write:
    case IoOpcode::read:
    case IoOpcode::compare:
    case IoOpcode::write_zeroes:
    case IoOpcode::dataset_management: break;
    default: return Status::invalid_opcode;
    }
    if (command.namespace_id != the_namespace) return Status::invalid_namespace;
    switch (opcode) {
    case IoOpcode::write: return prepare_transfer(request, BlockOperation::write);
    case IoOpcode::read: return prepare_transfer(request, BlockOperation::read);
    case IoOpcode::compare: return prepare_compare(request);
    case IoOpcode::write_zeroes: return prepare_write_zeroes(request);
    default: return prepare_dataset_management(request);
    }
}

Status Controller::check_blocks(u64 first, u64 count) const {
    const u64 blocks = m_disk.size() >> block_shift;
    return first <= blocks && count <= blocks - first ? Status::success : Status::lba_out_of_range;
}

Status Controller::prepare_transfer(Request& request, BlockOperation operation) {
    const SubmissionEntry& command = request.command;
    const u64 first = first_block(command), count = block_count(command);
    const u64 bytes = count << block_shift;
    if (operation == BlockOperation::write && read_only()) return Status::namespace_write_protected;
    if (bytes > max_transfer_bytes) return Status::invalid_field;
    if (const Status status = check_blocks(first, count); status != Status::success) return status;
    if (const Status status = map_data(request, bytes); status != Status::success) return status;
    for (const Segment& segment : request.segments)
        request.memory.push_back({segment.host, segment.size});
    const bool fua = (command.cdw12 & force_unit_access) != 0;
    // What a forced read shows is on stable storage.
    if (operation == BlockOperation::read && fua && !read_only())
        request.steps.push_back({BlockOperation::flush, false, 0, 0});
    const bool through = operation == BlockOperation::write && (fua || !m_features.write_cache());
    request.steps.push_back({operation, through, first << block_shift, bytes});
    return Status::success;
}

Status Controller::prepare_compare(Request& request) {
    const u64 first = first_block(request.command), count = block_count(request.command);
    const u64 bytes = count << block_shift;
    if (bytes > max_transfer_bytes) return Status::invalid_field;
    if (const Status status = check_blocks(first, count); status != Status::success) return status;
    if (const Status status = map_data(request, bytes); status != Status::success) return status;
    request.private_buffer.resize(bytes);
    request.memory.push_back({request.private_buffer.data(), bytes});
    request.steps.push_back({BlockOperation::read, false, first << block_shift, bytes});
    return Status::success;
}

Status Controller::prepare_write_zeroes(Request& request) {
    const SubmissionEntry& command = request.command;
    const u64 first = first_block(command), count = block_count(command);
    if (read_only()) return Status::namespace_write_protected;
    if (const Status status = check_blocks(first, count); status != Status::success) return status;
    const bool through = (command.cdw12 & force_unit_access) != 0 || !m_features.write_cache();
    request.steps.push_back(
        {BlockOperation::write_zeroes, through, first << block_shift, count << block_shift});
    return Status::success;
}

Status Controller::prepare_dataset_management(Request& request) {
    const SubmissionEntry& command = request.command;
    std::array<Range, most_ranges> ranges;
    const auto used = std::span(ranges).first((command.cdw10 & 0xff) + 1);
    if (const Status status = receive_data(request, std::as_writable_bytes(used));
        status != Status::success)
        return status;
    // The other attributes are hints, for which there is no use.
    if ((command.cdw11 & deallocate) == 0) return Status::success;
    if (read_only()) return Status::namespace_write_protected;
    for (const Range& range : used) {
        if (const Status status = check_blocks(range.first, range.blocks);
            status != Status::success)
            return status;
        if (range.blocks != 0)
            request.steps.push_back({BlockOperation::discard, false, range.first << block_shift,
                                     u64{range.blocks} << block_shift});
    }
    return Status::success;
}

Status Controller::status_of(const Request& request, BlockStatus status) {
    switch (status) {
    case BlockStatus::ok:
        if (!request.private_buffer.empty() && !equals_guest_data(request))
            return Status::compare_failure;
        return Status::success;
    case BlockStatus::no_space: return Status::capacity_exceeded;
    case BlockStatus::out_of_range: return Status::lba_out_of_range;
    case BlockStatus::read_only: return Status::namespace_write_protected;
    case BlockStatus::io_error: break;
    }
    switch (request.operation) {
    case BlockOperation::read: return Status::unrecovered_read_error;
    case BlockOperation::write:
    case BlockOperation::write_zeroes:
    case BlockOperation::flush: return Status::write_fault;
    case BlockOperation::discard: break;
    }
    return Status::internal_error;
}

bool Controller::equals_guest_data(const Request& request) {
    const std::byte* at = request.private_buffer.data();
    for (const Segment& segment : request.segments) {
        if (std::memcmp(at, segment.host, segment.size) != 0) return false;
        at += segment.size;
    }
    return true;
}

/// For the health log, when it is done.
void Controller::account_io(const Request& request) {
    const SubmissionEntry& command = request.command;
    const u8 opcode = command.opcode;
    const bool reads = opcode == u8(IoOpcode::read) || opcode == u8(IoOpcode::compare);
    if (opcode == u8(IoOpcode::write)) {
        ++m_health.writes;
        if (request.status == Status::success) m_health.blocks_written += block_count(command);
    } else if (reads) {
        ++m_health.reads;
        if (request.status == Status::success) m_health.blocks_read += block_count(command);
    }
    if (request.status == Status::write_fault || request.status == Status::unrecovered_read_error)
        ++m_health.media_errors;
}

} // namespace gnomon::platform::nvme
