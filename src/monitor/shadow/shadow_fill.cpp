// SPDX-License-Identifier: Apache-2.0
/// @file ShadowMmu: page faults and how the shadow tables grow.
#include "base/verify.h"
#include "monitor/shadow/shadow_mmu.h"

namespace gnomon::monitor {

using processor::ShadowEntry;
namespace pf_error = processor::pf_error;

FaultOutcome ShadowMmu::handle_page_fault(const processor::Exit& exit,
                                          const processor::RegisterBlock& state) {
    const Booked booked(m_time, Activity::shadow_faults);
    ++m_statistics.page_faults;
    ++((exit.error_code & pf_error::fetch) != 0   ? m_statistics.fetch_faults
       : (exit.error_code & pf_error::write) != 0 ? m_statistics.write_faults
                                                  : m_statistics.read_faults);
    if ((exit.error_code & pf_error::present) != 0) ++m_statistics.rights_faults;
    // A page fault forgets cached translations of its address, so the guest may rely on edits it
    // made without any flush: nothing is decided before they are known.
    drain();
    const PagingRole role = PagingRole::of(state);
    activate(state.cr3, role);

    if (role.mode == PagingRole::Mode::unpaged) {
        use_on_path(m_root);
        fill_direct(m_root, exit.gva);
        release_path();
        ++m_statistics.fills;
        commit();
        return {};
    }
    PagingAccess access;
    access.write = (exit.error_code & pf_error::write) != 0;
    access.fetch = (exit.error_code & pf_error::fetch) != 0;
    access.implicit_supervisor = exit.implicit_supervisor;
    access.user = (exit.error_code & pf_error::user) != 0 && !exit.implicit_supervisor;

    // Only other writers of guest memory (devices) or a table that names itself can make an attempt
    // fail. When all do, the guest runs the instruction again, which leads here again.
    constexpr unsigned attempts = 8;
    for (unsigned attempt = 0; attempt < attempts; ++attempt) {
        const Gpa root = root_of_cr3(state.cr3);
        GuestWalk walk;
        if (role.mode == PagingRole::Mode::four_level)
            walk = walk_guest(m_memory, root, role.nxe, exit.gva);
        const bool allowed = walk.complete() && access_allowed(walk, access, state);
        if (!allowed) {
            ++m_statistics.injected;
            commit();
            return {
                FaultOutcome::Kind::inject,
                fault_error_code(walk.complete() ? pf_error::present : walk.fault, access, state)};
        }
        if (!set_accessed_dirty(walk, exit.gva, access.write)) continue;
        const bool filled = fill(walk, exit.gva);
        release_path();
        if (filled) break;
    }
    ++m_statistics.fills;
    commit();
    return {};
}

/// Sets A in every entry of the walk, and D in the last for a write, as the hardware would before
/// the access. False if an entry changed meanwhile. The monitor's own store is not recorded, so
/// every shadow of the entry learns of it here.
bool ShadowMmu::set_accessed_dirty(GuestWalk& walk, Gva gva, bool write) {
    for (unsigned level = 4; level >= walk.leaf_level; --level) {
        u64 wanted = walk.entry[level] | guest_entry::accessed;
        if (write && level == walk.leaf_level) wanted |= guest_entry::dirty;
        if (wanted == walk.entry[level]) continue;
        const unsigned slot = processor::shadow_index(gva, level);
        u64 expected = walk.entry[level];
        if (!guest_entry_at(walk.table[level], slot).compare_exchange_strong(expected, wanted))
            return false;
        ++m_statistics.accessed_dirty_sets;
        // A page of tables may hold code too, which the guest then sees change.
        m_tlb.invalidate_code(walk.table_gpa[level] + u64{8} * slot, 8);
        walk.entry[level] = wanted;
        if (const FrameState* frame = m_tables.frame(walk.table_gpa[level]); frame != nullptr)
            for (TableId id = frame->tables; id != 0; id = m_tables[id].next)
                sync(entry_id(id, slot), wanted);
    }
    return true;
}

/// Makes the shadow tables hold the translation of a complete walk. False if the guest's entries
/// are no longer those of the walk: each is read again after its table became traced.
bool ShadowMmu::fill(const GuestWalk& walk, Gva gva) {
    TableId table = m_root;
    for (unsigned level = 4;; --level) {
        use_on_path(table);
        const unsigned slot = processor::shadow_index(gva, level);
        const EntryId id = entry_id(table, slot);
        const u64 entry = guest_entry_at(walk.table[level], slot).load(std::memory_order_acquire);
        if (entry != walk.entry[level]) return false;
        // Not so after an edit that nobody noted, such as a device's.
        if (m_tables.present(id) && m_tables.made_from(id) != entry) sync(id, entry);
        if (level == 1) {
            if (!m_tables.present(id)) {
                m_tables.map(id, mapped_base(entry, 1), leaf_rights(entry));
                m_tables.made_from(id) = entry;
            }
            prefetch_guest(table, walk.table[1], slot);
            return true;
        }
        const bool large = maps_memory(entry, level);
        if (!m_tables.present(id)) {
            const TableId child = large ? obtain_direct(mapped_base(entry, level), level - 1,
                                                        (entry & guest_entry::dirty) != 0,
                                                        (entry & guest_entry::global) != 0)
                                        : obtain_guest(Gpa(entry & guest_entry::address_mask),
                                                       level - 1, m_root_role.nxe);
            m_tables.link(
                id, child,
                entry & (guest_entry::writable | guest_entry::user | guest_entry::execute_disable));
            m_tables.made_from(id) = entry;
        }
        table = m_tables.child(id);
        if (large) {
            use_on_path(table);
            fill_direct(table, gva);
            return true;
        }
    }
}

/// Fills the way from a direct table on the path to the leaf of `gva`. Direct tables grant
/// everything; what the large page withholds is withheld above them.
void ShadowMmu::fill_direct(TableId table, Gva gva) {
    while (m_tables[table].level > 1) {
        const ShadowTable& t = m_tables[table];
        const unsigned level = t.level, slot = processor::shadow_index(gva, level);
        const EntryId id = entry_id(table, slot);
        if (!m_tables.present(id)) {
            const TableId child =
                obtain_direct(Gpa(t.base + slot * entry_span(level)), level - 1, t.dirty, t.global);
            m_tables.link(id, child, ShadowEntry::writable | ShadowEntry::user);
        }
        table = m_tables.child(id);
        use_on_path(table);
    }
    prefetch_direct(table, processor::shadow_index(gva, 1));
}

void ShadowMmu::prefetch_guest(TableId table, Hva guest_table, unsigned slot) {
    if (m_options.prefetch < 2) return;
    const unsigned first = slot & ~(m_options.prefetch - 1);
    const bool nxe = m_tables[table].nxe;
    for (unsigned s = first; s < first + m_options.prefetch; ++s) {
        const EntryId id = entry_id(table, s);
        if (m_tables.present(id)) continue;
        const u64 entry = guest_entry_at(guest_table, s).load(std::memory_order_acquire);
        if (!shadowable(entry, 1, nxe)) continue;
        m_tables.map(id, mapped_base(entry, 1), leaf_rights(entry));
        m_tables.made_from(id) = entry;
        ++m_statistics.prefetched;
    }
}

void ShadowMmu::prefetch_direct(TableId table, unsigned slot) {
    const ShadowTable& t = m_tables[table];
    const unsigned count = m_options.prefetch < 2 ? 1 : m_options.prefetch;
    const unsigned first = slot & ~(count - 1);
    const u64 rights = ShadowEntry::writable | ShadowEntry::user | ShadowEntry::accessed |
                       (t.dirty ? ShadowEntry::dirty : 0) | (t.global ? ShadowEntry::global : 0);
    for (unsigned s = first; s < first + count; ++s) {
        const EntryId id = entry_id(table, s);
        if (m_tables.present(id)) continue;
        m_tables.map(id, Gpa(t.base + s * page_size), rights);
        if (s != slot) ++m_statistics.prefetched;
    }
}

TableId ShadowMmu::obtain_guest(Gpa base, unsigned level, bool nxe) {
    if (const TableId found = m_tables.find_guest(base, level, nxe); found != 0) return found;
    const TableId id = allocate();
    ShadowTable& t = m_tables[id];
    t.kind = ShadowTable::Kind::guest;
    t.base = base.value();
    t.level = static_cast<u8>(level);
    t.nxe = nxe;
    begin_use(id);
    return id;
}

TableId ShadowMmu::obtain_direct(Gpa base, unsigned level, bool dirty, bool global) {
    if (const TableId found = m_tables.find_direct(base, level, dirty, global); found != 0)
        return found;
    const TableId id = allocate();
    ShadowTable& t = m_tables[id];
    t.kind = ShadowTable::Kind::direct;
    t.base = base.value();
    t.level = static_cast<u8>(level);
    t.dirty = dirty;
    t.global = global;
    begin_use(id);
    return id;
}

TableId ShadowMmu::allocate() {
    TableId id = m_tables.allocate();
    if (id == 0) {
        // Tables on the path and the active root are pinned, so what the caller holds stays valid.
        VERIFY(make_room(1 + m_tables.capacity() / 64) != 0);
        id = m_tables.allocate();
    }
    return id;
}

void ShadowMmu::begin_use(TableId id) {
    ShadowTable& t = m_tables[id];
    t.referenced = true;
    ++m_statistics.tables_created;
    if (!m_tables.insert(id)) return;
    // From here no write to the guest's table goes unrecorded; only now may it be read.
    ++m_statistics.traces_begun;
    ++m_statistics.write_revocations;
    m_tlb.revoke_writes(Gpa(t.base));
}

void ShadowMmu::use_on_path(TableId id) {
    VERIFY(m_path_length < m_path.size());
    ShadowTable& t = m_tables[id];
    ++t.pins;
    t.referenced = true;
    t.suspicion = 0;
    m_path[m_path_length++] = id;
}

void ShadowMmu::release_path() {
    while (m_path_length != 0)
        --m_tables[m_path[--m_path_length]].pins;
}

} // namespace gnomon::monitor
