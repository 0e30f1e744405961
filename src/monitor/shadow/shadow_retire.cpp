// SPDX-License-Identifier: Apache-2.0
/// @file ShadowMmu: what the processor must forget, and how shadow tables come to an end.
#include "base/verify.h"
#include "monitor/shadow/shadow_mmu.h"

#include <algorithm>

namespace gnomon::monitor {

namespace {
/// Pages between two that are forgotten in one range.
constexpr u64 max_gap = 3;
/// Suspicion at which a table is dropped. A table that no entry names is a freed page soon to be
/// written as data; a root not in use may be one; one that is linked is given two full rewrites
/// without a fill through it.
constexpr u32 orphan_limit = 4, idle_root_limit = 64, linked_limit = 1024;
} // namespace

/// Whether one of the entries of roots in this list belongs to the active root.
bool ShadowMmu::active(EntryId root_entries) const {
    if (m_options.tlb_keyed_by_root) return root_entries != 0;
    // Kernel tables are named by every root: do not search far, an invalidation too many does no
    // harm.
    unsigned steps = 8;
    for (EntryId id = root_entries; id != 0; id = m_tables.next_link(id))
        if (table_of(id) == m_root || --steps == 0) return true;
    return false;
}

ShadowMmu::Reach ShadowMmu::reach(EntryId id) const {
    Reach result;
    u64 address = 0;
    for (unsigned level = m_tables[table_of(id)].level;; ++level) {
        const TableId table = table_of(id);
        const ShadowTable& t = m_tables[table];
        address |= u64{slot_of(id)} * entry_span(level);
        if (level == 4) {
            if (table != m_root && !m_options.tlb_keyed_by_root) return result;
            if (m_options.tlb_keyed_by_root) result.root = table;
            break;
        }
        if (t.parents == 0) return result;
        if (level == 3) {
            if (!active(t.parents)) return result;
            if (m_options.tlb_keyed_by_root && m_tables.next_link(t.parents) == 0)
                result.root = table_of(t.parents);
            if (t.mixed_slots) {
                result.kind = Reach::Kind::many;
                return result;
            }
            address |= u64{t.common_slot} * entry_span(4);
            break;
        }
        if (m_tables.next_link(t.parents) != 0) {
            result.kind = Reach::Kind::many;
            return result;
        }
        id = t.parents;
    }
    result.kind = Reach::Kind::one;
    result.gva = Gva(static_cast<u64>(static_cast<i64>(address << 16) >> 16));
    return result;
}

void ShadowMmu::weaken_leaf(EntryId id) {
    if (m_pending_all) return;
    const Reach r = reach(id);
    switch (r.kind) {
    case Reach::Kind::nowhere: return;
    case Reach::Kind::one: invalidate_later(r.gva, r.root); return;
    case Reach::Kind::many: forget_later(r.root, FlushReason::weakened_shared); return;
    }
}

void ShadowMmu::weaken_below(EntryId id, TableId child) {
    // Leaves that are gone were seen to when they went.
    if (m_pending_all || m_tables[child].present == 0) return;
    if (const Reach r = reach(id); r.kind != Reach::Kind::nowhere)
        forget_later(r.root, FlushReason::weakened_shared);
}

/// @param root 0: all.
void ShadowMmu::invalidate_later(Gva gva, TableId root) {
    if (m_pending_all) return;
    for (unsigned i = 0; i < m_pending_root_count; ++i)
        if (m_pending_roots[i].root == root) return;
    for (unsigned i = 0; i < m_pending_count; ++i) {
        PendingPages& p = m_pending[i];
        if (p.has(gva) && (p.root == root || p.root == 0)) return;
        // Kernels change the entries of a range in turn, and not all of it is there.
        const u64 between = (gva.value() - p.first.value()) / page_size - p.count;
        if (root != 0 && p.root == root && between <= max_gap) {
            p.count += between + 1;
            return;
        }
    }
    if (m_pending_count == max_pending) {
        // An address space that is being taken down fills the list alone: then no other suffers.
        const auto* const keyed = std::find_if(m_pending.begin(), m_pending.end(),
                                               [](const PendingPages& p) { return p.root != 0; });
        forget_later(keyed == m_pending.end() ? 0 : keyed->root, FlushReason::weakened_many);
        invalidate_later(gva, root);
        return;
    }
    m_pending[m_pending_count++] = {gva.page(), 1, root};
}

/// @param root 0: all.
void ShadowMmu::forget_later(TableId root, FlushReason reason) {
    if (m_pending_all) return;
    if (root == 0) {
        flush_later(reason);
        return;
    }
    for (unsigned i = 0; i < m_pending_root_count; ++i)
        if (m_pending_roots[i].root == root) return;
    if (m_pending_root_count == max_pending_roots) {
        flush_later(FlushReason::many_roots);
        return;
    }
    m_pending_roots[m_pending_root_count++] = {root, reason};
    auto* const end = std::remove_if(m_pending.begin(), m_pending.begin() + m_pending_count,
                                     [root](const PendingPages& p) { return p.root == root; });
    m_pending_count = static_cast<unsigned>(end - m_pending.begin());
}

void ShadowMmu::flush_later(FlushReason reason) {
    if (!m_pending_all) m_flush_reason = reason;
    m_pending_all = true;
    m_pending_count = m_pending_root_count = 0;
}

void ShadowMmu::commit() {
    retire_doomed();
    if (m_pending_all) {
        ++m_statistics.invalidations_all;
        ++m_statistics.flushes[static_cast<unsigned>(m_flush_reason)];
        m_tlb.invalidate_all();
    } else {
        m_statistics.invalidations_root += m_pending_root_count;
        for (unsigned i = 0; i < m_pending_root_count; ++i) {
            const PendingRoot& p = m_pending_roots[i];
            ++m_statistics.root_flushes[static_cast<unsigned>(p.reason)];
            m_tlb.forget_root(ShadowTables::offset(p.root));
        }
        for (unsigned i = 0; i < m_pending_count; ++i) {
            const PendingPages& p = m_pending[i];
            m_statistics.invalidations_page += p.count;
            if (p.root == 0)
                m_tlb.invalidate(p.first);
            else
                m_tlb.invalidate(p.first, p.count, ShadowTables::offset(p.root));
        }
    }
    m_pending_all = false;
    m_pending_count = m_pending_root_count = 0;
}

/// Counts a write against the tables that stand for a frame: those that are written but not walked
/// are no tables any more.
void ShadowMmu::suspect(FrameState& frame, u32 weight) {
    for (TableId id = frame.tables; id != 0; id = m_tables[id].next) {
        ShadowTable& t = m_tables[id];
        t.suspicion += weight;
        const u32 limit = t.level == 4     ? idle_root_limit
                          : t.parents == 0 ? orphan_limit
                                           : linked_limit;
        if (t.suspicion >= limit && t.pins == 0)
            doom(id);
        else if (t.suspicion > linked_limit)
            t.suspicion = linked_limit;
    }
}

void ShadowMmu::doom(TableId id) {
    if (m_tables[id].doomed) return;
    m_tables[id].doomed = true;
    m_doomed.push_back(id);
}

void ShadowMmu::retire_doomed() {
    while (!m_doomed.empty()) {
        const TableId id = m_doomed.back();
        m_doomed.pop_back();
        ShadowTable& t = m_tables[id];
        if (!t.doomed) continue; // gone, and perhaps come back as another table
        t.doomed = false;
        const bool relinked = t.parents != 0 && t.suspicion < linked_limit;
        if (t.kind != ShadowTable::Kind::guest || t.pins != 0 || relinked) continue;
        ++m_statistics.tables_retired;
        drop(id, true);
    }
}

/// @param cascade whether guest tables that nothing names any more follow.
void ShadowMmu::drop(TableId id, bool cascade) {
    const ShadowTable& t = m_tables[id];
    if (t.present != 0) {
        // By any of its entries: whether the processor can have walked through this table.
        if (const Reach r = reach(entry_id(id, 0)); r.kind != Reach::Kind::nowhere)
            forget_later(r.root, FlushReason::table_dropped);
    }
    if (cascade && t.level > 1) {
        for (unsigned slot = 0; t.present != 0 && slot < table_entries; ++slot) {
            if (!m_tables.present(entry_id(id, slot))) continue;
            const TableId child = m_tables.clear(entry_id(id, slot));
            if (m_tables[child].kind == ShadowTable::Kind::guest && m_tables[child].parents == 0)
                doom(child);
        }
    }
    const bool guest = t.kind == ShadowTable::Kind::guest;
    const Gpa base(t.base);
    m_tables.release(id);
    if (guest && m_tables.frame(base)->tables == 0) ++m_statistics.traces_ended;
}

u32 ShadowMmu::reclaim(u32 count) {
    const u32 gone = make_room(count);
    commit();
    return gone;
}

/// What is dropped is forgotten at the next `commit`.
u32 ShadowMmu::make_room(u32 count) {
    u32 gone = 0;
    // Twice around: the first time takes away the second chance.
    for (u64 steps = 2 * u64{m_tables.capacity()}; gone < count && steps != 0; --steps) {
        m_hand = m_hand + 1 < m_tables.capacity() ? m_hand + 1 : 1;
        ShadowTable& t = m_tables[m_hand];
        if (t.kind == ShadowTable::Kind::free || t.kind == ShadowTable::Kind::fixed || t.pins != 0)
            continue;
        const bool unreachable = t.level < 4 && t.parents == 0;
        if (t.referenced && !unreachable) {
            t.referenced = false;
            continue;
        }
        drop(m_hand, false);
        ++m_statistics.tables_reclaimed;
        ++gone;
    }
    return gone;
}

} // namespace gnomon::monitor
