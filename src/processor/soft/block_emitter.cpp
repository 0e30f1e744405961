// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/block_emitter.h"

#include "base/verify.h"

#include <algorithm>

namespace gnomon::processor::soft {

namespace h = Xbyak::util;

namespace {

constexpr u8 none = Instruction::no_register;
constexpr u8 in_memory = 0xfe; ///< a guest register that lives behind GS

/// Host register that holds guest register `g`.
constexpr u8 host_number(unsigned g) {
    if (g == rsp) return 15;
    return g >= r13 ? in_memory : static_cast<u8>(g);
}
Xbyak::Reg64 host_reg(unsigned g) { return Xbyak::Reg64(host_number(g)); }

u32 tlb_offset(TlbSet set, std::size_t member) {
    return GNOMON_CPU(tlb) + static_cast<u32>(set) * static_cast<u32>(sizeof(Tlb)) +
           static_cast<u32>(member);
}
u32 segment_base_slot(unsigned segment) {
    return GNOMON_CPU(cb.state.segment) + segment * static_cast<u32>(sizeof(Segment)) +
           static_cast<u32>(offsetof(Segment, base));
}
bool fits_i32(i64 v) { return v == static_cast<i32>(v); }

bool writes(const ZydisDecodedOperand& o) {
    return (o.actions & (ZYDIS_OPERAND_ACTION_WRITE | ZYDIS_OPERAND_ACTION_CONDWRITE)) != 0;
}
bool reads(const ZydisDecodedOperand& o) {
    return (o.actions & (ZYDIS_OPERAND_ACTION_READ | ZYDIS_OPERAND_ACTION_CONDREAD)) != 0;
}

u8 branch_condition(const DecodedInstruction& d) { return d.z.opcode & 15; }

} // namespace

void BlockEmitter::begin_block(u16 offset, bool flags_live) {
    m_block_offset = offset;
    m_entry = m.here();
    m_poll_flags_kept = flags_live;
    if (flags_live) {
        m.store(GNOMON_CPU(rcx_save), h::rcx);
        m.load(h::rcx, GNOMON_CPU(poll));
        const u32 quiet = m.jrcxz_later();
        m_poll_jump = m.jump_later();
        m.bind_short(quiet);
        m.load(h::rcx, GNOMON_CPU(rcx_save));
    } else {
        m.db(0x65), m.cmp(m.dword[Xbyak::RegExp(std::size_t{GNOMON_CPU(poll)})], 0);
        m_poll_jump = m.jump_if_later(Assembler::nz);
    }
    m_plain_entry = m.here();
}

bool BlockEmitter::emit(const DecodedInstruction& d, bool flags_live) {
    const Instruction& i = d.compact;
    m_marks.push_back({m.here(), i.page_offset});
    m_flags_live = flags_live;
    const i64 next = i64{i.page_offset} + i.length;
    if (refused_by_mode(d)) {
        go_to(next); // never reached, but every block ends in a jump
        return false;
    }
    switch (d.disposition.action) {
    case Action::refuse: emit_helper(i, raise_ud, false); break;
    case Action::pass:
    case Action::wide_exchange: emit_pass(d); return true;
    case Action::nothing: return true;
    case Action::lea: emit_lea(d); return true;
    case Action::push: emit_push(d); return true;
    case Action::pop: emit_pop(d); return true;
    case Action::leave: emit_leave(d); return true;
    case Action::call: emit_call(d); return false;
    case Action::ret: emit_return(d); return false;
    case Action::jump: emit_jump(d); return false;
    case Action::jump_if:
        jump_if(branch_condition(d), next + static_cast<i64>(i.immediate));
        return true;
    case Action::loop: emit_loop(d); return false;
    case Action::helper: emit_helper(i, d.disposition.helper, false); return true;
    case Action::extended: emit_helper(i, d.disposition.helper, true); return true;
    case Action::helper_end: emit_helper(i, d.disposition.helper, false); break;
    case Action::mov_moffs: emit_moffs(d); return true;
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
    if (m_mode.has(Mode::code16) || m_mode.has(Mode::stack16)) {
        emit_helper(d.compact, raise_ud, false);
        return true;
    }
    if (d.disposition.action == Action::refuse) return false;
    u16 needed = 0;
    switch (d.disposition.feature) {
    case Feature::x87:
    case Feature::mmx: needed = Mode::fpu; break; // clang-format off
    case Feature::sse: case Feature::sse2: case Feature::sse3: case Feature::ssse3: case Feature::sse41: case Feature::sse42:
    case Feature::aes: case Feature::pclmulqdq: case Feature::sha: needed = Mode::sse; break;
    case Feature::avx: case Feature::avx2: case Feature::fma: case Feature::f16c: case Feature::avx_aes: needed = Mode::avx; break; // clang-format on
    default: break;
    }
    if (d.z.meta.isa_set == ZYDIS_ISA_SET_X87 || d.z.meta.isa_set == ZYDIS_ISA_SET_SSE3X87)
        needed = Mode::fpu;
    // These of the SSE sets touch no vector state, and CRC32 and POPCNT are integer instructions.
    if (d.z.mnemonic == ZYDIS_MNEMONIC_MOVNTI || d.z.mnemonic == ZYDIS_MNEMONIC_CRC32) needed = 0;
    if (needed == 0 || m_mode.has(needed)) return false;
    emit_helper(d.compact, m_mode.has(Mode::task_switched) ? raise_nm : raise_ud, false);
    return true;
}

// ---------------------------------------------------------------- addresses and accesses

void BlockEmitter::load_guest(const Xbyak::Reg64& to, unsigned guest) {
    if (host_number(guest) == in_memory)
        m.load(to, gpr_slot(guest));
    else
        m.mov(to, host_reg(guest));
}

void BlockEmitter::store_guest(unsigned guest, unsigned size, const Xbyak::Reg64& from) {
    const bool memory = host_number(guest) == in_memory;
    switch (size) {
    case 8:
        if (memory)
            m.store(gpr_slot(guest), from);
        else
            m.mov(host_reg(guest), from);
        break;
    case 4:
        if (memory) {
            m.mov(from.cvt32(), from.cvt32());
            m.store(gpr_slot(guest), from);
        } else {
            m.mov(host_reg(guest).cvt32(), from.cvt32());
        }
        break;
    default: // 2: the rest of the register stays
        if (memory)
            m.store(gpr_slot(guest), from.cvt16());
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
    if (i.base == Instruction::rip_register) {
        displacement += i64{i.page_offset} + i.length;
        m.load(h::r13, GNOMON_CPU(page_base));
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
            m.mov(h::r13d, static_cast<u32>(displacement));
    } else {
        Xbyak::RegExp expression;
        const auto place = [&](u8 guest, const Xbyak::Reg64& scratch) {
            if (host_number(guest) != in_memory) return host_reg(guest);
            m.load(scratch, gpr_slot(guest));
            return scratch;
        };
        if (i.base != none) expression = Xbyak::RegExp(place(i.base, h::r13));
        if (i.index != none) {
            const Xbyak::RegExp index(place(i.index, h::r14), i.scale);
            expression = i.base != none ? expression + index : index;
        }
        const bool fits = fits_i32(displacement);
        if (fits) expression = expression + static_cast<std::size_t>(displacement);
        if (wide) m.lea(h::r13, m.ptr[expression]);
        else m.lea(h::r13d, m.ptr[expression]);
        if (!fits) {
            m.mov(h::r14, static_cast<u64>(displacement));
            if (wide) m.lea(h::r13, m.ptr[h::r13 + h::r14]);
            else m.lea(h::r13d, m.ptr[h::r13 + h::r14]);
        }
        if (i.address_size == 2) m.movzx(h::r13d, h::r13w);
    }
    if (with_segment) add_segment_base(i.segment);
}

void BlockEmitter::tlb_index(const Xbyak::Reg64& to, const Xbyak::Reg64& from) {
    if (m_bmi2) {
        m.db(0x65), m.pext(to, from, m.ptr[Xbyak::RegExp(std::size_t{GNOMON_CPU(index_mask)})]);
    } else {
        m.mov(to, from);
        m.shr(to, page_shift);
        m.and_(to.cvt32(), tlb_size - 1);
    }
}

/// From R13 = linear address to R13 = page offset, R14 = host page; the slow path joins there.
AccessSite& BlockEmitter::begin_access(const Instruction& i, unsigned size, bool read, bool write,
                                       bool stack) {
    VERIFY(size >= 1 && size <= 64);
    AccessSite& site = *m_cache.allocate<AccessSite>();
    site.page_offset = i.page_offset;
    site.length = i.length;
    site.size = static_cast<u8>(size);
    site.read = read;
    site.write = write;
    site.stack = stack;
    site.set = m_mode.set();
    site.code64 = m_mode.has(Mode::code64);
    const u32 tag =
        tlb_offset(site.set, write ? offsetof(Tlb, write_tag) : offsetof(Tlb, read_tag));
    const u32 host = tlb_offset(site.set, offsetof(Tlb, host_page));
    u32 miss = 0;
    if (m_flags_live && m_bmi2) {
        tlb_index(h::r14, h::r13);
        m.store(GNOMON_CPU(rcx_save), h::rcx);
        m.load_indexed(h::rcx, tag, h::r14);
        m.lea(h::r13, m.ptr[h::r13 + h::rcx]);
        m.lea(h::rcx, m.ptr[h::r13 + static_cast<int>(size - 1)]);
        m.db(0x65), m.pext(h::rcx, h::rcx, m.ptr[Xbyak::RegExp(std::size_t{GNOMON_CPU(page_mask)})]);
        const u32 hit = m.jrcxz_later();
        miss = m.jump_later();
        m.bind_short(hit);
        m.load(h::rcx, GNOMON_CPU(rcx_save));
        m.load_indexed(h::r14, host, h::r14);
    } else {
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
    }
    m_slow_paths.push_back({&site, miss, tag, m_flags_live});
    site.cont = m.here();
    return site;
}

// ---------------------------------------------------------------- plain instructions

void BlockEmitter::emit_pass(const DecodedInstruction& d) {
    const ZydisDecodedOperand* memory = d.memory();
    if (memory == nullptr) {
        operate(d, HostMemory::none);
        return;
    }
    const unsigned size = std::clamp<unsigned>(memory->size / 8U, 1, 64);
    emit_address(d.compact, true);
    AccessSite& site = begin_access(d.compact, size, reads(*memory) || !writes(*memory),
                                    writes(*memory), d.compact.segment == seg_ss);
    operate(d, HostMemory::page_and_offset);
    end_access(site);
}

/// Emits the instruction itself, on host registers.
void BlockEmitter::operate(const DecodedInstruction& d, HostMemory memory) {
    struct Operand {
        u8 HostRegisters::*field;
        u8 guest;
        bool read, write;
    };
    Operand high[4];
    unsigned high_count = 0;
    HostRegisters registers;
    bool replaced = false;
    u8 high_byte_guest = none;
    u8 HostRegisters::*high_byte_field = nullptr;
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        const ZydisDecodedOperand& o = d.operands[n];
        if (o.type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
        const u8 guest = gpr_number(o.reg.value);
        if (guest == none) continue;
        u8 HostRegisters::*field = nullptr;
        switch (o.encoding) {
        case ZYDIS_OPERAND_ENCODING_MODRM_REG: field = &HostRegisters::reg; break;
        case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        case ZYDIS_OPERAND_ENCODING_OPCODE: field = &HostRegisters::rm; break;
        case ZYDIS_OPERAND_ENCODING_NDSNDD: field = &HostRegisters::vvvv; break;
        default: continue; // implicit registers keep their places
        }
        if (is_high_byte(o.reg.value)) {
            high_byte_guest = guest;
            high_byte_field = field;
            continue;
        }
        if (host_number(guest) != in_memory) {
            if (host_number(guest) != guest) {
                registers.*field = host_number(guest);
                replaced = true;
            }
            continue;
        }
        const bool partial = o.size < 32 || (o.actions & ZYDIS_OPERAND_ACTION_CONDWRITE) != 0 ||
                             d.z.mnemonic == ZYDIS_MNEMONIC_BSF ||
                             d.z.mnemonic == ZYDIS_MNEMONIC_BSR;
        VERIFY(high_count < std::size(high));
        high[high_count++] = {field, guest, reads(o) || (writes(o) && partial), writes(o)};
    }

    if (high_count == 0 && !replaced && memory == HostMemory::none && high_byte_guest == none &&
        (d.compact.code64 || (d.z.opcode & 0xf0) != 0x40 ||
         d.z.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)) {
        m.db(d.bytes, d.z.length); // as it is
        return;
    }

    // Guest R13-R15 pass through the scratch registers. What is read needs one of its own; what is
    // only written may share with something read, never with something written.
    u8 guest_in[2] = {none, none}; // by scratch register (R13, R14): guest register loaded into it
    bool written[2] = {false, false};
    if (high_count != 0 && memory == HostMemory::page_and_offset) {
        m.lea(h::r14, m.ptr[h::r14 + h::r13]);
        memory = HostMemory::address;
    }
    const unsigned readable = memory == HostMemory::address ? 1 : 2;
    const auto scratch = [](unsigned n) { return n == 0 ? h::r13 : h::r14; };
    for (unsigned pass = 0; pass < 2; ++pass) {
        for (unsigned n = 0; n < high_count; ++n) {
            const Operand& o = high[n];
            if (o.read != (pass == 0)) continue;
            unsigned slot = 2;
            for (unsigned s = 0; s < 2; ++s)
                if (guest_in[s] == o.guest) slot = s;
            if (slot == 2 && o.read) {
                for (unsigned s = 0; s < readable && slot == 2; ++s)
                    if (guest_in[s] == none) slot = s;
                VERIFY(slot < 2);
                guest_in[slot] = o.guest;
                m.load(scratch(slot), gpr_slot(o.guest));
            } else if (slot == 2) {
                for (unsigned s = 0; s < 2 && slot == 2; ++s)
                    if (!written[s]) slot = s;
                VERIFY(slot < 2);
            }
            written[slot] = written[slot] || o.write;
            registers.*o.field = static_cast<u8>(13 + slot);
        }
    }

    u8 swapped = none;
    if (high_byte_guest != none && needs_rex(d, registers, memory)) {
        // AH..BH cannot be named beside REX: bring the byte to the low half for this instruction.
        m.db(0x86), m.db(0xc4 | high_byte_guest << 3 | high_byte_guest); // XCHG rL, rH
        swapped = high_byte_guest;
        registers.*high_byte_field = high_byte_guest;
        if (d.z.mnemonic == ZYDIS_MNEMONIC_CMPXCHG && high_byte_guest == 0) {
            // AL is the comparand: give AH to a scratch register instead.
            if (memory == HostMemory::page_and_offset) m.lea(h::r14, m.ptr[h::r14 + h::r13]);
            memory = HostMemory::address;
            m.mov(h::r13b, h::al);
            m.db(0x86), m.db(0xc4);
            swapped = none;
            registers.*high_byte_field = 13;
        }
    }
    reencode(m, d, registers, memory);
    if (swapped != none) m.db(0x86), m.db(0xc4 | swapped << 3 | swapped);
    for (unsigned n = 0; n < high_count; ++n)
        if (high[n].write)
            m.store(gpr_slot(high[n].guest), scratch(registers.*high[n].field - 13U));
}

void BlockEmitter::emit_lea(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const auto plain = [](u8 g) {
        return g == none || (g != Instruction::rip_register && host_number(g) != in_memory);
    };
    if (i.code64 && i.operand_size >= 4 && i.address_size == 8 && plain(i.base) && plain(i.index) &&
        plain(i.reg) && (i.base != none || i.index != none)) {
        Xbyak::RegExp e;
        if (i.base != none) e = Xbyak::RegExp(host_reg(i.base));
        if (i.index != none) {
            const Xbyak::RegExp index(host_reg(i.index), i.scale);
            e = i.base != none ? e + index : index;
        }
        e = e + static_cast<std::size_t>(i.displacement);
        if (i.operand_size == 8)
            m.lea(host_reg(i.reg), m.ptr[e]);
        else
            m.lea(host_reg(i.reg).cvt32(), m.ptr[e]);
        return;
    }
    emit_address(i, false);
    store_guest(i.reg, i.operand_size, h::r13);
}

void BlockEmitter::emit_moffs(const DecodedInstruction& d) {
    const ZydisDecodedOperand* operand = nullptr;
    for (unsigned n = 0; n < d.z.operand_count; ++n)
        if (d.operands[n].type == ZYDIS_OPERAND_TYPE_MEMORY) operand = &d.operands[n];
    VERIFY(operand != nullptr);
    const bool store = (d.z.opcode & 2) != 0;
    u64 address = static_cast<u64>(operand->mem.disp.value);
    if (d.compact.address_size == 4) address &= 0xffffffff;
    m.mov(h::r13, address);
    add_segment_base(d.compact.segment);
    AccessSite& site = begin_access(d.compact, operand->size / 8U, !store, store, false);
    const Xbyak::Reg r = operand->size == 8    ? Xbyak::Reg(h::al)
                         : operand->size == 16 ? Xbyak::Reg(h::ax)
                         : operand->size == 32 ? Xbyak::Reg(h::eax)
                                               : Xbyak::Reg(h::rax);
    if (store)
        m.mov(m.ptr[h::r14 + h::r13], r);
    else
        m.mov(r, m.ptr[h::r14 + h::r13]);
    end_access(site);
}

// ---------------------------------------------------------------- the stack

/// `to` = RSP + displacement, wrapped to 32 bits outside 64-bit mode.
void BlockEmitter::stack_lea(const Xbyak::Reg64& to, int displacement) {
    if (m_mode.has(Mode::code64))
        m.lea(to, m.ptr[h::r15 + displacement]);
    else
        m.lea(to.cvt32(), m.ptr[h::r15 + displacement]);
}

void BlockEmitter::emit_push(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const ZydisDecodedOperand& o = d.operands[0];
    const unsigned size = i.operand_size;
    const auto sized = [size](const Xbyak::Reg64& r) {
        return size == 8   ? Xbyak::Reg(r)
               : size == 4 ? Xbyak::Reg(r.cvt32())
                           : Xbyak::Reg(r.cvt16());
    };
    if (o.type == ZYDIS_OPERAND_TYPE_REGISTER &&
        ZydisRegisterGetClass(o.reg.value) == ZYDIS_REGCLASS_SEGMENT) {
        emit_helper(i, push_segment, false);
        return;
    }
    const bool from_memory = o.type == ZYDIS_OPERAND_TYPE_MEMORY;
    if (from_memory) {
        emit_address(i, true);
        AccessSite& source = begin_access(i, size, true, false, i.segment == seg_ss);
        m.mov(sized(h::r13), m.ptr[h::r14 + h::r13]);
        m.store(GNOMON_CPU(scratch0), h::r13);
        end_access(source);
    }
    stack_address(size);
    if (m_mode.has(Mode::code64) || m_mode.has(Mode::flat)) {
    } else
        add_segment_base(seg_ss);
    AccessSite& site = begin_access(i, size, false, true, true);
    if (o.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        const u32 value = static_cast<u32>(i.immediate);
        if (size == 8)
            m.mov(m.qword[h::r14 + h::r13], i.immediate); // sign-extended from 32 bits
        else if (size == 4)
            m.mov(m.dword[h::r14 + h::r13], value);
        else
            m.mov(m.word[h::r14 + h::r13], value & 0xffff);
    } else if (from_memory || host_number(gpr_number(o.reg.value)) == in_memory) {
        m.lea(h::r14, m.ptr[h::r14 + h::r13]);
        if (from_memory)
            m.load(h::r13, GNOMON_CPU(scratch0));
        else
            m.load(h::r13, gpr_slot(gpr_number(o.reg.value)));
        m.mov(m.ptr[h::r14], sized(h::r13));
    } else {
        m.mov(m.ptr[h::r14 + h::r13], sized(host_reg(gpr_number(o.reg.value))));
    }
    stack_lea(h::r15, -static_cast<int>(size));
    end_access(site);
}

void BlockEmitter::emit_pop(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const ZydisDecodedOperand& o = d.operands[0];
    const unsigned size = i.operand_size;
    if (o.type == ZYDIS_OPERAND_TYPE_REGISTER &&
        ZydisRegisterGetClass(o.reg.value) == ZYDIS_REGCLASS_SEGMENT) {
        emit_helper(i, pop_segment, false);
        return;
    }
    const auto sized = [size](const Xbyak::Reg64& r) {
        return size == 8   ? Xbyak::Reg(r)
               : size == 4 ? Xbyak::Reg(r.cvt32())
                           : Xbyak::Reg(r.cvt16());
    };
    stack_lea(h::r13, 0);
    if (!m_mode.has(Mode::flat)) add_segment_base(seg_ss);
    AccessSite& site = begin_access(i, size, true, false, true);
    m.mov(sized(h::r13), m.ptr[h::r14 + h::r13]);
    if (o.type == ZYDIS_OPERAND_TYPE_REGISTER) {
        stack_lea(h::r15, static_cast<int>(size));
        store_guest(gpr_number(o.reg.value), size, h::r13);
        end_access(site);
        return;
    }
    m.store(GNOMON_CPU(scratch0), h::r13);
    end_access(site);
    // The address uses the new RSP, but RSP changes only once the write is certain.
    emit_address(i, true, i.base == rsp ? size : 0);
    AccessSite& target = begin_access(i, size, false, true, i.segment == seg_ss);
    m.lea(h::r14, m.ptr[h::r14 + h::r13]);
    m.load(h::r13, GNOMON_CPU(scratch0));
    m.mov(m.ptr[h::r14], sized(h::r13));
    stack_lea(h::r15, static_cast<int>(size));
    end_access(target);
}

void BlockEmitter::emit_leave(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const unsigned size = i.operand_size;
    if (m_mode.has(Mode::code64))
        m.mov(h::r13, h::rbp);
    else
        m.mov(h::r13d, h::ebp);
    if (!m_mode.has(Mode::flat)) add_segment_base(seg_ss);
    AccessSite& site = begin_access(i, size, true, false, true);
    if (m_mode.has(Mode::code64))
        m.lea(h::r15, m.ptr[h::rbp + static_cast<int>(size)]);
    else
        m.lea(h::r15d, m.ptr[h::rbp + static_cast<int>(size)]);
    if (size == 8)
        m.mov(h::rbp, m.ptr[h::r14 + h::r13]);
    else if (size == 4)
        m.mov(h::ebp, m.ptr[h::r14 + h::r13]);
    else
        m.mov(h::bp, m.ptr[h::r14 + h::r13]);
    end_access(site);
}

// ---------------------------------------------------------------- helpers

void BlockEmitter::emit_helper(const Instruction& i, Helper helper, bool extended) {
    HelperSite& site = *m_cache.allocate<HelperSite>();
    site.helper = helper;
    site.instruction = i;
    site.extended = extended;
    m.mov(h::r14, reinterpret_cast<std::uintptr_t>(&site));
    m.jump_to(m_thunks.helper);
    site.continuation = m.here();
}

void BlockEmitter::emit_hook_check(const DecodedInstruction& d, Helper check) {
    emit_helper(d.compact, check, false);
}

// ---------------------------------------------------------------- control transfers

void BlockEmitter::leave_with_offset(i64 offset) {
    m.mov(h::r13, static_cast<u64>(offset));
    m.jump_to(m_thunks.dispatch_offset);
}

void BlockEmitter::go_to(i64 offset) {
    if (m_mode.has(Mode::single)) {
        leave_with_offset(offset);
        return;
    }
    if (offset >= 0 && offset < static_cast<i64>(page_size)) {
        m_links.push_back({m.jump_later(), offset});
        return;
    }
    far_jump_to(offset);
}

/// To an address in another page.
void BlockEmitter::far_jump_to(i64 offset) {
    m.load(h::r13, GNOMON_CPU(page_base));
    m.mov(h::r14, static_cast<u64>(offset));
    if (m_mode.has(Mode::code64)) m.lea(h::r13, m.ptr[h::r13 + h::r14]);
    else m.lea(h::r13d, m.ptr[h::r13 + h::r14]);
    indirect_jump();
}

void BlockEmitter::jump_if(u8 condition, i64 offset) {
    m_links.push_back({m.jump_if_later(condition), offset});
}

/// Jumps to R13 = RIP, keeping the flags, by way of the fetch TLB and the page's entry table.
void BlockEmitter::indirect_jump() {
    if (m_mode.has(Mode::single)) {
        m.jump_to(m_thunks.dispatch);
        return;
    }
    if (!m_bmi2) {
        m.jump_to(m_thunks.dispatch);
        return;
    }
    const TlbSet set = m_mode.set();
    const u32 tag = tlb_offset(set, offsetof(Tlb, fetch_tag));
    tlb_index(h::r14, h::r13);
    m.store(GNOMON_CPU(rcx_save), h::rcx);
    m.load_indexed(h::rcx, tag, h::r14);
    m.lea(h::rcx, m.ptr[h::r13 + h::rcx]);
    m.store(GNOMON_CPU(scratch0), h::rcx);
    m.db(0x65), m.pext(h::rcx, h::rcx, m.ptr[Xbyak::RegExp(std::size_t{GNOMON_CPU(page_mask)})]);
    const u32 hit = m.jrcxz_later();
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    m.jump_to(m_thunks.dispatch);
    m.bind_short(hit);
    m.load_indexed(h::rcx, tlb_offset(set, offsetof(Tlb, fetch_page)), h::r14);
    m.store(GNOMON_CPU(page_base), h::rcx);
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    m.load(h::r13, GNOMON_CPU(scratch0));
    m.load_indexed(h::r14, tlb_offset(set, offsetof(Tlb, fetch_code)), h::r14);
    m.mov(h::r14d, m.ptr[h::r14 + h::r13 * 4]);
    m.jmp(h::r14);
}

/// R13 = target of a near branch through a register or memory.
void BlockEmitter::branch_target_to_r13(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const ZydisDecodedOperand& o = d.operands[0];
    const unsigned size = o.size / 8U;
    if (o.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        emit_address(i, true);
        AccessSite& site = begin_access(i, size, true, false, i.segment == seg_ss);
        if (size == 8)
            m.mov(h::r13, m.ptr[h::r14 + h::r13]);
        else if (size == 4)
            m.mov(h::r13d, m.ptr[h::r14 + h::r13]);
        else
            m.movzx(h::r13d, m.word[h::r14 + h::r13]);
        end_access(site);
        return;
    }
    load_guest(h::r13, gpr_number(o.reg.value));
    if (size == 4) m.mov(h::r13d, h::r13d);
    if (size == 2) m.movzx(h::r13d, h::r13w);
}

void BlockEmitter::emit_jump(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const i64 next = i64{i.page_offset} + i.length;
    if (d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        emit_helper(i, far_jump, false);
        go_to(next);
        return;
    }
    if (d.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        go_to(next + static_cast<i64>(i.immediate));
        return;
    }
    if (m_mode.set() == TlbSet::monitor) {
        emit_helper(i, leave_monitor_mode, false);
        go_to(next);
        return;
    }
    branch_target_to_r13(d);
    indirect_jump();
}

void BlockEmitter::emit_call(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const i64 next = i64{i.page_offset} + i.length;
    const unsigned size = m_mode.has(Mode::code64) ? 8 : 4;
    if (d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        emit_helper(i, far_call, false);
        go_to(next);
        return;
    }
    const bool direct = d.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    if (!direct) {
        branch_target_to_r13(d);
        m.store(GNOMON_CPU(branch_target), h::r13);
    }
    stack_address(size);
    if (!m_mode.has(Mode::flat)) add_segment_base(seg_ss);
    AccessSite& site = begin_access(i, size, false, true, true);
    site.completes = false;
    m.lea(h::r14, m.ptr[h::r14 + h::r13]);
    m.load(h::r13, GNOMON_CPU(page_base));
    m.lea(h::r13, m.ptr[h::r13 + static_cast<int>(next)]);
    if (size == 8)
        m.mov(m.ptr[h::r14], h::r13);
    else
        m.mov(m.ptr[h::r14], h::r13d);
    stack_lea(h::r15, -static_cast<int>(size));
    end_access(site);
    if (direct) {
        go_to(next + static_cast<i64>(i.immediate));
        return;
    }
    m.load(h::r13, GNOMON_CPU(branch_target));
    indirect_jump();
}

void BlockEmitter::emit_return(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const unsigned size = m_mode.has(Mode::code64) ? 8 : 4;
    if (d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        emit_helper(i, far_return, false);
        go_to(i64{i.page_offset} + i.length);
        return;
    }
    const int popped = static_cast<int>(i.immediate & 0xffff);
    stack_lea(h::r13, 0);
    if (!m_mode.has(Mode::flat)) add_segment_base(seg_ss);
    AccessSite& site = begin_access(i, size, true, false, true);
    if (size == 8)
        m.mov(h::r13, m.ptr[h::r14 + h::r13]);
    else
        m.mov(h::r13d, m.ptr[h::r14 + h::r13]);
    stack_lea(h::r15, static_cast<int>(size) + popped);
    end_access(site);
    indirect_jump();
}

void BlockEmitter::emit_loop(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const i64 next = i64{i.page_offset} + i.length;
    const bool wide = i.address_size == 8;
    const bool counts = d.z.mnemonic == ZYDIS_MNEMONIC_LOOP ||
                        d.z.mnemonic == ZYDIS_MNEMONIC_LOOPE ||
                        d.z.mnemonic == ZYDIS_MNEMONIC_LOOPNE;
    if (counts) {
        if (wide)
            m.lea(h::rcx, m.ptr[h::rcx - 1]);
        else
            m.lea(h::ecx, m.ptr[h::rcx - 1]);
    }
    if (!wide) m.db(0x67);
    const u32 zero = m.jrcxz_later();
    if (!counts) {
        m_links.push_back({m.jump_later(), next});
        m.bind_short(zero);
        go_to(next + static_cast<i64>(i.immediate));
        return;
    }
    u32 flag_exit = 0;
    if (d.z.mnemonic != ZYDIS_MNEMONIC_LOOP)
        flag_exit =
            m.jump_if_later(d.z.mnemonic == ZYDIS_MNEMONIC_LOOPE ? Assembler::nz : Assembler::z);
    m_links.push_back({m.jump_later(), next + static_cast<i64>(i.immediate)});
    m.bind_short(zero);
    if (flag_exit != 0) m.bind(flag_exit);
    go_to(next);
}

// ---------------------------------------------------------------- cold parts

Block BlockEmitter::finish(u16 guest_length) {
    // Links first: they may add indirect jumps for targets in other pages.
    for (std::size_t n = 0; n < m_links.size(); ++n) {
        const PendingLink link = m_links[n];
        const bool near = link.offset >= 0 && link.offset < static_cast<i64>(page_size);
        if (!near || m_mode.has(Mode::single)) {
            m.bind(link.jump);
            if (m_mode.has(Mode::single)) {
                leave_with_offset(link.offset);
                continue;
            }
            far_jump_to(link.offset);
            continue;
        }
        const u16 target = static_cast<u16>(link.offset);
        const bool polled = target <= m_block_offset;
        if (const u32 entry = m_cache.entry(m_page, target); entry != 0) {
            const Block* block = m_cache.containing(entry);
            Assembler::patch(m_cache, link.jump,
                             polled || block == nullptr ? entry : block->plain_entry);
            continue;
        }
        LinkSite& site = *m_cache.allocate<LinkSite>();
        site.jump = link.jump;
        site.target = target;
        site.polled = polled;
        site.page = &m_page;
        m.bind(link.jump);
        m.mov(h::r13d, u32{target});
        m.mov(h::r14, reinterpret_cast<std::uintptr_t>(&site));
        m.jump_to(m_thunks.link);
    }
    m.bind(m_poll_jump);
    if (m_poll_flags_kept) m.load(h::rcx, GNOMON_CPU(rcx_save));
    leave_with_offset(m_block_offset);
    for (const SlowPath& slow : m_slow_paths) {
        m.bind(slow.jump);
        if (slow.flags_kept && m_bmi2) {
            m.load_indexed(h::rcx, slow.tag_offset, h::r14);
            m.not_(h::rcx); // -tag - 1, without touching the flags
            m.lea(h::r13, m.ptr[h::r13 + h::rcx + 1]);
            m.load(h::rcx, GNOMON_CPU(rcx_save));
        } else {
            m.db(0x65), m.sub(h::r13, m.ptr[h::r14 * 8 + std::size_t{slow.tag_offset}]);
            if (slow.flags_kept) {
                m.db(0x65), m.push(m.qword[Xbyak::RegExp(std::size_t{GNOMON_CPU(scratch_flags)})]);
                m.popfq();
            }
        }
        m.mov(h::r14, reinterpret_cast<std::uintptr_t>(slow.site));
        m.jump_to(m_thunks.slow_access);
    }
    Block block;
    block.page = &m_page;
    block.entry = m_entry;
    block.plain_entry = m_plain_entry;
    block.end = m.here();
    block.offset = m_block_offset;
    block.guest_length = guest_length;
    return block;
}

} // namespace gnomon::processor::soft
