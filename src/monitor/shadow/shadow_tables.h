// SPDX-License-Identifier: Apache-2.0
/// @file The shadow tables as a data structure: the arena, what each table stands for, and three
/// relations that shadow paging needs in constant time: guest frame -> its shadow tables, guest
/// frame -> the leaves that map it, shadow table -> the entries that name it.
///
/// A table is identified by its page number in the arena, an entry by table * 512 + slot. Nothing
/// here allocates after `create`. What entries ought to say is decided in shadow_mmu.h.
///
/// Coherence policies meet in `guarded`: under `traced` a leaf to a frame in use as guest table
/// keeps all its rights and carries the traced-write bit. A write-protecting policy would take the
/// right to write there; one that re-reads whole pages at the next flush would leave the leaf alone
/// and remember the frame.
#pragma once

#include "monitor/shadow/anonymous_mapping.h"
#include "monitor/shadow/guest_paging.h"
#include "processor/shadow_entry.h"

#include <vector>

namespace gnomon::monitor {

/// Page number of a shadow table in the arena; 0 is none.
using TableId = u32;
/// table * 512 + slot; 0 is none.
using EntryId = u32;

constexpr EntryId entry_id(TableId table, unsigned slot) { return table * table_entries + slot; }
constexpr TableId table_of(EntryId entry) { return entry / table_entries; }
constexpr unsigned slot_of(EntryId entry) { return entry % table_entries; }

struct ShadowTable {
    enum class Kind : u8 {
        free,
        guest,  ///< stands for one guest table page in one role
        direct, ///< stands for the inside of a large page (or, unpaged, of all memory): identity
                ///< from `base` on
        fixed,  ///< made by the monitor: its own pages, or an empty root
    };
    u64 base = 0; ///< guest: the table's guest-physical address. direct: that of the region
    Kind kind = Kind::free;
    u8 level = 0;             ///< 1 ... 4
    bool nxe = false;         ///< guest: role
    bool dirty = false;       ///< direct: leaves may be written; D is set in the large page's entry
    bool global = false;      ///< direct: leaves are global
    bool referenced = false;  ///< used since the reclaim hand last passed
    bool doomed = false;      ///< in the list of tables to look at after reconciling
    bool mixed_slots = false; ///< entries at different slots name it: no single virtual address
    u16 common_slot = 0;      ///< unless mixed_slots: the slot of every entry that names it
    u16 present = 0;          ///< entries in use
    u16 pins = 0;             ///< must not be freed: active root, or on the path being filled
    u32 suspicion =
        0; ///< writes that do not look like use as a table, since the last fill through it
    EntryId parents = 0; ///< first of the entries that name it
    TableId next = 0;    ///< next table of the same guest frame, hash bucket or free list
};

/// What is known of one page of guest RAM.
struct FrameState {
    EntryId leaves = 0; ///< first of the leaves that map it
    TableId tables =
        0; ///< first of the shadow tables that stand for it; not 0: writes to it are traced
};

class ShadowTables {
public:
    /// @param arena_bytes a multiple of 4 KiB, at least `min_tables` tables. `memory` must outlive
    /// this.
    [[nodiscard]] static Result<ShadowTables> create(const GuestMemory& memory, u64 arena_bytes);

    static constexpr u64 min_tables = 32;
    static constexpr u64 max_tables = u64{1} << 22;

    [[nodiscard]] Hva arena() const { return m_arena.base(); }
    [[nodiscard]] u64 arena_size() const { return m_arena.size(); }
    /// Tables that the arena can hold; ids are 1 ... capacity - 1.
    [[nodiscard]] u32 capacity() const { return m_capacity; }
    [[nodiscard]] u32 live() const { return m_live; }

    [[nodiscard]] ShadowTable& operator[](TableId id) { return m_tables[id]; }
    [[nodiscard]] const ShadowTable& operator[](TableId id) const { return m_tables[id]; }
    /// Bits of a shadow entry, as the MMU reads them.
    [[nodiscard]] u64 bits(EntryId id) const { return m_entries[id]; }
    [[nodiscard]] bool present(EntryId id) const {
        return (bits(id) & processor::ShadowEntry::present) != 0;
    }
    /// The guest entry that a present entry of a `guest` table was made from.
    [[nodiscard]] u64& made_from(EntryId id) { return m_made_from[id]; }
    /// The table that a present non-leaf entry names.
    [[nodiscard]] TableId child(EntryId id) const {
        return static_cast<TableId>((bits(id) & processor::ShadowEntry::address_mask) >>
                                    page_shift);
    }
    [[nodiscard]] EntryId next_link(EntryId id) const { return m_links[id].next; }
    [[nodiscard]] static u64 offset(TableId id) { return u64{id} << page_shift; }

    /// State of the frame at `gpa`, nullptr if it is not RAM.
    [[nodiscard]] FrameState* frame(Gpa gpa) {
        const u64 a = gpa.value();
        if (a < m_low_size) return m_frames + (a >> page_shift);
        if (a >= ram_high_base && a - ram_high_base < m_high_size)
            return m_frames + ((m_low_size + (a - ram_high_base)) >> page_shift);
        return nullptr;
    }

    [[nodiscard]] TableId find_guest(Gpa base, unsigned level, bool nxe);
    [[nodiscard]] TableId find_direct(Gpa base, unsigned level, bool dirty, bool global) const;

    /// An unused table with empty entries, 0 if there is none. The caller fills in what it stands
    /// for and calls `insert`.
    [[nodiscard]] TableId allocate();
    /// Makes a table findable. True if `base` was not in use as guest table before; then every leaf
    /// that maps it has become traced, and the caller must revoke cached rights to write before it
    /// reads the guest's table.
    [[nodiscard]] bool insert(TableId id);
    /// Empties and frees a table: entries that name it become not present; leaves that map its
    /// guest frame stop being traced if it was the last for that frame. Cached translations are the
    /// caller's matter.
    void release(TableId id);

    /// Makes an empty entry name `child`, with `rights` (P, W, U, XD).
    void link(EntryId id, TableId child, u64 rights);
    /// Makes an empty level-1 entry map `frame`; adds the traced and mmio bits. `rights` as the
    /// leaf shall have them.
    void map(EntryId id, Gpa frame, u64 rights);
    /// Changes the rights of a present entry, keeping what it names.
    void set_rights(EntryId id, u64 rights);
    /// Makes a present entry not present. Returns the child that lost a parent, 0 for a leaf.
    TableId clear(EntryId id);

private:
    struct Link {
        EntryId next, previous;
    };
    ShadowTables(const GuestMemory& memory, AnonymousMapping arena, AnonymousMapping links,
                 AnonymousMapping made_from, AnonymousMapping frames);

    [[nodiscard]] u64 guarded(u64 leaf, Gpa frame);
    void push(EntryId& head, EntryId id);
    void remove(EntryId& head, EntryId id);
    [[nodiscard]] u32 bucket(Gpa base, unsigned level, bool dirty, bool global) const;
    void set_traced(const FrameState& state, bool traced);

    u64 m_low_size, m_high_size;
    AnonymousMapping m_arena, m_link_memory, m_made_from_memory, m_frame_memory;
    u64* m_entries;
    Link* m_links;
    u64* m_made_from;
    FrameState* m_frames;
    u32 m_capacity;
    u32 m_live = 0;
    std::vector<ShadowTable> m_tables;
    std::vector<TableId> m_buckets; ///< direct tables by hash; a power of two
    TableId m_free = 0;
};

} // namespace gnomon::monitor
