// SPDX-License-Identifier: Apache-2.0
#include "platform/nvme/log_pages.h"

#include "platform/nvme/command.h"
#include "platform/nvme/features.h"
#include "platform/nvme/identify.h"

namespace gnomon::platform::nvme {

namespace {

constexpr std::size_t error_entry_bytes = 64, error_entry_count = error_log_entries + 1;

} // namespace

void ErrorLog::add(const ErrorEntry& entry) {
    if (m_entries.size() == error_entry_count) m_entries.pop_back();
    m_entries.push_front(entry);
    ++m_total;
}

DataPage ErrorLog::page() const {
    DataPage page(error_entry_bytes * error_entry_count);
    std::size_t at = 0;
    u64 number = m_total;
    for (const ErrorEntry& entry : m_entries) {
        page.put<u64>(at, number--);
        page.put<u16>(at + 8, entry.submission_queue);
        page.put<u16>(at + 10, entry.command_id);
        page.put<u16>(at + 12, static_cast<u16>(static_cast<u16>(entry.status) << 1));
        page.put<u16>(at + 14, 0xffff); // no particular field of the command
        page.put<u64>(at + 16, entry.block);
        page.put<u32>(at + 24, entry.namespace_id);
        at += error_entry_bytes;
    }
    return page;
}

DataPage health_page(const Health& health, u8 critical_warning, u64 powered_ns, u64 error_entries) {
    constexpr u64 minute_ns = 60'000'000'000, hour_ns = 60 * minute_ns;
    const auto data_units = [](u64 blocks) { return (blocks + 999) / 1000; };
    DataPage page(512);
    page.put<u8>(0, critical_warning);
    page.put<u16>(1, composite_temperature);
    page.put<u8>(3, 100); // available spare, percent
    page.put<u8>(4, 10);  // its threshold
    page.put<u64>(32, data_units(health.blocks_read));
    page.put<u64>(48, data_units(health.blocks_written));
    page.put<u64>(64, health.reads);
    page.put<u64>(80, health.writes);
    page.put<u64>(96, health.busy_ns / minute_ns);
    page.put<u64>(112, 1); // power cycles: this one
    page.put<u64>(128, powered_ns / hour_ns);
    page.put<u64>(160, health.media_errors);
    page.put<u64>(176, error_entries);
    return page;
}

DataPage firmware_slots_page(const Options& options) {
    DataPage page(512);
    page.put<u8>(0, 1); // slot 1 runs
    page.put_text(8, 8, options.firmware);
    return page;
}

DataPage changed_namespaces_page() { return DataPage(4096); }

DataPage commands_supported_page() {
    constexpr u32 supported = 1 << 0, changes_blocks = 1 << 1;
    constexpr std::size_t io_commands = 1024;
    DataPage page(4096);
    const auto admin = [&](AdminOpcode opcode) {
        page.put<u32>(4 * static_cast<std::size_t>(opcode), supported);
    };
    const auto io = [&](IoOpcode opcode, u32 effects) {
        page.put<u32>(io_commands + 4 * static_cast<std::size_t>(opcode), effects);
    };
    using enum AdminOpcode;
    for (const AdminOpcode opcode : {delete_submission_queue, create_submission_queue, get_log_page,
                                     delete_completion_queue, create_completion_queue, identify,
                                     abort, set_features, get_features, asynchronous_event_request})
        admin(opcode);
    io(IoOpcode::flush, supported);
    io(IoOpcode::read, supported);
    io(IoOpcode::compare, supported);
    io(IoOpcode::write, supported | changes_blocks);
    io(IoOpcode::write_zeroes, supported | changes_blocks);
    io(IoOpcode::dataset_management, supported | changes_blocks);
    return page;
}

} // namespace gnomon::platform::nvme
