// SPDX-License-Identifier: Apache-2.0
#include "history.h"

namespace histories {

namespace {
constexpr u64 cr0_wp = u64{1} << 16, cr4_pge = u64{1} << 7, cr4_pcide = u64{1} << 17,
              cr4_smep = u64{1} << 20, cr4_smap = u64{1} << 21, cr3_keep = u64{1} << 63;

/// The step before which more of the fixed pages are used than a monitor has shadow tables for.
constexpr u64 pressure_step = 30000;

void set_bit(u64 (*read)(), void (*write)(u64), u64 bit, bool on) {
    const u64 value = read();
    write(on ? value | bit : value & ~bit);
}
} // namespace

void History::run(u64 steps) {
    m_model.controls = {};
    m_model.width = physical_width();
    write_cr3(read_cr3() & ~u64{0xfff});
    set_bit(read_cr4, write_cr4, cr4_pcide | cr4_smep | cr4_smap, false);
    set_bit(read_cr4, write_cr4, cr4_pge, true);
    set_bit(read_cr0, write_cr0, cr0_wp, true);
    set_nxe(true);
    build();
    for (u64& va : m_recent)
        va = address_of(static_cast<unsigned>(m_random.below(64)));
    m_focus = m_recent[0];
    m_model.load_root(0, 0, false);
    write_cr3(frame_address(0));
    flush_everything();
    for (m_step = 1; m_step <= steps; ++m_step) {
        if (m_step == pressure_step) use_many_pages();
        step();
    }
    flush_everything();
    for (unsigned n = 0; n < frames; ++n)
        check_frame(n);
}

void History::step() {
    if (m_model.crowded()) flush_everything();
    if (m_step % (2 * period) == period) build_calm();
    const u64 n = m_random.below(128);
    if (calm()) {
        if (n < 2)
            load_root();
        else if (n < 3)
            change_mode();
        else if (n < 4)
            flush(random_address());
        else if (n < 5)
            edit_walk();
        else if (n < 40)
            edit_leaf();
        else
            access();
    } else if (n < 4)
        load_root();
    else if (n < 6)
        change_mode();
    else if (n < 12)
        flush(random_address());
    else if (n < 17)
        edit_raw();
    else if (n < 20)
        split_or_merge();
    else if (n < 21)
        reuse();
    else if (n < 22)
        access_bad_address();
    else if (n < 44)
        edit_walk();
    else
        access();
    if (m_step % 16 == 0) check_frame(static_cast<unsigned>(m_step / 16 % frames));
}

void History::check_frame(unsigned frame) {
    const unsigned slot = m_model.first_difference(frame);
    if (slot == table_slots) return;
    const u64 pa = frame_address(frame) + 8 * slot;
    remember("word", pa, *at_physical(pa), m_model.word(frame, slot));
    fail("memory has changed though nobody wrote it");
}

void History::load_root() {
    unsigned frame = 0;
    do
        frame = static_cast<unsigned>(m_random.below(frames));
    while (!m_is_root[frame]);
    if (m_random.one_in(4)) frame = m_model.root();
    unsigned pcid = m_model.controls.pcide ? frame % 5 : 0;
    if (m_model.controls.pcide && m_random.one_in(16))
        pcid = static_cast<unsigned>(m_random.below(pcids));
    const bool keep = m_model.controls.pcide && m_random.one_in(2);
    remember("root", frame_address(frame), pcid, keep);
    write_cr3(frame_address(frame) | pcid | (keep ? cr3_keep : 0));
    m_model.load_root(frame, pcid, keep);
    ++m_counts.root_loads;
}

void History::flush_everything() {
    ++m_counts.flushes;
    if (has_invpcid() && m_random.one_in(2)) {
        remember("INVPCID 2");
        invpcid(2, 0, 0);
    } else {
        remember("CR4.PGE twice");
        const u64 cr4 = read_cr4();
        write_cr4(cr4 ^ cr4_pge);
        write_cr4(cr4);
    }
    m_model.flush_everything();
}

/// One of the ways to flush an address, or more.
void History::flush(u64 va) {
    ++m_counts.flushes;
    const bool pcide = m_model.controls.pcide;
    u64 way = m_random.below(12);
    if (!has_invpcid() && way >= 6 && way <= 9) way = 0;
    const unsigned other =
        pcide && m_random.one_in(2) ? static_cast<unsigned>(m_random.below(pcids)) : m_model.pcid();
    switch (way) {
    default:
        remember("INVLPG", va);
        invlpg(va + m_random.below(page_size));
        m_model.flush_page(m_model.pcid(), va, true);
        break;
    case 6:
        remember("INVPCID 0", other, va);
        invpcid(0, other, va);
        m_model.flush_page(other, va, false);
        break;
    case 7:
        remember("INVPCID 1", other);
        invpcid(1, other, 0);
        m_model.flush_context(other);
        break;
    case 8:
        remember("INVPCID 3");
        invpcid(3, 0, 0);
        m_model.flush_all_but_global();
        break;
    case 9:
        if (m_random.one_in(4)) flush_everything();
        break;
    case 10:
        remember("CR3 again");
        write_cr3(frame_address(m_model.root()) | m_model.pcid());
        m_model.load_root(m_model.root(), m_model.pcid(), false);
        break;
    case 11:
        if (!m_random.one_in(4)) break;
        flush_everything();
        break;
    }
}

void History::change_mode() {
    ++m_counts.mode_changes;
    Controls& c = m_model.controls;
    switch (m_random.below(8)) {
    case 0:
    case 1:
        c.wp = !c.wp;
        remember("CR0.WP", c.wp);
        set_bit(read_cr0, write_cr0, cr0_wp, c.wp);
        break;
    case 2:
        if (!has_smep()) break;
        c.smep = !c.smep;
        remember("CR4.SMEP", c.smep);
        set_bit(read_cr4, write_cr4, cr4_smep, c.smep);
        if (c.smep) m_model.flush_context(m_model.pcid());
        break;
    case 3:
        if (!has_smap()) break;
        c.smap = !c.smap && m_random.one_in(2);
        remember("CR4.SMAP", c.smap);
        set_bit(read_cr4, write_cr4, cr4_smap, c.smap);
        break;
    case 4:
        c.nxe = !c.nxe || m_random.one_in(2);
        remember("EFER.NXE", c.nxe);
        set_nxe(c.nxe);
        // What was cached under the other meaning of bit 63 is the guest's matter.
        flush_everything();
        break;
    case 5:
        c.pge = !c.pge;
        remember("CR4.PGE", c.pge);
        set_bit(read_cr4, write_cr4, cr4_pge, c.pge);
        m_model.flush_everything();
        break;
    default:
        if (!has_pcid()) break;
        c.pcide = !c.pcide;
        remember("CR4.PCIDE", c.pcide);
        if (c.pcide) { // wants PCID 0
            write_cr3(frame_address(m_model.root()));
            c.pcide = false;
            m_model.load_root(m_model.root(), 0, false);
            c.pcide = true;
        }
        set_bit(read_cr4, write_cr4, cr4_pcide, c.pcide);
        if (!c.pcide) {
            m_model.flush_everything();
            // CR3 keeps its low bits, which are no PCID now.
            m_model.load_root(m_model.root(), 0, true);
        }
        break;
    }
}

// ---------------------------------------------------------------- reports

void History::remember(const char* what, u64 a, u64 b, u64 c) {
    m_events[m_next_event++ % event_count] = {what, m_step, a, b, c};
}

void History::describe(u64 va, Access a) {
    va &= ~(page_size - 1);
    print("FAIL details of ");
    print_hexadecimal(va);
    print(a.user ? " CPL 3" : " CPL 0");
    print(a.write ? " write" : a.fetch ? " fetch" : " read");
    print(a.ac ? " AC" : "");
    const Controls& c = m_model.controls;
    print(c.wp ? " WP" : "");
    print(c.smep ? " SMEP" : "");
    print(c.smap ? " SMAP" : "");
    print(c.nxe ? " NXE" : "");
    print(c.pge ? " PGE" : "");
    print(c.pcide ? " PCIDE" : "");
    print("\n");
    unsigned shown = 0;
    const auto show = [&](const Path& path) {
        print("  expected ");
        for (unsigned level = 4; level >= path.lowest; --level) {
            print_hexadecimal(path.entry[level]);
            print(path.old[level] ? " (older) " : " ");
        }
        if (path.complete) {
            print("frame ");
            print_hexadecimal(path.frame);
            print(allows(path.rights, a, c) ? " allowed\n" : " not allowed\n");
        } else {
            print("fault ");
            print_hexadecimal(error_code(path.fault, a, c));
            print("\n");
        }
        return ++shown == 12;
    };
    (void)m_model.older(va, false, show);
}

void History::fail(const char* what) {
    print("FAIL ");
    print(what);
    print(": seed ");
    print_number(m_seed);
    print(" step ");
    print_number(m_step);
    print(", by ");
    print(m_form);
    print("\n");
    for (unsigned i = 0; i < event_count; ++i) {
        const Event& e = m_events[(m_next_event + i) % event_count];
        if (e.what == nullptr) continue;
        print("  step ");
        print_number(e.step);
        print(" ");
        print(e.what);
        for (const u64 v : {e.a, e.b, e.c}) {
            print(" ");
            print_hexadecimal(v);
        }
        print("\n");
    }
    power_off();
}

} // namespace histories
