// SPDX-License-Identifier: Apache-2.0
/// @file How a command ended: the status field of a completion (NVMe 1.4, section 4.6.1).
#pragma once

#include "base/types.h"

namespace gnomon::platform::nvme {

/// SC in bits 7:0, SCT in 10:8, M (more in the error log) in 13, DNR (do not retry) in 14: the
/// field without the phase tag. Whoever would get the same answer again is told not to retry.
enum class Status : u16 {
    do_not_retry = 1 << 14,
    more = 1 << 13,

    success = 0,
    invalid_opcode = 0x001 | do_not_retry,
    invalid_field = 0x002 | do_not_retry,
    data_transfer_error = 0x004 | do_not_retry,
    internal_error = 0x006,
    abort_requested = 0x007,
    invalid_namespace = 0x00b | do_not_retry,
    command_sequence_error = 0x00c | do_not_retry,
    prp_offset_invalid = 0x013 | do_not_retry,
    namespace_write_protected = 0x020 | do_not_retry,
    lba_out_of_range = 0x080 | do_not_retry,
    capacity_exceeded = 0x081 | do_not_retry,

    completion_queue_invalid = 0x100 | do_not_retry,
    invalid_queue_identifier = 0x101 | do_not_retry,
    invalid_queue_size = 0x102 | do_not_retry,
    event_request_limit_exceeded = 0x105 | do_not_retry,
    invalid_interrupt_vector = 0x108 | do_not_retry,
    invalid_log_page = 0x109 | do_not_retry,
    invalid_queue_deletion = 0x10c | do_not_retry,
    feature_not_saveable = 0x10d | do_not_retry,
    feature_not_namespace_specific = 0x10f | do_not_retry,

    write_fault = 0x280,
    unrecovered_read_error = 0x281,
    compare_failure = 0x285 | do_not_retry,
};

[[nodiscard]] constexpr Status with_more(Status status) {
    return static_cast<Status>(static_cast<u16>(status) | static_cast<u16>(Status::more));
}

} // namespace gnomon::platform::nvme
