// SPDX-License-Identifier: Apache-2.0
#include "hostile_guest/guest_image.h"

#include "base/verify.h"
#include "platform/layout.h"

#include <cstddef>
#include <cstring>
#include <xbyak/xbyak.h>

namespace gnomon::test::hostile {

namespace {

namespace pte {
constexpr u64 p = 1, w = 2, u = 4, a = 1 << 5, d = 1 << 6, ps = 1 << 7, g = 1 << 8,
              nx = u64{1} << 63;
}
constexpr u64 used = pte::p | pte::w | pte::a | pte::d;

bool user_page(u64 gva) {
    return (gva >= place::user_code && gva < place::user_code + place::code_size) ||
           (gva >= place::user_data && gva < place::user_data + place::data_size) ||
           gva >= place::scratch;
}

} // namespace

GuestImage::GuestImage() : m_bytes(place::control) {
    make_tables();
    make_descriptors();
    make_handlers();
}

void GuestImage::put(u64 at, u64 value) {
    VERIFY(at + sizeof value <= m_bytes.size());
    std::memcpy(m_bytes.data() + at, &value, sizeof value);
}

/// Sets the entry for `gva` at `level`, making tables as needed.
void GuestImage::map(u64 gva, u64 entry, unsigned level) {
    u64 table = place::pml4;
    const auto slot = [&](unsigned n) { return table + 8 * ((gva >> (12 + 9 * (n - 1))) & 511); };
    for (unsigned n = 4; n > level; --n) {
        u64 next = 0;
        std::memcpy(&next, m_bytes.data() + slot(n), sizeof next);
        if ((next & pte::p) == 0) {
            VERIFY(m_next_table < place::tables_end);
            next = m_next_table | used | pte::u;
            m_next_table += page_size;
            put(slot(n), next);
        }
        table = next & 0x000f'ffff'ffff'f000;
    }
    put(slot(level), entry);
}

void GuestImage::make_tables() {
    for (u64 at = 0; at < place::small_pages_end; at += page_size)
        map(at, at | used | (user_page(at) ? pte::u : 0), 1);
    for (u64 at = place::small_pages_end; at < place::identity_end; at += u64{2} << 20)
        map(at, at | used | pte::u | pte::ps, 2);
    map(place::windows, 0, 1);
    m_window_table = m_next_table - page_size;
    // Around the devices: large pages, half of them for ring 3.
    for (u64 at = 0xfec0'0000; at < u64{1} << 32; at += u64{2} << 20)
        map(at, at | used | pte::ps | ((at >> 21 & 1) != 0 ? pte::u : 0), 2);
    map(u64{2} << 30, (u64{2} << 30) | used | pte::u | pte::ps, 3); // 1 GiB: RAM or not
    map(place::low_edge, place::scratch | used | pte::u, 1);
    map(place::top, 0, 2);
    const u64 top_directory = m_next_table - page_size;
    for (unsigned n = 0; n < 512; ++n)
        put(top_directory + 8 * n, used | pte::ps | pte::g);
    u64 pdpt = 0;
    std::memcpy(&pdpt, m_bytes.data() + place::pml4 + 8 * 511, sizeof pdpt);
    put((pdpt & ~page_offset_mask) + 8 * 511, top_directory | used); // the upper GiB as the lower
    put(place::pml4 + 8 * place::self_map_slot, place::pml4 | used);
}

void GuestImage::make_descriptors() {
    const auto descriptor = [&](u16 sel, u64 value) { put(place::gdt + (sel & ~7U), value); };
    descriptor(selector::kernel_code, 0x00af9b000000ffff);
    descriptor(selector::kernel_data, 0x00cf93000000ffff);
    descriptor(selector::user_code32, 0x00cffb000000ffff);
    descriptor(selector::user_data, 0x00cff3000000ffff);
    descriptor(selector::user_code, 0x00affb000000ffff);
    constexpr u64 tss_limit = 0x1fff;
    descriptor(selector::tss, u64{0x8b} << 40 | place::tss << 16 | tss_limit);
    descriptor(selector::kernel_code32, 0x00cf9b000000ffff);
    descriptor(selector::code1, 0x00afbb000000ffff);
    descriptor(selector::data1, 0x00cfb3000000ffff);
    const u64 gate = handler(257);
    descriptor(selector::call_gate, (gate & 0xffff) | u64{selector::kernel_code} << 16 |
                                        u64{0xec} << 40 | (gate >> 16 & 0xffff) << 48);
    descriptor(selector::code16, 0x000ffb000000ffff);
    descriptor(selector::expand_down, 0x0040f70000000fff);
    descriptor(selector::conforming, 0x00af9f000000ffff);
    descriptor(selector::ldt, u64{0x82} << 40 | place::ldt << 16 | 0xfff);

    put(place::tss + 4, place::kernel_stack);       // RSP0
    put(place::tss + 0x24, place::interrupt_stack); // IST1
    put(place::tss + 0x64, u64{0x68} << 16);        // I/O permission bit map
    for (unsigned v = 0; v < 256; ++v) {
        const u64 at = handler(v);
        // Gates for ring 3 where programs use them; an interrupt stack except for those.
        const bool open = v == 3 || v == 4 || v == 0x80 || v >= 0xf0;
        put(place::idt + 16 * v, (at & 0xffff) | u64{selector::kernel_code} << 16 |
                                     u64{open ? 0U : 1U} << 32 | u64{open ? 0xeeU : 0x8eU} << 40 |
                                     (at >> 16 & 0xffff) << 48);
    }
}

/// A handler forgets what it was called for: it counts, and takes the next Resumption.
void GuestImage::make_handlers() {
    using namespace Xbyak::util;
    class Maker : public Xbyak::CodeGenerator {
    public:
        explicit Maker(u8* to) : CodeGenerator(page_size * 4, to) {}
    };
    Maker m(m_bytes.data() + place::handlers);
    constexpr unsigned entries = 258;
    const u64 tail = place::handlers + 32 * entries;
    const auto relative = [&](u64 target, unsigned left) {
        m.dd(static_cast<u32>(target - (place::handlers + m.getSize() + 4 + left)));
    };
    for (unsigned v = 0; v < entries; ++v) {
        while (m.getSize() < 32 * v)
            m.nop();
        if (v < 256) {
            m.db(0x48), m.db(0xff), m.db(0x05); // inc qword [rip + d]
            relative(place::control + offsetof(GuestControl, vector_count) + 8 * v, 0);
        } else {
            m.nop();
        }
        m.db(0xe9);
        relative(tail, 0);
    }
    while (m.getSize() < 32 * entries)
        m.nop();
    m.db(0x48), m.db(0x8b), m.db(0x25); // mov rsp, [rip + d]
    relative(place::control + offsetof(GuestControl, cursor), 0);
    m.db(0x48), m.db(0x81), m.db(0x05); // add qword [rip + d], imm32
    relative(place::control + offsetof(GuestControl, cursor), 4);
    m.dd(sizeof(Resumption));
    for (const auto* r :
         {&r15, &r14, &r13, &r12, &r11, &r10, &r9, &r8, &rdi, &rsi, &rbp, &rbx, &rdx, &rcx, &rax})
        m.pop(*r);
    m.db(0x48), m.db(0xcf); // iretq
    static_assert(handler_instructions == 2 + 2 + 15 + 1);
    m_end = place::handlers + m.getSize();
    m.hlt();
    m.db(0xeb), m.db(0xfd); // and again, if something wakes it
}

void GuestImage::write(GuestMemory& memory, Random& random) const {
    const auto write = [&](u64 at, const void* from, u64 size) {
        // SAFETY: bytes as bytes.
        VERIFY(memory.write(Gpa(at), std::span(static_cast<const std::byte*>(from), size)));
    };
    write(0, m_bytes.data(), m_bytes.size());
    GuestControl control;
    control.cursor = place::control + offsetof(GuestControl, resumption);
    write(place::control, &control, offsetof(GuestControl, resumption));

    namespace layout = platform::layout;
    const u64 ram_end =
        memory.high_size() != 0 ? ram_high_base + memory.high_size() : memory.low_size();
    for (u64 n = 0; n < place::window_count; ++n) {
        u64 entry = used | pte::u;
        switch (random.below(20)) {
        case 0: entry |= layout::local_apic_base; break;
        case 1: entry |= layout::io_apic_base; break;
        case 2: entry |= 0xfed0'0000; break;                            // where an HPET would be
        case 3: entry |= 0xe000'0000 + (random.below(16) << 12); break; // ECAM, if there were any
        case 4: entry |= 0xc000'0000 + (random.below(1 << 18) << 12); break;
        case 5: entry |= memory.low_size() - page_size; break;
        case 6: entry |= memory.low_size(); break;
        case 7: entry |= ram_end - page_size; break;
        case 8: entry |= ram_end & 0xff'ffff'f000; break;
        case 9: entry = 0; break;
        case 10: entry |= u64{1} << (40 + random.below(12)); break; // a reserved bit
        case 11: entry |= 0xff'ffff'f000; break;
        case 12: entry |= place::user_code + (random.below(8) << 12); break;
        case 13: entry |= m_window_table; break;
        case 14: entry |= place::pml4 + (random.below(12) << 12); break;
        default: entry |= place::scratch + (random.below(32) << 12); break;
        }
        if (random.percent(15)) entry &= ~pte::w;
        if (random.percent(15)) entry &= ~pte::u;
        if (random.percent(10)) entry &= ~pte::a;
        if (random.percent(15)) entry &= ~pte::d;
        if (random.percent(10)) entry |= pte::nx;
        if (random.percent(10)) entry |= pte::g;
        write(m_window_table + 8 * n, &entry, sizeof entry);
    }
    if (random.percent(50)) { // memory of its own where the monitor's pages are
        constexpr u64 tables[] = {place::scratch_end - 0x3000, place::scratch_end - 0x2000,
                                  place::scratch_end - 0x1000};
        const u64 bits = used | (random.percent(50) ? pte::u : 0);
        const u64 root = tables[0] | bits, second = tables[1] | bits, third = tables[2] | bits;
        write(place::pml4 + 8 * 256, &root, 8);
        write(tables[0], &second, 8);
        write(tables[1], &third, 8);
        for (u64 n = 0; n < 32; ++n) {
            const u64 leaf = (place::scratch + (n << 12)) | bits;
            write(tables[2] + 8 * n, &leaf, 8);
        }
    }
    if (random.percent(50)) { // segments and an I/O bit map of chance
        u8 garbage[512];
        random.fill(garbage, sizeof garbage);
        write(place::gdt + 0x90, garbage, 256);
        write(place::ldt, garbage, sizeof garbage);
        write(place::tss + 0x68, garbage, sizeof garbage);
    }
}

} // namespace gnomon::test::hostile
