// SPDX-License-Identifier: Apache-2.0
/// @file Shadow paging with traced writes (M2.1-M2.5): builds the only page tables that the
/// processor walks, and keeps them coherent with the guest's own from the guest write buffer.
///
/// One shadow table stands for one guest table page in one role (level, NXE) and is shared by every
/// address space that reaches it. A guest's 2 MiB or 1 GiB page is a *direct* table, filled with 4
/// KiB leaves as they are touched; rights of the large page sit in the entry that names it, its D
/// and G bits in the direct table's key. A leaf to a frame that is in use as guest table is traced,
/// whatever its level, through every alias.
///
/// Invariants, at every return to the caller:
/// - A present shadow entry was made from a guest entry that is present, accessed and free of
/// reserved bits, and that equals
///   the one in memory or has a record in the write buffer. Rights are those of the guest entry; a
///   leaf without D has no dirty bit.
/// - Every cached translation of the processor follows from the shadow tables under the root that
/// it belongs to: the
///   active one, or with ShadowOptions::tlb_keyed_by_root any. So a flush that the guest asks for
///   needs no more than reconciling; a translation is forgotten only when an edit took something
///   away from it. A page that ceases to be a root's is forgotten as one before the next entry.
/// - A leaf outside RAM is an mmio leaf.
///
/// Records are used as addresses only: memory is read again, so neither their order nor a stale one
/// can revive an old mapping, and edits that cancel cost a comparison.
///
/// Threads: the one that calls Processor::enter, outside it. A device thread that writes guest
/// memory hands `note_write` to that thread. One control block.
#pragma once

#include "monitor/activity.h"
#include "monitor/shadow/guest_walk.h"
#include "monitor/shadow/shadow_tables.h"
#include "monitor/shadow/tlb_control.h"
#include "processor/control_block.h"
#include "processor/exit.h"

#include <array>
#include <memory>
#include <vector>

namespace gnomon::monitor {

struct ShadowOptions {
    u64 arena_bytes =
        u64{64} << 20; ///< memory for shadow tables; bookkeeping takes up to twice as much again
    u32 write_buffer_records = 512; ///< at least 128
    unsigned prefetch =
        16;              ///< leaves filled around a page fault: 0 (off) or a power of two up to 512
    bool prefill = true; ///< make a leaf at once when a record shows that its entry became present
                         ///< and accessed
    /// The processor keeps translations of several roots apart, as the contract has it
    /// (processor.h). Otherwise a change of root makes it forget all, and it is told only of what
    /// concerns the active root.
    bool tlb_keyed_by_root = false;
};

/// Why all cached translations were forgotten, or all under one root; of several reasons the first.
enum class FlushReason : u8 {
    other_root, ///< another address space or paging mode
    control_registers,
    weakened_shared, ///< an entry that several addresses go by lost a right
    weakened_many,   ///< more pages lost one than are forgotten singly
    many_roots,      ///< more roots are concerned than are forgotten singly
    table_dropped,
    monitor_pages, ///< set-up
};
inline constexpr unsigned flush_reason_count = 7;

/// Counters since creation.
struct ShadowStatistics {
    u64 page_faults = 0;                                     ///< exits handled
    u64 read_faults = 0, write_faults = 0, fetch_faults = 0; ///< of these: by access
    u64 rights_faults = 0; ///< of these: a shadow leaf was there, but did not allow the access
    u64 fills = 0;         ///< of these: shadow filled or upgraded, access retried
    u64 injected = 0;      ///< of these: the guest's own fault
    u64 prefetched = 0;    ///< leaves filled around a fault
    u64 prefilled = 0;     ///< leaves made while reconciling
    u64 accessed_dirty_sets = 0; ///< A or D bits set in the guest's entries
    u64 drains = 0;              ///< reconciliations with at least one record
    u64 records = 0;             ///< records drained
    u64 stray_records = 0;       ///< of these: to a page that is no longer a table
    u64 entries_reread = 0;      ///< guest entries read again because of a record or `note_write`
    u64 entries_changed = 0;     ///< shadow entries changed or dropped by it
    u64 root_loads = 0, root_hits = 0;      ///< CR3 loads; those whose shadow root existed
    u64 traces_begun = 0, traces_ended = 0; ///< guest pages that became, ceased to be tables
    u64 tables_created = 0;
    u64 tables_retired = 0;   ///< dropped because the guest no longer uses the page as a table
    u64 tables_reclaimed = 0; ///< dropped for want of room
    u64 tables_live = 0;
    u64 invalidations_all = 0, invalidations_root = 0, invalidations_page = 0,
        write_revocations = 0;
    u64 flushes[flush_reason_count] = {};      ///< invalidations_all, by FlushReason
    u64 root_flushes[flush_reason_count] = {}; ///< invalidations_root, likewise
};

/// What a page fault came to.
struct FaultOutcome {
    enum class Kind : u8 {
        retry,  ///< the shadow now allows the access, or it is worth trying again: enter
        inject, ///< #PF for the guest, with `error_code`; CR2 is the exit's gva
    };
    Kind kind = Kind::retry;
    u32 error_code = 0;
};

class ShadowMmu {
public:
    /// `memory` and `tlb` must outlive the result.
    [[nodiscard]] static Result<std::unique_ptr<ShadowMmu>>
    create(GuestMemory& memory, TlbControl& tlb, const ShadowOptions& options = {});
    ShadowMmu(const ShadowMmu&) = delete;
    ShadowMmu& operator=(const ShadowMmu&) = delete;

