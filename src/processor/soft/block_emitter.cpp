// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/emission.h"
#include "processor/soft/helper_kinds.h"

#include "base/verify.h"

#include <algorithm>
#include <utility>

namespace gnomon::processor::soft {

namespace h = Xbyak::util;

/// Where the block is entered from other pages, and by CALL.
void BlockEmitter::emit_far_entry() {
    m_entry = m.here();
    m.lea(h::r13, m.ptr[h::r13 - static_cast<int>(m_block_offset)]);
    if (has_base_slot()) m_base_jump = jump_unless_base(m_page);
    m.store(GNOMON_CPU(page_base), h::r13);
    m_called_entry = m.here();
    drop_stack_word();
}

void BlockEmitter::begin_block(u16 offset, bool flags_live, bool far_entry_cold) {
    m_block_offset = offset;
    m_far_entry_cold = far_entry_cold;
    m_begin = m.here();
    if (!far_entry_cold) emit_far_entry();
    m_polled_entry = m.here();
    m_poll_flags_kept = flags_live;
    if (flags_live) {
        m.mov(h::r14, h::rcx);
        m.load(h::rcx, GNOMON_CPU(poll));
        m.lea(h::rcx, m.ptr[h::rcx - 1]);
        m_poll_jump = m.jump_if_rcx_zero_later();
        m.mov(h::rcx, h::r14);
    } else {
        m.db(0x65), m.cmp(m.dword[Xbyak::RegExp(std::size_t{GNOMON_CPU(poll)})], 0);
        m_poll_jump = m.jump_if_later(Assembler::nz);
    }
    m_plain_entry = m.here();
}

/// A jump, to be bound, unless R13 is the base of `page`. Where it goes, R13 is negated (NOT), and
/// R14 is RCX. The flags are kept: whoever came here may have wanted another block, or none, that
/// shows them.
u32 BlockEmitter::jump_unless_base(const PageCode& page) {
    m.mov(h::r14, h::rcx);
    m.not_(h::r13);
    m.load(h::rcx, page.base_slot);
    // The difference, since ~x = -x - 1.
    u32 jump = 0;
    if (m_quick_loop) {
        m.lea(h::rcx, m.ptr[h::r13 + h::rcx + 2]);
        jump = m.jump_unless_rcx_one_later();
    } else {
        m.lea(h::rcx, m.ptr[h::r13 + h::rcx + 1]);
        const u32 same = m.jrcxz_later();
        jump = m.jump_later();
        m.bind_short(same);
    }
    m.not_(h::r13);
    m.mov(h::rcx, h::r14);
    return jump;
}

void BlockEmitter::load_page_base(const Xbyak::Reg64& to) {
    m.load(to, has_base_slot() ? m_page.base_slot : GNOMON_CPU(page_base));
}

void BlockEmitter::emit_straddle_check(const PageCode& second) {
    StraddleSite& site = *m_cache.allocate<StraddleSite>();
    site.page_offset = m_block_offset;
    site.page = &m_page;
    site.second = &second;
    load_page_base(h::r13);
    m.lea(h::r13, m.ptr[h::r13 + static_cast<int>(page_size)]);
    m_straddle_site = &site;
    m_straddle_jump = jump_unless_base(second);
    site.cont = m.here();
    m_plain_entry = m.here();
}

/// By LEA, since flags may be live; the scratch registers are dead between instructions.
void BlockEmitter::emit_count() {
    m.load(h::r13, GNOMON_CPU(statistics.instructions));
    m.lea(h::r13, m.ptr[h::r13 + 1]);
    m.store(GNOMON_CPU(statistics.instructions), h::r13);
    m_high_before[0] = none;
}

bool BlockEmitter::emit(const DecodedInstruction& d, bool flags_live) {
    const Instruction& i = d.compact;
    m_flags_live = flags_live;
    const i64 next = i64{i.page_offset} + i.length;
    if (refused_by_mode(d)) {
        go_to(next); // never reached, but every block ends in a jump
        return false;
    }
    switch (d.disposition.action) {
    case Action::refuse: emit_helper(i, raise_ud, false); break;
    case Action::pass: emit_pass(d); return true;
    case Action::nothing: keep_scratch(); return true;
    case Action::lea: emit_lea(d); return true;
    case Action::push: emit_push(d); return true;
    case Action::pop: emit_pop(d); return true;
    case Action::leave: emit_leave(d); return true;
    case Action::call: emit_call(d); return false;
    case Action::ret: emit_return(d); return false;
    case Action::jump: emit_jump(d); return false;
    case Action::jump_if:
        jump_if(i, branch_condition(d));
        keep_scratch();
        return true;
    case Action::loop: emit_loop(d); return false;
    case Action::helper:
        switch (emit_in_line(d)) {
        case InLine::no: emit_helper(i, d.disposition.helper, false); return true;
        case InLine::done: return true;
        case InLine::block_ends: return false;
        }
        return true;
    case Action::extended: emit_helper(i, d.disposition.helper, true); return true;
    case Action::helper_end: emit_helper(i, d.disposition.helper, false); break;
    case Action::bit_test:
        if (d.memory() != nullptr && d.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
            emit_helper(i, bit_test_memory, false);
        else
            emit_pass(d);
        return true;
    case Action::mov_or_segment: {
        for (unsigned n = 0; n < 2; ++n) {
            if (d.operands[n].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
            const bool destination = n == 0;
            switch (ZydisRegisterGetClass(d.operands[n].reg.value)) {
            case ZYDIS_REGCLASS_SEGMENT:
                if (destination || !emit_segment_read(d))
                    emit_helper(i, destination ? mov_to_segment : mov_from_segment, false);
                return true;
            case ZYDIS_REGCLASS_CONTROL:
                emit_helper(i, destination ? mov_to_control : mov_from_control, false);
                return true;
            case ZYDIS_REGCLASS_DEBUG:
                emit_helper(i, destination ? mov_to_debug : mov_from_debug, false);
                return true;
            default: break;
            }
        }
        if (d.z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && d.z.opcode >= 0xa0 && d.z.opcode <= 0xa3)
            emit_moffs(d);
        else
            emit_pass(d);
        return true;
    }
    }
    go_to(next);
    return false;
}

/// Emits the exception for an instruction whose state component is not enabled.
bool BlockEmitter::refused_by_mode(const DecodedInstruction& d) {
    if (d.disposition.action == Action::refuse) return false;
    u32 needed = 0;
    switch (d.disposition.feature) {
    case Feature::x87:
    case Feature::mmx: needed = Mode::fpu; break; // clang-format off
    case Feature::sse: case Feature::sse2: case Feature::sse3: case Feature::ssse3: case Feature::sse41: case Feature::sse42:
    case Feature::aes: case Feature::pclmulqdq: case Feature::sha: case Feature::gfni: needed = Mode::sse; break;
    case Feature::avx: case Feature::avx2: case Feature::fma: case Feature::f16c: case Feature::avx_aes:
    case Feature::avx_gfni: case Feature::vaes: case Feature::vpclmulqdq: needed = Mode::avx; break; // clang-format on
    default:
        if (FeatureSet::of_avx512().has(d.disposition.feature)) needed = Mode::avx512;
        break;
    }
    if (d.z.meta.isa_set == ZYDIS_ISA_SET_X87 || d.z.meta.isa_set == ZYDIS_ISA_SET_SSE3X87)
        needed = Mode::fpu;
    // These of the SSE sets touch no vector state, and CRC32 and POPCNT are integer instructions.
    if (d.z.mnemonic == ZYDIS_MNEMONIC_MOVNTI || d.z.mnemonic == ZYDIS_MNEMONIC_CRC32) needed = 0;
    if (needed == 0 || m_mode.has(needed)) return false;
    // CR0.EM makes x87 instructions raise #NM, and all others #UD.
    const bool x87 = needed == Mode::fpu && d.disposition.feature != Feature::mmx;
    emit_helper(d.compact, x87 || m_mode.has(Mode::task_switched) ? raise_nm : raise_ud, false);
    return true;
}

// ---------------------------------------------------------------- addresses and accesses

void BlockEmitter::load_guest(const Xbyak::Reg64& to, unsigned guest) {
    if (host_number(guest) == in_memory)
        m.load_frame(to, frame_high(guest));
    else
        m.mov(to, host_reg(guest));
}

void BlockEmitter::store_guest(unsigned guest, unsigned size, const Xbyak::Reg64& from) {
    const bool memory = host_number(guest) == in_memory;
    switch (size) {
    case 8:
        if (memory)
            m.store_frame(frame_high(guest), from);
        else
            m.mov(host_reg(guest), from);
        break;
    case 4:
        if (memory) {
            m.mov(from.cvt32(), from.cvt32());
            m.store_frame(frame_high(guest), from);
        } else {
            m.mov(host_reg(guest).cvt32(), from.cvt32());
        }
        break;
    default: // 2: the rest of the register stays
        if (memory)
            m.store_frame(frame_high(guest), from.cvt16());
        else
            m.mov(host_reg(guest).cvt16(), from.cvt16());
        break;
    }
}

void BlockEmitter::add_segment_base(unsigned segment) {
    const bool fs_gs = segment == seg_fs || segment == seg_gs;
    if (!fs_gs && m_mode.has(Mode::flat)) return;
    m.load(h::r14, segment_base_slot(segment));
    if (m_mode.has(Mode::code64))
        m.lea(h::r13, m.ptr[h::r13 + h::r14]);
    else
        m.lea(h::r13d, m.ptr[h::r13 + h::r14]);
}

/// R13 = linear address of the memory operand. Uses R14; keeps the flags.
void BlockEmitter::emit_address(const Instruction& i, bool with_segment, i64 extra) {
    const bool wide = i.address_size == 8;
    i64 displacement = i.displacement + extra;
    int simple = -1; // the host register that is the address
    if (i.base == Instruction::rip_register) {
        displacement += i64{i.page_offset} + i.length;
        load_page_base(h::r13);
        if (fits_i32(displacement)) {
            m.lea(h::r13, m.ptr[h::r13 + static_cast<int>(displacement)]);
        } else {
            m.mov(h::r14, static_cast<u64>(displacement));
            m.lea(h::r13, m.ptr[h::r13 + h::r14]);
        }
        if (!wide) m.mov(h::r13d, h::r13d);
    } else if (i.base == none && i.index == none) {
        if (wide)
            m.mov(h::r13, static_cast<u64>(displacement));
        else
            m.mov(h::r13d, static_cast<u32>(displacement) & (i.address_size == 2 ? 0xffff : ~0U));
    } else {
        // What a scratch register holds already is used there; what is loaded must not replace it.
        const u8 base_in = scratch_of(i.base), index_in = scratch_of(i.index);
        const auto place = [&](u8 guest, u8 in, const Xbyak::Reg64& scratch) {
            if (host_number(guest) != in_memory) return host_reg(guest);
            if (in != none) return Xbyak::Reg64(in);
            m.load_frame(scratch, frame_high(guest));
            return scratch;
        };
        Xbyak::RegExp expression;
        if (i.base != none) {
            const Xbyak::Reg64 base = place(i.base, base_in, index_in == 13 ? h::r14 : h::r13);
            simple = wide && i.index == none && displacement == 0 ? base.getIdx() : -1;
            expression = Xbyak::RegExp(base);
        }
        if (i.index != none) {
            const Xbyak::RegExp index(place(i.index, index_in, base_in == 14 ? h::r13 : h::r14),
                                      i.scale);
            expression = i.base != none ? expression + index : index;
        }
        const bool fits = fits_i32(displacement);
        if (fits) expression = expression + static_cast<std::size_t>(displacement);
        if (simple >= 0 && simple != h::r13.getIdx())
            m.mov(h::r13, Xbyak::Reg64(simple)); // for which no unit need wait
        else if (wide && simple < 0)
            m.lea(h::r13, m.ptr[expression]);
        else if (!wide)
            m.lea(h::r13d, m.ptr[expression]);
        if (!fits) {
            m.mov(h::r14, static_cast<u64>(displacement));
            if (wide)
                m.lea(h::r13, m.ptr[h::r13 + h::r14]);
            else
                m.lea(h::r13d, m.ptr[h::r13 + h::r14]);
        }
        if (i.address_size == 2) m.movzx(h::r13d, h::r13w);
    }
    m_high_before = {};
    if (with_segment) add_segment_base(i.segment);
}

void BlockEmitter::extract(const Xbyak::Reg64& to, const Xbyak::Reg64& from,
                           u32 LookUpMasks::*mask) {
    constexpr u32 length = 9; // VEX in three bytes, opcode, ModRM, displacement
    const u32 end = m.here() + length;
    // From the mask to the end of the instruction it is less than 2 GiB, either way.
    const auto distance = static_cast<i32>(m_thunks.masks.*mask - end);
    m.pext(to, from, m.ptr[h::rip + distance]);
    VERIFY(m.here() == end);
}

void BlockEmitter::tlb_index(const Xbyak::Reg64& to, const Xbyak::Reg64& from) {
    if (m_bmi2) {
        extract(to, from, &LookUpMasks::index);
    } else {
        m.mov(to, from);
        m.shr(to, page_shift);
        m.and_(to.cvt32(), tlb_size - 1);
    }
}

/// A jump, to be bound, unless RCX is an offset in a page, to which in_page_bias was added. RCX is
/// lost; the flags are kept.
u32 BlockEmitter::jump_unless_in_page() {
    extract(h::rcx, h::rcx, &LookUpMasks::page); // the bias' page if it is
    if (m_quick_loop) return m.jump_unless_rcx_one_later();
    m.lea(h::rcx, m.ptr[h::rcx - 1]);            // from less than 1 << 52
    extract(h::rcx, h::rcx, &LookUpMasks::sign); // 1 if it is, else 0
    return m.jump_if_rcx_zero_later();
}

/// Whether an access by way of `segment` could fail for the segment's or the alignment's sake.
bool BlockEmitter::is_checked(unsigned segment, bool write) const {
    switch (segment) {
    case seg_fs: return m_mode.has(Mode::checked_fs);
    case seg_gs: return m_mode.has(Mode::checked_gs);
    // Nothing can be written through CS, whatever it is.
    case seg_cs: return m_mode.has(Mode::checked) || (write && !m_mode.has(Mode::code64));
    default: return m_mode.has(Mode::checked);
    }
}

/// From R13 = linear address to R13 = page offset, R14 = host page; the slow path joins there. By
/// way of the view R13 stays, and R14 is the delta; what fails there leaves (Leave::host_fault).
AccessSite& BlockEmitter::begin_access(const Instruction& i, unsigned size, bool read, bool write,
                                       unsigned segment, bool by_tlb, MaskedElements masked) {
    VERIFY(size >= 1 && size <= 64);
    m_high_before = {};
    AccessSite& site = *m_cache.allocate<AccessSite>();
    site.page_offset = i.page_offset;
    site.length = i.length;
    site.size = static_cast<u8>(size);
    site.read = read;
    site.write = write;
    site.segment = static_cast<u8>(segment);
    site.masked = masked;
    site.set = m_mode.set();
    site.code64 = m_mode.has(Mode::code64);
    if (is_checked(segment, write)) {
        site.checked = true;
        jump_to_slow_access(site);
        site.cont = m.here();
        return site;
    }
    if (m_mode.has(Mode::viewed) && !by_tlb) {
        find_view_delta(13, 0);
        site.cont = m.here();
        return site;
    }
    const u32 tag =
        tlb_offset(site.set, write ? offsetof(Tlb, write_tag) : offsetof(Tlb, read_tag));
    const u32 miss = look_up(size, tag);
    m_slow_paths.push_back({&site, nullptr, miss, tag, m_flags_live});
    site.cont = m.here();
    return site;
}

void BlockEmitter::jump_to_slow_access(const AccessSite& site) {
    if (site.masked.mask != 0) { // C++ has general registers only
        m.db(0x65);
        m.kmovq(m.qword[Xbyak::RegExp(std::size_t{GNOMON_CPU(access_mask)})],
                Xbyak::Opmask(site.masked.mask));
    }
    m.mov(h::r14, reinterpret_cast<std::uintptr_t>(&site));
    m.jump_to(m_thunks.slow_access);
}

/// From R13 = linear address to R13 = page offset, R14 = host page if the page of the `size` bytes
/// has the tag; else takes the jump that is returned.
u32 BlockEmitter::look_up(unsigned size, u32 tag) {
    const u32 host = tlb_offset(m_mode.set(), offsetof(Tlb, host_page));
    u32 miss = 0;
    if (m_flags_live && m_bmi2) {
        // RCX stays in a register: by way of memory it would wait for each store in turn.
        m.mov(h::r14, h::rcx);
        tlb_index(h::rcx, h::r13);
        m.load_indexed(h::rcx, tag, h::rcx);
        m.lea(h::rcx, m.ptr[h::r13 + h::rcx + static_cast<int>(size - 1) + in_page_bias()]);
        miss = jump_unless_in_page();
        m.mov(h::rcx, h::r14);
        tlb_index(h::r14, h::r13);
        extract(h::r13, h::r13, &LookUpMasks::offset);
        m.load_indexed(h::r14, host, h::r14);
        return miss;
    }
    if (m_flags_live) {
        m.pushfq();
        m.db(0x65), m.pop(m.qword[Xbyak::RegExp(std::size_t{GNOMON_CPU(scratch_flags)})]);
    }
    tlb_index(h::r14, h::r13);
    m.db(0x65), m.add(h::r13, m.ptr[h::r14 * 8 + std::size_t{tag}]);
    m.cmp(h::r13, static_cast<u32>(page_size - size));
    miss = m.jump_if_later(Assembler::a);
    m.load_indexed(h::r14, host, h::r14);
    if (m_flags_live) {
        m.db(0x65), m.push(m.qword[Xbyak::RegExp(std::size_t{GNOMON_CPU(scratch_flags)})]);
        m.popfq();
    }
    return miss;
}

// ---------------------------------------------------------------- access groups

void BlockEmitter::begin_instruction(const Instruction& i, const AccessPlan& plan, unsigned n,
                                     bool flags_live, u8 wanted_soon) {
    m_flags_live = flags_live;
    m_wanted_soon = wanted_soon;
    m_high_before = std::exchange(m_high, ScratchGuests{});
    // A group's look-up belongs to the instruction too: by way of the view it may fault.
    m_marks.push_back({m.here(), i.page_offset});
    for (unsigned g = 0; g < plan.groups.size(); ++g)
        if (plan.groups[g].probe == n) begin_group(i, plan.groups[g], g);
    m_memory_access = plan.memory[n];
    m_stack_access = plan.stack[n];
    m_group_before = std::exchange(m_group_in_r14, GroupedAccess::no_group);
}

/// Nothing between here and the group's last access can take its right away: rights are revoked by
/// C++ alone, and of that only what accesses by themselves call (resolve_access) runs in between,
/// which revokes none and leaves the block when it drops translations.
void BlockEmitter::begin_group(const Instruction& i, const AccessGroup& group, unsigned number) {
    Instruction place;
    place.address_size = 8;
    place.base = group.base;
    place.index = group.index;
    place.scale = group.scale;
    place.segment = group.segment;
    place.displacement = group.displacement;
    const auto found = [&] {
        m.lea(h::r14, m.ptr[h::r14 + h::r13]);
        m.store_frame(frame_group(number), h::r14);
        m_group_in_r14 = static_cast<u8>(number);
    };
    if (m_mode.has(Mode::viewed)) {
        const bool by_rip = place.base == Instruction::rip_register && place.index == none;
        if (const auto displacement = by_rip && place.segment != seg_fs && place.segment != seg_gs
                                          ? data_displacement(place.displacement)
                                          : std::nullopt) {
            m_data_groups |= 1U << number;
            m_data_group[number] = *displacement;
        } else if (const u8 base = view_base(place); base != none) {
            find_view_delta(base, static_cast<int>(place.displacement));
            m.store_frame(frame_group(number), h::r14);
            m_delta_groups |= 1U << number;
            m_group_in_r14 = static_cast<u8>(number);
        } else {
            emit_address(place, true);
            find_view_delta(13, 0);
            found();
        }
        return;
    }
    GroupSite& site = *m_cache.allocate<GroupSite>();
    site.page = &m_page;
    site.page_offset = i.page_offset;
    site.length = i.length;
    site.size = group.size;
    site.write = group.write;
    site.first_displacement = group.first_displacement;
    site.first_size = group.first_size;
    site.first_write = group.first_write;
    emit_address(place, true);
    const u32 tag =
        tlb_offset(m_mode.set(), group.write ? offsetof(Tlb, write_tag) : offsetof(Tlb, read_tag));
    const u32 miss = look_up(group.size, tag);
    m_slow_paths.push_back({nullptr, &site, miss, tag, m_flags_live});
    site.cont = m.here();
    found();
}

int BlockEmitter::load_group(const GroupedAccess& access) {
    if ((m_data_groups >> access.group & 1) != 0) {
        if (m_group_before != access.group) load_data_base();
        m_group_in_r14 = access.group;
        return m_data_group[access.group] + access.displacement;
    }
    if (m_group_before != access.group) {
        m.load_frame(h::r14, frame_group(access.group));
        m_high_before[1] = none;
    }
    m_group_in_r14 = access.group;
    return access.displacement;
}

// ---------------------------------------------------------------- helpers

void BlockEmitter::emit_helper(const Instruction& i, Helper helper, bool extended) {
    HelperSite& site = *m_cache.allocate<HelperSite>();
    site.helper = helper;
    site.instruction = i;
    site.chains = !m_mode.has(Mode::single);
    site.kind = helper_kind(helper);
    m.mov(h::r14, reinterpret_cast<std::uintptr_t>(&site));
    m.jump_to(extended ? m_thunks.extended_helper : m_thunks.helper);
    site.continuation = m.here();
}

void BlockEmitter::emit_hook_check(const DecodedInstruction& d, Helper check) {
    emit_helper(d.compact, check, false);
    m_high_before = {};
}

// ---------------------------------------------------------------- cold parts

void BlockEmitter::finish_far_links() {
    for (FarLinkSite* const site : m_far_links) {
        m.bind(site->jump);
        m.mov(h::r14, reinterpret_cast<std::uintptr_t>(site));
        m.jump_to(m_thunks.far_link);
    }
}

u32 BlockEmitter::emit_way(u16 offset, bool call) {
    const u32 begin = m.here();
    if (call) drop_stack_word();
    far_jump_to({offset, false, nullptr});
    m.switch_to(CodePart::cold);
    finish_far_links();
    return begin;
}

Block BlockEmitter::finish(u16 guest_length, bool straddles) {
    Block block;
    if (straddles) {
        block.straddles = true;
        block.unchecked_entry = m.here(); // the page's base is what the caller made it
        drop_stack_word();
        m.jump_to(m_plain_entry);
    }
    block.end = m.here();
    m.switch_to(CodePart::cold);
    block.cold_begin = m.here();
    if (m_far_entry_cold) {
        emit_far_entry();
        m.jump_to(m_polled_entry);
    }
    // Links first: they may add indirect jumps for targets in other pages.
    for (std::size_t n = 0; n < m_links.size(); ++n) {
        const PendingLink link = m_links[n];
        if (!is_near(link.target)) {
            m.bind(link.jump);
            far_jump_to(link.target);
            continue;
        }
        const u16 target = static_cast<u16>(link.target.offset);
        const bool polled = link.polled || target <= m_block_offset;
        if (const u32 entry = m_cache.entry(m_page, target); entry != 0) {
            const Block* linked = m_cache.containing(entry);
            VERIFY(linked != nullptr);
            if (linked->straddles) { // never linked: see SoftProcessor::link
                m.bind(link.jump);
                if (link.call) drop_stack_word();
                far_jump_to(link.target);
                continue;
            }
            Assembler::patch(m_cache, link.jump,
                             link.call ? linked->called_entry
                             : polled  ? linked->polled_entry
                                       : linked->plain_entry);
            continue;
        }
        LinkSite& site = *m_cache.allocate<LinkSite>();
        site.jump = link.jump;
        site.target = target;
        site.polled = polled;
        site.call = link.call;
        site.page = &m_page;
        m.bind(link.jump);
        if (link.call) drop_stack_word();
        m.mov(h::r13d, u32{target});
        m.mov(h::r14, reinterpret_cast<std::uintptr_t>(&site));
        m.jump_to(m_thunks.link);
    }
    finish_far_links();
    if (has_base_slot()) {
        m.bind(m_base_jump);
        m.mov(h::rcx, h::r14);
        m.not_(h::r13);
        m.lea(h::r13, m.ptr[h::r13 + static_cast<int>(m_block_offset)]);
        m.jump_to(m_thunks.find[static_cast<unsigned>(m_mode.set())]);
    }
    if (m_straddle_site != nullptr) {
        m.bind(m_straddle_jump);
        m.mov(h::rcx, h::r14);
        m.mov(h::r14, reinterpret_cast<std::uintptr_t>(m_straddle_site));
        m.jump_to(m_thunks.straddle);
    }
    m.bind(m_poll_jump);
    if (m_poll_flags_kept) m.mov(h::rcx, h::r14);
    leave_with_offset(m_block_offset);
    for (const SlowPath& slow : m_slow_paths) {
        m.bind(slow.jump);
        if (slow.flags_kept && m_bmi2) {
            m.mov(h::rcx, h::r14);
        } else {
            m.db(0x65), m.sub(h::r13, m.ptr[h::r14 * 8 + std::size_t{slow.tag_offset}]);
            if (slow.flags_kept) {
                m.db(0x65), m.push(m.qword[Xbyak::RegExp(std::size_t{GNOMON_CPU(scratch_flags)})]);
                m.popfq();
            }
        }
        if (slow.group != nullptr) {
            slow.group->jump = m.jump_later(); // to what is behind it, as long as
            m.bind(slow.group->jump);          // there is no translation without groups
            m.mov(h::r14, reinterpret_cast<std::uintptr_t>(slow.group));
            m.jump_to(m_thunks.group);
            continue;
        }
        jump_to_slow_access(*slow.site);
    }
    finish_guesses();
    block.page = &m_page;
    block.begin = m_begin;
    block.entry = m_entry;
    block.called_entry = m_called_entry;
    block.polled_entry = m_polled_entry;
    block.plain_entry = m_plain_entry;
    block.cold_end = m.here();
    block.offset = m_block_offset;
    block.guest_length = guest_length;
    return block;
}

} // namespace gnomon::processor::soft
