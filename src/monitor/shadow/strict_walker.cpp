// SPDX-License-Identifier: Apache-2.0
#include "monitor/shadow/strict_walker.h"

#include "monitor/shadow/guest_paging.h"

#include <algorithm>
#include <fmt/format.h>

namespace gnomon::monitor {

using processor::ShadowEntry;

namespace {

constexpr std::size_t max_violations = 50;

/// Bits first ... last of `value`.
constexpr u64 field(u64 value, unsigned first, unsigned last) {
    return (value >> first) & ((u64{2} << (last - first)) - 1);
}

/// A table outside RAM has no entries: the bus answers nothing there.
u64 read_entry(const GuestMemory& memory, u64 table, u64 index) {
    const Hva at = memory.hva(Gpa(table + 8 * index), 8);
    if (at == nullptr) return 0;
    return std::atomic_ref<u64>(*reinterpret_cast<u64*>(at)).load();
}

/// SDM vol. 3A tables 4-15 to 4-20: whether a present entry has a reserved bit set.
bool has_reserved_bits(u64 e, unsigned level, bool nxe) {
    if (field(e, guest_physical_bits, 51) != 0) return true;
    if (!nxe && field(e, 63, 63) != 0) return true;
    const bool ps = field(e, 7, 7) != 0;
    switch (level) {
    case 4: return ps;
    case 3: return ps && field(e, 13, 29) != 0;
    case 2: return ps && field(e, 13, 20) != 0;
    default: return false;
    }
}

} // namespace

struct StrictWalker::Leaf {
    u64 gva = 0, bits = 0;
    bool writable = true, user = true, executable = true;
};

std::string StrictReport::text() const {
    std::string out = fmt::format("{} leaves, {} violations", leaves, violations.size());
    for (const std::string& v : violations)
        out += "\n  " + v;
    return out;
}

StrictResult StrictWalker::translate(const GuestMemory& memory, const PagingState& state, Gva gva) {
    StrictResult result;
    StrictTranslation& t = result.translation;
    if (field(state.cr0, 31, 31) == 0) { // CR0.PG
        t.frame = Gpa(gva.page().value());
        t.dirty = true;
        return result;
    }
    const bool lma = field(state.efer, 10, 10) != 0, la57 = field(state.cr4, 12, 12) != 0;
    const bool nxe = field(state.efer, 11, 11) != 0;
    if (!lma || la57) { // not offered
        result.fault = true;
        return result;
    }
    u64 table = field(state.cr3, 12, 51) << 12;
    for (unsigned level = 4; level >= 1; --level) {
        const unsigned low = 12 + 9 * (level - 1); // first bit of the index
        t.tables[t.table_count++] = Gpa(table);
        const u64 e = read_entry(memory, table, field(gva.value(), low, low + 8));
        if (field(e, 0, 0) == 0) {
            result.fault = true;
            return result;
        }
        if (has_reserved_bits(e, level, nxe)) {
            result.fault = true;
            result.error_code = 0b1001; // P, RSVD
            return result;
        }
        t.writable &= field(e, 1, 1) != 0;
        t.user &= field(e, 2, 2) != 0;
        t.accessed &= field(e, 5, 5) != 0;
        t.executable &= field(e, 63, 63) == 0;
        if (level == 1 || field(e, 7, 7) != 0) {
            t.dirty = field(e, 6, 6) != 0;
            t.global = field(e, 8, 8) != 0;
            t.leaf_level = level;
            u64 frame = field(e, low, 51) << low;
            if (level > 1) frame |= field(gva.value(), 12, low - 1) << 12;
            t.frame = Gpa(frame);
            return result;
        }
        table = field(e, 12, 51) << 12;
    }
    return result;
}

StrictResult StrictWalker::walk(const GuestMemory& memory, const PagingState& state, Gva gva,
                                StrictAccess access) {
    StrictResult result = translate(memory, state, gva);
    if (field(state.cr0, 31, 31) == 0) return result;
    const bool wp = field(state.cr0, 16, 16) != 0, smep = field(state.cr4, 20, 20) != 0,
               smap = field(state.cr4, 21, 21) != 0, nxe = field(state.efer, 11, 11) != 0;
    const bool user_mode = access.user && !access.implicit_supervisor;
    if (!result.fault) {
        const StrictTranslation& t = result.translation;
        bool allowed = true;
        if (user_mode) {
            allowed = t.user;
            if (access.write && !t.writable) allowed = false;
            if (access.fetch && !t.executable) allowed = false;
        } else if (access.fetch) {
            if (!t.executable) allowed = false;
            if (t.user && smep) allowed = false;
        } else {
            if (t.user && smap && (access.implicit_supervisor || !access.ac)) allowed = false;
            if (access.write && !t.writable && wp) allowed = false;
        }
        if (!allowed) {
            result.fault = true;
            result.error_code = 1;
        }
    }
    if (result.fault) {
        if (access.write) result.error_code |= 1 << 1;
        if (user_mode) result.error_code |= 1 << 2;
        if (access.fetch && (nxe || smep)) result.error_code |= 1 << 4;
    }
    return result;
}

bool StrictWalker::entry(u64 table, unsigned slot, ShadowEntry& out) const {
    if (table % page_size != 0 || m_arena_size < page_size || table > m_arena_size - page_size)
        return false;
    std::memcpy(&out, m_arena + table + 8 * u64{slot}, sizeof out);
    return true;
}

void StrictWalker::compare(const Leaf& leaf, const PagingState& state, StrictReport& report,
                           std::vector<u64>& tables) const {
    const auto violation = [&](std::string_view what) {
        if (report.violations.size() < max_violations)
            report.violations.push_back(
                fmt::format("gva {:#x}: {} (shadow leaf {:#x})", leaf.gva, what, leaf.bits));
    };
    ++report.leaves;
    const ShadowEntry shadow{leaf.bits};
    const StrictResult fresh = translate(m_memory, state, Gva(leaf.gva));
    if (fresh.fault) return violation("mapped, but the guest's tables map nothing");
    const StrictTranslation& t = fresh.translation;
    for (unsigned i = 0; i < t.table_count; ++i)
        tables.push_back(t.tables[i].value());

    if (shadow.address() != t.frame.value())
        violation(fmt::format("frame should be {:#x}", t.frame.value()));
    // Rights that the guest's tables lack.
    if (!t.accessed) violation("mapped, though an entry of the walk is not accessed");
    if (leaf.writable && !t.writable) violation("writable, but not for the guest");
    if (leaf.user && !t.user) violation("user, but not for the guest");
    if (leaf.executable && !t.executable) violation("executable, but not for the guest");
    if (shadow.has(ShadowEntry::dirty) && !t.dirty)
        violation("dirty, but not in the guest's entry");
    if (shadow.has(ShadowEntry::global) && !t.global)
        violation("global, but not in the guest's entry");
    const bool ram = m_memory.is_ram(Gpa(shadow.address()));
    if (!ram && !shadow.has(ShadowEntry::mmio))
        violation("frame is not RAM, but the leaf is not mmio");

    // Rights that the shadow withholds, and why.
    if (t.writable) {
        if (shadow.has(ShadowEntry::mmio))
            ++report.withheld_mmio;
        else if (shadow.has(ShadowEntry::traced))
            ++report.withheld_traced;
        else if (!t.dirty)
            ++report.withheld_not_dirty;
    }
    if (ram && shadow.has(ShadowEntry::mmio)) violation("mmio, but the frame is RAM");
    if (t.writable && !leaf.writable) violation("right to write withheld without reason");
    if (t.user && !leaf.user) violation("user access withheld without reason");
    if (t.executable && !leaf.executable) violation("execution withheld without reason");
    if (t.dirty && !shadow.has(ShadowEntry::dirty)) violation("dirty withheld without reason");
}

void StrictWalker::descend(u64 table, unsigned level, const Leaf& above, const PagingState& state,
                           u64 max_leaves, StrictReport& report, std::vector<Leaf>& leaves,
                           std::vector<u64>& tables) const {
    for (unsigned slot = 0; slot < table_entries && !report.truncated; ++slot) {
        ShadowEntry e;
        if (!entry(table, slot, e)) {
            report.violations.push_back(
                fmt::format("gva {:#x}: table {:#x} lies outside the arena", above.gva, table));
            return;
        }
        if (!e.has(ShadowEntry::present)) continue;
        Leaf here = above;
        here.gva |= u64{slot} << (12 + 9 * (level - 1));
        here.writable = above.writable && e.has(ShadowEntry::writable);
        here.user = above.user && e.has(ShadowEntry::user);
        here.executable = above.executable && !e.has(ShadowEntry::execute_disable);
        if (level > 1) {
            descend(e.address(), level - 1, here, state, max_leaves, report, leaves, tables);
            continue;
        }
        here.bits = e.bits;
        if ((here.gva >> 47 & 1) != 0) here.gva |= ~u64{0} << 48;
        compare(here, state, report, tables);
        leaves.push_back(here);
        report.truncated = report.leaves >= max_leaves;
    }
}

StrictReport StrictWalker::check(u64 root, const PagingState& state, u64 max_leaves) const {
    StrictReport report;
    std::vector<Leaf> leaves;
    std::vector<u64> tables;
    descend(root, 4, Leaf{}, state, max_leaves, report, leaves, tables);
    std::sort(tables.begin(), tables.end());
    tables.erase(std::unique(tables.begin(), tables.end()), tables.end());
    for (const Leaf& leaf : leaves) {
        const ShadowEntry e{leaf.bits};
        if (!e.has(ShadowEntry::traced) &&
            std::binary_search(tables.begin(), tables.end(), e.address()) &&
            report.violations.size() < max_violations)
            report.violations.push_back(
                fmt::format("gva {:#x}: maps a guest table, but is not traced (shadow leaf {:#x})",
                            leaf.gva, leaf.bits));
    }
    return report;
}

StrictReport StrictWalker::check_page(u64 root, const PagingState& state, Gva gva) const {
    StrictReport report;
    std::vector<u64> tables;
    Leaf leaf;
    u64 table = root;
    for (unsigned level = 4; level >= 1; --level) {
        ShadowEntry e;
        if (!entry(table, processor::shadow_index(gva, level), e)) {
            report.violations.push_back(
                fmt::format("{}: table {:#x} lies outside the arena", gva, table));
            return report;
        }
        if (!e.has(ShadowEntry::present)) return report;
        leaf.writable &= e.has(ShadowEntry::writable);
        leaf.user &= e.has(ShadowEntry::user);
        leaf.executable &= !e.has(ShadowEntry::execute_disable);
        leaf.bits = e.bits;
        table = e.address();
    }
    leaf.gva = gva.page().value();
    compare(leaf, state, report, tables);
    return report;
}

} // namespace gnomon::monitor
