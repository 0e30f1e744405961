// SPDX-License-Identifier: Apache-2.0
/// @file History: accesses through the tables under test, and the judgement of what they did.
#include "history.h"

namespace histories {

namespace {
/// Entries cached from older values must have had A set at every level, and D for a write.
bool cached_flags(const Path& path, Access access) {
    for (unsigned level = 4; level >= path.lowest; --level) {
        if (!path.old[level]) continue;
        if ((path.entry[level] & bit_a) == 0) return false;
        if (access.write && level == path.lowest && (path.entry[level] & bit_d) == 0) return false;
    }
    return true;
}
u64 entry_address(const Path& path, unsigned level, u64 va) {
    return path.table[level] + 8 * index_of(va, level);
}
bool overlaps(u64 word, u64 begin, u64 size) { return word < begin + size && begin < word + 8; }
alignas(64) u8 g_in[128], g_out[128];
} // namespace

u64 History::random_address() {
    // One address at a time gets most of the attention: so edits, flushes and accesses meet.
    if (m_random.one_in(24)) m_focus = m_recent[m_random.below(16)];
    if (!m_random.one_in(3)) return m_focus;
    if (m_random.one_in(2)) return m_recent[m_random.below(16)];
    return m_recent[m_random.below(16)] = fresh_address();
}

u64 History::fresh_address() {
    unsigned id = static_cast<unsigned>(m_random.below(address_count));
    if (calm()) // two pages a table, two tables a level: few enough to stay mapped
        id &= 0b000000001011U | (m_random.one_in(4) ? 0b001001000000U : 0);
    // More often where the first tables are.
    if (!m_random.one_in(3)) {
        id = static_cast<unsigned>(m_random.below(digits));
        for (unsigned level = 1; level < 4; ++level)
            id |= static_cast<unsigned>(m_random.below(level == 3 ? 5 : 3)) << 3 * level;
        if (m_random.one_in(6)) id = (id & ~0xe00U) | self_top_digit << 9;
        if (m_random.one_in(8)) id = (id & ~0x1c0U) | self_digit << 6;
        if (m_random.one_in(8)) id = (id & ~0x38U) | self_digit << 3;
    }
    return address_of(id);
}

/// Where an access may go: by the tables as they are, or by older translations.
void History::collect(Piece& piece, Access access) const {
    piece.frame_count = 0;
    bool overflow = false;
    const auto add = [&](const Path& path) {
        if (!path.complete || !allows(path.rights, access, m_model.controls)) return false;
        for (unsigned i = 0; i < piece.frame_count; ++i)
            if (piece.frame[i] == path.frame) return false;
        if (piece.frame_count == sizeof piece.frame / sizeof piece.frame[0]) return overflow = true;
        piece.frame[piece.frame_count++] = path.frame;
        return false;
    };
    const bool too_many = m_model.older(piece.va, false, add) || m_model.older(piece.va, true, add);
    if (too_many) piece.frame_count = ~0U;
}

void History::access() {
    Access a;
    a.user = m_random.one_in(2);
    a.ac = m_random.one_in(2);
    const u64 kind = m_random.below(16);
    a.write = kind < 6;
    a.fetch = kind >= 13;
    const u64 va = random_address();
    if (!m_model.walk(va).complete && m_random.one_in(2)) repair(va);
    const Form* form = &fetch_form;
    if (!a.fetch) {
        const Form* forms = a.write ? write_forms : read_forms;
        form = &forms[m_random.below(a.write ? write_form_count : read_form_count)];
        if ((form->user_only && !a.user) || (form->needs_avx && !has_avx())) return;
    }
    const bool string = form->size == 0;
    u64 size = string ? 1 + m_random.below(64) : form->size;

    static constexpr u16 slots[] = {0,  1,   2,   3,   4,   5,   6,         7,
                                    16, 256, 257, 300, 509, 511, home_slot, home_slot};
    u64 offset = 8u * slots[m_random.below(sizeof slots / sizeof slots[0])];
    const bool crossing = a.fetch && m_random.one_in(5);
    if (a.fetch) {
        offset = crossing ? crossing_offset : 8 * home_slot;
        if (crossing) size = crossing_size;
    } else {
        if (m_random.one_in(3)) offset += m_random.below(8);
        if (m_random.one_in(10) && size > 1) offset = page_size - 1 - m_random.below(size - 1);
        offset -= offset % form->alignment;
    }
    Piece pieces[2];
    unsigned count = 1;
    pieces[0].va = va;
    pieces[0].size = size;
    if (offset + size > page_size) {
        // A string that crosses pages makes several accesses, each with translations of its own.
        if (index_of(va, 1) == digits || (string && a.write)) return;
        count = 2;
        pieces[0].size = page_size - offset;
        pieces[1].va = va + page_size;
        pieces[1].offset_in_access = pieces[0].size;
        pieces[1].size = size - pieces[0].size;
    }
    for (unsigned n = 0; n < count; ++n) {
        collect(pieces[n], a);
        if (pieces[n].frame_count == ~0U) {
            ++m_counts.skipped;
            return;
        }
    }

    // What to write: pieces of entries, such as do no harm wherever they may go, and differ from
    // what is there.
    if (a.write) {
        const u64 skew = offset % 8;
        for (u64 at = 0; at < sizeof g_in - 8; at += 8) {
            const Piece& p = at + 8 > pieces[0].size + skew && count == 2 ? pieces[1] : pieces[0];
            u64 old = 0;
            if (p.frame_count != 0)
                old = m_model.word_at(p.frame[0] + ((offset + at) % page_size & ~u64{7}));
            u64 word = random_word(old);
            if (offset / 8 * 8 + at == 8 * home_slot && m_random.one_in(2))
                word = code_word(static_cast<u32>(m_random.next()));
            for (u64 i = 0; i < 8; ++i)
                if (at + i >= skew) g_in[at + i - skew] = static_cast<u8>(word >> 8 * i);
        }
        for (unsigned n = 0; n < count; ++n) {
            const Piece& p = pieces[n];
            const u64 at = n == 0 ? offset : 0;
            for (unsigned i = 0; i < p.frame_count; ++i) {
                const u64 pa = p.frame[i] + at;
                if (p.frame[i] >= hole) continue;
                bool same = true;
                if (may_write(pa, g_in + p.offset_in_access, p.size)) {
                    const u8* now = reinterpret_cast<const u8*>(alias_1g + (pa - region));
                    // A and D may be set on the way, in an entry that is a candidate too.
                    for (u64 b = 0; b < p.size; ++b) {
                        const u64 flags = (pa + b) % 8 == 0 ? bit_a | bit_d : 0;
                        same = same && ((now[b] ^ g_in[p.offset_in_access + b]) & ~flags) == 0;
                    }
                }
                bool own = false; // a string may meet a changed translation half-way
                if (string) {
                    const Path path = m_model.walk(p.va);
                    for (unsigned level = 4; level >= path.lowest; --level)
                        own = own || overlaps(entry_address(path, level, p.va), pa, p.size);
                }
                if (same || own) {
                    ++m_counts.skipped;
                    return;
                }
            }
        }
    }
    // Only what is surely code is executed.
    if (a.fetch && !crossing)
        for (unsigned i = 0; i < pieces[0].frame_count; ++i)
            if (!is_code_word(m_model.word_at(pieces[0].frame[i] + offset))) return;
    if (crossing)
        for (unsigned n = 0; n < 2; ++n)
            for (unsigned i = 0; i < pieces[n].frame_count; ++i) {
                const u64 frame = pieces[n].frame[i];
                if (n == 0 && !is_crossing_head(m_model.word_at(frame + 8 * 511))) return;
                if (n == 1 && !is_crossing_tail(m_model.word_at(frame))) return;
            }

    Probe probe;
    probe.address = va + offset;
    probe.input = reinterpret_cast<u64>(g_in);
    probe.output = reinterpret_cast<u64>(g_out);
    probe.size = size;
    probe.routine = reinterpret_cast<u64>(form->routine);
    probe.user = a.user;
    probe.ac = a.ac;
    m_form = form->name;
    remember(a.write   ? "write"
             : a.fetch ? "fetch"
                       : "read",
             va + offset, size, u64{a.user} | u64{a.ac} << 1);
    make_access(probe);
    if (probe.vector == 14) remember("-> page fault", probe.cr2, probe.error);

    constexpr u64 page_fault = 14, end_of_user = 0x80;
    if (probe.vector == page_fault) {
        judge_fault(probe, a, pieces, count);
        // Nothing of a write that faults is done.
        if (a.write)
            for (unsigned n = 0; n < count; ++n)
                for (unsigned i = 0; i < pieces[n].frame_count; ++i) {
                    const int frame = frame_number(pieces[n].frame[i]);
                    if (frame >= 0) check_frame(static_cast<unsigned>(frame));
                }
        return;
    }
    if (probe.vector != (a.user ? end_of_user : 0)) {
        remember("event", probe.vector, probe.error, probe.cr2);
        fail("an access ended with an event that nothing explains");
    }
    pieces[0].va += offset;
    if (a.write) {
        ++m_counts.writes;
        judge_write(pieces, count, a, g_in);
    } else if (a.fetch) {
        ++m_counts.fetches;
        const u64 word = code_word(static_cast<u32>(probe.result));
        __builtin_memcpy(g_out, &word, 8);
        for (unsigned n = 0; n < count; ++n)
            judge_read(pieces[n], a, g_out);
    } else {
        ++m_counts.reads;
        for (unsigned n = 0; n < count; ++n)
            judge_read(pieces[n], a, g_out);
    }
}

void History::judge_fault(const Probe& probe, Access a, const Piece* pieces, unsigned count) {
    ++m_counts.faults;
    const Piece* piece = nullptr;
    for (unsigned n = 0; n < count; ++n)
        if (probe.cr2 >= pieces[n].va && probe.cr2 < pieces[n].va + page_size) piece = &pieces[n];
    // The first byte in the page; the last one when a string goes downwards.
    const u64 first = piece == pieces ? probe.address : piece == nullptr ? 0 : piece->va;
    const bool down =
        probe.routine == reinterpret_cast<u64>(write_forms[write_form_count - 1].routine);
    if (piece == nullptr || probe.cr2 != (down ? first + piece->size - 1 : first)) {
        remember("CR2", probe.cr2, probe.error);
        fail("CR2 is not the address of the access");
    }
    const auto faults = [&](const Path& path) {
        if (path.complete && allows(path.rights, a, m_model.controls)) return false;
        return error_code(path.complete ? error_p : path.fault, a, m_model.controls) == probe.error;
    };
    const u64 page = piece->va & ~(page_size - 1);
    if (!faults(m_model.walk(page))) {
        if (!m_model.older(page, false, faults) && !m_model.older(page, true, faults)) {
            remember("page fault", probe.cr2, probe.error);
            describe(page, a);
            fail("a page fault that nothing explains");
        }
        ++m_counts.spurious;
    }
    // A may have been set on the way; on pages before the one that failed, D too.
    for (unsigned n = 0; n < count; ++n) {
        const Path path = m_model.walk(pieces[n].va & ~(page_size - 1));
        const bool good = path.complete && allows(path.rights, a, m_model.controls);
        const u64 leaf = entry_address(path, path.lowest, pieces[n].va);
        for (unsigned level = 4; level >= path.lowest; --level) {
            const u64 pa = entry_address(path, level, pieces[n].va);
            (void)m_model.take_accessed_dirty(pa,
                                              a.write && good && &pieces[n] != piece && pa == leaf);
        }
    }
    m_model.page_fault(page);
}

void History::judge_read(const Piece& piece, Access a, const u8* bytes) {
    const u64 at = piece.va % page_size;
    const Path walk = m_model.walk(piece.va);
    const auto is_walked = [&](u64 pa) {
        for (unsigned level = 4; level >= walk.lowest; --level)
            if (entry_address(walk, level, piece.va) == pa) return true;
        return false;
    };
    for (unsigned i = 0; i < piece.frame_count; ++i) {
        bool same = true;
        if (piece.frame[i] < hole)
            for (u64 b = 0; same && b < piece.size; ++b) {
                const u64 pa = piece.frame[i] + at + b;
                const u64 word = m_model.word_at(pa & ~u64{7}),
                          got = bytes[piece.offset_in_access + b];
                same = got == (word >> 8 * (pa & 7) & 0xff);
                // It may read entries of its own walk, in which it has set A before.
                if (!same && (pa & 7) == 0 && (got ^ (word & 0xff)) == bit_a) same = is_walked(pa);
            }
        if (!same) continue;
        // The same content may be in several frames: the first that explains the flags will do.
        if (explain(piece, a, piece.frame[i], {})) return;
    }
    u64 got = 0;
    __builtin_memcpy(&got, bytes + piece.offset_in_access, piece.size < 8 ? piece.size : 8);
    remember("got", got, piece.va);
    describe(piece.va, a);
    fail("a read whose content, A and D no translation explains");
}

/// Where one piece of a write has gone.
u64 History::find_write(const Piece& piece, Access a, const u8* bytes) {
    const u64 at = piece.va % page_size;
    u64 target = 0;
    unsigned found = 0;
    for (unsigned i = 0; i < piece.frame_count; ++i) {
        if (piece.frame[i] >= hole) continue;
        const u8* now = reinterpret_cast<const u8*>(alias_1g + (piece.frame[i] + at - region));
        bool same = true;
        for (u64 b = 0; b < piece.size; ++b)
            same = same && now[b] == bytes[piece.offset_in_access + b];
        if (same) target = piece.frame[i], ++found;
    }
    for (unsigned i = 0; found == 0 && i < piece.frame_count; ++i)
        if (piece.frame[i] >= hole) target = hole, found = 1; // nobody can tell where
    if (found == 1) return target;
    remember("found", found, piece.va);
    describe(piece.va, a);
    fail(found == 0 ? "a write has not reached a frame that a translation explains"
                    : "one write has reached several frames");
}

void History::judge_write(const Piece* pieces, unsigned count, Access a, const u8* bytes) {
    Written written[2];
    u64 frame[2] = {};
    for (unsigned n = 0; n < count; ++n) {
        frame[n] = find_write(pieces[n], a, bytes);
        if (frame[n] < hole) written[n] = {frame[n] + pieces[n].va % page_size, pieces[n].size};
    }
    // The entry that names the page of one piece can be above the other's.
    for (unsigned n = 0; n < count; ++n) {
        const Path path = m_model.walk(pieces[n].va);
        m_dirtied[n] = entry_address(path, path.lowest, pieces[n].va);
    }
    if (count == 1) m_dirtied[1] = 0;
    for (unsigned n = 0; n < count; ++n)
        if (!explain(pieces[n], a, frame[n], written)) {
            remember("frame", frame[n], pieces[n].va);
            describe(pieces[n].va, a);
            fail("a write whose translation, A and D nothing explains");
        }
    for (const Written& w : written)
        if (w.size != 0) m_model.stored(w.pa, w.size);
}

/// Whether an access can have used `frame`: by which translation, and with A and D as it leaves
/// them. Entries that the access itself has overwritten are not looked at.
bool History::explain(const Piece& piece, Access a, u64 frame, const Written (&written)[2]) {
    const u64 page = piece.va & ~(page_size - 1);
    const auto overwritten = [&](u64 pa) {
        return overlaps(pa, written[0].pa, written[0].size) ||
               overlaps(pa, written[1].pa, written[1].size);
    };
    const auto explains = [&](const Path& path) {
        if (!path.complete || (frame < hole ? path.frame != frame : path.frame < hole) ||
            !allows(path.rights, a, m_model.controls) || !cached_flags(path, a))
            return false;
        // Flags must be there now in the entries that are as they were.
        for (unsigned level = 4; level >= path.lowest; --level) {
            const u64 pa = entry_address(path, level, page);
            if (path.old[level] || frame_number(pa) < 0) continue;
            if (overwritten(pa)) continue;
            const u64 wanted = bit_a | (a.write && level == path.lowest ? bit_d : 0);
            if ((*at_physical(pa) & wanted) != wanted) return false;
        }
        return true;
    };
    const auto take = [&](const Path& path) {
        if (!explains(path)) return false;
        for (unsigned level = 4; level >= path.lowest; --level) {
            const u64 pa = entry_address(path, level, page);
            if (path.old[level] || frame_number(pa) < 0) continue;
            // One entry can serve at several levels.
            const bool leaf = pa == entry_address(path, path.lowest, page) || pa == m_dirtied[0] ||
                              pa == m_dirtied[1];
            if (overwritten(pa)) {
                m_model.presume(pa, bit_a | (a.write && leaf ? bit_d : 0));
            } else if (!m_model.take_accessed_dirty(pa, a.write && leaf)) {
                remember("entry", pa, *at_physical(pa), path.entry[level]);
                fail("an entry has changed by more than A and D");
            }
        }
        return true;
    };
    if (take(m_model.walk(page))) return true;
    if (m_model.older(page, false, take)) {
        ++m_counts.stale;
        return true;
    }
    if (m_model.older(page, true, take)) {
        ++m_counts.wide;
        return true;
    }
    return false;
}

/// Non-canonical addresses: #GP(0), and flushes of them do nothing.
void History::access_bad_address() {
    Probe probe;
    probe.address = (m_random.next() >> 1 & 0x7fffffffffffffff) | u64{1} << 50;
    probe.input = reinterpret_cast<u64>(g_in);
    probe.output = reinterpret_cast<u64>(g_out);
    probe.size = 8;
    const bool write = m_random.one_in(2);
    probe.user = m_random.one_in(2);
    probe.routine =
        reinterpret_cast<u64>((write ? write_forms : read_forms)[m_random.below(4)].routine);
    remember("non-canonical", probe.address, write, probe.user);
    make_access(probe);
    constexpr u64 general_protection = 13;
    if (probe.vector != general_protection || probe.error != 0)
        fail("a non-canonical address does not raise #GP(0)");
    if (m_random.one_in(4)) invlpg(probe.address);
}

} // namespace histories
