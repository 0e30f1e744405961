// SPDX-License-Identifier: Apache-2.0
/// @file BlockEmitter: instructions that compute, and those that use the stack.
#include "processor/soft/emission.h"

#include "base/verify.h"

namespace gnomon::processor::soft {

namespace h = Xbyak::util;

// ---------------------------------------------------------------- plain instructions

namespace {

/// The alignment without which the instruction raises #GP(0) (SDM vol. 2A section 2.4, and vol. 2,
/// CMPXCHG16B); 1: any will do.
u8 required_alignment(const DecodedInstruction& d, unsigned size) {
    const bool legacy = d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
    switch (d.z.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVDQA32:
    case ZYDIS_MNEMONIC_VMOVDQA64:
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
    if (!legacy || d.disposition.feature == Feature::sha) return 1;
    return size == 16 ? 16 : 1;
}

bool names_high_byte(const DecodedInstruction& d) {
    return std::any_of(d.operands, d.operands + d.z.operand_count, [](const auto& o) {
        return o.type == ZYDIS_OPERAND_TYPE_REGISTER && is_high_byte(o.reg.value);
    });
}

} // namespace

void BlockEmitter::emit_pass(const DecodedInstruction& d) {
    const ZydisDecodedOperand* memory = d.memory();
    if (memory == nullptr) {
        operate(d, HostMemory::none);
        return;
    }
    // What may exchange AH and AL around the operation must not fault in between.
    const bool by_tlb = m_mode.has(Mode::viewed) && names_high_byte(d);
    if (m_memory_access.is_grouped() && !by_tlb) {
        if (is_by_delta(m_memory_access))
            operate_by_delta(d);
        else
            operate(d, HostMemory::address, load_group(m_memory_access));
        return;
    }
    if (!by_tlb)
        if (const auto place = view_place(d.compact)) {
            operate(d, place->memory, place->displacement, place->base);
            return;
        }
    const unsigned size = access_size(d, *memory);
    emit_address(d.compact, true);
    AccessSite& site = begin_access(d.compact, size, reads(*memory) || !writes(*memory),
                                    writes(*memory), d.compact.segment, by_tlb, masked_elements(d));
    site.alignment = required_alignment(d, size);
    operate(d, HostMemory::page_and_offset);
    if (site.write) m_high = {}; // commit_access goes on behind it
    end_access(site);
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
        keep_scratch();
        return;
    }
    emit_address(i, false);
    store_guest(i.reg, i.operand_size, h::r13);
    if (host_number(i.reg) == in_memory && i.operand_size >= 4) m_high[0] = i.reg;
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
        const Xbyak::RegExp at = grouped_place(m_stack_access, h::r15, -8);
        if (o.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            m.mov(m.qword[at], i.immediate); // sign-extended from 32 bits
        } else if (const unsigned guest = gpr_number(o.reg.value);
                   host_number(guest) == in_memory) {
            m.load_frame(h::r13, frame_high(guest));
            m.mov(m.ptr[at], h::r13);
        } else {
            m.mov(m.ptr[at], host_reg(guest));
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
            m.load_frame(h::r13, frame_high(gpr_number(o.reg.value)));
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
        const Xbyak::RegExp at = grouped_place(m_stack_access, h::r15, 0);
        const unsigned guest = gpr_number(o.reg.value);
        if (host_number(guest) == in_memory) {
            m.mov(h::r13, m.ptr[at]);
            m.store_frame(frame_high(guest), h::r13);
            m_high[0] = static_cast<u8>(guest);
        } else {
            m.mov(host_reg(guest), m.ptr[at]);
        }
        if (guest != rsp) stack_lea(h::r15, 8); // behind what may fault
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
        m.mov(h::r13, m.ptr[grouped_place(m_stack_access, h::rbp, 0)]);
        stack_lea(h::r15, 8, h::rbp); // behind what may fault
        m.mov(h::rbp, h::r13);
        return;
    }
    stack_lea(h::r13, 0, h::rbp);
    if (!m_mode.has(Mode::flat)) add_segment_base(seg_ss);
    AccessSite& site = begin_access(i, size, true, false, seg_ss);
    if (size == 8)
        m.mov(h::r13, m.ptr[h::r14 + h::r13]);
    else if (size == 4)
        m.mov(h::r13d, m.ptr[h::r14 + h::r13]);
    else
        m.mov(h::r13w, m.ptr[h::r14 + h::r13]);
    stack_lea(h::r15, static_cast<int>(size), h::rbp); // behind what may fault
    if (size == 8)
        m.mov(h::rbp, h::r13);
    else if (size == 4)
        m.mov(h::ebp, h::r13d);
    else
        m.mov(h::bp, h::r13w);
    end_access(site);
}

} // namespace gnomon::processor::soft
