// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/reencoder.h"

#include "base/verify.h"

namespace gnomon::processor::soft {

namespace {

constexpr u8 none = Instruction::no_register;

bool has(const DecodedInstruction& d, ZydisInstructionAttributes attribute) {
    return (d.z.attributes & attribute) != 0;
}

bool is_dropped_prefix(u8 prefix, bool code64) {
    switch (prefix) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x67: return true; // clang-format off
    default: return code64 && (prefix & 0xf0) == 0x40; // clang-format on
    }
}

/// Whether an instruction of a 16-bit code segment, where this is the default, needs a prefix here
/// to have 16-bit operands.
bool needs_operand_size_prefix(const DecodedInstruction& d) {
    if (d.z.operand_width != 16) return false;
    if (d.z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) return true;
    // Elsewhere 66 often is part of the opcode: only where the operands change with it.
    for (unsigned n = 0; n < d.z.operand_count; ++n) {
        const ZydisDecodedOperand& o = d.operands[n];
        if (o.type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(o.reg.value) == ZYDIS_REGCLASS_GPR16)
            return true;
        if (o.type == ZYDIS_OPERAND_TYPE_MEMORY && o.size == 16 &&
            d.disposition.feature == Feature::base)
            return true;
    }
    return false;
}

bool is_evex(const DecodedInstruction& d) {
    return d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
}
const u8* evex_bytes(const DecodedInstruction& d) { return d.bytes + d.z.raw.evex.offset; }

/// The fields that REX, VEX or EVEX extend, complete (0-15, or 0-31 of vector registers in EVEX).
struct Fields {
    u8 reg, rm, index, vvvv;
    bool w, l;
    u8 pp, map;
};

/// Whether W of VEX or EVEX is no more than the size of an integer, which 32-bit code has only one
/// of: there the bit is ignored (SDM vol. 2, the instructions' own pages).
bool w_is_integer_size(const DecodedInstruction& d) {
    switch (d.z.mnemonic) {
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTUSI2SS:
    case ZYDIS_MNEMONIC_VCVTUSI2SD:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRM: return true;
    default: break;
    }
    for (unsigned i = 0; i < d.z.operand_count_visible; ++i)
        if (d.operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            gpr_number(d.operands[i].reg.value) != none)
            return true;
    return false;
}

Fields guest_fields(const DecodedInstruction& d) {
    Fields f{};
    f.reg = static_cast<u8>(d.z.raw.modrm.reg);
    f.rm = static_cast<u8>(d.z.raw.modrm.rm);
    if (d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        const u8* vex = d.bytes + d.z.raw.vex.offset;
        const bool three = vex[0] == 0xc4;
        const u8 last = three ? vex[2] : vex[1];
        f.vvvv = static_cast<u8>(~last >> 3 & 15);
        f.l = (last & 4) != 0;
        f.pp = last & 3;
        f.w = three && (last & 0x80) != 0;
        f.map = three ? vex[1] & 31 : 1;
        if (!d.compact.code64) { // the bits that would extend a register are ignored
            f.vvvv &= 7;
            f.w = f.w && !w_is_integer_size(d);
            return f;
        }
        if ((vex[1] & 0x80) == 0) f.reg |= 8;
        if (three && (vex[1] & 0x20) == 0) f.rm |= 8;
        return f;
    }
    if (is_evex(d)) {
        const u8* evex = evex_bytes(d);
        f.vvvv = static_cast<u8>(~evex[2] >> 3 & 15);
        f.w = (evex[2] & 0x80) != 0;
        if (!d.compact.code64) {
            f.vvvv &= 7;
            f.w = f.w && !w_is_integer_size(d);
            return f;
        }
        if ((evex[1] & 0x80) == 0) f.reg |= 8;
        if ((evex[1] & 0x40) == 0) f.rm |= 16; // of a register
        if ((evex[1] & 0x20) == 0) f.rm |= 8;
        if ((evex[1] & 0x10) == 0) f.reg |= 16;
        if ((evex[3] & 0x08) == 0) f.vvvv |= 16;
        return f;
    }
    f.w = d.z.raw.rex.W != 0;
    if (d.z.raw.rex.R != 0) f.reg |= 8;
    if (d.z.raw.rex.B != 0) f.rm |= 8;
    return f;
}

/// 82 is another name of 80 outside 64-bit mode, and no instruction in it.
bool is_alias_of_80(const DecodedInstruction& d) {
    return d.z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && d.z.opcode == 0x82;
}

/// Whether the register sits in the low bits of the opcode.
bool register_in_opcode(const DecodedInstruction& d) {
    for (unsigned i = 0; i < d.z.operand_count_visible; ++i)
        if (d.operands[i].encoding == ZYDIS_OPERAND_ENCODING_OPCODE &&
            d.operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            return true;
    return false;
}

Fields host_fields(const DecodedInstruction& d, HostRegisters r, HostMemory memory) {
    Fields f = guest_fields(d);
    if (r.reg != none) f.reg = r.reg;
    if (register_in_opcode(d)) {
        f.rm =
            r.rm != none ? r.rm : static_cast<u8>((d.z.opcode & 7) | (d.z.raw.rex.B != 0 ? 8 : 0));
    } else if (memory == HostMemory::page_and_offset) {
        f.rm = 14;
        f.index = 13;
    } else if (memory == HostMemory::address) {
        f.rm = 14;
    } else if (memory == HostMemory::based) {
        f.rm = 14;
        f.index = r.base;
    } else if (memory == HostMemory::in_frame) {
        f.rm = 4; // a SIB byte follows
    } else if (r.rm != none) {
        f.rm = r.rm;
    }
    if (r.vvvv != none) f.vvvv = r.vvvv;
    return f;
}

/// @param scaled a displacement of one byte would count in units of the operand's size.
void emit_modrm(Assembler& a, const Fields& f, HostMemory memory, int displacement,
                bool scaled = false) {
    const u8 reg = static_cast<u8>((f.reg & 7) << 3);
    switch (memory) {
    case HostMemory::none: a.db(0xc0U | reg | (f.rm & 7U)); break;
    case HostMemory::address: // [R14 + displacement]
        if (displacement == 0) {
            a.db(0x00U | reg | 6U);
        } else if (!scaled && displacement == static_cast<i8>(displacement)) {
            a.db(0x40U | reg | 6U), a.db(static_cast<u8>(displacement));
        } else {
            a.db(0x80U | reg | 6U), a.dd(static_cast<u32>(displacement));
        }
        break;
    case HostMemory::page_and_offset: a.db(0x04U | reg), a.db(5U << 3 | 6U); break; // [R14 + R13]
    case HostMemory::based: { // [R14 + index + displacement]
        const u8 sib = static_cast<u8>((f.index & 7) << 3 | 6);
        if (displacement == 0) {
            a.db(0x04U | reg), a.db(sib);
        } else if (!scaled && displacement == static_cast<i8>(displacement)) {
            a.db(0x44U | reg), a.db(sib), a.db(static_cast<u8>(displacement));
        } else {
            a.db(0x84U | reg), a.db(sib), a.dd(static_cast<u32>(displacement));
        }
        break;
    }
    case HostMemory::in_frame: // 8 bits are enough
        VERIFY(!scaled);
        a.db(0x44U | reg), a.db(0x24), a.db(static_cast<u8>(displacement));
        break;
    }
}

void emit_immediates(Assembler& a, const DecodedInstruction& d) {
    if (d.z.raw.imm[0].size == 0) return;
    // Outside 64-bit mode the top bit of a register in the immediate is ignored.
    const bool is4 =
        d.operands[d.z.operand_count_visible - 1].encoding == ZYDIS_OPERAND_ENCODING_IS4;
    const u8 mask = is4 && !d.compact.code64 ? 0x7f : 0xff;
    for (u8 i = d.z.raw.imm[0].offset; i < d.z.length; ++i)
        a.db(d.bytes[i] & mask);
}

/// The prefix's payload but for the registers is the guest's: map, pp, z, L'L, b and aaa.
void emit_evex(Assembler& a, const DecodedInstruction& d, const Fields& f, HostMemory memory) {
    const u8* evex = evex_bytes(d);
    const bool x = memory == HostMemory::none ? (f.rm & 16) != 0 : (f.index & 8) != 0;
    a.db(0x62);
    a.db(((f.reg & 8) != 0 ? 0 : 0x80U) | (x ? 0 : 0x40U) | ((f.rm & 8) != 0 ? 0 : 0x20U) |
         ((f.reg & 16) != 0 ? 0 : 0x10U) | (evex[1] & 0x0fU));
    a.db((f.w ? 0x80U : 0) | (~f.vvvv & 15U) << 3 | (evex[2] & 0x07U));
    a.db((evex[3] & 0xf7U) | ((f.vvvv & 16) != 0 ? 0 : 0x08U));
}

} // namespace

bool means_another_thing_here(const DecodedInstruction& d) {
    if (d.compact.code64) return false;
    return d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX || is_evex(d) || is_alias_of_80(d);
}

bool needs_rex(const DecodedInstruction& d, HostRegisters registers, HostMemory memory) {
    const Fields f = host_fields(d, registers, memory);
    return has(d, ZYDIS_ATTRIB_HAS_REX) || ((f.reg | f.rm | f.index) & 8) != 0;
}

void reencode(Assembler& a, const DecodedInstruction& d, HostRegisters registers, HostMemory memory,
              int displacement) {
    const Fields f = host_fields(d, registers, memory);
    if (is_evex(d)) {
        emit_evex(a, d, f, memory);
        a.db(d.z.opcode);
        emit_modrm(a, f, memory, displacement, true);
        emit_immediates(a, d);
        return;
    }
    if (d.z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        const u8 last = static_cast<u8>((~f.vvvv & 15) << 3 | (f.l ? 4 : 0) | f.pp);
        if (f.map == 1 && !f.w && ((f.rm | f.index) & 8) == 0) {
            a.db(0xc5), a.db(((f.reg & 8) != 0 ? 0 : 0x80U) | last);
        } else {
            a.db(0xc4);
            a.db(((f.reg & 8) != 0 ? 0 : 0x80U) | ((f.index & 8) != 0 ? 0 : 0x40U) |
                 ((f.rm & 8) != 0 ? 0 : 0x20U) | f.map);
            a.db((f.w ? 0x80U : 0) | last);
        }
        a.db(d.z.opcode);
        if (has(d, ZYDIS_ATTRIB_HAS_MODRM)) emit_modrm(a, f, memory, displacement);
        emit_immediates(a, d);
        return;
    }

    for (u8 i = 0; i < d.z.raw.prefix_count; ++i) {
        const auto& prefix = d.z.raw.prefixes[i];
        const bool inverted =
            d.code16 && prefix.value == 0x66 && prefix.type != ZYDIS_PREFIX_TYPE_MANDATORY;
        if (!inverted && !is_dropped_prefix(prefix.value, d.compact.code64)) a.db(prefix.value);
    }
    if (d.code16 && needs_operand_size_prefix(d)) a.db(0x66);
    // INC and DEC with the register in the opcode are REX prefixes in 64-bit code: use their ModRM
    // forms.
    const bool short_inc = !d.compact.code64 && d.z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
                           (d.z.opcode & 0xf0) == 0x40;
    const u8 rex = static_cast<u8>((f.w ? 8 : 0) | (!short_inc && (f.reg & 8) != 0 ? 4 : 0) |
                                   ((f.index & 8) != 0 ? 2 : 0) | ((f.rm & 8) != 0 ? 1 : 0));
    if (rex != 0 || has(d, ZYDIS_ATTRIB_HAS_REX)) a.db(0x40U | rex);
    if (short_inc) {
        a.db(0xff), a.db(0xc0U | (d.z.opcode & 8) | (f.rm & 7U));
        return;
    }
    switch (d.z.opcode_map) {
    case ZYDIS_OPCODE_MAP_0F: a.db(0x0f); break;
    case ZYDIS_OPCODE_MAP_0F38: a.db(0x0f), a.db(0x38); break;
    case ZYDIS_OPCODE_MAP_0F3A: a.db(0x0f), a.db(0x3a); break;
    default: break;
    }
    if (register_in_opcode(d))
        a.db((d.z.opcode & 0xf8U) | (f.rm & 7U));
    else if (is_alias_of_80(d))
        a.db(0x80);
    else
        a.db(d.z.opcode);
    if (has(d, ZYDIS_ATTRIB_HAS_MODRM)) emit_modrm(a, f, memory, displacement);
    emit_immediates(a, d);
}

} // namespace gnomon::processor::soft
