// SPDX-License-Identifier: Apache-2.0
/// @file What Get Log Page tells (NVMe 1.4, section 5.14.1).
#pragma once

#include "platform/nvme/data_page.h"
#include "platform/nvme/options.h"
#include "platform/nvme/status.h"

#include <deque>
#include <optional>

namespace gnomon::platform::nvme {

enum class LogPage : u8 {
    errors = 0x01,
    health = 0x02,
    firmware_slots = 0x03,
    changed_namespaces = 0x04,
    commands_supported = 0x05,
};

struct ErrorEntry {
    u16 submission_queue = 0, command_id = 0;
    Status status = Status::success;
    u64 block = 0;
    u32 namespace_id = 0;
};

/// The commands that failed last, newest first.
class ErrorLog {
public:
    void add(const ErrorEntry& entry);
    [[nodiscard]] u64 total() const { return m_total; } ///< since power-on
    [[nodiscard]] DataPage page() const;

private:
    std::deque<ErrorEntry> m_entries;
    u64 m_total = 0;
};

/// Counters of one power-on life.
struct Health {
    /// Critical warnings, bits of the first byte.
    static constexpr u8 temperature = 1 << 1, read_only = 1 << 3;

    u64 blocks_read = 0, blocks_written = 0; ///< of 512 bytes
    u64 reads = 0, writes = 0;               ///< commands
    u64 media_errors = 0;
    u64 busy_ns = 0; ///< with an I/O command under way
};

[[nodiscard]] DataPage health_page(const Health& health, u8 critical_warning, u64 powered_ns,
                                   u64 error_entries);
[[nodiscard]] DataPage firmware_slots_page(const Options& options);
/// Namespaces do not come, go or change.
[[nodiscard]] DataPage changed_namespaces_page();
[[nodiscard]] DataPage commands_supported_page();

} // namespace gnomon::platform::nvme
