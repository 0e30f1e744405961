// SPDX-License-Identifier: Apache-2.0
#include "extended_twin.h"

#include <Zydis/Zydis.h>

namespace gnomon::processor::soft {
namespace {

class MaskedMoves : public ExtendedTwin {
protected:
    u8* xmm(unsigned i) { return state().legacy + ExtendedState::xmm0 + 16 * i; }
    /// Sets the sign bits of the `size`-byte elements of YMM `i` by `enabled`.
    void set_mask(unsigned i, unsigned size, u32 enabled) {
        for (unsigned e = 0; e < 32 / size; ++e) {
            const unsigned at = e * size + size - 1;
            u8& top = at < 16 ? xmm(i)[at] : state().ymm_high[i][at - 16];
            top = static_cast<u8>((top & 0x7f) | ((enabled >> e & 1) != 0 ? 0x80 : 0));
        }
    }
};

struct VectorMove {
    u16 mnemonic;
    u8 opcode;
    u8 w;
    unsigned size;
};
constexpr VectorMove vector_moves[] = {
    {ZYDIS_MNEMONIC_VMASKMOVPS, 0x2c, 0, 4}, {ZYDIS_MNEMONIC_VMASKMOVPD, 0x2d, 0, 8},
    {ZYDIS_MNEMONIC_VMASKMOVPS, 0x2e, 0, 4}, {ZYDIS_MNEMONIC_VMASKMOVPD, 0x2f, 0, 8},
    {ZYDIS_MNEMONIC_VPMASKMOVD, 0x8c, 0, 4}, {ZYDIS_MNEMONIC_VPMASKMOVD, 0x8e, 0, 4},
    {ZYDIS_MNEMONIC_VPMASKMOVQ, 0x8c, 1, 8}, {ZYDIS_MNEMONIC_VPMASKMOVQ, 0x8e, 1, 8},
};

TEST_F(MaskedMoves, VectorFormsAgreeWithTheHost) {
    for (int round = 0; round < 60; ++round)
        for (const VectorMove& move : vector_moves)
            for (const u8 length : {u8{16}, u8{32}}) {
                memory.set_all(round % 3 == 0 ? PageKind::careful : PageKind::ram);
                fill_memory();
                random_state();
                set_mask(2, move.size, static_cast<u32>(random()));
                insn.mnemonic = move.mnemonic;
                insn.opcode = move.opcode;
                insn.vector_length = length;
                insn.reg = 1;
                insn.vvvv = 2;
                gpr(rdi) = address(0, page_size - random() % 40);
                const auto vex =
                    static_cast<u8>(move.w << 7 | (~2U & 15) << 3 | (length == 32 ? 4 : 0) | 1);
                HostRegisters native = host_registers_with_state();
                host.run({0xc4, 0xe2, vex, move.opcode, 0x0f}, native); // ymm1, ymm2, [rdi]
                ASSERT_EQ(maskmov(*cpu, insn), HelperResult::next);
                ASSERT_NO_FATAL_FAILURE(expect_same_memory());
                ASSERT_NO_FATAL_FAILURE(expect_same_state(native));
            }
}

TEST_F(MaskedMoves, WhatIsLeftOutCannotFault) {
    insn.reg = 1;
    insn.vvvv = 2;
    insn.vector_length = 32;
    for (const VectorMove& move : vector_moves) {
        insn.mnemonic = move.mnemonic;
        insn.opcode = move.opcode;
        const unsigned elements = 32 / move.size;
        random_state();
        memory.set_all(PageKind::ram);
        memory.set_kind(1, PageKind::absent);
        fill_memory(0x55);
        gpr(rdi) = address(0, page_size - 16); // the upper half lies in the absent page
        set_mask(2, move.size, (1U << (elements / 2)) - 1);
        EXPECT_EQ(maskmov(*cpu, insn), HelperResult::next);
        // One element beyond: a fault at that element, with nothing done.
        fill_memory(0x55);
        random_state();
        set_mask(2, move.size, (1U << (elements / 2 + 1)) | 1);
        const ExtendedState before = state();
        expect_exception(maskmov(*cpu, insn), Vector::pf);
        EXPECT_EQ(memory.fault_address, address(1, move.size));
        EXPECT_EQ(std::memcmp(&before, &state(), sizeof before), 0);
        expect_same_memory();
        // Nothing enabled: nowhere is fine.
        set_mask(2, move.size, 0);
        gpr(rdi) = 0x10;
        EXPECT_EQ(maskmov(*cpu, insn), HelperResult::next);
    }
}

TEST_F(MaskedMoves, MmioElementsAreWrittenOneByOne) {
    memory.set_kind(0, PageKind::mmio);
    random_state();
    insn.mnemonic = ZYDIS_MNEMONIC_VPMASKMOVD;
    insn.opcode = 0x8e;
    insn.reg = 1;
    insn.vvvv = 2;
    insn.vector_length = 16;
    set_mask(2, 4, 0b1011);
    gpr(rdi) = address(0);
    EXPECT_EQ(maskmov(*cpu, insn), HelperResult::next);
    ASSERT_EQ(memory.mmio_writes.size(), 3U);
    EXPECT_EQ(memory.mmio_writes[0].gva, address(0));
    EXPECT_EQ(memory.mmio_writes[1].gva, address(0, 4));
    EXPECT_EQ(memory.mmio_writes[2].gva, address(0, 12));
    for (const auto& write : memory.mmio_writes)
        EXPECT_EQ(write.size, 4U);
}

TEST_F(MaskedMoves, MaskmovdquAgreesWithTheHost) {
    insn.reg = 1;
    insn.rm = 2;
    insn.is_memory = false;
    for (int round = 0; round < 100; ++round) {
        const bool vex = round % 2 == 0;
        insn.mnemonic = vex ? ZYDIS_MNEMONIC_VMASKMOVDQU : ZYDIS_MNEMONIC_MASKMOVDQU;
        fill_memory();
        random_state();
        set_mask(2, 1, static_cast<u32>(random()));
        gpr(rdi) = address(0, page_size - random() % 20);
        HostRegisters native = host_registers_with_state();
        host.run(vex ? Code{0xc5, 0xf9, 0xf7, 0xca} : Code{0x66, 0x0f, 0xf7, 0xca}, native);
        ASSERT_EQ(maskmov(*cpu, insn), HelperResult::next);
        ASSERT_NO_FATAL_FAILURE(expect_same_memory());
        ASSERT_NO_FATAL_FAILURE(expect_same_state(native));
    }
    insn.segment = seg_gs;
    cpu->cb.state.segment[seg_gs].base = address(3);
    set_mask(2, 1, 1);
    gpr(rdi) = 7;
    xmm(1)[0] = 0x5c;
    EXPECT_EQ(maskmov(*cpu, insn), HelperResult::next);
    EXPECT_EQ(load<u8>(3, 7), 0x5c);
}

TEST_F(MaskedMoves, MaskmovqAgreesWithTheHost) {
    insn.mnemonic = ZYDIS_MNEMONIC_MASKMOVQ;
    insn.reg = 1;
    insn.rm = 2;
    insn.is_memory = false;
    for (int round = 0; round < 100; ++round) {
        fill_memory();
        random_state(); // TOP anywhere
        gpr(rdi) = address(0, page_size - random() % 10);
        HostRegisters native = host_registers_with_state();
        host.run({0x0f, 0xf7, 0xca}, native);
        ASSERT_EQ(maskmov(*cpu, insn), HelperResult::next);
        ASSERT_NO_FATAL_FAILURE(expect_same_memory());
        ASSERT_NO_FATAL_FAILURE(expect_same_state(native));
    }
    random_state();
    const ExtendedState before = state();
    std::fill_n(state().legacy + ExtendedState::st0, 128, u8{0x80}); // whatever TOP: all enabled
    gpr(rdi) = 0x10;
    expect_exception(maskmov(*cpu, insn), Vector::pf);
    EXPECT_EQ(legacy<u16>(ExtendedState::fsw),
              [&] { // no transition to MMX either
                  u16 fsw;
                  std::memcpy(&fsw, before.legacy + ExtendedState::fsw, sizeof fsw);
                  return fsw;
              }());
    set_legacy<u16>(ExtendedState::fsw, 0x8081);
    expect_exception(maskmov(*cpu, insn), Vector::mf);
    cpu->cb.state.cr0 |= cr0::ts;
    expect_exception(maskmov(*cpu, insn), Vector::nm);
    cpu->cb.state.cr0 |= cr0::em;
    expect_exception(maskmov(*cpu, insn), Vector::ud);
}

TEST_F(MaskedMoves, NeedTheStateToBeEnabled) {
    random_state();
    insn.mnemonic = ZYDIS_MNEMONIC_VMASKMOVPS;
    insn.opcode = 0x2c;
    insn.reg = 1;
    insn.vvvv = 2;
    insn.index = 3;
    cpu->cb.state.xcr0 = 3;
    expect_exception(maskmov(*cpu, insn), Vector::ud);
    insn.mnemonic = ZYDIS_MNEMONIC_VGATHERDPS;
    expect_exception(gather(*cpu, insn), Vector::ud);
    cpu->cb.state.xcr0 = 7;
    cpu->cb.state.cr0 |= cr0::ts;
    expect_exception(gather(*cpu, insn), Vector::nm);
    cpu->cb.state.cr4 = cr4::osfxsr;
    expect_exception(gather(*cpu, insn), Vector::ud);
    cpu->cb.state.cr0 &= ~cr0::ts;
    cpu->cb.state.cr4 = 0;
    insn.mnemonic = ZYDIS_MNEMONIC_MASKMOVDQU;
    insn.rm = 2;
    expect_exception(maskmov(*cpu, insn), Vector::ud);
}

struct GatherForm {
    u16 mnemonic;
    u8 opcode;
    u8 w;
    unsigned index_size, size;
};
constexpr GatherForm gather_forms[] = {
    {ZYDIS_MNEMONIC_VGATHERDPS, 0x92, 0, 4, 4}, {ZYDIS_MNEMONIC_VGATHERDPD, 0x92, 1, 4, 8},
    {ZYDIS_MNEMONIC_VGATHERQPS, 0x93, 0, 8, 4}, {ZYDIS_MNEMONIC_VGATHERQPD, 0x93, 1, 8, 8},
    {ZYDIS_MNEMONIC_VPGATHERDD, 0x90, 0, 4, 4}, {ZYDIS_MNEMONIC_VPGATHERDQ, 0x90, 1, 4, 8},
    {ZYDIS_MNEMONIC_VPGATHERQD, 0x91, 0, 8, 4}, {ZYDIS_MNEMONIC_VPGATHERQQ, 0x91, 1, 8, 8},
};

class Gathers : public MaskedMoves {
protected:
    Gathers() {
        insn.reg = 1;
        insn.vvvv = 2;
        insn.index = 3;
        insn.scale = 4;
        insn.displacement = -8;
    }
    void select(const GatherForm& form, u8 length) {
        insn.mnemonic = form.mnemonic;
        insn.opcode = form.opcode;
        insn.vector_length = length;
    }
    void set_index(const GatherForm& form, unsigned element, i64 value) {
        const unsigned at = element * form.index_size;
        std::memcpy(at < 16 ? xmm(3) + at : state().ymm_high[3] + (at - 16), &value,
                    form.index_size);
    }
    [[nodiscard]] static unsigned elements(const GatherForm& form, u8 length) {
        return length / std::max(form.index_size, form.size);
    }
};

TEST_F(Gathers, AgreeWithTheHost) {
    for (int round = 0; round < 60; ++round)
        for (const GatherForm& form : gather_forms)
            for (const u8 length : {u8{16}, u8{32}}) {
                fill_memory();
                random_state();
                select(form, length);
                set_mask(2, form.size, static_cast<u32>(random()));
                for (unsigned e = 0; e < 32 / form.index_size; ++e) // signed, within the area
                    set_index(form, e, static_cast<i64>(random() % 2000) - 1000);
                gpr(rdi) = address(4);
                const auto vex =
                    static_cast<u8>(form.w << 7 | (~2U & 15) << 3 | (length == 32 ? 4 : 0) | 1);
                HostRegisters native = host_registers_with_state();
                // ymm1, [rdi + ymm3 * 4 - 8], ymm2
                host.run({0xc4, 0xe2, vex, form.opcode, 0x4c, 0x9f, 0xf8}, native);
                ASSERT_EQ(gather(*cpu, insn), HelperResult::next);
                ASSERT_NO_FATAL_FAILURE(expect_same_state(native));
            }
}

TEST_F(Gathers, FaultKeepsWhatWasGathered) {
    for (const GatherForm& form : gather_forms) {
        random_state();
        fill_memory();
        memory.set_all(PageKind::ram);
        memory.set_kind(5, PageKind::absent);
        select(form, 32);
        const unsigned count = elements(form, 32);
        set_mask(2, form.size, ~0U);
        gpr(rdi) = address(4);
        for (unsigned e = 0; e < count; ++e)
            set_index(form, e, static_cast<i64>(10 + e));
        set_index(form, 1, page_size / 4 + 5); // in the absent page, by scale 4
        HostRegisters native = host_registers_with_state();
        const auto vex = static_cast<u8>(form.w << 7 | (~2U & 15) << 3 | 4 | 1);
        host.run({0xc4, 0xe2, vex, form.opcode, 0x4c, 0x9f, 0xf8}, native);

        expect_exception(gather(*cpu, insn), Vector::pf);
        EXPECT_EQ(memory.fault_address, address(5, 12));
        u64 first = 0;
        std::memcpy(&first, xmm(1), form.size);
        EXPECT_EQ(first, form.size == 4 ? load<u32>(4, 32) : load<u64>(4, 32));
        EXPECT_EQ(xmm(2)[form.size - 1], 0);        // done
        EXPECT_EQ(xmm(2)[2 * form.size - 1], 0xff); // still to do
        // Content of the first element may change now: it is not gathered again.
        store<u64>(4, 32, 0x123456789abcdef0);
        memory.set_kind(5, PageKind::ram);
        ASSERT_EQ(gather(*cpu, insn), HelperResult::next);
        ASSERT_NO_FATAL_FAILURE(expect_same_state(native));
    }
}

TEST_F(Gathers, MmioElementsProceedOneByOne) {
    random_state();
    memory.set_kind(4, PageKind::mmio);
    select(gather_forms[4], 16);
    set_mask(2, 4, 0b0101);
    gpr(rdi) = address(4);
    for (unsigned e = 0; e < 4; ++e)
        set_index(gather_forms[4], e, 10 + e);
    ASSERT_EQ(gather(*cpu, insn), HelperResult::fault);
    for (const u32 value : {0x1111U, 0x2222U}) {
        EXPECT_EQ(cpu->pending.kind, Pending::Kind::exit);
        cpu->cb.io_data = value;
        cpu->cb.io_data_valid = true;
        EXPECT_EQ(gather(*cpu, insn), value == 0x1111 ? HelperResult::fault : HelperResult::next);
    }
    u32 lanes[4];
    std::memcpy(lanes, xmm(1), sizeof lanes);
    EXPECT_EQ(lanes[0], 0x1111U);
    EXPECT_EQ(lanes[2], 0x2222U);
}

TEST_F(Gathers, CoincidingRegistersAreUndefined) {
    random_state();
    select(gather_forms[0], 16);
    insn.index = insn.reg;
    expect_exception(gather(*cpu, insn), Vector::ud);
    insn.index = insn.vvvv;
    expect_exception(gather(*cpu, insn), Vector::ud);
    insn.index = 3;
    insn.reg = insn.vvvv;
    expect_exception(gather(*cpu, insn), Vector::ud);
    insn.reg = 1;
    insn.address_size = 2;
    expect_exception(gather(*cpu, insn), Vector::ud);
}

} // namespace
} // namespace gnomon::processor::soft
