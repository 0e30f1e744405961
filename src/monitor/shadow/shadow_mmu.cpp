// SPDX-License-Identifier: Apache-2.0
#include "monitor/shadow/shadow_mmu.h"

#include "base/verify.h"

#include <algorithm>
#include <bit>

namespace gnomon::monitor {

using processor::ShadowEntry;

namespace {

/// Whether translations made from `was` may allow something that `now` does not. Bits that a
/// non-leaf entry ignores (D, G) count too: a needless invalidation is the worst they cause. U/S
/// takes away either way: what becomes a user page is closed to the supervisor by SMEP and SMAP.
constexpr bool weaker(u64 was, u64 now) {
    constexpr u64 granting =
        guest_entry::present | guest_entry::writable | guest_entry::accessed | guest_entry::dirty;
    constexpr u64 identity = guest_entry::address_mask | guest_entry::page_size |
                             guest_entry::global | guest_entry::user;
    return (was & ~now & granting) != 0 || (now & ~was & guest_entry::execute_disable) != 0 ||
           ((was ^ now) & identity) != 0;
}

/// Rights that a non-leaf shadow entry takes from the guest's.
constexpr u64 parent_rights(u64 entry) {
    return entry & (guest_entry::writable | guest_entry::user | guest_entry::execute_disable);
}

/// Suspicion that a write raises, by its shape; see `suspect`.
constexpr u32 ordinary_write = 1, partial_write = 4, misaligned_write = 32;

} // namespace

Result<std::unique_ptr<ShadowMmu>> ShadowMmu::create(GuestMemory& memory, TlbControl& tlb,
                                                     const ShadowOptions& options) {
    if (options.write_buffer_records < 128)
        return usage_error("guest write buffer of {} records: at least 128 are needed",
                           options.write_buffer_records);
    if (options.prefetch > table_entries || (options.prefetch & (options.prefetch - 1)) != 0)
        return usage_error("shadow prefetch of {} leaves: 0 or a power of two up to {} is needed",
                           options.prefetch, table_entries);
    auto tables = ShadowTables::create(memory, options.arena_bytes);
    if (!tables) return tl::unexpected(tables.error());
    return std::unique_ptr<ShadowMmu>(new ShadowMmu(memory, tlb, options, std::move(*tables)));
}

ShadowMmu::ShadowMmu(GuestMemory& memory, TlbControl& tlb, const ShadowOptions& options,
                     ShadowTables tables)
    : m_memory(memory), m_tlb(tlb), m_options(options), m_tables(std::move(tables)),
      m_records(options.write_buffer_records) {
    m_doomed.reserve(m_tables.capacity());
    m_empty_root = m_tables.allocate();
    ShadowTable& empty = m_tables[m_empty_root];
    empty.kind = ShadowTable::Kind::fixed;
    empty.level = 4;
    empty.pins = 1;
    ++m_fixed;
    m_root = m_empty_root;
    ++m_tables[m_root].pins;
    m_root_role = {PagingRole::Mode::unsupported, false};
}

void ShadowMmu::attach(processor::ControlBlock& block) {
    m_block = &block;
    block.shadow_arena = arena();
    block.shadow_root = root();
    block.monitor_root = monitor_root();
    block.write_buffer.records = m_records.data();
    block.write_buffer.capacity = static_cast<u32>(m_records.size());
    block.write_buffer.count = 0;
    flush_later(FlushReason::monitor_pages);
    commit();
}

void ShadowMmu::detach() {
    if (m_block == nullptr) return;
    drain();
    commit();
    m_block->write_buffer = {};
    m_block->shadow_arena = nullptr;
    m_block->shadow_root = m_block->monitor_root = 0;
    m_block = nullptr;
}

void ShadowMmu::drain(processor::WriteBuffer& buffer) {
    if (buffer.count == 0) return;
    const Booked booked(m_time, Activity::drains);
    ++m_statistics.drains;
    m_statistics.records += buffer.count;
    for (const processor::WriteRecord& record : buffer.contents())
        apply_record(record);
    buffer.count = 0;
    retire_doomed();
}

void ShadowMmu::drain() {
    if (m_block != nullptr) drain(m_block->write_buffer);
}

void ShadowMmu::reconcile(processor::WriteBuffer& buffer) {
    drain(buffer);
    commit();
}

void ShadowMmu::apply_record(const processor::WriteRecord& record) {
    if (record.size == 0) return;
    FrameState* frame = m_tables.frame(record.gpa);
    if (frame == nullptr || frame->tables == 0) {
        ++m_statistics.stray_records;
        return;
    }
    const u64 offset = record.gpa.page_offset();
    const u64 end = std::min(offset + record.size, page_size);
    const unsigned first = static_cast<unsigned>(offset / 8),
                   last = static_cast<unsigned>((end - 1) / 8);
    const bool aligned = offset % 8 == 0 && record.size % 8 == 0;
    reread(record.gpa.page(), *frame, first, last);
    suspect(*frame, aligned ? ordinary_write : first == last ? partial_write : misaligned_write);
}

void ShadowMmu::reread(Gpa table, FrameState& frame, unsigned first, unsigned last) {
    const Hva page = m_memory.hva(table, page_size);
    VERIFY(page != nullptr);
    for (unsigned slot = first; slot <= last; ++slot) {
        const u64 now = guest_entry_at(page, slot).load(std::memory_order_acquire);
        ++m_statistics.entries_reread;
        for (TableId id = frame.tables; id != 0; id = m_tables[id].next)
            sync(entry_id(id, slot), now);
    }
}

u64 ShadowMmu::leaf_rights(u64 entry) const {
    // The formats agree on these bits.
    static_assert(
        ShadowEntry::writable == guest_entry::writable && ShadowEntry::user == guest_entry::user &&
        ShadowEntry::accessed == guest_entry::accessed &&
        ShadowEntry::dirty == guest_entry::dirty && ShadowEntry::global == guest_entry::global &&
        ShadowEntry::execute_disable == guest_entry::execute_disable);
    return entry & (guest_entry::writable | guest_entry::user | guest_entry::accessed |
                    guest_entry::dirty | guest_entry::global | guest_entry::execute_disable);
}

/// Brings one shadow entry in line with the guest entry that it stands for, which is `now`.
void ShadowMmu::sync(EntryId id, u64 now) {
    const ShadowTable& table = m_tables[table_of(id)];
    const unsigned level = table.level;
    const bool usable = shadowable(now, level, table.nxe);
    if (!m_tables.present(id)) {
        if (!m_options.prefill || level != 1 || !usable) return;
        m_tables.map(id, mapped_base(now, 1), leaf_rights(now));
        m_tables.made_from(id) = now;
        ++m_statistics.prefilled;
        return;
    }
    const u64 was = m_tables.made_from(id);
    if (was == now) return;
    ++m_statistics.entries_changed;

    // What the entry names: a frame or a table, and for a large page which of its direct tables.
    u64 target = guest_entry::address_mask;
    if (level > 1) target |= guest_entry::page_size;
    if (level > 1 && maps_memory(now, level)) target |= guest_entry::dirty | guest_entry::global;
    const bool same_target = usable && ((was ^ now) & target) == 0;
    // What leaves the shadow must leave the processor too, even if the new entry allows more (a
    // large page that gained D): the next change of the entry finds nothing here that it could
    // invalidate.
    const bool weakened = !same_target || weaker(was, now);
    if (level == 1) {
        if (weakened) weaken_leaf(id);
        if (same_target) {
            m_tables.set_rights(id, leaf_rights(now));
        } else {
            m_tables.clear(id);
            if (!usable) return;
            m_tables.map(id, mapped_base(now, 1), leaf_rights(now));
        }
        m_tables.made_from(id) = now;
        return;
    }
    const TableId child = m_tables.child(id);
    if (weakened) weaken_below(id, child);
    if (same_target) {
        m_tables.set_rights(id, parent_rights(now));
        m_tables.made_from(id) = now;
        return;
    }
    m_tables.clear(id);
    // A table that the guest has unlinked is about to become an ordinary page: stop tracing it
    // before it is written as one. One that merely lost its A bit will be back.
    const bool unlinked = (now & guest_entry::present) == 0 || ((was ^ now) & target) != 0;
    if (unlinked && m_tables[child].kind == ShadowTable::Kind::guest &&
        m_tables[child].parents == 0)
        doom(child);
}

TableId ShadowMmu::obtain_root(u64 cr3, PagingRole role) {
    if (role.mode == PagingRole::Mode::unpaged) return obtain_direct(Gpa(0), 4, true, false);
    const Gpa base = root_of_cr3(cr3);
    if (role.mode == PagingRole::Mode::unsupported || !m_memory.is_ram(base)) return m_empty_root;
    return obtain_guest(base, 4, role.nxe);
}

void ShadowMmu::activate(u64 cr3, PagingRole role) {
    const u64 base = role.mode == PagingRole::Mode::four_level ? root_of_cr3(cr3).value() : 0;
    if (base != m_root_cr3 || role != m_root_role) {
        const u64 created = m_statistics.tables_created;
        const TableId next = obtain_root(cr3, role);
        if (m_statistics.tables_created == created) ++m_statistics.root_hits;
        if (next != m_root) {
            --m_tables[m_root].pins;
            m_tables[m_root].suspicion = 0;
            ++m_tables[next].pins;
            m_root = next;
            if (!m_options.tlb_keyed_by_root) flush_later(FlushReason::other_root);
        }
        m_root_cr3 = base;
        m_root_role = role;
        m_tables[next].referenced = true;
        m_tables[next].suspicion = 0;
    } else {
        ++m_statistics.root_hits;
    }
    if (m_block != nullptr) m_block->shadow_root = root();
}

u64 ShadowMmu::load_root(u64 cr3, PagingRole role) {
    const Booked booked(m_time, Activity::root_loads);
    ++m_statistics.root_loads;
    drain();
    activate(cr3, role);
    commit();
    return root();
}

u64 ShadowMmu::control_registers_changed(const processor::RegisterBlock& state, u64 old_cr0,
                                         u64 old_cr4, u64 old_efer) {
    namespace cr0 = processor::cr0;
    namespace cr4 = processor::cr4;
    namespace efer = processor::efer;
    constexpr u64 cr0_bits = cr0::pe | cr0::pg | cr0::wp;
    constexpr u64 cr4_bits =
        cr4::pse | cr4::pae | cr4::pge | cr4::pcide | cr4::smep | cr4::smap | cr4::la57;
    constexpr u64 efer_bits = efer::nxe | efer::lma | efer::lme;
    const Booked booked(m_time, Activity::root_loads);
    drain();
    activate(state.cr3, PagingRole::of(state));
    // The processor applies some of these when it caches a translation, so cached ones may allow
    // too much.
    if (((old_cr0 ^ state.cr0) & cr0_bits) != 0 || ((old_cr4 ^ state.cr4) & cr4_bits) != 0 ||
        ((old_efer ^ state.efer) & efer_bits) != 0)
        flush_later(FlushReason::control_registers);
    commit();
    return root();
}

void ShadowMmu::flush() {
    drain();
    commit();
}

void ShadowMmu::note_write(Gpa gpa, u64 size) {
    while (size != 0) {
        FrameState* frame = m_tables.frame(gpa);
        u64 here = page_size - gpa.page_offset();
        if (frame == nullptr) {
            // Over the hole between low and high RAM in one step.
            if (gpa.value() >= ram_high_base) break;
            here = ram_high_base - gpa.value();
        }
        here = std::min(here, size);
        if (frame != nullptr && frame->tables != 0)
            reread(gpa.page(), *frame, static_cast<unsigned>(gpa.page_offset() / 8),
                   static_cast<unsigned>((gpa.page_offset() + here - 1) / 8));
        size -= here;
        gpa += here;
    }
    commit();
}

Result<> ShadowMmu::map_monitor_page(Gva gva, Gpa frame, u64 rights) {
    VERIFY(gva.page_offset() == 0 && frame.page_offset() == 0);
    VERIFY(frame.value() >= processor::monitor_frame_base || (rights & ShadowEntry::writable) == 0);
    const auto make = [this](unsigned level) -> Result<TableId> {
        if (m_fixed >= m_tables.capacity() / 2)
            return fail(
                "shadow arena of {} KiB is too small for the monitor's own pages; make it larger",
                m_tables.arena_size() >> 10);
        const TableId id = allocate();
        ShadowTable& t = m_tables[id];
        t.kind = ShadowTable::Kind::fixed;
        t.level = static_cast<u8>(level);
        t.pins = 1;
        ++m_fixed;
        return id;
    };
    if (m_monitor_root == 0) {
        const Result<TableId> made = make(4);
        if (!made) return tl::unexpected(made.error());
        m_monitor_root = *made;
        if (m_block != nullptr) m_block->monitor_root = monitor_root();
    }
    TableId table = m_monitor_root;
    for (unsigned level = 4; level > 1; --level) {
        const EntryId id = entry_id(table, processor::shadow_index(gva, level));
        if (!m_tables.present(id)) {
            const Result<TableId> made = make(level - 1);
            if (!made) return tl::unexpected(made.error());
            m_tables.link(id, *made, ShadowEntry::writable);
        }
        table = m_tables.child(id);
    }
    const EntryId id = entry_id(table, processor::shadow_index(gva, 1));
    if (m_tables.present(id)) m_tables.clear(id);
    m_tables.map(id, frame,
                 (rights & (ShadowEntry::writable | ShadowEntry::execute_disable)) |
                     ShadowEntry::accessed | ShadowEntry::dirty);
    flush_later(FlushReason::monitor_pages);
    commit();
    return {};
}

bool ShadowMmu::is_traced(Gpa gpa) {
    const FrameState* frame = m_tables.frame(gpa);
    return frame != nullptr && frame->tables != 0;
}

ShadowStatistics ShadowMmu::statistics() const {
    ShadowStatistics s = m_statistics;
    s.tables_live = m_tables.live();
    return s;
}

} // namespace gnomon::monitor
