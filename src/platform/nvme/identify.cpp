// SPDX-License-Identifier: Apache-2.0
#include "platform/nvme/identify.h"

#include "platform/nvme/command.h"
#include "platform/nvme/features.h"
#include "platform/nvme/registers.h"

#include <fmt/format.h>

namespace gnomon::platform::nvme {

namespace {

/// FNV-1a.
u64 hash(u64 seed, std::string_view text) {
    for (const char c : text)
        seed = (seed ^ static_cast<u8>(c)) * 0x100'0000'01b3;
    return seed;
}

std::string uuid_text(const std::array<u8, 16>& id) {
    std::string out;
    for (std::size_t i = 0; i < id.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
        out += fmt::format("{:02x}", id[i]);
    }
    return out;
}

} // namespace

std::array<u8, 16> unique_id(const Options& options) {
    std::array<u8, 16> id{};
    const std::string text = options.model + '\0' + options.serial;
    const u64 high = hash(0xcbf2'9ce4'8422'2325, text), low = hash(high, text);
    std::memcpy(id.data(), &high, sizeof high);
    std::memcpy(id.data() + 8, &low, sizeof low);
    id[6] = static_cast<u8>((id[6] & 0x0f) | 0x80);
    id[8] = static_cast<u8>((id[8] & 0x3f) | 0x80);
    return id;
}

DataPage identify_controller(const Options& options, u64 disk_bytes) {
    DataPage page(identify_bytes);
    page.put<u16>(0, options.vendor_id);
    page.put<u16>(2, options.subsystem_vendor_id);
    page.put_text(4, 20, options.serial);
    page.put_text(24, 40, options.model);
    page.put_text(64, 8, options.firmware);
    page.put<u8>(72, 3);                        // RAB: 8 commands
    page.put<u8>(77, max_transfer_pages_shift); // MDTS
    page.put<u32>(80, version);                 // VER
    page.put<u32>(84, 1'000'000);               // RTD3R, in us
    page.put<u32>(88, 10'000'000);              // RTD3E: shutdown flushes
    page.put<u32>(96, 1);                       // CTRATT: host identifiers of 128 bits
    page.put<u8>(111, 1);                       // CNTRLTYPE: I/O controller
    page.put<u8>(258, abort_limit);             // ACL
    page.put<u8>(259, event_request_limit);     // AERL
    page.put<u8>(260, 1 << 1 | 1);              // FRMW: one slot, which is read-only
    page.put<u8>(261, 1 << 1 | 1 << 2);   // LPA: commands supported log, offsets and long lengths
    page.put<u8>(262, error_log_entries); // ELPE
    page.put<u16>(266, warning_temperature);
    page.put<u16>(268, critical_temperature);
    page.put<u64>(280, disk_bytes);                                          // TNVMCAP
    page.put<u8>(512, submission_entry_shift << 4 | submission_entry_shift); // SQES
    page.put<u8>(513, completion_entry_shift << 4 | completion_entry_shift); // CQES
    page.put<u32>(516, 1);                                                   // NN
    // ONCS: compare, dataset management, write zeroes, select in Get Features.
    page.put<u16>(520, 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4);
    // VWC: there is one, and Flush takes FFFFFFFFh for all namespaces.
    page.put<u8>(525, 1 | 3 << 1);
    const std::string name =
        "nqn.2014-08.org.nvmexpress:uuid:" + uuid_text(unique_id(options)); // SUBNQN
    std::string padded = name;
    padded.resize(256); // with zeroes
    page.put_bytes(768, std::span(reinterpret_cast<const u8*>(padded.data()), padded.size()));
    page.put<u16>(2048, 1000); // the one power state: 10 W
    return page;
}

DataPage identify_namespace(u64 disk_bytes, bool read_only) {
    DataPage page(identify_bytes);
    const u64 blocks = disk_bytes >> block_shift;
    page.put<u64>(0, blocks);  // NSZE
    page.put<u64>(8, blocks);  // NCAP
    page.put<u64>(16, blocks); // NUSE
    page.put<u8>(24, 1 << 4);  // NSFEAT: the preferred granularity below
    // 4 KiB, as 0's based blocks: NPWG, NPWA, NPDG, NPDA.
    constexpr u16 preferred = (4096 >> block_shift) - 1;
    for (const std::size_t field : {64, 66, 68, 70})
        page.put<u16>(field, preferred);
    page.put<u8>(99, read_only ? 1 : 0); // NSATTR: write protected
    page.put<u8>(128 + 2, block_shift);  // LBAF0: LBADS; no metadata
    return page;
}

DataPage identify_active_namespaces(u32 after) {
    DataPage page(identify_bytes);
    if (after < the_namespace) page.put<u32>(0, the_namespace);
    return page;
}

DataPage identify_namespace_descriptors(const Options& options) {
    DataPage page(identify_bytes);
    page.put<u8>(0, 3);  // NIDT: UUID
    page.put<u8>(1, 16); // NIDL
    page.put_bytes(4, unique_id(options));
    return page;
}

} // namespace gnomon::platform::nvme
