// SPDX-License-Identifier: Apache-2.0
/// @file Decoding of one guest instruction, by Zydis, into what the translator and the helpers use.
#pragma once

#include "processor/soft/instruction_table.h"
#include "processor/soft/mode.h"

#include <span>

namespace gnomon::processor::soft {

/// A decoded instruction with its bytes; `compact` is what a helper gets.
struct DecodedInstruction {
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    u8 bytes[15];
    Instruction compact;
    Disposition disposition;
    bool code16 = false;   ///< from a 16-bit code segment
    u16 flags_read = 0;    ///< arithmetic flags, as in RFLAGS
    u16 flags_written = 0; ///< certainly overwritten (or left undefined)

    /// The explicit memory operand that is accessed, or nullptr (an address that LEA computes is
    /// not).
    [[nodiscard]] const ZydisDecodedOperand* memory() const;
};

enum class DecodeStatus { ok, truncated, invalid };

class Decoder {
public:
    Decoder();
    /// Decodes the instruction at the start of `bytes` (at most 15 are looked at).
    /// @param page_offset where it begins in its page.
    /// truncated: the bytes end within the instruction; invalid: #UD (`out.compact.length` is 1).
    [[nodiscard]] DecodeStatus decode(std::span<const u8> bytes, Mode mode, u16 page_offset,
                                      FeatureSet features, DecodedInstruction& out) const;

private:
    ZydisDecoder m_decoder64, m_decoder32, m_decoder16;
};

/// Number 0-15 of a general-purpose register of any width (AH..BH: 0-3), or
/// Instruction::no_register.
[[nodiscard]] u8 gpr_number(ZydisRegister reg);
[[nodiscard]] bool is_high_byte(ZydisRegister reg);

} // namespace gnomon::processor::soft
