// SPDX-License-Identifier: Apache-2.0
#include "platform/ide/prd.h"

#include <algorithm>

namespace gnomon::platform::ide {

namespace {

bool append(const Dma& dma, Gpa gpa, u64 size, std::vector<Region>& out) {
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

PrdResult walk_prds(const Dma& dma, u32 table, u64 length, std::vector<Region>& out) {
    out.clear();
    u64 at = table & ~u32{3};
    const u64 table_end = (at | (prd_boundary - 1)) + 1;
    u64 left = length;
    // An entry that the boundary cuts in two is behind it.
    for (; at + sizeof(PrdEntry) <= table_end; at += sizeof(PrdEntry)) {
        PrdEntry entry; // copied once: the guest may change it meanwhile
        if (!dma.read_object(Gpa(at), entry)) return PrdResult::unreachable;
        const u64 base = entry.base & ~u32{1};
        const u64 count = entry.count & ~u16{1};
        const u64 there = count == 0 ? prd_boundary : count;
        const u64 size = std::min(left, there);
        const u64 boundary = (base | (prd_boundary - 1)) + 1;
        const u64 before = std::min(size, boundary - base);
        if (!append(dma, Gpa(base), before, out)) return PrdResult::unreachable;
        if (size != before && !append(dma, Gpa(boundary - prd_boundary), size - before, out))
            return PrdResult::unreachable;
        left -= size;
        const bool last = (entry.flags & PrdEntry::end_of_table) != 0;
        if (left == 0) return last && size == there ? PrdResult::exhausted : PrdResult::left_over;
        if (last) break;
    }
    return PrdResult::too_short;
}

} // namespace gnomon::platform::ide
