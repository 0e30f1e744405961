// SPDX-License-Identifier: Apache-2.0
/// @file One set of the TLB: filling it and forgetting, at the cost of what was filled.
#pragma once

#include "processor/soft/cpu.h"

#include <array>

namespace gnomon::processor::soft {

/// What a fetch entry of the page at `gva` says where its entry table lies.
[[nodiscard]] inline u64 fetch_code(Gva gva, const u32* entries) {
    return reinterpret_cast<u64>(entries) - 4 * gva.page().value();
}

/// One set and what finds its entries quickly.
class TlbSetState {
public:
    /// @param window a base of GS by which translated code sees the set, and the base slots of the
    ///        pages that the set's entries are for.
    TlbSetState(Tlb& tlb, Hva window) : m_tlb(&tlb), m_window(window) {}
    /// The first thing to call: the pages hold zeros. Nothing if it was called before.
    void make_empty();

    void fill(Gva gva, Hva host, bool writable);
    /// @param entries the page's entry table, with its base slot before it; the slot gets `gva`.
    void fill_fetch(Gva gva, const u32* entries);
    /// Fills what `other`, a set of another context, has for code in the 2 MiB around `gva` and
    /// this one has not: all that is there, if its fetch entries are of the same mode.
    void borrow_fetches(const TlbSetState& other, Gva gva);
    /// Whether there may be fetch entries in the 2 MiB around `gva`, or at their places.
    [[nodiscard]] bool may_have_fetches_near(Gva gva) const {
        constexpr u64 groups = (u64{1} << (near_size / group_size)) - 1;
        return (m_fetch_groups >> (first_near(gva) / group_size) & groups) != 0;
    }
    void forget_all();
    void forget_page(Gva gva);
    void forget_fetches();
    void revoke_writes(Hva host_page);
    /// All fetch entries are of one mode: forgets those of another. @return whether it was another.
    bool set_fetch_mode(u32 mode) {
        if (mode == m_tlb->fetch_mode) return false;
        forget_fetches();
        m_tlb->fetch_mode = mode;
        return true;
    }
    [[nodiscard]] u32 fetch_mode() const { return static_cast<u32>(m_tlb->fetch_mode); }
    [[nodiscard]] const Tlb& tlb() const { return *m_tlb; }

private:
    /// A bit each says which groups of entries, of whole cache lines, may be in use.
    static constexpr unsigned group_size = tlb_size / 64;
    static_assert(group_size % (64 / sizeof(u64)) == 0);
    /// Entries for what one shadow table of level 1 maps.
    static constexpr unsigned near_size = 512;
    static_assert(near_size % group_size == 0 && near_size / group_size < 64);
    [[nodiscard]] static unsigned first_near(Gva gva) { return tlb_index(gva) & ~(near_size - 1); }
    static constexpr unsigned writer_slots = tlb_size;
    static constexpr u16 several = 0xffff;
    static_assert(tlb_size < several);
    static unsigned writer_slot(u64 host) {
        return static_cast<unsigned>((host >> page_shift) % writer_slots);
    }
    [[nodiscard]] bool writes_to_slot(unsigned i, unsigned slot) const {
        return m_tlb->write_tag[i] != tlb_no_tag(i) && writer_slot(m_tlb->host_page[i]) == slot;
    }
    void note_writer(unsigned i);
    /// The base slot at `place` behind GS.
    [[nodiscard]] u64& base_at(u32 place) const {
        // SAFETY: PageCode::base_slot names 8 bytes of the window.
        return *reinterpret_cast<u64*>(m_window + place);
    }
    [[nodiscard]] u64 view_delta(Gva gva) const {
        // SAFETY: a window shows view_delta_count of them there.
        return reinterpret_cast<const u64*>(m_window + view_deltas_offset)[view_region(gva)];
    }
    void forget_fetch(unsigned i);

    Tlb* m_tlb;
    Hva m_window;
    /// By fetch entry that is not empty: PageCode::base_slot. The page itself may be gone.
    std::array<u32, tlb_size> m_base_slots{};
    bool m_made = false;
    u64 m_data_groups = 0, m_fetch_groups = 0;
    /// By host page, so that a revocation need not look at all entries. An entry that may write to
    /// a page is found in the page's slot: its number + 1, or `several`. 0: there is none.
    std::array<u16, writer_slots> m_writers{};
};

} // namespace gnomon::processor::soft
