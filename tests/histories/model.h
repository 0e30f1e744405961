// SPDX-License-Identifier: Apache-2.0
/// @file The model of the architecture. It knows every value that every table entry has had since
/// translations made from it may have been cached, and so which translations an access may use:
/// that of the tables as they are, or an older one that no invalidation has covered (SDM vol. 3A
/// section 4.10).
///
/// An older translation is one that a walk could have found whose reads happened in order, level by
/// level, all after the last invalidation that covers it. Values that a processor may not have
/// cached, because A was not set, do not count. So paging-structure caches are covered too.
#pragma once

#include "paging.h"

namespace histories {

/// Physical memory that histories use, at 1 GiB so that pages of every size can map it.
inline constexpr u64 region = 0x40000000, region_frames = 10 * 512;
/// Device space: nothing answers there.
inline constexpr u64 hole = 0xc0000000;

/// Frames of the region whose content is known word by word: 64 of its second and third 2 MiB.
inline constexpr unsigned frames = 128, frames_per_part = 64;
constexpr bool in_region(u64 pa) { return pa >= region && pa - region < region_frames * page_size; }
/// Number of a frame, -1 if its content is not known.
constexpr int frame_number(u64 pa) {
    if (!in_region(pa)) return -1;
    const u64 n = (pa - region) / page_size;
    if (n < 512 || n >= 3 * 512 || n % 512 >= frames_per_part) return -1;
    return static_cast<int>((n / 512 - 1) * frames_per_part + n % 512);
}
constexpr u64 frame_address(unsigned number) {
    return region +
           (u64{number / frames_per_part + 1} * 512 + number % frames_per_part) * page_size;
}

/// Slot that holds, at first, the home word of its frame: code that returns the frame's address,
/// and a not-present entry.
inline constexpr unsigned home_slot = 508;
constexpr u64 code_word(u32 value) { return 0xb8 | u64{value} << 8 | u64{0x9090c3} << 40; }
constexpr bool is_code_word(u64 word) { return (word & 0xff) == 0xb8 && word >> 40 == 0x9090c3; }
constexpr u32 returned_by(u64 word) { return static_cast<u32>(word >> 8); }

/// Another piece of code, which begins in the last four bytes of one page and ends in the next: it
/// returns three bytes of the one and one of the other. Both words are not-present entries.
inline constexpr u64 crossing_offset = page_size - 4, crossing_size = 6;
constexpr u64 crossing_head(u32 value) { return u64{0xb8} << 32 | u64{value & 0xffffff} << 40; }
constexpr u64 crossing_tail(u32 value) { return (value << 1 & 0xfe) | 0xc300; }
constexpr bool is_crossing_head(u64 word) { return (word >> 32 & 0xff) == 0xb8; }
constexpr bool is_crossing_tail(u64 word) { return (word >> 8 & 0xff) == 0xc3; }

/// The sparse set of addresses that histories use: eight indexes a level, 1 to 8 but at the top.
/// Index 0 is not among them: in a root it names the guest's own mappings, which a root that serves
/// as a table of another level must not show.
inline constexpr unsigned digits = 8, address_count = digits * digits * digits * digits;
inline constexpr u16 top_index[digits] = {1, 2, 3, 5, 256, 257, 300, 511};
inline constexpr unsigned self_index = 5, self_digit = 4, self_top_digit = 3;
/// @param id digit of level 4 first. Returns the address of a page.
constexpr u64 address_of(unsigned id) {
    return canonical(u64{top_index[id >> 9 & 7]} << 39 | ((id >> 6 & 7) + u64{1}) << 30 |
                     ((id >> 3 & 7) + u64{1}) << 21 | ((id & 7) + u64{1}) << 12);
}

inline constexpr unsigned pcids = 8;

/// One walk, of the tables as they are or with older values in it.
struct Path {
    u64 table[5] = {};   ///< physical address of the table at the level
    u64 entry[5] = {};   ///< value at the level
    bool old[5] = {};    ///< not the current value
    unsigned lowest = 4; ///< level of the last entry read
    bool complete = false;
    bool current = true; ///< no old value, and from the root in use
    u32 fault = 0;       ///< P and RSVD, if not complete
    Rights rights;
    u64 frame = 0; ///< physical address of the 4 KiB page
};

class Model {
public:
    Controls controls;
    unsigned width = 40; ///< MAXPHYADDR

