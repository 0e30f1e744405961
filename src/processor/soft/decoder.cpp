// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/decoder.h"

#include "base/verify.h"

#include <algorithm>
#include <cstring>

namespace gnomon::processor::soft {

namespace {

/// The number of a segment, control, debug, MMX or vector register, or of a GPR.
u8 register_number(ZydisRegister reg) {
    if (const u8 n = gpr_number(reg); n != Instruction::no_register) return n;
    const ZyanI8 id = ZydisRegisterGetId(reg);
    return id < 0 ? Instruction::no_register : static_cast<u8>(id);
}

SegmentName segment_name(ZydisRegister reg) {
    switch (reg) {
    case ZYDIS_REGISTER_ES: return seg_es;
    case ZYDIS_REGISTER_CS: return seg_cs;
    case ZYDIS_REGISTER_SS: return seg_ss;
    case ZYDIS_REGISTER_FS: return seg_fs;
    case ZYDIS_REGISTER_GS: return seg_gs;
    default: return seg_ds;
    }
}

void fill_memory(Instruction& out, const ZydisDecodedOperand& operand) {
    out.is_memory = true;
    out.segment = segment_name(operand.mem.segment);
    if (operand.mem.base == ZYDIS_REGISTER_RIP || operand.mem.base == ZYDIS_REGISTER_EIP)
        out.base = Instruction::rip_register;
    else
        out.base = gpr_number(operand.mem.base);
    out.index = operand.mem.index == ZYDIS_REGISTER_NONE ? Instruction::no_register
                                                         : register_number(operand.mem.index);
    out.scale = operand.mem.scale == 0 ? 1 : operand.mem.scale;
    out.displacement = operand.mem.disp.has_displacement ? operand.mem.disp.value : 0;
    out.memory_size = static_cast<u8>(std::min<unsigned>(operand.size / 8U, 255));
}

/// Segment prefix in force, for instructions whose memory operands are implicit.
u8 override_segment(const ZydisDecodedInstruction& z) {
    if ((z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS) != 0) return seg_fs;
    if ((z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS) != 0) return seg_gs;
    if (z.machine_mode == ZYDIS_MACHINE_MODE_LONG_64) return seg_ds;
    if ((z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_CS) != 0) return seg_cs;
    if ((z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_SS) != 0) return seg_ss;
    if ((z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_ES) != 0) return seg_es;
    return seg_ds;
}

/// With a 32-bit address size Zydis 4.0 takes a SIB byte whose base is 101 and mod 00 - a
/// displacement and no base - for R13 when REX.B is set. The processor does not look at REX.B there
/// (SDM vol. 2A table 2-5).
void correct_sib_base(DecodedInstruction& d) {
    const auto& modrm = d.z.raw.modrm;
    if (d.z.address_width != 32 || (d.z.attributes & ZYDIS_ATTRIB_HAS_SIB) == 0 || modrm.mod != 0 ||
        d.z.raw.sib.base != 5)
        return;
    for (unsigned i = 0; i < d.z.operand_count; ++i) {
        ZydisDecodedOperand& operand = d.operands[i];
        if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY ||
            operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
            continue;
        operand.mem.base = ZYDIS_REGISTER_NONE;
        operand.mem.disp.has_displacement = ZYAN_TRUE;
        operand.mem.disp.value = d.z.raw.disp.value;
    }
}

void fill_compact(DecodedInstruction& d, u16 page_offset, bool code64) {
    Instruction& out = d.compact;
    out = {};
    out.mnemonic = static_cast<u16>(d.z.mnemonic);
    out.page_offset = page_offset;
    out.length = d.z.length;
    out.opcode = d.z.opcode;
    out.operand_size = static_cast<u8>(d.z.operand_width / 8);
    out.address_size = static_cast<u8>(d.z.address_width / 8);
    out.stack_size = static_cast<u8>(d.z.stack_width / 8);
    out.code64 = code64;
    for (u8 i = 0; i < d.z.raw.prefix_count; ++i) {
        if (d.z.raw.prefixes[i].value == 0xf3) out.rep = true, out.repne = false;
        if (d.z.raw.prefixes[i].value == 0xf2) out.repne = true, out.rep = false;
    }
    out.vector_length =
        d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? (d.z.raw.vex.L != 0 ? 32 : 16) : 0;
    if (d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
        out.evex = true;
        out.vector_length = static_cast<u8>(d.z.avx.vector_length / 8);
        out.mask = d.z.raw.evex.aaa;
    }
    out.segment = override_segment(d.z);
    bool first_immediate = true;
    for (unsigned i = 0; i < d.z.operand_count; ++i) {
        const ZydisDecodedOperand& op = d.operands[i];
        switch (op.type) {
        case ZYDIS_OPERAND_TYPE_REGISTER: {
            const u8 n = register_number(op.reg.value);
            if (op.encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
                out.reg = n;
                out.reg_high_byte = is_high_byte(op.reg.value);
            } else if (op.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
                       op.encoding == ZYDIS_OPERAND_ENCODING_OPCODE) {
                out.rm = n;
                out.rm_high_byte = is_high_byte(op.reg.value);
            } else if (op.encoding == ZYDIS_OPERAND_ENCODING_NDSNDD) {
                out.vvvv = n;
            } else if (op.visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
                       out.reg == Instruction::no_register &&
                       (d.z.mnemonic == ZYDIS_MNEMONIC_PUSH ||
                        d.z.mnemonic == ZYDIS_MNEMONIC_POP)) {
                out.reg = n; // PUSH FS and the like: the segment is part of the opcode
            }
            break;
        }
        case ZYDIS_OPERAND_TYPE_MEMORY:
            if (op.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) fill_memory(out, op);
            break;
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            (first_immediate ? out.immediate : out.immediate2) = op.imm.value.u;
            first_immediate = false;
            break;
        case ZYDIS_OPERAND_TYPE_POINTER:
            out.immediate = op.ptr.offset;
            out.immediate2 = op.ptr.segment;
            break;
        default: break;
        }
    }
    // String and XLAT operands have no ModRM; their element size is that of the memory operand.
    if (!out.is_memory && out.memory_size == 0)
        for (unsigned i = 0; i < d.z.operand_count; ++i)
            if (d.operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
                out.memory_size = static_cast<u8>(std::min<unsigned>(d.operands[i].size / 8U, 255));
                break;
            }
}

void fill_flags(DecodedInstruction& d) {
    d.flags_read = 0;
    d.flags_written = 0;
    if (d.z.cpu_flags == nullptr) return;
    const ZydisAccessedFlags& f = *d.z.cpu_flags;
    d.flags_read = static_cast<u16>(f.tested & rflags::arithmetic);
    d.flags_written =
        static_cast<u16>((f.modified | f.set_0 | f.set_1 | f.undefined) & rflags::arithmetic);
    switch (d.z.mnemonic) {
    // A count of zero leaves every flag alone; a zero source leaves BSF's and BSR's undefined flags
    // alone.
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR: // clang-format off
        if (const auto& count = d.operands[d.z.operand_count_visible - 1];
            count.type != ZYDIS_OPERAND_TYPE_IMMEDIATE || (count.imm.value.u & 31) == 0)
            d.flags_written = 0;
        break; // clang-format on
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR: d.flags_written = rflags::zf; break;
    // What is undefined here, some hosts leave alone.
    case ZYDIS_MNEMONIC_TZCNT:
    case ZYDIS_MNEMONIC_LZCNT: d.flags_written = rflags::cf | rflags::zf; break;
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL: d.flags_written = rflags::cf | rflags::of; break;
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: d.flags_written = 0; break;
    default: break;
    }
}

} // namespace

u8 gpr_number(ZydisRegister reg) {
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
        if (is_high_byte(reg)) return static_cast<u8>(reg - ZYDIS_REGISTER_AH);
        if (reg >= ZYDIS_REGISTER_SPL) return static_cast<u8>(reg - ZYDIS_REGISTER_SPL + 4);
        return static_cast<u8>(reg - ZYDIS_REGISTER_AL);
    case ZYDIS_REGCLASS_GPR16: return static_cast<u8>(reg - ZYDIS_REGISTER_AX);
    case ZYDIS_REGCLASS_GPR32: return static_cast<u8>(reg - ZYDIS_REGISTER_EAX);
    case ZYDIS_REGCLASS_GPR64: return static_cast<u8>(reg - ZYDIS_REGISTER_RAX);
    default: return Instruction::no_register;
    }
}

