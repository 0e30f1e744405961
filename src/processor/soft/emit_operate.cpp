// SPDX-License-Identifier: Apache-2.0
/// @file BlockEmitter: an instruction on host registers, and what becomes of guest R13-R15 in it.
///
/// These live in the frame. An instruction that names one gets it in a scratch register, where it
/// stays for what follows as long as nothing else is needed there (`m_high`), or reaches it in its
/// place, as a memory operand. What is written always goes to its place at once, so that the state
/// there is whole between instructions.
#include "processor/soft/emission.h"

#include "base/verify.h"

#include <algorithm>
#include <span>

namespace gnomon::processor::soft {

namespace h = Xbyak::util;

namespace {

/// An operand that lives in the frame.
struct HighOperand {
    u8 HostRegisters::*field;
    u8 guest;
    bool read, write;
    u16 bits;
};

const Xbyak::Reg64& scratch_register(unsigned n) { return n == 0 ? h::r13 : h::r14; }

/// Whether the instruction's ModRM.rm may as well be memory: it does the same then, and touches
/// no more than the operand's size.
bool works_in_memory(const DecodedInstruction& d, const HighOperand& o) {
    // A result of 32 bits would leave what lies above it.
    if (o.write && o.bits != 64) return false;
    switch (d.z.mnemonic) {
    case ZYDIS_MNEMONIC_MOV: return d.disposition.action != Action::refuse && o.bits >= 32;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT: return true;
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_MULX:
    case ZYDIS_MNEMONIC_ADCX:
    case ZYDIS_MNEMONIC_ADOX:
    case ZYDIS_MNEMONIC_RORX:
    case ZYDIS_MNEMONIC_SHLX:
    case ZYDIS_MNEMONIC_SHRX:
    case ZYDIS_MNEMONIC_SARX:
    case ZYDIS_MNEMONIC_ANDN: return !o.write;
    default: return d.z.meta.category == ZYDIS_CATEGORY_CMOV && !o.write;
    }
}

/// Whether the result does not depend on the one register that the instruction names.
bool is_zeroing(const DecodedInstruction& d) {
    return (d.z.mnemonic == ZYDIS_MNEMONIC_XOR || d.z.mnemonic == ZYDIS_MNEMONIC_SUB) &&
           d.operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
           d.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
           d.operands[0].reg.value == d.operands[1].reg.value && d.operands[0].size >= 32;
}

} // namespace

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

/// What is lost if the scratch register gets another content.
unsigned BlockEmitter::worth_of(unsigned scratch, const ScratchGuests& held) const {
    if (held[scratch] != none) return is_wanted_soon(held[scratch]) ? 3 : 1;
    return scratch == 1 && m_group_in_r14 != GroupedAccess::no_group ? 2 : 0;
}

/// Emits the instruction itself, on host registers.
void BlockEmitter::operate(const DecodedInstruction& d, HostMemory memory, int displacement,
                           u8 base) {
    if (memory == HostMemory::none) m_group_in_r14 = m_group_before;
    if (!d.compact.code64 &&
        (d.z.mnemonic == ZYDIS_MNEMONIC_VZEROALL || d.z.mnemonic == ZYDIS_MNEMONIC_VZEROUPPER)) {
        zero_first_vectors(d.z.mnemonic == ZYDIS_MNEMONIC_VZEROALL);
        return;
    }
    ScratchGuests held; // what the scratch registers hold here
    if (memory != HostMemory::page_and_offset) held[0] = m_high_before[0];
    if (memory == HostMemory::none) held[1] = m_high_before[1];

    HighOperand high[4];
    unsigned high_count = 0;
    HostRegisters registers;
    registers.base = base;
    bool replaced = means_another_thing_here(d);
    u8 high_byte_guest = none;
    u8 HostRegisters::*high_byte_field = nullptr;
    const bool zeroing = is_zeroing(d);
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
        high[high_count++] = {field, guest, !zeroing && (reads(o) || (writes(o) && partial)),
                              writes(o), o.size};
    }

    if (high_count == 0 && !replaced && memory == HostMemory::none && high_byte_guest == none &&
        !d.code16 &&
        (d.compact.code64 || (d.z.opcode & 0xf0) != 0x40 ||
         d.z.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)) {
        m.db(d.bytes, d.z.length); // as it is
        m_high = held;
        return;
    }

