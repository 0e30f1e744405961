// SPDX-License-Identifier: Apache-2.0
#include "model.h"

namespace histories {

namespace {
constexpr u32 later(u32 a, u32 b) { return a > b ? a : b; }
} // namespace

unsigned Model::id_of(u64 va) {
    const unsigned top = index_of(va, 4);
    unsigned digit = 0;
    while (digit < digits - 1 && top_index[digit] != top)
        ++digit;
    return digit << 9 | ((index_of(va, 3) - 1) & 7) << 6 | ((index_of(va, 2) - 1) & 7) << 3 |
           ((index_of(va, 1) - 1) & 7);
}

void Model::start() {
    for (unsigned f = 0; f < frames; ++f)
        for (unsigned s = 0; s < table_slots; ++s)
            m_word[f][s] = at_physical(frame_address(f))[s];
    flush_everything();
}

u64 Model::word_at(u64 pa) const {
    const int frame = frame_number(pa);
    if (frame >= 0) return m_word[frame][pa % page_size / 8];
    if (in_region(pa) && pa % page_size / 8 == home_slot)
        return code_word(static_cast<u32>(pa / page_size));
    return 0;
}

void Model::stored(u64 pa, u64 size) {
    ++m_now;
    for (u64 at = pa & ~u64{7}; at < pa + size; at += 8) {
        const unsigned frame = static_cast<unsigned>(frame_number(at));
        const unsigned slot = static_cast<unsigned>(at % page_size / 8);
        const u64 value = *at_physical(at);
        if (value == m_word[frame][slot]) continue;
        m_edits[m_edit_count] = {m_word[frame][slot], m_now, m_last_edit[frame],
                                 static_cast<u16>(slot)};
        m_last_edit[frame] = static_cast<int>(m_edit_count++);
        m_word[frame][slot] = value;
    }
}

bool Model::take_accessed_dirty(u64 pa, bool may_dirty) {
    const int frame = frame_number(pa);
    if (frame < 0) return true;
    u64& known = m_word[frame][pa % page_size / 8];
    const u64 value = *at_physical(pa);
    const u64 allowed = (known & bit_p) == 0 ? 0 : may_dirty ? bit_a | bit_d : bit_a;
    if ((known & ~value) != 0 || (value & ~known & ~allowed) != 0) return false;
    known = value;
    return true;
}

void Model::presume(u64 pa, u64 bits) { m_word[frame_number(pa)][pa % page_size / 8] |= bits; }

unsigned Model::first_difference(unsigned frame) const {
    const u64* memory = at_physical(frame_address(frame));
    unsigned slot = 0;
    while (slot < table_slots && memory[slot] == m_word[frame][slot])
        ++slot;
    return slot;
}

void Model::load_root(unsigned frame, unsigned pcid, bool keep) {
    if (!controls.pcide) pcid = 0, keep = false;
    if (!keep) flush_context(pcid);
    m_root = frame;
    m_pcid = pcid;
    m_contexts[m_context_count] = {++m_now, static_cast<u16>(frame), static_cast<u16>(pcid)};
    if (++m_context_count == max_contexts) {
        // The older half is forgotten: what it may have left behind would no longer be accepted.
        for (unsigned i = 0; i < max_contexts / 2; ++i)
            m_contexts[i] = m_contexts[i + max_contexts / 2];
        m_context_count = max_contexts / 2;
    }
}

void Model::flush_everything() {
    m_flushed_everything = ++m_now;
    // Nothing older can be cached.
    m_edit_count = 0;
    for (int& last : m_last_edit)
        last = -1;
    m_context_count = 0;
    m_contexts[m_context_count++] = {m_now, static_cast<u16>(m_root), static_cast<u16>(m_pcid)};
}
void Model::flush_all_but_global() { m_flushed_all = ++m_now; }
void Model::flush_context(unsigned pcid) { m_flushed_context[pcid] = ++m_now; }
void Model::flush_page(unsigned pcid, u64 va, bool global) {
    const unsigned id = id_of(va);
    // Of a large page all translations go.
    m_flushed_page[pcid][id] = m_flushed_2m[pcid][id / digits] =
        m_flushed_1g[pcid][id / digits / digits] = ++m_now;
    if (global) m_flushed_global[id] = m_now;
}

u32 Model::last_flush(unsigned pcid, u64 va) const {
    return later(later(m_flushed_everything, m_flushed_all),
                 later(m_flushed_context[pcid], m_flushed_page[pcid][id_of(va)]));
}

Path Model::walk_from(unsigned root, u64 va) const {
    Path path;
    u64 table = frame_address(root);
    for (unsigned level = 4;; --level) {
        const u64 value = word_at(table + 8 * index_of(va, level));
        path.table[level] = table;
        path.entry[level] = value;
        path.lowest = level;
        if ((value & bit_p) == 0) return path;
        if ((value & reserved_bits(value, level, controls, width)) != 0) {
            path.fault = error_p | error_rsvd;
            return path;
        }
        path.rights.w = path.rights.w && (value & bit_w) != 0;
        path.rights.u = path.rights.u && (value & bit_u) != 0;
        path.rights.x = path.rights.x && (value & bit_xd) == 0;
        if (is_leaf(value, level)) {
            path.complete = true;
            path.frame = (value & address_bits & ~(span_of(level) - 1)) |
                         (va & (span_of(level) - 1) & ~(page_size - 1));
            return path;
        }
        table = value & address_bits;
    }
}

} // namespace histories
