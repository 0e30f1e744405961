// SPDX-License-Identifier: Apache-2.0
/// @file BlockEmitter: instructions that compute, and those that use the stack.
#include "processor/soft/emission.h"

#include "base/verify.h"

#include <algorithm>

namespace gnomon::processor::soft {

namespace h = Xbyak::util;

// ---------------------------------------------------------------- plain instructions

namespace {

/// The alignment without which the instruction raises #GP(0) (SDM vol. 2A section 2.4, and vol. 2,
/// CMPXCHG16B); 1: any will do.
u8 required_alignment(const DecodedInstruction& d, unsigned size) {
    const bool vex = d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    switch (d.z.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA: return static_cast<u8>(size);
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM: return 1;
    default: break;
    }
    // AMD's processors take the operands of the SHA instructions anywhere, against the manual's
    // type 4: there the host is left to say.
    if (vex || d.disposition.feature == Feature::sha) return 1;
    return size == 16 ? 16 : 1;
}

} // namespace

void BlockEmitter::emit_pass(const DecodedInstruction& d) {
    const ZydisDecodedOperand* memory = d.memory();
    if (memory == nullptr) {
        operate(d, HostMemory::none);
        return;
    }
    if (m_memory_access.is_grouped()) {
        operate(d, HostMemory::address, load_group(m_memory_access));
        return;
    }
    const unsigned size = access_size(d, *memory);
    emit_address(d.compact, true);
    AccessSite& site = begin_access(d.compact, size, reads(*memory) || !writes(*memory),
                                    writes(*memory), d.compact.segment);
    site.alignment = required_alignment(d, size);
    operate(d, HostMemory::page_and_offset);
    end_access(site);
}

/// VZEROALL and VZEROUPPER outside 64-bit mode, where they know the first eight registers only.
void BlockEmitter::zero_first_vectors(bool all) {
    for (int i = 0; i < 8; ++i) {
        const Xbyak::Xmm low(i);
        if (all)
            m.vxorps(low, low, low);
        else
            m.vmovaps(low, low); // a 128-bit result clears what lies above it
    }
}

/// Emits the instruction itself, on host registers.
void BlockEmitter::operate(const DecodedInstruction& d, HostMemory memory, int displacement) {
    if (memory == HostMemory::none) m_group_in_r14 = m_group_before;
    if (!d.compact.code64 &&
        (d.z.mnemonic == ZYDIS_MNEMONIC_VZEROALL || d.z.mnemonic == ZYDIS_MNEMONIC_VZEROUPPER)) {
        zero_first_vectors(d.z.mnemonic == ZYDIS_MNEMONIC_VZEROALL);
        return;
    }
    struct Operand {
        u8 HostRegisters::*field;
        u8 guest;
        bool read, write;
    };
    Operand high[4];
    unsigned high_count = 0;
    HostRegisters registers;
    bool replaced = means_another_thing_here(d);
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
        !d.code16 &&
        (d.compact.code64 || (d.z.opcode & 0xf0) != 0x40 ||
         d.z.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)) {
        m.db(d.bytes, d.z.length); // as it is
        return;
    }

