// SPDX-License-Identifier: Apache-2.0
/// @file The making of one program of one instruction.
#pragma once

#include "layout.h"
#include "places.h"
#include "program_maker.h"

#include <algorithm>

namespace gnomon::test {

class SingleMaker {
public:
    SingleMaker(const FormList& list, const Form& form, std::optional<unsigned> place,
                Random& random)
        : m_list(list), m_form(form), m_random(random) {
        if (place) m_place = m_wanted = places()[*place];
    }
    /// @param given the instruction, if it is not to be a random one of the form.
    [[nodiscard]] std::optional<Program> make(const Sample* given = nullptr);
    /// Whether the operand of the program made has the place that was asked for, or cannot have it.
    [[nodiscard]] bool placed(const Program& program) const;

private:
    // single_maker.cpp: where the operands lie
    void place_code();
    [[nodiscard]] bool choose_instruction(const Sample* given);
    [[nodiscard]] u64 choose_target(u64 size);
    void fill_around(u64 target, u64 size);
    void prepare_registers();
    void set_address_register(u8 n, u64 wanted);
    [[nodiscard]] bool aim_implicit(const ZydisDecodedOperand& o);
    void aim_stack(const ZydisDecodedOperand& o);
    [[nodiscard]] bool aim_explicit(unsigned number);
    void aim_by_registers(const ZydisDecodedOperand& o, u64 effective, u8 base, u8 index);
    [[nodiscard]] bool patch_displacement(u64 value);
    [[nodiscard]] bool aim_gather(const ZydisDecodedOperand& o, u8 base, u64 wanted);
    void limit_bit_offset(u8 base, u8 index);
    [[nodiscard]] bool can_have(const Place& place, u64 size) const;
    [[nodiscard]] bool safe();
    [[nodiscard]] bool stores_to_mmio_perhaps();
    void note_accesses();
    void note_stack_items();
    void finish();

    // single_contents.cpp: what the operands hold, and where transfers go
    [[nodiscard]] bool place_transfer();
    [[nodiscard]] bool place_near(u64 taken);
    [[nodiscard]] bool place_far(u64 taken);
    void prepare_special();
    void prepare_selector();
    [[nodiscard]] u16 choose_selector(bool may_be_null);
    void expect_x87_pointers();
    void note_undefined();
    void put(u64 address, std::span<const u8> bytes);
    void put_word(u64 address, u64 value, std::size_t size);
    [[nodiscard]] u64 word_at(u64 address, std::size_t size) const;

    [[nodiscard]] const ZydisDecodedOperand& operand(unsigned i) const {
        return m_sample.decoded.operands[i];
    }
    [[nodiscard]] const ZydisDecodedInstruction& z() const { return m_sample.decoded.z; }
    [[nodiscard]] u64& gpr(unsigned n) { return m_program.state.gpr[n]; }
    [[nodiscard]] bool is(std::initializer_list<ZydisMnemonic> list) const {
        return std::ranges::find(list, z().mnemonic) != list.end();
    }
    [[nodiscard]] bool is_masked_move() const {
        return is({ZYDIS_MNEMONIC_MASKMOVQ, ZYDIS_MNEMONIC_MASKMOVDQU, ZYDIS_MNEMONIC_VMASKMOVDQU});
    }
    [[nodiscard]] bool is_locked() const {
        return (z().attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0 || is({ZYDIS_MNEMONIC_XCHG});
    }
    [[nodiscard]] bool uses_feature_mask() const;
    /// PUSH of a segment register as 32 bits.
    [[nodiscard]] bool pushes_wide_selector() const {
        return is({ZYDIS_MNEMONIC_PUSH}) && z().operand_width == 32 &&
               operand(0).type == ZYDIS_OPERAND_TYPE_REGISTER &&
               ZydisRegisterGetClass(operand(0).reg.value) == ZYDIS_REGCLASS_SEGMENT;
    }
    /// Of the memory operand in ModRM or the opcode.
    [[nodiscard]] static bool explicit_memory(const ZydisDecodedOperand& o) {
        return o.type == ZYDIS_OPERAND_TYPE_MEMORY &&
               (o.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
                o.encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64);
    }
    [[nodiscard]] u64 segment_base(const ZydisDecodedOperand& o) const;
    [[nodiscard]] u64 effective_address(const ZydisDecodedOperand& o);
    /// The bytes that the instruction accesses by a memory operand.
    [[nodiscard]] Range accessed(const ZydisDecodedOperand& o);

    const FormList& m_list;
    const Form& m_form;
    Random& m_random;
    std::optional<Place> m_wanted;
    std::optional<Place> m_place; ///< of the next memory operand that is aimed
    Sample m_sample;
    Program m_program;
    u64 m_target = 0; ///< of the explicit memory operand
    std::vector<Range> m_targets;
};

} // namespace gnomon::test
