// SPDX-License-Identifier: Apache-2.0
/// @file The guest write buffer (M2.3, M2.5): what the processor recorded of writes through traced
/// mappings.
#pragma once

#include "base/address.h"

#include <span>

namespace gnomon::processor {

/// One completed write. Content beyond `size` bytes is zero.
struct WriteRecord {
    Gpa gpa;      ///< start physical address; [gpa, gpa + size) lies in one page
    u32 size = 0; ///< extent in bytes, 1 to 32; a larger write makes several records
    u32 reserved = 0;
    u8 before[32] = {};
    u8 after[32] = {};
};
static_assert(sizeof(WriteRecord) == 80);

/// Memory owned by the monitor, filled by the processor inside `enter`, drained by the monitor
/// outside it (count = 0). The processor exits with write_buffer_full before a write whose records
/// would not fit.
struct WriteBuffer {
    WriteRecord* records = nullptr;
    u32 capacity = 0; ///< at least 128
    u32 count = 0;

    [[nodiscard]] std::span<const WriteRecord> contents() const { return {records, count}; }
};

} // namespace gnomon::processor
