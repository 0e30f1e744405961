// SPDX-License-Identifier: Apache-2.0
#include "hostile_guest/program_maker.h"

#include "base/verify.h"
#include "hostile_guest/code_writer.h"
#include "platform/layout.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace gnomon::test::hostile {

namespace soft = processor::soft;

namespace {

/// Displacements around the end of a page or of anything else.
i64 nudge(Random& random) {
    constexpr i64 near[] = {0, 0, 0, -1, -2, -3, -4, -7, -8, -15, -16, -31, -32, -63, 1, 8, 64};
    return near[random.below(std::size(near))];
}

u64 page_of(u64 begin, u64 size, Random& random) {
    return begin + (random.below(size / page_size) << page_shift);
}

} // namespace

u64 hostile_address(Random& random) {
    const auto anywhere = [&](u64 begin, u64 size) { return begin + random.below(size); };
    const auto edge = [&](u64 page) { return page + static_cast<u64>(nudge(random)); };
    switch (random.below(24)) {
    case 0:
    case 1:
    case 2: return anywhere(place::user_data, place::data_size);
    case 3:
    case 4: return anywhere(place::kernel_data, place::data_size);
    case 5:
    case 6: return edge(page_of(place::user_data, place::data_size, random) + page_size);
    case 7:
    case 8:
    case 9: return edge(page_of(place::windows, place::window_count * page_size, random));
    case 10: return anywhere(place::windows, place::window_count * page_size);
    case 11: return edge(place::memory_size);
    case 12: return edge(place::low_edge + page_size);
    case 13: return edge(place::monitor_range + (random.below(32) << page_shift));
    case 14: return anywhere(place::monitor_range, 0x20000);
    case 15: return edge(0); // the end of the address space, and its beginning
    case 16: return anywhere(place::user_code, place::code_size);
    case 17: return anywhere(place::kernel_code, place::code_size);
    case 18: return anywhere(place::pml4, place::tables_end - place::pml4);
    case 19: return anywhere(place::gdt, 0x5000);
    case 20: return anywhere(place::control, sizeof(GuestControl));
    case 21:
        return random.pick({platform::layout::local_apic_base, platform::layout::io_apic_base}) +
               16 * random.below(64);
    case 22: return place::top + random.below(u64{2} << 30);
    default: return anywhere(place::scratch, place::scratch_end - place::scratch);
    }
}

u64 hostile_value(Random& random) {
    switch (random.below(10)) {
    case 0: return random.below(256);
    case 1: return ~random.below(256);
    case 2: return u64{1} << random.below(64);
    case 3: return random.next();
    case 4: return random.next() & 0xffffffff;
    default: return hostile_address(random);
    }
}

ProgramMaker::ProgramMaker() = default;

u64 ProgramMaker::kernel_address(Random& random) const {
    return m_kernel.empty() ? hostile_address(random) : m_kernel[random.below(m_kernel.size())];
}

Resumption ProgramMaker::resumption(u64 rip, bool ring3, Random& random) const {
    Resumption r;
    for (u64& g : r.gpr)
        g = hostile_value(random);
    r.rip = rip;
    r.cs = ring3 ? selector::user_code : selector::kernel_code;
    r.ss = ring3 ? selector::user_data : selector::kernel_data;
    r.rsp = ring3 ? place::user_data + place::data_size - 0x100 : place::kernel_stack;
    r.rflags = 0x2 | (random.percent(50) ? 0x200 : 0);
    if (random.percent(20)) r.rsp = hostile_address(random);
    if (random.percent(10)) { // TF, DF, IOPL, NT, RF, AC, ID and the arithmetic flags
        const u64 bits[] = {0x100, 0x400, 0x3000, 0x4000, 0x10000, 0x40000, 0x200000, 0xcd5};
        r.rflags |= bits[random.below(std::size(bits))];
    }
    if (random.percent(8)) {
        constexpr u64 code[] = {selector::user_code32, selector::user_code32, selector::code1,
                                selector::code16, selector::conforming};
        r.cs = code[random.below(std::size(code))];
        r.ss = r.cs == selector::code1 ? u64{selector::data1}
               : (r.cs & 3) == 3       ? u64{selector::user_data}
                                       : u64{selector::kernel_data};
        if (random.percent(10)) r.ss = random.below(0x10000);
    }
    if (random.percent(1)) r.rip = kernel_address(random);
    return r;
}

