// SPDX-License-Identifier: Apache-2.0
/// @file Commands and completions as they lie in the queues (NVMe 1.4, sections 4.2 and 4.6).
#pragma once

#include "base/types.h"

#include <cstddef>

namespace gnomon::platform::nvme {

struct SubmissionEntry {
    u8 opcode = 0;
    u8 flags = 0; ///< FUSE in bits 1:0, PSDT in 7:6
    u16 command_id = 0;
    u32 namespace_id = 0;
    u32 cdw2 = 0, cdw3 = 0;
    u64 metadata = 0;
    u64 prp1 = 0, prp2 = 0;
    u32 cdw10 = 0, cdw11 = 0, cdw12 = 0, cdw13 = 0, cdw14 = 0, cdw15 = 0;

    /// Fused operations and SGLs: neither is offered.
    static constexpr u8 fuse_mask = 0x03, psdt_mask = 0xc0;
};
static_assert(sizeof(SubmissionEntry) == 64 && offsetof(SubmissionEntry, prp1) == 24 &&
              offsetof(SubmissionEntry, cdw10) == 40);

struct CompletionEntry {
    u32 result = 0; ///< DW0, by command
    u32 reserved = 0;
    u16 submission_head = 0, submission_queue = 0;
    u16 command_id = 0;
    u16 status = 0; ///< Status << 1 | phase tag
};
static_assert(sizeof(CompletionEntry) == 16);

inline constexpr unsigned submission_entry_shift = 6, completion_entry_shift = 4;

enum class AdminOpcode : u8 {
    delete_submission_queue = 0x00,
    create_submission_queue = 0x01,
    get_log_page = 0x02,
    delete_completion_queue = 0x04,
    create_completion_queue = 0x05,
    identify = 0x06,
    abort = 0x08,
    set_features = 0x09,
    get_features = 0x0a,
    asynchronous_event_request = 0x0c,
};

enum class IoOpcode : u8 {
    flush = 0x00,
    write = 0x01,
    read = 0x02,
    compare = 0x05,
    write_zeroes = 0x08,
    dataset_management = 0x09,
};

inline constexpr u32 the_namespace = 1; ///< the only one
inline constexpr u32 all_namespaces = 0xffff'ffff;
inline constexpr unsigned block_shift = 9;
/// MDTS: the most that one command transfers, 2 ^ n pages of 4 KiB.
inline constexpr unsigned max_transfer_pages_shift = 7;
inline constexpr u64 max_transfer_bytes = page_size << max_transfer_pages_shift;

} // namespace gnomon::platform::nvme