    /// Sets shadow_arena, shadow_root, monitor_root and write_buffer of `block`, and from then on
    /// drains its buffer and keeps its roots up to date. `block` must outlive this or be detached.
    void attach(processor::ControlBlock& block);
    void detach();
    /// From now on books the time of faults, drains and root loads (monitor/activity.h); nullptr:
    /// no more. `account` outlives this or the next call.
    void book_time(TimeAccount* account) { m_time = account; }

    /// ExitReason::page_fault. Reconciles, walks the guest's tables, and fills the shadow or says
    /// what to inject.
    [[nodiscard]] FaultOutcome handle_page_fault(const processor::Exit& exit,
                                                 const processor::RegisterBlock& state);

    /// Applies and empties `buffer`. Every coherency-inducing operation below does this first;
    /// ExitReason:: write_buffer_full needs nothing else.
    void reconcile(processor::WriteBuffer& buffer);

    // --- Coherency-inducing operations (SDM vol. 3A section 4.10.4). State is that after the
    // operation. ---

    /// MOV to CR3, with or without bit 63. Returns the shadow root's offset in the arena, also put
    /// into the control block.
    u64 load_root(u64 cr3, PagingRole role);
    /// CR0, CR4 or EFER changed from the given values to those of `state`.
    u64 control_registers_changed(const processor::RegisterBlock& state, u64 old_cr0, u64 old_cr4,
                                  u64 old_efer);
    /// INVLPG, INVPCID of any type, and any other flush.
    void flush();
    /// Memory in [gpa, gpa + size) was written other than by the guest's processor (device,
    /// monitor).
    void note_write(Gpa gpa, u64 size);

    /// Maps a monitor page into the root of monitor mode (ControlBlock::monitor_root), which is
    /// made at the first call.
    /// @param gva page-aligned. @param frame at least processor::monitor_frame_base; or a frame of
    /// RAM, for a view of guest memory that is not writable. @param rights ShadowEntry::writable
    /// and execute_disable count; the page is supervisor-only. Fails when the arena is too small.
    [[nodiscard]] Result<> map_monitor_page(Gva gva, Gpa frame, u64 rights);

    [[nodiscard]] u64 root() const { return ShadowTables::offset(m_root); }
    [[nodiscard]] u64 monitor_root() const { return ShadowTables::offset(m_monitor_root); }
    [[nodiscard]] Hva arena() const { return m_tables.arena(); }
    [[nodiscard]] u64 arena_size() const { return m_tables.arena_size(); }
    [[nodiscard]] ShadowStatistics statistics() const;

    /// Whether writes to the page at `gpa` are traced.
    [[nodiscard]] bool is_traced(Gpa gpa);
    /// Drops tables until `count` are gone or only active ones are left; returns how many went. For
    /// memory pressure, and tests.
    u32 reclaim(u32 count);

private:
    ShadowMmu(GuestMemory& memory, TlbControl& tlb, const ShadowOptions& options,
              ShadowTables tables);