ProgramSummary ProgramMaker::make(GuestMemory& memory, const GuestImage& image, Random& random) {
    ProgramSummary summary;
    summary.ring3 = random.percent(50);
    std::vector<u8> code(place::code_size);
    std::vector<u64> starts;
    // A part of the guests are nothing but bytes of chance.
    const bool uniform = random.percent(5);
    const u64 base = summary.ring3 ? place::user_code : place::kernel_code;
    Writer w(code, base);
    if (random.percent(30)) w.skip(random.below(0x6f00)); // for page ends
    const unsigned pieces = 24 + static_cast<unsigned>(random.below(40));
    for (unsigned n = 0; n < pieces && w.room() > 0x200; ++n) {
        Piece kind = Piece::random_bytes;
        if (!uniform) {
            constexpr Piece mix[] = {
                Piece::random_bytes, Piece::real_code,    Piece::real_code,
                Piece::system,       Piece::system,       Piece::transfers,
                Piece::strings,      Piece::devices,      Piece::self_modification,
                Piece::page_tables,  Piece::monitor_pages};
            kind = random.percent(55) ? Piece::instructions : mix[random.below(std::size(mix))];
        }
        starts.push_back(w.address());
        piece(kind, w, random);
        ++summary.pieces[static_cast<unsigned>(kind)];
    }
    // Behind the last piece: back to one of them, by way of a handler.
    w.bytes({0x0f, 0x0b});
    const auto write = [&](u64 at, const void* from, u64 size) {
        VERIFY(memory.write(Gpa(at), std::span(static_cast<const std::byte*>(from), size)));
    };
    write(base, code.data(), w.used());
    // The other ring has some of the same code.
    const u64 other = summary.ring3 ? place::kernel_code : place::user_code;
    write(other, code.data(), w.used());
    u8 data[2 * 0x400];
    random.fill(data, sizeof data);
    write(place::user_data, data, sizeof data / 2);
    write(place::kernel_data, data + sizeof data / 2, sizeof data / 2);
    for (u64 n = 0; n < 16; ++n) { // addresses, for what loads them
        const u64 address = hostile_address(random);
        write(place::user_data + 0x100 * n, &address, sizeof address);
    }

    Resumption list[resumption_count + 1];
    for (unsigned n = 0; n < resumption_count; ++n) {
        // Each piece in its turn, then any.
        const bool switched = n != 0 && random.percent(15);
        const u64 start = starts[n < starts.size() ? n : random.below(starts.size())];
        const bool ring3 = summary.ring3 != switched;
        list[n] = resumption(switched ? start - base + other : start, ring3, random);
    }
    Resumption& end = list[resumption_count];
    end.rip = image.end_address();
    end.cs = selector::kernel_code;
    end.ss = selector::kernel_data;
    end.rsp = place::kernel_stack;
    end.rflags = 2;
    write(place::control + offsetof(GuestControl, resumption), list, sizeof list);
    return summary;
}

