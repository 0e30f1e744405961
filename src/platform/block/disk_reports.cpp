// SPDX-License-Identifier: Apache-2.0
#include "platform/block/disk_reports.h"

#include "base/host_time.h"

#include <cstring>
#include <fmt/format.h>
#include <utility>

namespace gnomon::platform {

namespace {

std::string_view name_of(BlockOperation operation) {
    switch (operation) {
    case BlockOperation::read: return "read";
    case BlockOperation::write: return "write";
    case BlockOperation::flush: return "flush";
    case BlockOperation::write_zeroes: return "write of zeroes";
    case BlockOperation::discard: return "discard";
    }
    return "request";
}

} // namespace

DiskReports::DiskReports(std::string name, DiskReport report)
    : m_name(std::move(name)), m_report(std::move(report)) {}

DiskReports::~DiskReports() {
    if (m_unreported != 0) say(fmt::format("{} more requests failed", m_unreported));
}

void DiskReports::failed(const BlockRequest& request, BlockStatus status, int error) {
    if (status != BlockStatus::io_error && error == 0) return;
    const u64 now = monotonic_ns();
    if (now < m_next_ns) {
        ++m_unreported;
        return;
    }
    m_next_ns = now + interval_ns;
    std::string text(name_of(request.operation));
    if (request.operation != BlockOperation::flush)
        text += fmt::format(" of {} bytes at {}", request.size, request.offset);
    text += fmt::format(" failed: {}", error == 0 ? "it has become smaller" : std::strerror(error));
    if (const u64 more = std::exchange(m_unreported, 0); more != 0)
        text += fmt::format(" ({} others failed since the last such line)", more);
    say(text);
}

void DiskReports::say(std::string_view text) {
    if (m_report) m_report(fmt::format("disk {}: {}", m_name, text));
}

} // namespace gnomon::platform