bool is_high_byte(ZydisRegister reg) {
    return reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
}

const ZydisDecodedOperand* DecodedInstruction::memory() const {
    for (unsigned i = 0; i < z.operand_count; ++i)
        if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            operands[i].mem.type == ZYDIS_MEMOP_TYPE_MEM &&
            operands[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            return &operands[i];
    return nullptr;
}

Decoder::Decoder() {
    VERIFY(ZYAN_SUCCESS(
        ZydisDecoderInit(&m_decoder64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)));
    VERIFY(ZYAN_SUCCESS(
        ZydisDecoderInit(&m_decoder32, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32)));
    VERIFY(ZYAN_SUCCESS(
        ZydisDecoderInit(&m_decoder16, ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16)));
    for (ZydisDecoder* decoder : {&m_decoder64, &m_decoder32, &m_decoder16}) {
        // Hints that are never shown by CPUID decode as the NOPs they then are.
        for (const ZydisDecoderMode mode : {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CLDEMOTE,
                                            ZYDIS_DECODER_MODE_KNC, ZYDIS_DECODER_MODE_CET})
            VERIFY(ZYAN_SUCCESS(ZydisDecoderEnableMode(decoder, mode, ZYAN_FALSE)));
    }
}

DecodeStatus Decoder::decode(std::span<const u8> bytes, Mode mode, u16 page_offset,
                             FeatureSet features, DecodedInstruction& out) const {
    const ZydisDecoder& decoder = mode.has(Mode::code64)   ? m_decoder64
                                  : mode.has(Mode::code16) ? m_decoder16
                                                           : m_decoder32;
    out.code16 = mode.has(Mode::code16);
    const std::size_t length = std::min<std::size_t>(bytes.size(), 15);
    const ZyanStatus status =
        ZydisDecoderDecodeFull(&decoder, bytes.data(), length, &out.z, out.operands);
    if (ZYAN_SUCCESS(status)) {
        std::memcpy(out.bytes, bytes.data(), out.z.length);
        correct_sib_base(out);
        out.disposition = disposition(out.z, features);
        fill_compact(out, page_offset, mode.has(Mode::code64));
        // SS says how wide the stack is, whatever the code.
        if (!mode.has(Mode::code64)) out.compact.stack_size = mode.has(Mode::stack16) ? 2 : 4;
        fill_flags(out);
        return DecodeStatus::ok;
    }
    if (status == ZYDIS_STATUS_NO_MORE_DATA && length < 15) return DecodeStatus::truncated;
    // SDM vol. 3A section 6.15, interrupt 13: longer than 15 bytes.
    const bool too_long =
        status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
    out.z = {};
    out.compact = {};
    out.compact.page_offset = page_offset;
    out.compact.length = 1;
    out.compact.code64 = mode.has(Mode::code64);
    out.disposition = {};
    if (too_long) {
        out.disposition.action = Action::helper_end;
        out.disposition.helper = raise_gp;
    }
    out.flags_read = rflags::arithmetic;
    out.flags_written = 0;
    out.z.length = 1;
    out.z.operand_count = 0;
    return DecodeStatus::invalid;
}

} // namespace gnomon::processor::soft
