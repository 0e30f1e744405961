// SPDX-License-Identifier: Apache-2.0
/// @file --stats: what the process and its machine have done, printed at the end.
#pragma once

#include "base/file_descriptor.h"
#include "cli/settings.h"
#include "monitor/machine.h"

#include <optional>

namespace gnomon::cli {

/// Made when the command begins. Main thread.
class StatisticsReport {
public:
    /// Opens what tells of the process's memory if a report is wanted: later that cannot be opened
    /// any more (Confinement).
    explicit StatisticsReport(std::optional<StatisticsFormat> format);

    [[nodiscard]] bool wanted() const { return m_format.has_value(); }
    /// Prints to stderr. @param guest_memory size of the guest's RAM in bytes.
    void print(const monitor::Machine& machine, u64 guest_memory) const;

private:
    void add_process(Statistics& all, const monitor::Machine& machine, u64 guest_memory) const;

    std::optional<StatisticsFormat> m_format;
    u64 m_start_ns = 0;                       ///< CLOCK_MONOTONIC at the process's start
    FileDescriptor m_status, m_smaps, m_stat; ///< /proc/self; may be none
};

} // namespace gnomon::cli
