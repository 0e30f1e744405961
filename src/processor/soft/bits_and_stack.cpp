// SPDX-License-Identifier: Apache-2.0
/// @file BT/BTS/BTR/BTC on memory, ENTER, PUSHA, POPA, BOUND, INTO, XLAT, SALC and
/// the BCD adjustments.
#include "processor/soft/access_checks.h"
#include "processor/soft/arithmetic_flags.h"
#include "processor/soft/events.h"
#include "processor/soft/helpers.h"

#include <Zydis/Zydis.h>
#include <array>
#include <cstring>

namespace gnomon::processor::soft {
namespace {

/// The lowest `size` bytes of a register: `size` is 1, 2, 4 or 8.
constexpr u64 low_bytes(unsigned size) { return size >= 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1; }

constexpr i64 sign_extended(u64 value, unsigned size) {
    const unsigned shift = 64 - 8 * size;
    return static_cast<i64>(value << shift) >> shift;
}

/// The host address if [gva, gva + size) can be used in place. With nullptr: Cpu::pending says
/// whether it cannot be used at all.
Hva in_place(Cpu& cpu, Gva gva, u64 size, bool write) {
    cpu.pending.kind = Pending::Kind::none;
    if (gva.page_offset() + size > page_size) return nullptr;
    return cpu.direct(gva, size, write);
}

bool refused(const Cpu& cpu) { return cpu.pending.kind != Pending::Kind::none; }

enum class BitOperation : u8 { test, set, reset, complement };

BitOperation bit_operation(u16 mnemonic) {
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_BTS: return BitOperation::set;
    case ZYDIS_MNEMONIC_BTR: return BitOperation::reset;
    case ZYDIS_MNEMONIC_BTC: return BitOperation::complement;
    default: return BitOperation::test;
    }
}

/// Does `operation` on the bits of `mask` in one byte, atomically, and returns the old byte. One
/// byte is enough: no other bit changes, and unlike the whole operand it cannot straddle a cache
/// line.
u8 atomic_bit_operation(Hva byte, u8 mask, BitOperation operation) {
    u8* const p = reinterpret_cast<u8*>(byte);
    switch (operation) {
    case BitOperation::set: return __atomic_fetch_or(p, mask, __ATOMIC_SEQ_CST);
    case BitOperation::reset:
        return __atomic_fetch_and(p, static_cast<u8>(~mask), __ATOMIC_SEQ_CST);
    case BitOperation::complement: return __atomic_fetch_xor(p, mask, __ATOMIC_SEQ_CST);
    case BitOperation::test: break;
    }
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

HelperResult carry_from(Cpu& cpu, bool bit) {
    u64& flags = cpu.cb.state.rflags;
    flags = replace_flags(flags, rflags::cf, bit ? rflags::cf : 0);
    return HelperResult::next;
}

/// The stack as PUSH and POP of `element` bytes see it; the register itself changes only by
/// `set_pointer`.
class Stack {
public:
    Stack(Cpu& cpu, const Instruction& insn)
        : m_cpu(cpu), m_width(insn.stack_size), m_element(insn.operand_size) {}

    [[nodiscard]] u64 pointer() const { return m_cpu.gpr(rsp, m_width); }
    void set_pointer(u64 value) { m_cpu.set_gpr(rsp, m_width, value); }
    /// Linear address of `offset` in the stack segment, wrapped to the stack's width.
    [[nodiscard]] Gva at(u64 offset) const {
        return m_cpu.linear(seg_ss, offset & low_bytes(m_width));
    }
    /// Address of the element that the `n`th push (from 1) from `pointer` writes.
    [[nodiscard]] Gva pushed(u64 pointer, u64 n) const { return at(pointer - n * m_element); }
    [[nodiscard]] bool probe_pushes(u64 pointer, u64 count) const {
        for (u64 n = 1; n <= count; ++n)
            if (!may_write(pushed(pointer, n))) return false;
        return true;
    }
    /// Whether an element could be written at `address`.
    [[nodiscard]] bool may_write(Gva address) const {
        return check_access(m_cpu, seg_ss, address, m_element, true) &&
               m_cpu.probe_write(address, m_element);
    }
    [[nodiscard]] bool read(u64 offset, u64& out) const {
        const Gva address = at(offset);
        return check_access(m_cpu, seg_ss, address, m_element, false) &&
               m_cpu.read(address, &out, m_element);
    }

private:
    Cpu& m_cpu;
    const unsigned m_width, m_element;
};

/// AL, and the flags that the adjustments after addition and subtraction read.
struct Bcd {
    unsigned al, ah;
    bool cf, af;
};

/// AAA and AAS: `sign` is 1 or -1.
void ascii_adjust(Cpu& cpu, const Bcd& in, int sign) {
    const bool adjust = (in.al & 15) > 9 || in.af;
    u64 ax = cpu.gpr(rax, 2);
    if (adjust) ax += static_cast<u64>(i64{sign} * 0x106);
    ax &= 0xff0f;
    cpu.set_gpr(rax, 2, ax);
    u64& flags = cpu.cb.state.rflags;
    flags = replace_flags(flags, rflags::cf | rflags::af, adjust ? rflags::cf | rflags::af : 0);
}

/// DAA and DAS: `sign` is 1 or -1.
void decimal_adjust(Cpu& cpu, const Bcd& in, int sign) {
    const bool low = (in.al & 15) > 9 || in.af;
    const bool high = in.al > 0x99 || in.cf;
    int al = static_cast<int>(in.al);
    bool cf = high;
    if (low) {
        al += sign * 6;
        // DAS also reports the borrow out of the low adjustment; DAA's carry implies `high`.
        cf = cf || al < 0;
    }
    if (high) al += sign * 0x60;
    const auto result = static_cast<u8>(al);
    cpu.set_gpr(rax, 1, result);
    u64& flags = cpu.cb.state.rflags;
    flags =
        replace_flags(flags, rflags::cf | rflags::af | rflags::sf | rflags::zf | rflags::pf,
                      byte_result_flags(result) | (cf ? rflags::cf : 0) | (low ? rflags::af : 0));
}

void byte_result(Cpu& cpu, u8 al, u8 ah) {
    cpu.set_gpr(rax, 2, u64{ah} << 8 | al);
    u64& flags = cpu.cb.state.rflags;
    flags = replace_flags(flags, rflags::sf | rflags::zf | rflags::pf, byte_result_flags(al));
}

} // namespace

HelperResult bit_test_memory(Cpu& cpu, const Instruction& insn) {
    const unsigned size = insn.operand_size;
    const BitOperation operation = bit_operation(insn.mnemonic);
    const auto bits = static_cast<i64>(size) * 8;
    // 0F BA takes the offset as an immediate, which cannot reach past the operand.
    const i64 offset = insn.opcode == 0xba ? static_cast<i64>(insn.immediate) & (bits - 1)
                                           : sign_extended(cpu.gpr(insn.reg, size), size);
    const auto bit = static_cast<unsigned>(offset & (bits - 1));
    // The signed bit offset reaches past the operand: fold whole operands into the displacement, so
    // that the sum wraps as the address size has it.
    Instruction folded = insn;
    folded.displacement = static_cast<i64>(static_cast<u64>(insn.displacement) +
                                           static_cast<u64>((offset - bit) / 8));
    const Gva gva = cpu.effective_address(folded);
    if (insn.code64 && insn.segment == seg_ss && !Cpu::canonical(gva.value()))
        return cpu.raise(Vector::ss, 0);
    if (!check_access(cpu, insn.segment, gva, size, operation != BitOperation::test))
        return HelperResult::fault;

    const auto mask = static_cast<u8>(1U << (bit % 8));
    const bool write = operation != BitOperation::test;
    if (const Hva host = in_place(cpu, gva, size, write); host != nullptr)
        return carry_from(cpu, (atomic_bit_operation(host + bit / 8, mask, operation) & mask) != 0);
    if (refused(cpu)) return HelperResult::fault;

    u8 operand[8] = {};
    if ((write && !cpu.probe_write(gva, size)) || !cpu.read(gva, operand, size))
        return HelperResult::fault;
    const bool old = (operand[bit / 8] & mask) != 0;
    if (write) {
        // A straddling operand: the one byte that changes may still be plain RAM, and then stays
        // atomic.
        cpu.pending.kind = Pending::Kind::none;
        if (const Hva host = cpu.direct(gva + bit / 8, 1, true); host != nullptr)
            return carry_from(cpu, (atomic_bit_operation(host, mask, operation) & mask) != 0);
        if (refused(cpu)) return HelperResult::fault;
        u8& byte = operand[bit / 8];
        if (operation == BitOperation::set)
            byte |= mask;
        else if (operation == BitOperation::reset)
            byte = static_cast<u8>(byte & ~mask);
        else
            byte ^= mask;
        if (!cpu.write(gva, operand, size)) return HelperResult::fault;
    }
    return carry_from(cpu, old);
}

HelperResult enter(Cpu& cpu, const Instruction& insn) {
    const unsigned size = insn.operand_size;
    const u64 level = insn.immediate2 & 31;
    Stack stack(cpu, insn);
    const u64 start = stack.pointer();
    const u64 pushes = level == 0 ? 1 : level + 1;
    const u64 final_pointer = start - pushes * size - (insn.immediate & 0xffff);
    // A write at the final stack pointer would have to succeed, too (SDM vol. 2, ENTER).
    if (!stack.probe_pushes(start, pushes) || !stack.may_write(stack.at(final_pointer)))
        return HelperResult::fault;

    // Frame pointers of the outer levels lie below the one in rBP. Read all before the first push,
    // so that a fault changes nothing.
    const u64 frame = cpu.gpr(rbp, insn.stack_size);
    std::array<u64, 32> display{};
    for (u64 i = 1; i < level; ++i)
        if (!stack.read(frame - i * size, display[i])) return HelperResult::fault;

    const u64 frame_temp = start - size;
    u64 pushed = 0;
    const auto push = [&](u64 value) {
        return cpu.write(stack.pushed(start, ++pushed), &value, size);
    };
    if (!push(cpu.cb.state.gpr[rbp])) return HelperResult::fault;
    for (u64 i = 1; i < level; ++i) {
        // Should the old frame overlap the new one, an outer frame pointer may be what was just
        // pushed.
        for (u64 byte = 0; byte < size; ++byte) {
            const u64 below = (start - (frame - i * size + byte) - 1) & low_bytes(insn.stack_size);
            if (below >= pushed * size) continue;
            if (!cpu.read(stack.at(frame - i * size + byte),
                          reinterpret_cast<u8*>(&display[i]) + byte, 1))
                return HelperResult::fault;
        }
        if (!push(display[i])) return HelperResult::fault;
    }
    if (level != 0 && !push(frame_temp)) return HelperResult::fault;
    cpu.set_gpr(rbp, size, frame_temp);
    stack.set_pointer(final_pointer);
    return HelperResult::next;
}

HelperResult pusha(Cpu& cpu, const Instruction& insn) {
    if (insn.code64) return cpu.raise(Vector::ud);
    const unsigned size = insn.operand_size;
    Stack stack(cpu, insn);
    const u64 start = stack.pointer();
    if (!stack.probe_pushes(start, 8)) return HelperResult::fault;
    for (unsigned i = 0; i < 8; ++i) // in encoding order, rSP as it was before
        if (!cpu.write(stack.pushed(start, i + 1), &cpu.cb.state.gpr[i], size))
            return HelperResult::fault;
    stack.set_pointer(start - 8 * u64{size});
    return HelperResult::next;
}

HelperResult popa(Cpu& cpu, const Instruction& insn) {
    if (insn.code64) return cpu.raise(Vector::ud);
    const unsigned size = insn.operand_size;
    Stack stack(cpu, insn);
    const u64 start = stack.pointer();
    std::array<u64, 8> values{};
    for (unsigned i = 0; i < 8; ++i) {
        const unsigned target = 7 - i;
        if (target != rsp && !stack.read(start + u64{i} * size, values[target]))
            return HelperResult::fault;
    }
    for (unsigned i = 0; i < 8; ++i)
        if (i != rsp) cpu.set_gpr(i, size, values[i]);
    stack.set_pointer(start + 8 * u64{size});
    return HelperResult::next;
}

HelperResult bound(Cpu& cpu, const Instruction& insn) {
    if (insn.code64 || !insn.is_memory) return cpu.raise(Vector::ud);
    const unsigned size = insn.operand_size;
    u8 limits[8] = {};
    const Gva gva = cpu.effective_address(insn);
    if (!check_access(cpu, insn.segment, gva, 2 * u64{size}, false, size) ||
        !cpu.read(gva, limits, 2 * u64{size}))
        return HelperResult::fault;
    u64 lower = 0;
    u64 upper = 0;
    std::memcpy(&lower, limits, size);
    std::memcpy(&upper, limits + size, size);
    const i64 index = sign_extended(cpu.gpr(insn.reg, size), size);
    if (index < sign_extended(lower, size) || index > sign_extended(upper, size))
        return cpu.raise(Vector::br);
    return HelperResult::next;
}

HelperResult into(Cpu& cpu, const Instruction& insn) {
    if (insn.code64) return cpu.raise(Vector::ud);
    // A trap: RIP goes past the instruction.
    if ((cpu.cb.state.rflags & rflags::of) != 0) return deliver_software_interrupt(cpu, insn, 4);
    return HelperResult::next;
}

HelperResult bcd_adjust(Cpu& cpu, const Instruction& insn) {
    if (insn.code64) return cpu.raise(Vector::ud);
    const u64 flags = cpu.cb.state.rflags;
    const Bcd in{static_cast<unsigned>(cpu.gpr(rax, 1)),
                 static_cast<unsigned>(cpu.gpr(rax, 1, true)), (flags & rflags::cf) != 0,
                 (flags & rflags::af) != 0};
    const auto base = static_cast<unsigned>(insn.immediate & 0xff);
    switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_AAA: ascii_adjust(cpu, in, 1); break;
    case ZYDIS_MNEMONIC_AAS: ascii_adjust(cpu, in, -1); break;
    case ZYDIS_MNEMONIC_DAA: decimal_adjust(cpu, in, 1); break;
    case ZYDIS_MNEMONIC_DAS: decimal_adjust(cpu, in, -1); break;
    case ZYDIS_MNEMONIC_AAM:
        if (base == 0) return cpu.raise(Vector::de);
        byte_result(cpu, static_cast<u8>(in.al % base), static_cast<u8>(in.al / base));
        break;
    case ZYDIS_MNEMONIC_AAD: byte_result(cpu, static_cast<u8>(in.al + in.ah * base), 0); break;
    default: return cpu.raise(Vector::ud);
    }
    return HelperResult::next;
}

HelperResult salc(Cpu& cpu, const Instruction& insn) {
    if (insn.code64) return cpu.raise(Vector::ud);
    cpu.set_gpr(rax, 1, (cpu.cb.state.rflags & rflags::cf) != 0 ? 0xff : 0);
    return HelperResult::next;
}

HelperResult xlat(Cpu& cpu, const Instruction& insn) {
    const u64 offset = cpu.gpr(rbx, insn.address_size) + cpu.gpr(rax, 1);
    u8 value = 0;
    const Gva gva = cpu.linear(insn.segment, offset & low_bytes(insn.address_size));
    if (!check_access(cpu, insn.segment, gva, sizeof value, false) || !cpu.read_object(gva, value))
        return HelperResult::fault;
    cpu.set_gpr(rax, 1, value);
    return HelperResult::next;
}

} // namespace gnomon::processor::soft
