// SPDX-License-Identifier: Apache-2.0
#include "monitor/shadow/shadow_tables.h"

#include "base/verify.h"

#include <bit>

namespace gnomon::monitor {

using processor::ShadowEntry;

namespace {
/// Rights that the caller of `link`, `map` and `set_rights` decides.
constexpr u64 rights_mask = ShadowEntry::present | ShadowEntry::writable | ShadowEntry::user |
                            ShadowEntry::accessed | ShadowEntry::dirty | ShadowEntry::global |
                            ShadowEntry::execute_disable;
} // namespace

Result<ShadowTables> ShadowTables::create(const GuestMemory& memory, u64 arena_bytes) {
    const u64 tables = arena_bytes / page_size;
    if (arena_bytes % page_size != 0 || tables < min_tables || tables > max_tables)
        return usage_error(
            "shadow arena of {} bytes: it must be a multiple of 4 KiB, at least {} KiB and at "
            "most {} GiB",
            arena_bytes, min_tables * page_size >> 10, max_tables * page_size >> 30);
    auto arena = AnonymousMapping::create(arena_bytes, "the shadow arena");
    if (!arena) return tl::unexpected(arena.error());
    auto links =
        AnonymousMapping::create(tables * table_entries * sizeof(Link), "shadow reverse maps");
    if (!links) return tl::unexpected(links.error());
    auto made_from =
        AnonymousMapping::create(tables * table_entries * sizeof(u64), "shadowed guest entries");
    if (!made_from) return tl::unexpected(made_from.error());
    auto frames = AnonymousMapping::create((memory.size() >> page_shift) * sizeof(FrameState),
                                           "guest frame states");
    if (!frames) return tl::unexpected(frames.error());
    return ShadowTables(memory, std::move(*arena), std::move(*links), std::move(*made_from),
                        std::move(*frames));
}

ShadowTables::ShadowTables(const GuestMemory& memory, AnonymousMapping arena,
                           AnonymousMapping links, AnonymousMapping made_from,
                           AnonymousMapping frames)
    : m_low_size(memory.low_size()), m_high_size(memory.high_size()), m_arena(std::move(arena)),
      m_link_memory(std::move(links)), m_made_from_memory(std::move(made_from)),
      m_frame_memory(std::move(frames)), m_entries(m_arena.array<u64>()),
      m_links(m_link_memory.array<Link>()), m_made_from(m_made_from_memory.array<u64>()),
      m_frames(m_frame_memory.array<FrameState>()),
      m_capacity(static_cast<u32>(m_arena.size() >> page_shift)), m_tables(m_capacity),
      m_buckets(std::bit_ceil(u64{m_capacity})) {
    for (TableId id = m_capacity - 1; id != 0; --id) {
        m_tables[id].next = m_free;
        m_free = id;
    }
}

TableId ShadowTables::find_guest(Gpa base, unsigned level, bool nxe) {
    const FrameState* state = frame(base);
    if (state == nullptr) return 0;
    for (TableId id = state->tables; id != 0; id = m_tables[id].next)
        if (m_tables[id].level == level && m_tables[id].nxe == nxe) return id;
    return 0;
}

u32 ShadowTables::bucket(Gpa base, unsigned level, bool dirty, bool global) const {
    const u64 key = base.value() | level | (dirty ? u64{8} : 0) | (global ? u64{16} : 0);
    return static_cast<u32>((key * 0x9e3779b97f4a7c15) >> 32) &
           static_cast<u32>(m_buckets.size() - 1);
}

TableId ShadowTables::find_direct(Gpa base, unsigned level, bool dirty, bool global) const {
    for (TableId id = m_buckets[bucket(base, level, dirty, global)]; id != 0;
         id = m_tables[id].next) {
        const ShadowTable& t = m_tables[id];
        if (t.base == base.value() && t.level == level && t.dirty == dirty && t.global == global)
            return id;
    }
    return 0;
}

TableId ShadowTables::allocate() {
    const TableId id = m_free;
    if (id == 0) return 0;
    m_free = m_tables[id].next;
    m_tables[id] = ShadowTable{};
    ++m_live;
    return id;
}

void ShadowTables::set_traced(const FrameState& state, bool traced) {
    for (EntryId leaf = state.leaves; leaf != 0; leaf = m_links[leaf].next) {
        if (traced)
            m_entries[leaf] |= ShadowEntry::traced;
        else
            m_entries[leaf] &= ~ShadowEntry::traced;
    }
}

bool ShadowTables::insert(TableId id) {
    ShadowTable& t = m_tables[id];
    if (t.kind == ShadowTable::Kind::direct) {
        TableId& head = m_buckets[bucket(Gpa(t.base), t.level, t.dirty, t.global)];
        t.next = head;
        head = id;
        return false;
    }
    if (t.kind != ShadowTable::Kind::guest) return false;
    FrameState* state = frame(Gpa(t.base));
    VERIFY(state != nullptr);
    t.next = state->tables;
    state->tables = id;
    if (t.next != 0) return false;
    set_traced(*state, true);
    return true;
}

void ShadowTables::release(TableId id) {
    ShadowTable& t = m_tables[id];
    VERIFY(t.kind != ShadowTable::Kind::free && t.pins == 0);
    for (unsigned slot = 0; t.present != 0 && slot < table_entries; ++slot)
        if (present(entry_id(id, slot))) clear(entry_id(id, slot));
    VERIFY(t.present == 0);
    while (t.parents != 0)
        clear(t.parents);

    if (t.kind == ShadowTable::Kind::guest || t.kind == ShadowTable::Kind::direct) {
        const bool guest = t.kind == ShadowTable::Kind::guest;
        FrameState* state = guest ? frame(Gpa(t.base)) : nullptr;
        TableId* at =
            guest ? &state->tables : &m_buckets[bucket(Gpa(t.base), t.level, t.dirty, t.global)];
        while (*at != id) {
            VERIFY(*at != 0);
            at = &m_tables[*at].next;
        }
        *at = t.next;
        if (guest && state->tables == 0) set_traced(*state, false);
    }
    t.kind = ShadowTable::Kind::free;
    t.next = m_free;
    m_free = id;
    --m_live;
}

void ShadowTables::push(EntryId& head, EntryId id) {
    m_links[id] = {head, 0};
    if (head != 0) m_links[head].previous = id;
    head = id;
}

void ShadowTables::remove(EntryId& head, EntryId id) {
    const Link link = m_links[id];
    if (link.next != 0) m_links[link.next].previous = link.previous;
    if (link.previous != 0)
        m_links[link.previous].next = link.next;
    else
        head = link.next;
}

u64 ShadowTables::guarded(u64 leaf, Gpa where) {
    const FrameState* state = frame(where);
    if (state == nullptr)
        return where.value() < processor::monitor_frame_base ? leaf | ShadowEntry::mmio : leaf;
    return state->tables != 0 ? leaf | ShadowEntry::traced : leaf;
}

void ShadowTables::link(EntryId id, TableId child, u64 rights) {
    ShadowTable& t = m_tables[child];
    const u16 slot = static_cast<u16>(slot_of(id));
    if (t.parents == 0) {
        t.common_slot = slot;
        t.mixed_slots = false;
    } else if (t.common_slot != slot) {
        t.mixed_slots = true;
    }
    m_entries[id] = (rights & rights_mask) | ShadowEntry::present | offset(child);
    push(t.parents, id);
    ++m_tables[table_of(id)].present;
}

void ShadowTables::map(EntryId id, Gpa where, u64 rights) {
    m_entries[id] = guarded((rights & rights_mask) | ShadowEntry::present | where.value(), where);
    if (FrameState* state = frame(where); state != nullptr) push(state->leaves, id);
    ++m_tables[table_of(id)].present;
}

void ShadowTables::set_rights(EntryId id, u64 rights) {
    m_entries[id] = (m_entries[id] & ~rights_mask) | (rights & rights_mask) | ShadowEntry::present;
}

TableId ShadowTables::clear(EntryId id) {
    ShadowTable& owner = m_tables[table_of(id)];
    TableId orphan = 0;
    if (owner.level == 1) {
        if (FrameState* state = frame(Gpa(m_entries[id] & ShadowEntry::address_mask));
            state != nullptr)
            remove(state->leaves, id);
    } else {
        orphan = child(id);
        remove(m_tables[orphan].parents, id);
    }
    m_entries[id] = 0;
    --owner.present;
    return orphan;
}

} // namespace gnomon::monitor
