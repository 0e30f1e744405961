// SPDX-License-Identifier: Apache-2.0
/// @file BlockEmitter: memory by way of the linear view (linear_view.h).
///
/// An access finds the delta of its region by its address, or, better, counts on a piece of one:
/// then nothing has to wait for the delta, and where the address is a register and a displacement,
/// the access names them itself. A group's accesses share the delta. Comparing takes the flags, so
/// where these are live nothing can be counted on.
#include "processor/soft/emission.h"

#include "base/verify.h"
#include "processor/soft/linear_view.h"

namespace gnomon::processor::soft {

namespace h = Xbyak::util;

/// The host register to which the displacement only is to be added for the linear address of the
/// operand, or none.
u8 BlockEmitter::view_base(const Instruction& i) const {
    const bool plain = i.address_size == 8 && i.index == none && i.base != none &&
                       i.base != Instruction::rip_register && i.segment != seg_fs &&
                       i.segment != seg_gs && fits_i32(i.displacement);
    return plain && host_number(i.base) != in_memory ? host_number(i.base) : none;
}

/// What leads from operand `i`, named by RIP, to its place once R14 is loaded with the page's data
/// slot, if it fits a displacement.
std::optional<int> BlockEmitter::data_displacement(i64 page_offset) const {
    if (!m_mode.has(Mode::viewed) || !has_base_slot() || !fits_i32(page_offset))
        return std::nullopt;
    return static_cast<int>(page_offset);
}

void BlockEmitter::load_data_base() {
    m.load(h::r14, m_page.base_slot + static_cast<u32>(data_slot_distance));
    m_high_before[1] = none;
}

/// The place of an access that belongs to no group, if it can be named without its address having
/// been computed: then R14 holds what it takes.
std::optional<BlockEmitter::ViewPlace> BlockEmitter::view_place(const Instruction& i) {
    if (!m_mode.has(Mode::viewed)) return std::nullopt;
    if (const auto offset = rip_offset(i))
        if (const auto displacement = data_displacement(*offset)) {
            load_data_base();
            return ViewPlace{HostMemory::address, none, *displacement};
        }
    const u8 base = view_base(i);
    if (base == none || m_flags_live) return std::nullopt;
    const int displacement = static_cast<int>(i.displacement);
    find_view_delta(base, displacement);
    return ViewPlace{HostMemory::based, base, displacement};
}

/// Of an operand that RIP names in 64 bits: its distance from the page's base.
std::optional<i64> BlockEmitter::rip_offset(const Instruction& i) {
    if (i.base != Instruction::rip_register || i.address_size != 8 || i.segment == seg_fs ||
        i.segment == seg_gs)
        return std::nullopt;
    return i.displacement + i.page_offset + i.length;
}

/// R14 = the delta of the region of host register `from` + displacement. R13 is kept as long as
/// the flags are not live, and where it is `from`, in any case.
void BlockEmitter::find_view_delta(u8 from, int displacement) {
    VERIFY(from != 14 && (from != 13 || displacement == 0));
    const Xbyak::Reg64 address(from);
    if (m_flags_live) {
        if (from != 13) m.lea(h::r13, m.ptr[address + displacement]);
        m_high_before = {};
        load_view_delta();
        return;
    }
    GuessSite& site = *m_cache.allocate<GuessSite>();
    const unsigned guess = from == host_number(rsp) ? 0 : m_cache.likely_guess;
    m.rorx(h::r14, address, view_piece_shift);
    m.cmp(h::r14d, m.ptr[m.in_frame(frame_guess_piece(guess))]);
    site.piece = m.here();
    site.jump = m.jump_if_later(Assembler::nz);
    m.load_frame(h::r14, frame_guess_delta(guess));
    site.delta = m.here();
    m_guess_paths.push_back({&site, from, displacement, m_high_before[0], m.here()});
    m_high_before[1] = none;
}

/// R14 = the delta of the region of R13.
void BlockEmitter::load_view_delta() {
    // A shift takes one cycle, PEXT three, and what loads pointers waits for them.
    m.mov(h::r14d, view_region_shift);
    m.shrx(h::r14, h::r13, h::r14);
    m.load_indexed(h::r14, static_cast<u32>(view_deltas_offset), h::r14);
}

/// The cold parts of what has counted on a region.
void BlockEmitter::finish_guesses() {
    for (const GuessPath& path : m_guess_paths) {
        GuessSite& site = *path.site;
        const auto find_address = [&] {
            if (path.from != 13) m.lea(h::r13, m.ptr[Xbyak::Reg64(path.from) + path.displacement]);
        };
        m.bind(site.jump);
        find_address();
        const u32 ask = m.here();
        m.mov(h::r14, reinterpret_cast<std::uintptr_t>(&site));
        m.jump_to(m_thunks.guess);
        site.general = m.here();
        find_address();
        m.mov(h::r14d, view_region_shift);
        m.shrx(h::r14, h::r13, h::r14);
        m.cmp(h::r14, view_region_count); // nothing here is to fault
        m.jump_if_to(Assembler::ae, ask);
        m.load_indexed(h::r14, static_cast<u32>(view_deltas_offset), h::r14);
        site.cont = m.here();
        if (path.held != none) m.load_frame(h::r13, frame_high(path.held));
        m.jump_to(path.cont);
    }
}

/// A grouped instruction whose group is found by its delta.
void BlockEmitter::operate_by_delta(const DecodedInstruction& d) {
    if (const u8 base = view_base(d.compact); base != none) {
        load_group(m_memory_access);
        operate(d, HostMemory::based, static_cast<int>(d.compact.displacement), base);
        return;
    }
    emit_address(d.compact, true);
    m_group_before = GroupedAccess::no_group;
    load_group(m_memory_access);
    m_group_in_r14 = GroupedAccess::no_group; // R14 may become the access's address
    operate(d, HostMemory::page_and_offset);
}

/// Where a grouped access to `from` + displacement goes.
Xbyak::RegExp BlockEmitter::grouped_place(const GroupedAccess& access, const Xbyak::Reg64& from,
                                          int displacement) {
    const int at = load_group(access);
    if (!is_by_delta(access)) return expression({HostMemory::address, none, at});
    return expression({HostMemory::based, static_cast<u8>(from.getIdx()), displacement});
}

Xbyak::RegExp BlockEmitter::expression(const ViewPlace& place) {
    Xbyak::RegExp e(h::r14);
    if (place.memory == HostMemory::based) e = e + Xbyak::RegExp(Xbyak::Reg64(place.base));
    return e + static_cast<std::size_t>(place.displacement);
}

/// Where the grouped memory operand is. R13 may be lost.
Xbyak::RegExp BlockEmitter::grouped_operand(const Instruction& i) {
    if (!is_by_delta(m_memory_access)) return grouped_place(m_memory_access, h::r14, 0);
    if (const u8 base = view_base(i); base != none)
        return grouped_place(m_memory_access, Xbyak::Reg64(base), static_cast<int>(i.displacement));
    emit_address(i, true);
    m_group_before = GroupedAccess::no_group;
    return grouped_place(m_memory_access, h::r13, 0);
}

} // namespace gnomon::processor::soft
