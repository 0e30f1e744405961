// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/tlb_set.h"

#include <bit>
#include <utility>

namespace gnomon::processor::soft {

namespace {

/// Calls `f` with the first entry of every group in `groups`.
template <class F>
void for_each_group(u64 groups, unsigned group_size, F f) {
    for (; groups != 0; groups &= groups - 1)
        f(static_cast<unsigned>(std::countr_zero(groups)) * group_size);
}

void clear_tags(u64 (&tags)[tlb_size], unsigned first, unsigned count) {
    for (unsigned i = first; i < first + count; ++i)
        tags[i] = tlb_no_tag(i);
}

} // namespace

void TlbSetState::make_empty() {
    if (std::exchange(m_made, true)) return;
    for (const unsigned i : {0U, tlb_size - 1}) {
        clear_tags(m_tlb->read_tag, i, 1);
        clear_tags(m_tlb->write_tag, i, 1);
        clear_tags(m_tlb->fetch_tag, i, 1);
    }
}

void TlbSetState::fill(Gva gva, Hva host, bool writable) {
    const unsigned i = tlb_index(gva);
    m_data_groups |= u64{1} << (i / group_size);
    m_tlb->read_tag[i] = tlb_tag(gva);
    m_tlb->write_tag[i] = writable ? tlb_tag(gva) : tlb_no_tag(i);
    m_tlb->host_page[i] = reinterpret_cast<u64>(host);
    if (writable) note_writer(i);
}

void TlbSetState::fill_fetch(Gva gva, const u32* entries) {
    const unsigned i = tlb_index(gva);
    forget_fetch(i);
    m_fetch_groups |= u64{1} << (i / group_size);
    m_tlb->fetch_tag[i] = tlb_tag(gva);
    m_tlb->fetch_code[i] = fetch_code(gva, entries);
    m_base_slots[i] = entries[-1];
    base_at(m_base_slots[i]) = gva.page().value();
    if (m_base_slots[i] >= base_slots_offset)
        base_at(static_cast<u32>(m_base_slots[i] + data_slot_distance)) =
            gva.page().value() + view_delta(gva);
}

void TlbSetState::borrow_fetches(const TlbSetState& other, Gva gva) {
    if (other.fetch_mode() != fetch_mode()) return;
    const unsigned first = first_near(gva);
    const u64 begin = gva.page().value() - u64{tlb_index(gva) - first} * page_size;
    for (unsigned n = 0; n < near_size; ++n) {
        const Gva page(begin + n * page_size);
        const Tlb& from = *other.m_tlb;
        if (from.fetch_tag[first + n] != tlb_tag(page) ||
            m_tlb->fetch_tag[first + n] == tlb_tag(page))
            continue;
        // SAFETY: fetch_code was filled with the entry table of a live PageCode.
        fill_fetch(page,
                   reinterpret_cast<const u32*>(from.fetch_code[first + n] + 4 * page.value()));
    }
}

/// No base slot names a page without a fetch entry. If the page has another, translated code that
/// wants it finds it and sets the slot again (Thunks::find).
void TlbSetState::forget_fetch(unsigned i) {
    u64& tag = m_tlb->fetch_tag[i];
    if (tag == tlb_no_tag(i)) return;
    u64& base = base_at(m_base_slots[i]);
    if (base == ~tag + 1) base = no_base;
    tag = tlb_no_tag(i);
}

void TlbSetState::forget_all() {
    for_each_group(m_data_groups, group_size, [this](unsigned first) {
        clear_tags(m_tlb->read_tag, first, group_size);
        clear_tags(m_tlb->write_tag, first, group_size);
    });
    if (m_data_groups != 0) m_writers = {};
    m_data_groups = 0;
    forget_fetches();
}

void TlbSetState::forget_fetches() {
    for_each_group(m_fetch_groups, group_size, [this](unsigned first) {
        for (unsigned i = first; i < first + group_size; ++i)
            forget_fetch(i);
    });
    m_fetch_groups = 0;
}

void TlbSetState::forget_page(Gva gva) {
    const unsigned i = tlb_index(gva);
    const u64 tag = tlb_tag(gva);
    if (m_tlb->read_tag[i] == tag) m_tlb->read_tag[i] = tlb_no_tag(i);
    if (m_tlb->write_tag[i] == tag) m_tlb->write_tag[i] = tlb_no_tag(i);
    if (m_tlb->fetch_tag[i] == tag) forget_fetch(i);
}

void TlbSetState::note_writer(unsigned i) {
    const unsigned slot = writer_slot(m_tlb->host_page[i]);
    u16& writer = m_writers[slot];
    const bool other =
        writer != 0 && writer != i + 1 && (writer == several || writes_to_slot(writer - 1U, slot));
    writer = other ? several : static_cast<u16>(i + 1);
}

void TlbSetState::revoke_writes(Hva host_page) {
    const u64 host = reinterpret_cast<u64>(host_page);
    const unsigned slot = writer_slot(host);
    const u16 writer = std::exchange(m_writers[slot], u16{0});
    const auto revoke = [this, host, slot](unsigned i) {
        if (!writes_to_slot(i, slot)) return;
        if (m_tlb->host_page[i] == host)
            m_tlb->write_tag[i] = tlb_no_tag(i);
        else
            note_writer(i);
    };
    if (writer == several)
        for_each_group(m_data_groups, group_size, [&revoke](unsigned first) {
            for (unsigned i = first; i < first + group_size; ++i)
                revoke(i);
        });
    else if (writer != 0)
        revoke(writer - 1U);
}

} // namespace gnomon::processor::soft
