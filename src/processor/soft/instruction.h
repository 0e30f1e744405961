// SPDX-License-Identifier: Apache-2.0
/// @file A decoded guest instruction in the compact form that helpers use. Position-independent: it
/// names its offset in the page, never an address.
#pragma once

#include "processor/registers.h"

namespace gnomon::processor::soft {

/// What a helper needs to know of its instruction. Filled by the decoder (decoder.cpp) from Zydis.
struct Instruction {
    static constexpr u8 no_register = 0xff;
    static constexpr u8 rip_register = 0xfe; ///< `base` of a RIP-relative operand

    u16 mnemonic = 0;    ///< ZydisMnemonic
    u16 page_offset = 0; ///< of the first byte
    u8 length = 0;       ///< in bytes
    u8 opcode = 0;       ///< last opcode byte
    u8 operand_size = 0; ///< bytes: effective operand size of the instruction (1, 2, 4 or 8)
    u8 address_size = 0; ///< bytes: 2, 4 or 8
    u8 stack_size = 0;   ///< bytes: width of implicit stack accesses (2, 4 or 8)
    bool rep = false;    ///< F3 before a string instruction
    bool repne = false;  ///< F2 before a string instruction
    bool code64 = false;
    u8 reg = no_register; ///< modrm.reg with REX.R (a GPR, segment, control, debug or vector
                          ///< register number)
    u8 rm = no_register;  ///< modrm.rm register with REX.B, when it is not memory
    u8 vvvv = no_register;
    bool rm_high_byte = false;  ///< rm names AH, CH, DH or BH (then rm is 0..3)
    bool reg_high_byte = false; ///< likewise reg
    bool is_memory = false;
    u8 segment = seg_ds; ///< effective segment of the memory operand (for string instructions, of
                         ///< the rSI operand)
    u8 base = no_register;
    u8 index = no_register; ///< GPR, or vector register for a gather or scatter
    u8 scale = 1;
    u8 memory_size = 0;   ///< bytes of the explicit memory operand
    u8 vector_length = 0; ///< bytes: 16, 32 or 64 for VEX and EVEX forms, else 0
    bool evex = false;
    u8 mask = 0; ///< EVEX: the opmask register, 0 for none
    i64 displacement = 0;
    u64 immediate = 0;  ///< sign-extended where the architecture does
    u64 immediate2 = 0; ///< ENTER's level; the selector of a far pointer
};

} // namespace gnomon::processor::soft
