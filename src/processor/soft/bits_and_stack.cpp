// SPDX-License-Identifier: Apache-2.0
/// @file BT/BTS/BTR/BTC on memory, CMPXCHG8B/16B, ENTER, PUSHA, POPA, BOUND, INTO, XLAT, SALC and
/// the BCD adjustments.
#include "processor/soft/arithmetic_flags.h"
#include "processor/soft/events.h"
#include "processor/soft/helpers.h"

#include <Zydis/Zydis.h>
#include <array>
#include <cstring>

namespace gnomon::processor::soft {
namespace {

constexpr u64 cache_line = 64;

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
            if (!m_cpu.probe_write(pushed(pointer, n), m_element)) return false;
        return true;
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

/// LOCK CMPXCHG8B and CMPXCHG16B: `expected` gets the old content if it differs; returns whether it
/// was equal. SAFETY: `at` is host memory of two halves; for halves of 8 bytes it is 16-byte
/// aligned.
bool host_cmpxchg(Hva at, unsigned half, u64 (&expected)[2], const u64 (&desired)[2]) {
    bool equal;
    if (half == 8)
        asm volatile("lock cmpxchg16b (%[at])"
                     : "+a"(expected[0]), "+d"(expected[1]), "=@ccz"(equal)
                     : [at] "r"(at), "b"(desired[0]), "c"(desired[1])
                     : "memory");
    else
        asm volatile("lock cmpxchg8b (%[at])"
                     : "+a"(expected[0]), "+d"(expected[1]), "=@ccz"(equal)
                     : [at] "r"(at), "b"(desired[0]), "c"(desired[1])
                     : "memory");
    return equal;
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
    if (!stack.probe_pushes(start, pushes) || !cpu.probe_write(stack.at(final_pointer), size))
        return HelperResult::fault;

    // Frame pointers of the outer levels lie below the one in rBP. Read all before the first push,
    // so that a fault changes nothing.
    const u64 frame = cpu.gpr(rbp, insn.stack_size);
    std::array<u64, 32> display{};
    for (u64 i = 1; i < level; ++i)
        if (!cpu.read(stack.at(frame - i * size), &display[i], size)) return HelperResult::fault;

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
        if (target != rsp && !cpu.read(stack.at(start + u64{i} * size), &values[target], size))
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
    if (!cpu.read(cpu.effective_address(insn), limits, 2 * u64{size})) return HelperResult::fault;
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
    if (!cpu.read_object(cpu.linear(insn.segment, offset & low_bytes(insn.address_size)), value))
        return HelperResult::fault;
    cpu.set_gpr(rax, 1, value);
    return HelperResult::next;
}

HelperResult cmpxchg_wide(Cpu& cpu, const Instruction& insn) {
    const bool is_16b = insn.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;
    const unsigned half = is_16b ? 8 : 4;
    const u64 size = 2 * u64{half};
    const Gva gva = cpu.effective_address(insn);
    if (is_16b && gva.value() % 16 != 0) return cpu.raise(Vector::gp, 0);

    u64 old[2] = {cpu.gpr(rax, half), cpu.gpr(rdx, half)};
    const u64 desired[2] = {cpu.gpr(rbx, half), cpu.gpr(rcx, half)};
    bool equal;
    const Hva host = in_place(cpu, gva, size, true);
    if (host == nullptr && refused(cpu)) return HelperResult::fault;
    // Within a cache line; a split lock is for the host to refuse, and CMPXCHG16B is aligned.
    if (host != nullptr && gva.value() % cache_line + size <= cache_line) {
        equal = host_cmpxchg(host, half, old, desired);
    } else {
        u8 content[16];
        if (!cpu.probe_write(gva, size) || !cpu.read(gva, content, size))
            return HelperResult::fault;
        u64 found[2] = {};
        std::memcpy(&found[0], content, half);
        std::memcpy(&found[1], content + half, half);
        equal = found[0] == old[0] && found[1] == old[1];
        if (equal) {
            std::memcpy(content, &desired[0], half);
            std::memcpy(content + half, &desired[1], half);
        }
        // Without a match the old content is written back: the operand is always written.
        if (!cpu.write(gva, content, size)) return HelperResult::fault;
        old[0] = found[0];
        old[1] = found[1];
    }
    u64& flags = cpu.cb.state.rflags;
    flags = replace_flags(flags, rflags::zf, equal ? rflags::zf : 0);
    if (!equal) {
        cpu.set_gpr(rax, half, old[0]);
        cpu.set_gpr(rdx, half, old[1]);
    }
    return HelperResult::next;
}

} // namespace gnomon::processor::soft
