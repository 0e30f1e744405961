// SPDX-License-Identifier: Apache-2.0
/// @file Explicit operands and the stack, as the helpers for system instructions use them.
///
/// False means that Cpu::pending says what stands in the way and that no register was changed.
#pragma once

#include "processor/soft/cpu.h"

#include <span>

namespace gnomon::processor::soft {

/// Reads or writes `size` bytes of the memory operand, `offset` bytes into it.
[[nodiscard]] bool read_operand(Cpu& cpu, const Instruction& insn, void* out, u64 size,
                                u64 offset = 0);
[[nodiscard]] bool write_operand(Cpu& cpu, const Instruction& insn, const void* in, u64 size);

/// Reads the 16-bit r/m operand.
[[nodiscard]] bool read_rm16(Cpu& cpu, const Instruction& insn, u16& out);
/// Stores a system register as SLDT, STR, SMSW and MOV from a segment register do: a register
/// operand gets `value` in its operand size, a memory operand its low 16 bits.
[[nodiscard]] bool store_system_register(Cpu& cpu, const Instruction& insn, u64 value);

/// A far pointer: the immediate, or the memory operand (offset of the operand size, then the
/// selector).
struct FarPointer {
    u64 offset = 0;
    u16 selector = 0;
};
[[nodiscard]] bool read_far_pointer(Cpu& cpu, const Instruction& insn, FarPointer& out);

/// Bytes that PUSH, POP, PUSHF and POPF of this operand size move.
[[nodiscard]] unsigned stack_item_size(const Cpu& cpu, const Instruction& insn);

/// Reads the stack items from RSP + `offset` on, lowest first, each of `size` (2, 4 or 8) bytes;
/// RSP stays. At most 8.
[[nodiscard]] bool read_stack(Cpu& cpu, u64 offset, unsigned size, std::span<u64> items);
/// Writes `items` below RSP, the first at the lowest address; RSP stays. At most 8.
[[nodiscard]] bool write_stack(Cpu& cpu, unsigned size, std::span<const u64> items);
/// RSP += delta, as wide as the stack is now.
void move_stack_pointer(Cpu& cpu, u64 delta);

/// Writes the `items`, 8 bytes each, below `top`, a 64-bit stack of privilege level `cpl`; first
/// checks that the write succeeds. #SS(ext) if an address is not canonical. At most 8.
class NewStackFrame {
public:
    NewStackFrame(u64 top, std::span<const u64> items);
    [[nodiscard]] u64 pointer() const { return m_rsp; } ///< after the pushes
    [[nodiscard]] bool probe(Cpu& cpu, AccessMode mode, u32 ext) const;
    [[nodiscard]] bool write(Cpu& cpu, AccessMode mode) const;

private:
    u64 m_items[8] = {};
    u64 m_size;
    u64 m_rsp;
};

} // namespace gnomon::processor::soft
