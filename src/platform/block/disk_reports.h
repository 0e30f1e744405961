// SPDX-License-Identifier: Apache-2.0
/// @file What the user is told of a disk's failures: lines, but not one for each request.
#pragma once

#include "base/types.h"
#include "platform/block/block_back_end.h"

#include <functional>
#include <string>
#include <string_view>

namespace gnomon::platform {

/// Takes one line for the user.
using DiskReport = std::function<void(const std::string&)>;

/// The first failure is reported at once; those of the next ten seconds are counted, and the number
/// is a part of the line that follows them. Threads: the machine's.
class DiskReports {
public:
    static constexpr u64 interval_ns = 10'000'000'000;

    /// @param name of the disk, for the user. @param report may be empty.
    DiskReports(std::string name, DiskReport report);
    DiskReports(const DiskReports&) = delete;
    DiskReports& operator=(const DiskReports&) = delete;
    /// Says how many failures were not reported, if any.
    ~DiskReports();

    [[nodiscard]] const std::string& name() const { return m_name; }
    /// A request failed. @param error an errno; 0: there was less data than the size of the disk
    /// says. What the guest caused itself (`out_of_range`, `read_only`) is not reported.
    void failed(const BlockRequest& request, BlockStatus status, int error);
    /// Something else that happens once: "disk NAME: TEXT".
    void say(std::string_view text);

private:
    std::string m_name;
    DiskReport m_report;
    u64 m_next_ns = 0;
    u64 m_unreported = 0;
};

} // namespace gnomon::platform