void ProgramMaker::piece(Piece kind, Writer& w, Random& random) {
    switch (kind) {
    case Piece::random_bytes:
        for (u64 n = 8 + random.below(40); n > 0; --n)
            w.bytes({random.byte()});
        return;
    case Piece::real_code: {
        if (m_real_code.size() < 256) return;
        std::vector<u8> bytes(16 + random.below(48));
        const u64 from = random.below(m_real_code.size() - bytes.size());
        std::copy_n(m_real_code.begin() + static_cast<std::ptrdiff_t>(from), bytes.size(),
                    bytes.begin());
        for (u64 n = random.below(4); n > 0; --n)
            bytes[random.below(bytes.size())] = random.byte();
        w.append(bytes);
        return;
    }
    case Piece::instructions: instructions(w, random); return;
    case Piece::system: system(w, random); return;
    case Piece::transfers: transfer(w, random); return;
    case Piece::strings: strings(w, random); return;
    case Piece::devices: devices(w, random); return;
    case Piece::self_modification: self_modification(w, random); return;
    case Piece::page_tables: page_tables(w, random); return;
    case Piece::monitor_pages: monitor_pages(w, random); return;
    }
}

// ---------------------------------------------------------------- instructions of the table

void ProgramMaker::instructions(Writer& w, Random& random) {
    for (u64 n = 4 + random.below(10), tries = 0; n > 0 && tries < 400; ++tries)
        if (instruction(w, random)) --n;
    if (random.percent(10)) { // a loop around some of it
        w.bytes({0xff, 0xc9, 0x75,
                 static_cast<u8>(-4 - static_cast<int>(random.below(20)))}); // dec ecx; jnz
    }
}

/// One encoding of chance; false, and nothing written, if the table refuses it.
bool ProgramMaker::instruction(Writer& w, Random& random) {
    u8 bytes[24] = {};
    unsigned size = 0;
    const auto put = [&](u8 b) { bytes[size++] = b; };
    if (random.percent(15)) put(random.pick<u8>({0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x64, 0x65, 0x2e}));
    if (random.percent(10)) put(random.pick<u8>({0x66, 0xf2, 0xf3}));
    switch (random.below(9)) {
    case 0:
    case 1:
    case 2:
        if (random.percent(60)) put(static_cast<u8>(0x40 | random.below(16)));
        put(random.byte());
        break;
    case 3:
    case 4:
        if (random.percent(60)) put(static_cast<u8>(0x40 | random.below(16)));
        put(0x0f);
        put(random.byte());
        break;
    case 5:
        if (random.percent(50)) put(static_cast<u8>(0x40 | random.below(16)));
        put(0x0f);
        put(random.percent(50) ? 0x38 : 0x3a);
        put(random.byte());
        break;
    case 6:
        size = 0;
        put(0xc5);
        put(random.byte());
        put(random.byte());
        break;
    case 7:
        size = 0;
        put(0x62);
        put(static_cast<u8>((random.byte() & 0xf0) | (1 + random.below(3))));
        put(random.byte() | 4);
        put(random.byte());
        put(random.byte());
        break;
    default:
        size = 0;
        put(0xc4);
        put(static_cast<u8>((random.byte() & 0xe0) | (1 + random.below(3))));
        put(random.byte());
        put(random.byte());
        break;
    }
    u8 modrm = random.byte();
    // Memory operands with a register alone, or a short displacement: registers hold addresses.
    if (random.percent(70))
        modrm = static_cast<u8>((modrm & 0x3f) | (random.percent(70) ? 0 : 0x40));
    put(modrm);
    while (size < 15)
        put(random.percent(50) ? random.byte() : 0);
    soft::DecodedInstruction d;
    constexpr soft::Mode mode{soft::Mode::code64 | soft::Mode::flat};
    if (m_decoder.decode(std::span(bytes, 15), mode, 0, m_features, d) != soft::DecodeStatus::ok)
        return false;
    if (d.disposition.action == soft::Action::refuse && !random.percent(2)) return false;
    // Branches of chance mostly lead out of the code: a few.
    const bool branch = d.disposition.action == soft::Action::jump ||
                        d.disposition.action == soft::Action::call ||
                        d.disposition.action == soft::Action::ret;
    if (branch && !random.percent(5)) return false;
    if (d.disposition.action == soft::Action::helper_end && !random.percent(15)) return false;
    w.append(std::span(bytes, d.compact.length));
    return true;
}

} // namespace gnomon::test::hostile