    /// Takes memory as it is; nothing is cached.
    void start();

    // ---- memory
    [[nodiscard]] u64 word(unsigned frame, unsigned slot) const { return m_word[frame][slot]; }
    /// The word at a physical address, if it is known or is an entry that reads as empty.
    [[nodiscard]] u64 word_at(u64 pa) const;
    /// The guest has written `size` bytes at `pa`: what memory holds now is the new content.
    void stored(u64 pa, u64 size);
    /// The processor may set A, or A and D, in this entry: the difference is taken over. False if
    /// anything else has changed.
    /// The processor had set these bits before the access overwrote the entry.
    void presume(u64 pa, u64 bits);
    [[nodiscard]] bool take_accessed_dirty(u64 pa, bool may_dirty);
    /// Compares a whole frame with memory. Returns the first slot that differs, or 512.
    [[nodiscard]] unsigned first_difference(unsigned frame) const;

    // ---- context
    [[nodiscard]] unsigned root() const { return m_root; } ///< frame number
    [[nodiscard]] unsigned pcid() const { return m_pcid; }
    void load_root(unsigned frame, unsigned pcid, bool keep);

    // ---- invalidations
    void flush_everything();           ///< global translations too, all PCIDs
    void flush_all_but_global();       ///< all PCIDs
    void flush_context(unsigned pcid); ///< not global ones
    void flush_page(unsigned pcid, u64 va, bool global);
    void page_fault(u64 va) { flush_page(m_pcid, va, true); }
    /// Whether so many values are remembered that everything should be flushed.
    [[nodiscard]] bool crowded() const { return m_edit_count > max_edits - 1200; }

    // ---- walks
    [[nodiscard]] Path walk(u64 va) const { return walk_from(m_root, va); }
    /// Calls visit(const Path&) for older walks until it returns true; says whether it did.
    /// @param wide also those that come from other roots: global ones, and those of roots that were
    /// loaded under the same PCID.
    template <typename Visit>
    [[nodiscard]] bool older(u64 va, bool wide, Visit visit) const;
    [[nodiscard]] u32 now() const { return m_now; }

private:
    static constexpr unsigned max_edits = 16384, max_contexts = 512;
    struct Edit {
        u64 before;
        u32 time;
        int previous; ///< index of the frame's edit before, or -1
        u16 slot;
    };
    struct Context {
        u32 time;
        u16 root, pcid;
    };
    struct Search {
        u64 va;
        u32 since, since_2m, since_1g;
        unsigned left; ///< paths that may still be visited
        Path path;
    };

    [[nodiscard]] Path walk_from(unsigned root, u64 va) const;
    [[nodiscard]] static unsigned id_of(u64 va);
    [[nodiscard]] u32 last_flush(unsigned pcid, u64 va) const;
    template <typename Visit>
    bool descend(Search& search, unsigned level, u64 table, u32 from, u32 end, Visit& visit) const;
    template <typename Visit>
    bool search_from(unsigned root, bool current_root, u64 va, u32 since, Visit& visit) const;

    u64 m_word[frames][table_slots];
    int m_last_edit[frames];
    Edit m_edits[max_edits];
    unsigned m_edit_count = 0;
    Context m_contexts[max_contexts];
    unsigned m_context_count = 0;
    unsigned m_root = 0, m_pcid = 0;
    u32 m_now = 1;