    // Guest R13-R15 pass through the scratch registers. What is read needs one of its own; what is
    // only written may share with something read, never with something written.
    u8 guest_in[2] = {none, none}; // by scratch register (R13, R14): guest register loaded into it
    bool written[2] = {false, false};
    u8 guest_out[2] = {none, none}; // by scratch register: guest register that is only written
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
            // One register as both results (MULX) stays one: the instruction says which wins.
            for (unsigned s = 0; s < 2; ++s)
                if (guest_in[s] == o.guest || (!o.read && guest_out[s] == o.guest)) slot = s;
            for (unsigned e = 0; e < n && slot == 2; ++e) // MULX with both results in one register
                if (high[e].guest == o.guest && registers.*high[e].field != none)
                    slot = registers.*high[e].field - 13U;
            if (slot == 2 && o.read) {
                for (unsigned s = 0; s < readable && slot == 2; ++s)
                    if (guest_in[s] == none) slot = s;
                VERIFY(slot < 2);
                guest_in[slot] = o.guest;
                m.load(scratch(slot), gpr_slot(o.guest));
            } else if (slot == 2) {
                // Not one whose register is yet to be written: MULX r14, r13, r13.
                const auto claimed = [&](u8 loaded) {
                    return std::any_of(high, high + high_count, [loaded](const Operand& other) {
                        return other.write && other.guest == loaded;
                    });
                };
                for (unsigned s = 0; s < 2 && slot == 2; ++s)
                    if (!written[s] && !claimed(guest_in[s])) slot = s;
                VERIFY(slot < 2);
                guest_out[slot] = o.guest;
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
    // A scratch register that is given to a guest register holds no group any more.
    if (registers.reg == 14 || registers.rm == 14 || registers.vvvv == 14)
        m_group_in_r14 = GroupedAccess::no_group;
    reencode(m, d, registers, memory, displacement);
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
        m_group_in_r14 = m_group_before;
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
    if (d.compact.address_size == 2) address &= 0xffff;
    m.mov(h::r13, address);
    add_segment_base(d.compact.segment);
    AccessSite& site =
        begin_access(d.compact, operand->size / 8U, !store, store, d.compact.segment);
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

/// `to` = `from` + displacement, as wide as the stack is. RSP and RBP keep what lies above that.
void BlockEmitter::stack_lea(const Xbyak::Reg64& to, int displacement, const Xbyak::Reg64& from) {
    if (m_mode.has(Mode::code64)) {
        m.lea(to, m.ptr[from + displacement]);
    } else if (!m_mode.has(Mode::stack16)) {
        m.lea(to.cvt32(), m.ptr[from + displacement]);
    } else if (to == h::r13) {
        m.lea(to.cvt32(), m.ptr[from + displacement]);
        m.movzx(to.cvt32(), to.cvt16());
    } else {
        m.lea(to.cvt16(), m.ptr[from + displacement]);
    }
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
    if (m_stack_access.is_grouped()) {
        const int at = load_group(m_stack_access);
        if (o.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            m.mov(m.qword[h::r14 + at], i.immediate); // sign-extended from 32 bits
        } else if (const unsigned guest = gpr_number(o.reg.value);
                   host_number(guest) == in_memory) {
            m.load(h::r13, gpr_slot(guest));
            m.mov(m.ptr[h::r14 + at], h::r13);
        } else {
            m.mov(m.ptr[h::r14 + at], host_reg(guest));
        }
        stack_lea(h::r15, -8);
        return;
    }
    const bool from_memory = o.type == ZYDIS_OPERAND_TYPE_MEMORY;
    if (from_memory) {
        emit_address(i, true);
        AccessSite& source = begin_access(i, size, true, false, i.segment);
        m.mov(sized(h::r13), m.ptr[h::r14 + h::r13]);
        m.store(GNOMON_CPU(scratch0), h::r13);
        end_access(source);
    }
    stack_address(size);
    if (m_mode.has(Mode::code64) || m_mode.has(Mode::flat)) {
    } else
        add_segment_base(seg_ss);
    AccessSite& site = begin_access(i, size, false, true, seg_ss);
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
    if (m_stack_access.is_grouped()) {
        const int at = load_group(m_stack_access);
        stack_lea(h::r15, 8);
        const unsigned guest = gpr_number(o.reg.value);
        if (host_number(guest) == in_memory) {
            m.mov(h::r13, m.ptr[h::r14 + at]);
            m.store(gpr_slot(guest), h::r13);
        } else {
            m.mov(host_reg(guest), m.ptr[h::r14 + at]);
        }
        return;
    }
    stack_lea(h::r13, 0);
    if (!m_mode.has(Mode::flat)) add_segment_base(seg_ss);
    AccessSite& site = begin_access(i, size, true, false, seg_ss);
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
    AccessSite& target = begin_access(i, size, false, true, i.segment);
    m.lea(h::r14, m.ptr[h::r14 + h::r13]);
    m.load(h::r13, GNOMON_CPU(scratch0));
    m.mov(m.ptr[h::r14], sized(h::r13));
    stack_lea(h::r15, static_cast<int>(size));
    end_access(target);
}

void BlockEmitter::emit_leave(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const unsigned size = i.operand_size;
    if (m_stack_access.is_grouped()) {
        const int at = load_group(m_stack_access);
        stack_lea(h::r15, 8, h::rbp);
        m.mov(h::rbp, m.ptr[h::r14 + at]);
        return;
    }
    stack_lea(h::r13, 0, h::rbp);
    if (!m_mode.has(Mode::flat)) add_segment_base(seg_ss);
    AccessSite& site = begin_access(i, size, true, false, seg_ss);
    stack_lea(h::r15, static_cast<int>(size), h::rbp);
    if (size == 8)
        m.mov(h::rbp, m.ptr[h::r14 + h::r13]);
    else if (size == 4)
        m.mov(h::ebp, m.ptr[h::r14 + h::r13]);
    else
        m.mov(h::bp, m.ptr[h::r14 + h::r13]);
    end_access(site);
}

} // namespace gnomon::processor::soft
