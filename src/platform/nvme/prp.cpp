// SPDX-License-Identifier: Apache-2.0
#include "platform/nvme/prp.h"

#include "platform/nvme/command.h"

#include <algorithm>
#include <array>

namespace gnomon::platform::nvme {

namespace {

constexpr u64 entry_bytes = sizeof(u64);
/// Of one list: the pages behind the first, of the smallest size.
constexpr u64 most_entries = u64{1} << max_transfer_pages_shift;

bool append(const Dma& dma, Gpa gpa, u64 size, std::vector<Segment>& out) {
    const Hva host = dma.map(gpa, size);
    if (host == nullptr) return false;
    if (!out.empty() && out.back().gpa + out.back().size == gpa &&
        out.back().host + out.back().size == host)
        out.back().size += size;
    else
        out.push_back({gpa, size, host});
    return true;
}

} // namespace

Status walk_prps(const Dma& dma, PrpPair prps, u64 length, u64 page_bytes,
                 std::vector<Segment>& out) {
    if (length == 0) return Status::success;
    const u64 offset_mask = page_bytes - 1;
    if ((prps.first & 3) != 0) return Status::prp_offset_invalid;
    const u64 first = std::min(length, page_bytes - (prps.first & offset_mask));
    if (!append(dma, Gpa(prps.first), first, out)) return Status::data_transfer_error;
    u64 left = length - first;
    if (left == 0) return Status::success;
    if (left <= page_bytes) {
        if ((prps.second & offset_mask) != 0) return Status::prp_offset_invalid;
        return append(dma, Gpa(prps.second), left, out) ? Status::success
                                                        : Status::data_transfer_error;
    }

    u64 list = prps.second;
    if ((list & (entry_bytes - 1)) != 0) return Status::prp_offset_invalid;
    // The guest may change a list while it is read: each entry is copied once, then checked.
    std::array<u64, most_entries> entries;
    while (left != 0) {
        const u64 needed = (left + offset_mask) / page_bytes;
        const u64 places = (page_bytes - (list & offset_mask)) / entry_bytes;
        const bool goes_on = places < needed; // the last place points to the next list
        const u64 count = std::min(places, needed);
        if (!dma.read(Gpa(list), std::as_writable_bytes(std::span(entries).first(count))))
            return Status::data_transfer_error;
        for (u64 i = 0; i < count; ++i) {
            if ((entries[i] & offset_mask) != 0) return Status::prp_offset_invalid;
            if (goes_on && i + 1 == count) break;
            const u64 size = std::min(left, page_bytes);
            if (!append(dma, Gpa(entries[i]), size, out)) return Status::data_transfer_error;
            left -= size;
        }
        if (goes_on) list = entries[count - 1];
    }
    return Status::success;
}

} // namespace gnomon::platform::nvme