    u32 m_flushed_everything = 0, m_flushed_all = 0;
    u32 m_flushed_context[pcids] = {};
    u32 m_flushed_page[pcids][address_count] = {};
    u32 m_flushed_2m[pcids][address_count / digits] = {};
    u32 m_flushed_1g[pcids][address_count / digits / digits] = {};
    u32 m_flushed_global[address_count] = {};
};

/// Where the whole region is mapped, supervisor, at an address that no history changes.
inline constexpr u64 alias_1g = u64{5} << 30, alias_2m = u64{6} << 30, alias_4k = u64{7} << 30;
inline u64* at_physical(u64 pa) {
    // SAFETY: only for addresses of the region.
    return reinterpret_cast<u64*>(alias_1g + (pa - region));
}

// ---------------------------------------------------------------- older walks

template <typename Visit>
bool Model::descend(Search& s, unsigned level, u64 table, u32 from, u32 end, Visit& visit) const {
    Path& path = s.path;
    const unsigned slot = index_of(s.va, level);
    const int frame = frame_number(table);
    path.table[level] = table;
    path.lowest = level;

    // Values of the entry, newest first: the current one since the last edit, each older one until
    // the edit after it.
    int edit = frame < 0 ? -1 : m_last_edit[frame];
    u64 value = word_at(table + 8 * slot);
    u32 until = ~u32{0};
    bool old = false;
    for (;;) {
        while (edit >= 0 && m_edits[edit].slot != slot)
            edit = m_edits[edit].previous;
        const u32 began = edit < 0 ? 0 : m_edits[edit].time;
        if (until <= from) return false; // too old, and so is the rest
        const u32 next_from = began > from ? began : from, next_end = until < end ? until : end;
        path.entry[level] = value;
        path.old[level] = old;
        const bool cachable = !old || (value & (bit_p | bit_a)) == (bit_p | bit_a);
        bool leaf = false, fault = false;
        if ((value & bit_p) == 0) {
            // Not cached, so an older value does not count.
            fault = true;
            path.fault = 0;
        } else if ((value & reserved_bits(value, level, controls, width)) != 0) {
            fault = true;
            path.fault = error_p | error_rsvd;
        } else {
            leaf = is_leaf(value, level);
        }
        const Rights above = path.rights;
        if (fault ? !old : cachable) {
            if (fault || leaf) {
                path.complete = leaf;
                const u32 covered = level == 1 ? 0 : level == 2 ? s.since_2m : s.since_1g;
                if (leaf) {
                    path.rights.w = above.w && (value & bit_w) != 0;
                    path.rights.u = above.u && (value & bit_u) != 0;
                    path.rights.x = above.x && (value & bit_xd) == 0;
                    path.frame = (value & address_bits & ~(span_of(level) - 1)) |
                                 (s.va & (span_of(level) - 1) & ~(page_size - 1));
                }
                if (fault || next_end > covered) {
                    if (s.left-- == 0) return true; // too many to tell: anything goes
                    if (visit(const_cast<const Path&>(path))) return true;
                }
            } else {
                path.rights.w = above.w && (value & bit_w) != 0;
                path.rights.u = above.u && (value & bit_u) != 0;
                path.rights.x = above.x && (value & bit_xd) == 0;
                const bool was_current = path.current;
                path.current = was_current && !old;
                if (descend(s, level - 1, value & address_bits, next_from, next_end, visit))
                    return true;
                path.current = was_current;
                path.lowest = level;
            }
            path.rights = above;
        }
        if (edit < 0) return false;
        until = began;
        value = m_edits[edit].before;
        old = true;
        edit = m_edits[edit].previous;
    }
}

template <typename Visit>
bool Model::search_from(unsigned root, bool current_root, u64 va, u32 since, Visit& visit) const {
    const unsigned id = id_of(va);
    Search s;
    s.va = va;
    s.since = since;
    s.since_2m = m_flushed_2m[m_pcid][id / digits];
    s.since_1g = m_flushed_1g[m_pcid][id / digits / digits];
    s.left = 512;
    s.path.current = current_root;
    return descend(s, 4, frame_address(root), since, ~u32{0}, visit);
}

template <typename Visit>
bool Model::older(u64 va, bool wide, Visit visit) const {
    const u32 since = last_flush(m_pcid, va);
    if (!wide) return search_from(m_root, true, va, since, visit);
    const u32 flushed = m_flushed_global[id_of(va)];
    const u32 since_global = flushed > m_flushed_everything ? flushed : m_flushed_everything;
    for (unsigned i = 0; i < m_context_count; ++i) {
        const Context& c = m_contexts[i];
        const u32 end = i + 1 < m_context_count ? m_contexts[i + 1].time : m_now;
        if (c.pcid == m_pcid && end > since && search_from(c.root, false, va, since, visit))
            return true;
        if (!controls.pge || end <= since_global) continue;
        const auto global_only = [&](const Path& p) {
            return p.complete && (p.entry[p.lowest] & bit_g) != 0 && visit(p);
        };
        if (search_from(c.root, false, va, since_global, global_only)) return true;
    }
    return false;
}

} // namespace histories
