// SPDX-License-Identifier: Apache-2.0
/// @file Access groups: accesses of one block that one look into the TLB serves.
///
/// Accesses by way of the same registers, which keep their values or change by what the block
/// tells (PUSH, ADD RSP, imm), touch a range of bytes whose extent is known when the block is
/// translated. If the whole range lies in one page of the TLB - one that may be written, if any
/// access of the group writes -, none of them can fault, and all use one host address, kept behind
/// GS. Else the block goes on in a translation without groups.
#pragma once

#include "processor/soft/decoder.h"

#include <array>
#include <vector>

namespace gnomon::processor::soft {

/// What is looked up: `size` bytes from segment base + base + index * scale + displacement.
struct AccessGroup {
    u16 probe = 0; ///< number of the instruction before which it is looked up
    u8 segment = seg_ds;
    u8 base = Instruction::no_register; ///< as in Instruction
    u8 index = Instruction::no_register;
    u8 scale = 1;
    i64 displacement = 0; ///< from the page's begin if `base` is RIP
    u16 size = 0;
    bool write = false;
    /// If the look-up is at the first access, and nothing but paging can forbid that one: its place
    /// in the group, and its size; else size 0.
    u16 first_displacement = 0;
    u8 first_size = 0;
    bool first_write = false;
};

/// Where one access finds its group.
struct GroupedAccess {
    static constexpr u8 no_group = 0xff;
    u8 group = no_group;
    u16 displacement = 0; ///< from the group's first byte
    [[nodiscard]] bool is_grouped() const { return group != no_group; }
};

inline constexpr unsigned max_block_instructions = 40;

struct AccessPlan {
    std::vector<AccessGroup> groups; ///< at most access_group_count
    /// By number of the instruction: its explicit memory operand, and what it does on the stack.
    std::array<GroupedAccess, max_block_instructions> memory, stack;
};

/// @param flags_live by instruction: arithmetic flags that must survive what comes before it.
[[nodiscard]] AccessPlan plan_accesses(std::span<const DecodedInstruction> block, Mode mode,
                                       std::span<const u16> flags_live);

/// Bytes at the memory operand of an instruction with Action::pass.
[[nodiscard]] unsigned access_size(const DecodedInstruction& d, const ZydisDecodedOperand& memory);

} // namespace gnomon::processor::soft
