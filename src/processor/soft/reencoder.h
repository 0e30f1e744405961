// SPDX-License-Identifier: Apache-2.0
/// @file Re-emission: the guest's own instruction bytes with their registers and memory operand
/// replaced.
///
/// Prefixes, opcode and immediates are carried over byte for byte; only REX, VEX or EVEX, ModRM and
/// SIB are made anew. So the form stays exactly the one that the guest chose, whatever another
/// encoder would have preferred.
#pragma once

#include "processor/soft/assembler.h"
#include "processor/soft/decoder.h"

namespace gnomon::processor::soft {

/// What takes the place of a memory operand.
enum class HostMemory : u8 {
    none,            ///< the instruction has none
    page_and_offset, ///< [R14 + R13]
    address,         ///< [R14 + a displacement]
    based,           ///< [R14 + HostRegisters::base + the displacement]
    in_frame,        ///< [RSP + the displacement], in place of the register that ModRM.rm names
};

/// Host register numbers for the general-purpose operands, by encoding field. no_register: as in
/// the guest's bytes.
struct HostRegisters {
    u8 reg = Instruction::no_register; ///< ModRM.reg
    u8 rm = Instruction::no_register;  ///< ModRM.rm, or the register in the opcode
    u8 vvvv = Instruction::no_register;
    u8 base = Instruction::no_register; ///< with HostMemory::based; not RSP
};

/// Whether the guest's bytes as they are might mean another thing in the host's 64-bit code.
[[nodiscard]] bool means_another_thing_here(const DecodedInstruction& d);

void reencode(Assembler& a, const DecodedInstruction& d, HostRegisters registers, HostMemory memory,
              int displacement = 0);

/// Whether `reencode` must give the instruction a REX prefix, which AH, CH, DH, BH cannot live
/// with.
[[nodiscard]] bool needs_rex(const DecodedInstruction& d, HostRegisters registers,
                             HostMemory memory);

} // namespace gnomon::processor::soft