    if (memory == HostMemory::none)
        for (unsigned n = 0; n < high_count; ++n) {
            const HighOperand o = high[n];
            if (o.field != &HostRegisters::rm || !works_in_memory(d, o) || zeroing ||
                d.operands[0].encoding == ZYDIS_OPERAND_ENCODING_OPCODE)
                continue;
            const bool alone = std::count_if(high, high + high_count, [&](const HighOperand& e) {
                                   return e.guest == o.guest;
                               }) == 1;
            if (!alone || is_wanted_soon(o.guest) || (o.read && scratch_of(o.guest) != none))
                continue;
            memory = HostMemory::in_frame;
            displacement = static_cast<int>(frame_high(o.guest));
            if (o.write)
                for (unsigned s = 0; s < 2; ++s)
                    if (held[s] == o.guest) held[s] = none;
            std::copy(high + n + 1, high + high_count, high + n);
            --high_count;
            break;
        }

    // The others pass through the scratch registers. What is read needs one of its own; what is
    // only written may share with something read, never with something written.
    ScratchGuests in, out; // by scratch register: what is read, and what is only written
    bool written[2] = {false, false};
    const std::span operands(high, high_count);
    if (memory == HostMemory::page_and_offset &&
        std::any_of(operands.begin(), operands.end(),
                    [](const HighOperand& o) { return o.read; })) {
        m.lea(h::r14, m.ptr[h::r14 + h::r13]);
        memory = HostMemory::address;
    }
    const unsigned readable = memory == HostMemory::address || memory == HostMemory::based ? 1 : 2;
    for (const HighOperand& o : operands) // what is there already
        for (unsigned s = 0; s < readable; ++s)
            if (o.read && held[s] == o.guest) in[s] = o.guest;
    for (const HighOperand& o : operands) {
        if (!o.read) continue;
        unsigned slot = 2;
        for (unsigned s = 0; s < readable; ++s)
            if (in[s] == o.guest) slot = s;
        if (slot == 2) {
            for (unsigned s = 0; s < readable; ++s)
                if (in[s] == none && (slot == 2 || worth_of(s, held) < worth_of(slot, held)))
                    slot = s;
            VERIFY(slot < 2);
            in[slot] = o.guest;
            m.load_frame(scratch_register(slot), frame_high(o.guest));
        }
        written[slot] = written[slot] || o.write;
        registers.*o.field = static_cast<u8>(13 + slot);
    }
    for (const HighOperand& o : operands) {
        if (o.read) continue;
        unsigned slot = 2;
        // One register as both results (MULX) stays one: the instruction says which wins.
        for (unsigned s = 0; s < 2; ++s)
            if (in[s] == o.guest || out[s] == o.guest) slot = s;
        if (slot == 2) {
            // Not one whose register is yet to be written: MULX r14, r13, r13.
            const auto claimed = [&](u8 loaded) {
                return std::any_of(operands.begin(), operands.end(),
                                   [loaded](const HighOperand& other) {
                                       return other.write && other.guest == loaded;
                                   });
            };
            for (unsigned s = 0; s < 2; ++s) {
                if (written[s] || claimed(in[s])) continue;
                const bool better =
                    slot == 2 || held[s] == o.guest ||
                    (held[slot] != o.guest && worth_of(s, held) < worth_of(slot, held));
                if (better) slot = s;
            }
            VERIFY(slot < 2);
            out[slot] = o.guest;
        }
        written[slot] = written[slot] || o.write;
        registers.*o.field = static_cast<u8>(13 + slot);
    }

    u8 swapped = none;
    VERIFY(high_byte_guest == none || memory != HostMemory::based);
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
            held[0] = none;
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
    for (unsigned s = 0; s < 2; ++s)
        m_high[s] = out[s] != none ? out[s] : in[s] != none ? in[s] : held[s];
    for (const HighOperand& o : operands) {
        if (!o.write) continue;
        const unsigned slot = registers.*o.field - 13U;
        m.store_frame(frame_high(o.guest), scratch_register(slot));
        VERIFY(m_high[1 - slot] != o.guest); // no old value is left
    }
}

} // namespace gnomon::processor::soft
