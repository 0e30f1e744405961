// SPDX-License-Identifier: Apache-2.0
/// @file History: how tables are made, changed and reused.
#include "history.h"

namespace histories {

namespace {
/// Frames below this number are preferred for tables, those from it for data. Any may be either.
constexpr unsigned table_frames = 48;
constexpr u64 table_rights = bit_p | bit_w | bit_u;
} // namespace

u64 History::table_frame() {
    if (calm()) // one that is not in use, if possible: its entries are not those of a table
        for (unsigned tries = 0; tries < 8; ++tries) {
            const unsigned n = static_cast<unsigned>(m_random.below(frames));
            u64 present = 0;
            for (unsigned s = 1; s <= digits; ++s)
                present += m_model.word(n, s) & bit_p;
            if (present == 0 && !m_is_root[n]) return frame_address(n);
        }
    return frame_address(static_cast<unsigned>(m_random.one_in(12) ? m_random.below(frames)
                                                                   : m_random.below(table_frames)));
}

u64 History::random_leaf() {
    u64 v = frame_address(static_cast<unsigned>(
        m_random.one_in(4) ? m_random.below(table_frames)
                           : table_frames + m_random.below(frames - table_frames)));
    v |= bit_p;
    if (!m_random.one_in(5)) v |= bit_w;
    if (!m_random.one_in(5)) v |= bit_u;
    if (m_random.one_in(2)) v |= bit_a;
    if (m_random.one_in(2)) v |= bit_d;
    if (m_random.one_in(6)) v |= bit_g;
    if (m_random.one_in(12)) v |= bit_xd;
    if (m_random.one_in(16)) v |= u64{1} << 60; // for software
    if (m_random.one_in(100)) v = (v & ~address_bits) | hole | bit_ps;
    return v;
}

u64 History::random_large(unsigned level) {
    u64 v = (random_leaf() & ~address_bits) | bit_ps;
    if (level == 2)
        v |= region + (1 + m_random.below(2)) * span_of(2);
    else
        v |= m_random.one_in(8) ? hole : region;
    if (m_random.one_in(12)) v |= u64{1} << (13 + m_random.below(8)); // reserved
    if (m_random.one_in(20)) v |= u64{1} << 12;                       // PAT
    return v;
}

u64 History::random_table() {
    u64 v = table_frame() | table_rights;
    if (m_random.one_in(16)) v &= ~bit_w;
    if (m_random.one_in(16)) v &= ~bit_u;
    if (m_random.one_in(24)) v |= bit_xd;
    if (m_random.one_in(2)) v |= bit_a;
    if (m_random.one_in(4)) v |= bit_d; // ignored
    if (m_random.one_in(8)) v |= bit_g; // ignored
    return v;
}

/// A value for an entry of unknown level, often a small change of what is there.
u64 History::random_word(u64 old) {
    switch (m_random.below(16)) {
    case 0: return 0;
    case 1: return old ^ bit_p;
    case 2: return old ^ bit_w;
    case 3: return old ^ bit_u;
    case 4: return old & ~bit_a;
    case 5: return old & ~bit_d;
    case 6: return old ^ bit_xd;
    case 7: return old ^ bit_g;
    case 8: return old ^ bit_ps;
    case 9: return old | u64{1} << (m_model.width + m_random.below(52 - m_model.width));
    case 10: return random_large(2 + static_cast<unsigned>(m_random.below(2)));
    case 11: return code_word(static_cast<u32>(m_random.next()));
    case 12:
    case 13: return random_table();
    default: return random_leaf();
    }
}

/// Whether an entry of this value, at any level, leads nowhere but to the memory under test.
bool History::acceptable(u64 word) const {
    if ((word & bit_p) == 0) return true;
    const u64 address = word & address_bits;
    if (address >> m_model.width != 0) return true; // reserved
    if (in_region(address)) return true;
    return address >= hole && address < hole + (u64{1} << 20) && (word & bit_ps) != 0;
}

/// Whether these bytes may be put there: known memory, no root's own mappings, acceptable entries.
bool History::may_write(u64 pa, const u8* bytes, u64 size) const {
    for (u64 at = pa & ~u64{7}; at < pa + size; at += 8) {
        const int frame = frame_number(at);
        if (frame < 0) return false;
        const unsigned slot = static_cast<unsigned>(at % page_size / 8);
        if (slot == 0 && m_is_root[frame]) return false;
        u64 word = m_model.word(static_cast<unsigned>(frame), slot);
        for (unsigned i = 0; i < 8; ++i)
            if (at + i >= pa && at + i < pa + size)
                word = (word & ~(u64{0xff} << 8 * i)) | u64{bytes[at + i - pa]} << 8 * i;
        if (!acceptable(word)) return false;
    }
    return true;
}

/// Writes by one of the fixed mappings of the region, with an instruction that suits.
void History::write_physical(u64 pa, const u8* bytes, u64 size) {
    for (u64 at = pa & ~u64{7}; at < pa + size; at += 8) {
        const unsigned frame = static_cast<unsigned>(frame_number(at));
        if (*at_physical(at) != m_model.word(frame, static_cast<unsigned>(at % page_size / 8))) {
            remember("entry", at, *at_physical(at),
                     m_model.word(frame, static_cast<unsigned>(at % page_size / 8)));
            fail("memory has changed though nobody wrote it");
        }
    }
    const u64 aliases[] = {alias_1g, alias_2m, alias_4k};
    const u64 va = aliases[m_random.below(3)] + (pa - region);
    const Form* form = nullptr;
    for (unsigned tries = 0;; ++tries) {
        form = &write_forms[m_random.below(write_form_count)];
        const bool fits = form->size == 0 || (form->size == size && va % form->alignment == 0);
        if (fits && !form->user_only && (!form->needs_avx || has_avx()) &&
            (form->size != 0 || tries > 8))
            break;
    }
    Probe probe;
    probe.address = va;
    probe.input = reinterpret_cast<u64>(bytes);
    probe.size = size;
    probe.routine = reinterpret_cast<u64>(form->routine);
    make_access(probe);
    m_form = form->name;
    if (probe.vector != 0) fail("a write through a fixed mapping faulted");
    const u8* now = reinterpret_cast<const u8*>(alias_1g + (pa - region));
    for (u64 i = 0; i < size; ++i)
        if (now[i] != bytes[i]) fail("a write through a fixed mapping is not read back");
    m_model.stored(pa, size);
    ++m_counts.edits;
}

void History::set_entry(u64 pa, u64 value) {
    const u8* bytes = reinterpret_cast<const u8*>(&value);
    if (!may_write(pa, bytes, 8)) return;
    remember("set entry", pa, value);
    switch (m_random.below(12)) {
    case 0: // two halves
        if (may_write(pa + 4, bytes + 4, 4)) {
            write_physical(pa + 4, bytes + 4, 4);
            write_physical(pa, bytes, 4);
            return;
        }
        break;
    case 1: { // as few bytes as it takes
        const u64 old = *at_physical(pa);
        u64 first = 0, last = 7;
        while (first < 7 && ((old ^ value) >> 8 * first & 0xff) == 0)
            ++first;
        while (last > first && ((old ^ value) >> 8 * last & 0xff) == 0)
            --last;
        write_physical(pa + first, bytes + first, last - first + 1);
        return;
    }
    default: break;
    }
    write_physical(pa, bytes, 8);
}

/// The tables that a history starts from.
void History::build() {
    for (unsigned n = 0; n < frames; ++n) {
        u64* frame = at_physical(frame_address(n));
        for (unsigned s = 0; s < table_slots; ++s)
            frame[s] = 0;
        m_is_root[n] = n < 3;
    }
    for (u64 n = 0; n < region_frames; ++n)
        at_physical(region + n * page_size)[home_slot] =
            code_word(static_cast<u32>((region + n * page_size) / page_size));
    for (unsigned n = 0; n < frames; ++n) {
        at_physical(frame_address(n))[0] = crossing_tail(n);
        at_physical(frame_address(n))[511] = crossing_head(n + 0x1000);
    }
    const auto put = [](u64 frame, u64 slot, u64 value) {
        at_physical(frame_address(static_cast<unsigned>(frame)))[slot] = value;
    };
    const auto table = [](u64 frame) {
        return frame_address(static_cast<unsigned>(frame)) | table_rights;
    };
    for (u64 r = 0; r < 3; ++r) {
        put(r, 0, fixed_root_entry());
        put(r, self_index, table(r));
        const u64 base = 4 + 8 * r;
        for (u64 i = 0; i < 3; ++i)
            put(r, top_index[i], table(base + (i == 2 ? 0 : i)));
        put(r, 256, table(4)); // shared by all
        for (u64 i = 0; i < 2; ++i) {
            put(base + i, 1, table(base + 2 + i));
            put(base + i, 2, table(base + 2));
            if (has_huge_pages()) put(base + i, 3, region | table_rights | bit_ps);
            put(base + i, self_index, table(base + i));
            put(base + 2 + i, 1, table(base + 4 + i));
            put(base + 2 + i, 2, table(base + 6));
            put(base + 2 + i, 3, (region + span_of(2)) | table_rights | bit_ps);
            put(base + 2 + i, 4, (region + 2 * span_of(2)) | bit_p | bit_w | bit_ps | bit_g);
            for (u64 s = 1; s <= digits; ++s) {
                put(base + 4 + i, s, random_leaf());
                put(base + 6, s, random_leaf());
            }
        }
    }
    m_model.start();
}

/// Begins a calm period: two roots that share all they have, two tables below them, and nothing
/// else.
void History::build_calm() {
    const unsigned root = m_model.root();
    unsigned spare[3], count = 0;
    for (unsigned n = 0; n < frames; ++n) {
        u64* const frame = at_physical(frame_address(n));
        m_is_root[n] = n == root;
        if (n != root && count < 3) spare[count++] = n;
        for (unsigned s = 1; s < table_slots; ++s) {
            const bool code = s == home_slot || s == 511;
            if (frame[s] != 0 && !code) frame[s] = 0;
        }
        frame[home_slot] = code_word(static_cast<u32>(frame_address(n) / page_size));
        frame[511] = crossing_head(n + 0x1000);
        if (n != root) frame[0] = crossing_tail(n);
    }
    const unsigned other = spare[2];
    m_is_root[other] = true;
    at_physical(frame_address(other))[0] = fixed_root_entry();
    for (const unsigned r : {root, other})
        for (unsigned i = 0; i < 2; ++i)
            at_physical(frame_address(r))[top_index[i]] = frame_address(spare[i]) | table_rights;
    m_model.start();
    flush_everything();
    for (u64& va : m_recent)
        va = fresh_address();
    m_focus = m_recent[0];
    remember("calm");
}

/// Makes an address map something, with all rights above the last level.
void History::repair(u64 va) {
    for (;;) {
        const Path path = m_model.walk(va);
        const unsigned level = path.lowest;
        if (path.complete && path.rights.u && path.rights.w) return;
        const u64 pa = path.table[level] + 8 * index_of(va, level);
        u64 value = level == 1 ? random_leaf() | bit_w | bit_u : table_frame() | table_rights;
        if ((level == 2 || level == 3) && m_random.one_in(6)) value = random_large(level) | bit_u;
        const u8* bytes = reinterpret_cast<const u8*>(&value);
        if (path.complete || !may_write(pa, bytes, 8)) return;
        set_entry(pa, value);
        if (level == 1 || is_leaf(value, level)) break;
    }
    if (m_random.one_in(2)) flush(va);
}

/// Changes one entry of the walk of an address, as an operating system would or would not.
void History::edit_walk() {
    const u64 va = random_address();
    const Path path = m_model.walk(va);
    if (!path.complete && !m_random.one_in(3)) return repair(va);
    const unsigned level =
        m_random.one_in(2) ? path.lowest
                           : path.lowest + static_cast<unsigned>(m_random.below(5 - path.lowest));
    if (frame_number(path.table[level]) < 0) return;
    const u64 pa = path.table[level] + 8 * index_of(va, level), old = path.entry[level];
    u64 value = 0;
    switch (m_random.below(level == path.lowest && !path.complete ? 4 : 16)) {
    case 0:
    case 1:
    case 2: // map something
        value = level == 1 ? random_leaf() : random_table();
        if ((level == 2 || level == 3) && m_random.one_in(3)) value = random_large(level);
        break;
    case 3: value = random_word(old); break;
    case 4: value = m_random.one_in(2) ? 0 : old & ~bit_p; break;
    case 5: value = old ^ bit_w; break;
    case 6: value = old ^ bit_u; break;
    case 7: value = old ^ bit_xd; break;
    case 8: value = old & ~bit_a; break;
    case 9: value = old & ~bit_d; break;
    case 10: value = old & ~(bit_a | bit_d); break;
    case 11: value = old | u64{1} << (m_model.width + m_random.below(52 - m_model.width)); break;
    case 12: value = path.table[level] | table_rights; break; // the table itself
    case 13:                                                  // a table or frame of another walk
        value = m_model.walk(random_address()).entry[level];
        break;
    case 14: value = frame_address(m_model.root()) | table_rights; break;
    default: value = level == 1 ? random_leaf() : random_table(); break;
    }
    set_entry(pa, value);
    if (m_random.one_in(2)) flush(va);
    if (m_random.one_in(2)) m_recent[m_random.below(16)] = va;
}

/// What an operating system does to one page: maps, unmaps, protects, ages it, and flushes it.
void History::edit_leaf() {
    const u64 va = random_address();
    const Path path = m_model.walk(va);
    if (!path.complete) return repair(va);
    const u64 pa = path.table[path.lowest] + 8 * index_of(va, path.lowest);
    if (frame_number(pa) < 0) return;
    u64 value = path.entry[path.lowest];
    switch (m_random.below(8)) {
    case 0: value = path.lowest == 1 ? random_leaf() : random_large(path.lowest); break;
    case 1: value &= ~bit_p; break;
    case 2: value ^= bit_w; break;
    case 3: value ^= bit_u; break;
    case 4: value &= ~bit_a; break;
    case 5: value &= ~bit_d; break;
    case 6: value ^= bit_g; break;
    default: value ^= bit_xd; break;
    }
    set_entry(pa, value);
    if (m_random.one_in(3)) return;
    ++m_counts.flushes;
    remember("INVLPG", va);
    invlpg(va);
    m_model.flush_page(m_model.pcid(), va, true);
}

/// Writes up to 64 bytes anywhere in the memory under test, with any alignment, also across frames.
void History::edit_raw() {
    const u64 frame = frame_address(static_cast<unsigned>(m_random.below(table_frames)));
    u64 offset = m_random.below(table_slots) * 8;
    if (m_random.one_in(2)) offset = m_random.below(16) * 8;
    if (m_random.one_in(5)) offset = page_size - 8 * (1 + m_random.below(3));
    u64 size = u64{1} << m_random.below(6);
    if (m_random.one_in(4)) size = 1 + m_random.below(64);
    u8 bytes[80];
    const u64 base = frame + offset;
    for (u64 at = 0; at < sizeof bytes; at += 8) {
        const u64 word = random_word(frame_number(base + at) < 0 ? 0 : *at_physical(base + at));
        __builtin_memcpy(bytes + at, &word, 8);
    }
    const u64 skew = m_random.one_in(2) ? 0 : m_random.below(8);
    if (!may_write(base + skew, bytes + skew, size)) return;
    remember("raw write", base + skew, size);
    write_physical(base + skew, bytes + skew, size);
}

/// A large page becomes a table of smaller ones, or the other way round.
void History::split_or_merge() {
    const u64 va = random_address();
    const Path path = m_model.walk(va);
    if (!path.complete) return;
    if (path.lowest > 1) {
        const u64 leaf = path.entry[path.lowest];
        const u64 table = table_frame();
        if (frame_number(path.table[path.lowest]) < 0) return;
        const unsigned below = path.lowest - 1;
        const u64 base = leaf & address_bits & ~(span_of(path.lowest) - 1);
        for (u64 s = 1; s <= digits; ++s) {
            u64 entry = (base + s * span_of(below)) |
                        (leaf & (bit_p | bit_w | bit_u | bit_a | bit_d | bit_g | bit_xd));
            if (below == 2) entry |= bit_ps;
            set_entry(table + 8 * s, entry);
        }
        set_entry(path.table[path.lowest] + 8 * index_of(va, path.lowest), table | table_rights);
    } else {
        const unsigned level = has_huge_pages() && m_random.one_in(3) ? 3 : 2;
        if (frame_number(path.table[level]) < 0) return;
        set_entry(path.table[level] + 8 * index_of(va, level), random_large(level));
    }
    if (!m_random.one_in(4)) flush(va);
}

/// A frame gets another use: data, a table at another level, a root; or a root ends.
void History::reuse() {
    const unsigned n = static_cast<unsigned>(m_random.below(table_frames));
    const u64 frame = frame_address(n);
    u64 words[8];
    switch (m_random.below(4)) {
    case 0: // wiped, or filled with data, eight words at a time
        if (n == m_model.root()) return;
        m_is_root[n] = false;
        for (u64 s = 0; s < table_slots; s += 8) {
            const bool copy = m_random.one_in(3);
            for (u64& w : words)
                w = copy ? code_word(static_cast<u32>(s)) : 0;
            if (s == home_slot / 8 * 8) {
                words[home_slot % 8] = code_word(static_cast<u32>(frame / page_size));
                words[7] = crossing_head(n + 0x1000);
            }
            if (s == 0) words[0] = crossing_tail(n);
            if (m_random.one_in(2) || s < 16)
                write_physical(frame + 8 * s, reinterpret_cast<const u8*>(words), sizeof words);
        }
        remember("wiped", frame);
        break;
    case 1: { // a copy of another table
        const unsigned from = static_cast<unsigned>(m_random.below(table_frames));
        if (n == m_model.root() || m_is_root[n]) return;
        for (u64 s = 0; s < 16; ++s)
            set_entry(frame + 8 * s, m_model.word(from, static_cast<unsigned>(s)));
        break;
    }
    case 2: { // a root: with the fixed mappings, which no history changes from then on
        if (m_is_root[n]) return;
        const u64 entry = fixed_root_entry();
        write_physical(frame, reinterpret_cast<const u8*>(&entry), 8);
        m_is_root[n] = true;
        remember("new root", frame);
        break;
    }
    default: {
        unsigned roots = 0;
        for (const bool is : m_is_root)
            roots += is;
        if (!m_is_root[n] || n == m_model.root() || roots < 4) return;
        m_is_root[n] = false;
        remember("root ended", frame);
        break;
    }
    }
}

} // namespace histories
