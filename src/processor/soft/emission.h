// SPDX-License-Identifier: Apache-2.0
/// @file What the parts of BlockEmitter share: where guest registers live, and the places behind
/// GS.
#pragma once

#include "processor/soft/block_emitter.h"

namespace gnomon::processor::soft {

inline constexpr u8 none = Instruction::no_register;
inline constexpr u8 in_memory = 0xfe; ///< a guest register that lives in the frame

/// Host register that holds guest register `g`.
constexpr u8 host_number(unsigned g) {
    if (g == rsp) return 15;
    return g >= r13 ? in_memory : static_cast<u8>(g);
}
inline Xbyak::Reg64 host_reg(unsigned g) { return Xbyak::Reg64(host_number(g)); }

inline u32 tlb_offset(TlbSet set, std::size_t member) {
    const u64 sets = set == TlbSet::monitor ? GNOMON_CPU(monitor_tlb)
                                            : context_offset + static_cast<u64>(set) * sizeof(Tlb);
    return static_cast<u32>(sets + member);
}
inline u32 jump_cache_offset(TlbSet set) {
    return GNOMON_CPU(jump_cache) + static_cast<u32>(set) * jump_cache_size * 4;
}
/// R14 = the place of R13 = RIP in a jump cache. Keeps the flags.
inline void jump_cache_place(Assembler& m) {
    static_assert(jump_cache_size == 1 << 16);
    m.movzx(Xbyak::util::r14d, Xbyak::util::r13w);
}
inline u32 segment_base_slot(unsigned segment) {
    return GNOMON_CPU(cb.state.segment) + segment * static_cast<u32>(sizeof(Segment)) +
           static_cast<u32>(offsetof(Segment, base));
}
inline bool fits_i32(i64 v) { return v == static_cast<i32>(v); }

inline bool writes(const ZydisDecodedOperand& o) {
    return (o.actions & (ZYDIS_OPERAND_ACTION_WRITE | ZYDIS_OPERAND_ACTION_CONDWRITE)) != 0;
}
inline bool reads(const ZydisDecodedOperand& o) {
    return (o.actions & (ZYDIS_OPERAND_ACTION_READ | ZYDIS_OPERAND_ACTION_CONDREAD)) != 0;
}

inline u8 branch_condition(const DecodedInstruction& d) { return d.z.opcode & 15; }

} // namespace gnomon::processor::soft