    // shadow_fill.cpp: page faults and the tables' growth
    [[nodiscard]] bool set_accessed_dirty(GuestWalk& walk, Gva gva, bool write);
    [[nodiscard]] bool fill(const GuestWalk& walk, Gva gva);
    void fill_direct(TableId table, Gva gva);
    void prefetch_guest(TableId table, Hva guest_table, unsigned slot);
    void prefetch_direct(TableId table, unsigned slot);
    [[nodiscard]] TableId obtain_guest(Gpa base, unsigned level, bool nxe);
    [[nodiscard]] TableId obtain_direct(Gpa base, unsigned level, bool dirty, bool global);
    [[nodiscard]] TableId allocate();
    u32 make_room(u32 count);
    void begin_use(TableId id);
    void use_on_path(TableId id);
    void release_path();

    // shadow_mmu.cpp: reconciling
    void drain();
    void drain(processor::WriteBuffer& buffer);
    [[nodiscard]] TableId obtain_root(u64 cr3, PagingRole role);
    void activate(u64 cr3, PagingRole role);
    void apply_record(const processor::WriteRecord& record);
    void reread(Gpa table, FrameState& frame, unsigned first, unsigned last);
    void sync(EntryId id, u64 now);
    [[nodiscard]] u64 leaf_rights(u64 entry) const;

    // shadow_retire.cpp: cached translations, and the tables' end
    /// Where the processor may have cached translations through an entry.
    struct Reach {
        enum class Kind : u8 { nowhere, one, many }; ///< virtual addresses
        Kind kind = Kind::nowhere;
        Gva gva;          ///< the lowest, if there is one
        TableId root = 0; ///< the only root that leads there; 0: perhaps several, or not keyed
    };
    [[nodiscard]] Reach reach(EntryId id) const;
    [[nodiscard]] bool active(EntryId root_entries) const;
    void weaken_leaf(EntryId id);
    void weaken_below(EntryId id, TableId child);
    void invalidate_later(Gva gva, TableId root);
    void forget_later(TableId root, FlushReason reason);
    void flush_later(FlushReason reason);
    void commit();
    void suspect(FrameState& frame, u32 weight);
    void doom(TableId id);
    void retire_doomed();
    void drop(TableId id, bool cascade);

    GuestMemory& m_memory;
    TlbControl& m_tlb;
    ShadowOptions m_options;
    ShadowTables m_tables;
    processor::ControlBlock* m_block = nullptr;
    std::vector<processor::WriteRecord>
        m_records; ///< memory of the attached control block's write buffer

    TableId m_empty_root = 0;
    TableId m_root = 0; ///< pinned
    u64 m_root_cr3 = 0; ///< table address that m_root stands for
    PagingRole m_root_role;
    TableId m_monitor_root = 0;
    u32 m_fixed = 0; ///< fixed tables made

    std::array<TableId, 8> m_path{}; ///< pinned while a fill is under way
    unsigned m_path_length = 0;
    TableId m_hand = 0;            ///< reclaim's position
    std::vector<TableId> m_doomed; ///< reserved for all tables

    // What the processor must forget before the next entry: everything; or roots, and pages under
    // one root or (0) under all of them.
    struct PendingPages {
        Gva first;
        u64 count = 0;
        TableId root = 0; ///< 0: all; then it is one page
        [[nodiscard]] bool has(Gva gva) const {
            return gva.value() - first.value() < count * page_size;
        }
    };
    struct PendingRoot {
        TableId root = 0;
        FlushReason reason{};
    };
    static constexpr unsigned max_pending = 32, max_pending_roots = 8;
    std::array<PendingPages, max_pending> m_pending{};
    unsigned m_pending_count = 0;
    std::array<PendingRoot, max_pending_roots> m_pending_roots{};
    unsigned m_pending_root_count = 0;
    bool m_pending_all = false;
    FlushReason m_flush_reason{}; ///< while m_pending_all

    ShadowStatistics m_statistics;
    TimeAccount* m_time = nullptr;
};

} // namespace gnomon::monitor
