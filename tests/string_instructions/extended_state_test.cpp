// SPDX-License-Identifier: Apache-2.0
#include "extended_twin.h"

#include <Zydis/Zydis.h>

namespace gnomon::processor::soft {
namespace {

constexpr u64 x87_area = 0, sse_area = ExtendedState::xmm0, header_area = 512, avx_area = 576,
              opmask_area = 832, zmm_high_area = 896, high_zmm_area = 1408;
constexpr u64 area_size = sizeof(ExtendedState);

/// [rdi] as FXSAVE64 and the like address it.
enum class Save : u8 { standard, optimized, compact };

class ExtendedStateTest : public ExtendedTwin {
protected:
    void request(u64 components) {
        gpr(rax) = components & 0xffffffff;
        gpr(rdx) = components >> 32;
    }
    void select(Save form) {
        const u16 mnemonics[] = {ZYDIS_MNEMONIC_XSAVE64, ZYDIS_MNEMONIC_XSAVEOPT64,
                                 ZYDIS_MNEMONIC_XSAVEC64};
        insn.mnemonic = mnemonics[static_cast<unsigned>(form)];
    }
    static Code encode(Save form) {
        switch (form) {
        case Save::standard: return {0x48, 0x0f, 0xae, 0x27};
        case Save::optimized: return {0x48, 0x0f, 0xae, 0x37};
        default: return {0x48, 0x0f, 0xc7, 0x27};
        }
    }
};

TEST_F(ExtendedStateTest, FxsaveWritesWhatTheHostWrites) {
    for (int round = 0; round < 50; ++round) {
        fill_memory(0xaa);
        random_state();
        gpr(rdi) = address(0, page_size - 64); // across pages
        HostRegisters expected = host_registers_with_state();
        host.run({0x48, 0x0f, 0xae, 0x07}, expected);
        std::memset(area.data() + page_size - 64 + ExtendedState::fop, 0, 18);
        ASSERT_EQ(fxsave(*cpu, insn), HelperResult::next);
        ASSERT_NO_FATAL_FAILURE(expect_same_memory());
        expect_same_state(expected);
    }
}

TEST_F(ExtendedStateTest, FxrstorLoadsWhatTheHostLoads) {
    for (int round = 0; round < 50; ++round) {
        fill_memory();
        // MXCSR: any bits that are not reserved. The rest is any bytes at all: FCW, FSW, tags,
        // padding.
        store<u32>(1, ExtendedState::mxcsr, static_cast<u32>(random()) & 0xffff);
        random_state();
        gpr(rdi) = address(1);
        HostRegisters expected = host_registers_with_state();
        host.run({0x48, 0x0f, 0xae, 0x0f}, expected);
        ASSERT_EQ(fxrstor(*cpu, insn), HelperResult::next);
        expect_same_state(expected);
        if (HasFailure()) return;
    }
}

TEST_F(ExtendedStateTest, FxsaveOutside64BitModeLeavesTheUpperRegistersAlone) {
    enter_compatibility_mode();
    insn.address_size = 4;
    fill_memory(0xaa);
    random_state();
    gpr(rdi) = address(0);
    ASSERT_EQ(fxsave(*cpu, insn), HelperResult::next);
    EXPECT_EQ(std::memcmp(memory.frame(0) + sse_area, state().legacy + sse_area, 128), 0);
    for (u64 i = sse_area + 128; i < 512; ++i)
        ASSERT_EQ(memory.frame(0)[i], std::byte{0xaa}) << i;

    const ExtendedState before = state();
    fill_memory(0x11);
    store<u32>(0, ExtendedState::mxcsr, 0x1f80);
    ASSERT_EQ(fxrstor(*cpu, insn), HelperResult::next);
    EXPECT_EQ(state().legacy[sse_area + 127], 0x11);
    EXPECT_EQ(std::memcmp(state().legacy + sse_area + 128, before.legacy + sse_area + 128, 128), 0);
}

TEST_F(ExtendedStateTest, FxsaveChecks) {
    random_state();
    gpr(rdi) = address(0, 8);
    expect_exception(fxsave(*cpu, insn), Vector::gp);
    expect_exception(fxrstor(*cpu, insn), Vector::gp);
    gpr(rdi) = address(0);
    store<u32>(0, ExtendedState::mxcsr, 0x80000000);
    const ExtendedState before = state();
    expect_exception(fxrstor(*cpu, insn), Vector::gp);
    EXPECT_EQ(std::memcmp(before.legacy, state().legacy, 512), 0);
    cpu->cb.state.cr0 |= cr0::ts;
    expect_exception(fxsave(*cpu, insn), Vector::nm);
    expect_exception(fxrstor(*cpu, insn), Vector::nm);
    cpu->cb.state.cr0 |= cr0::em;
    expect_exception(fxsave(*cpu, insn), Vector::ud);
    cpu->cb.state.cr0 &= ~(cr0::em | cr0::ts);
    memory.set_kind(1, PageKind::absent);
    fill_memory(0xaa);
    gpr(rdi) = address(0, page_size - 16);
    expect_exception(fxsave(*cpu, insn), Vector::pf);
    EXPECT_EQ(load<u8>(0, page_size - 16), 0xaa); // nothing was written
}

TEST_F(ExtendedStateTest, PointersIntoReemittedCodeAreNotShown) {
    random_state();
    std::memset(state().legacy + ExtendedState::fop, 0x77, 18);
    const ExtendedState as_left_by_the_host = state();
    gpr(rdi) = address(0);
    fill_memory(0xaa);
    ASSERT_EQ(fxsave(*cpu, insn), HelperResult::next);
    state() = as_left_by_the_host;
    gpr(rdi) = address(1);
    request(7);
    select(Save::standard);
    store<u64>(1, header_area, 0);
    ASSERT_EQ(xsave(*cpu, insn), HelperResult::next);
    for (u64 i = 0; i < 18; ++i) {
        EXPECT_EQ(load<u8>(0, ExtendedState::fop + i), 0);
        EXPECT_EQ(load<u8>(1, ExtendedState::fop + i), 0);
    }
    state() = as_left_by_the_host;
    gpr(rdi) = address(2);
    insn.operand_size = 4;
    ASSERT_EQ(fnsave(*cpu, insn), HelperResult::next);
    EXPECT_EQ(load<u64>(2, 12), 0U);
    EXPECT_EQ(load<u32>(2, 20), 0U);
    EXPECT_EQ(load<u32>(2, 24), 0xffff0000U);
}

TEST_F(ExtendedStateTest, FxsaveWithoutOsfxsrLeavesSseOut) {
    cpu->cb.state.cr4 = 0;
    random_state();
    fill_memory(0xaa);
    gpr(rdi) = address(0);
    ASSERT_EQ(fxsave(*cpu, insn), HelperResult::next);
    EXPECT_NE(load<u16>(0), 0xaaaa);
    EXPECT_EQ(load<u64>(0, ExtendedState::mxcsr), 0xaaaaaaaaaaaaaaaa);
    EXPECT_EQ(load<u64>(0, sse_area), 0xaaaaaaaaaaaaaaaa);
}

TEST_F(ExtendedStateTest, XsaveWritesWhatTheHostWrites) {
    for (const PageKind kind : {PageKind::ram, PageKind::careful})
        for (const Save form : {Save::standard, Save::optimized, Save::compact})
            for (const u64 components : component_sets()) {
                SCOPED_TRACE(testing::Message()
                             << "form " << static_cast<int>(form) << " components " << components);
                memory.set_all(kind);
                fill_memory(0xa8);
                random_state(); // no component is in its initial configuration
                select(form);
                request(components | 0xffffff00'00000000);
                gpr(rdi) = address(0, page_size - 576);
                HostRegisters expected = host_registers_with_state();
                expected.gpr[rax] = components;
                expected.gpr[rdx] = 0;
                host.run(encode(form), expected);
                if ((components & 1) != 0)
                    std::memset(area.data() + page_size - 576 + ExtendedState::fop, 0, 18);
                ASSERT_EQ(xsave(*cpu, insn), HelperResult::next);
                ASSERT_NO_FATAL_FAILURE(expect_same_memory());
                expect_same_state(expected);
                if (HasFailure()) return;
            }
}

TEST_F(ExtendedStateTest, XsaveOfInitialComponents) {
    select(Save::compact);
    request(components());
    gpr(rdi) = address(0);
    for (const u64 present : component_sets()) {
        // What the host's XSAVE leaves out of XSTATE_BV it need not have written: these bytes are
        // stale.
        random_state();
        std::memcpy(state().header, &present, sizeof present);
        const u32 mxcsr = 0x1f80;
        std::memcpy(state().legacy + ExtendedState::mxcsr, &mxcsr, sizeof mxcsr);
        fill_memory(0xaa);
        ASSERT_EQ(xsave(*cpu, insn), HelperResult::next);
        EXPECT_EQ(load<u64>(0, header_area), present);
        EXPECT_EQ(load<u64>(0, header_area + 8), u64{1} << 63 | components());
        EXPECT_EQ(load<u8>(0, x87_area) != 0xaa, (present & 1) != 0);
        EXPECT_EQ(load<u64>(0, avx_area) != 0xaaaaaaaaaaaaaaaa, (present & 4) != 0);
        EXPECT_EQ(load<u64>(0, opmask_area) != 0xaaaaaaaaaaaaaaaa, (present & 0x20) != 0);
        EXPECT_EQ(load<u64>(0, zmm_high_area) != 0xaaaaaaaaaaaaaaaa, (present & 0x40) != 0);
        EXPECT_EQ(load<u64>(0, high_zmm_area) != 0xaaaaaaaaaaaaaaaa, (present & 0x80) != 0);
        u64 sealed;
        std::memcpy(&sealed, state().header, sizeof sealed);
        EXPECT_EQ(sealed, present);
        if ((present & 2) == 0) {
            EXPECT_EQ(state().legacy[sse_area + 3], 0);
        }
        if ((present & 1) == 0) {
            EXPECT_EQ(state().legacy[0], 0x7f);
        }
    }
    // The standard form writes every component that is asked for, and says which are initial.
    select(Save::standard);
    const u64 none = 0;
    std::memcpy(state().header, &none, sizeof none);
    fill_memory(0xaa);
    store<u64>(0, header_area, 0);
    ASSERT_EQ(xsave(*cpu, insn), HelperResult::next);
    EXPECT_EQ(load<u64>(0, header_area), 0U);
    EXPECT_EQ(load<u16>(0, x87_area), 0x37f);
    EXPECT_EQ(load<u64>(0, avx_area), 0U);
}

TEST_F(ExtendedStateTest, XsaveIsBoundedByXcr0) {
    for (const Save form : {Save::standard, Save::optimized, Save::compact}) {
        cpu->cb.state.xcr0 = xcr0::x87 | xcr0::sse;
        random_state();
        fill_memory(0);
        std::memset(memory.frame(0) + avx_area, 0xaa, page_size - avx_area);
        select(form);
        request(~u64{0});
        gpr(rdi) = address(0);
        ASSERT_EQ(xsave(*cpu, insn), HelperResult::next);
        EXPECT_EQ(load<u64>(0, header_area), 3U);
        for (u64 i = avx_area; i < page_size; ++i)
            ASSERT_EQ(memory.frame(0)[i], std::byte{0xaa}) << i;
        // Even an XCR0 that names more than guests are shown.
        cpu->cb.state.xcr0 = ~u64{0};
        ASSERT_EQ(xsave(*cpu, insn), HelperResult::next);
        for (u64 i = area_size; i < page_size; ++i)
            ASSERT_EQ(memory.frame(0)[i], std::byte{0xaa}) << i;
    }
}

TEST_F(ExtendedStateTest, XrstorLoadsWhatTheHostLoads) {
    for (const bool is_compact : {false, true})
        for (const u64 components : component_sets())
            for (const u64 present : component_sets()) {
                SCOPED_TRACE(testing::Message() << "compact " << is_compact << " components "
                                                << components << " present " << present);
                fill_memory();
                for (u64 i = 0; i < 64; i += 8)
                    store<u64>(0, header_area + i, 0);
                store<u64>(0, header_area, present);
                // A layout of all components, or of those that are there.
                const u64 layout = present % 3 == 0 ? present : this->components();
                if (is_compact) store<u64>(0, header_area + 8, u64{1} << 63 | layout);
                store<u32>(0, ExtendedState::mxcsr, static_cast<u32>(random()) & 0xffff);
                random_state();
                insn.mnemonic = ZYDIS_MNEMONIC_XRSTOR64;
                request(components);
                gpr(rdi) = address(0);
                HostRegisters expected = host_registers_with_state();
                host.run({0x48, 0x0f, 0xae, 0x2f}, expected);
                ASSERT_EQ(xrstor(*cpu, insn), HelperResult::next);
                expect_same_state(expected);
                if (HasFailure()) return;
            }
}

TEST_F(ExtendedStateTest, XrstorRefusesBadHeaders) {
    const u64 compacted = u64{1} << 63;
    const struct {
        u64 xstate_bv, xcomp_bv, reserved_offset, xcr0;
        bool valid;
    } cases[] = {
        {7, 0, 0, 7, true},
        {7, 0, 0, 3, false},             // standard: XSTATE_BV beyond XCR0
        {8, 0, 0, 7, false},             //
        {3, 1, 0, 7, false},             // standard: XCOMP_BV not zero
        {3, 0, 16, 7, false},            // standard: bytes 23:16 not zero
        {3, 0, 24, 7, true},             // standard: bytes 63:24 are not looked at
        {7, compacted | 7, 0, 7, true},  //
        {7, compacted | 3, 0, 7, false}, // compacted: XSTATE_BV beyond XCOMP_BV
        {3, compacted | 7, 0, 3, false}, // compacted: XCOMP_BV beyond XCR0
        {3, compacted | 7, 16, 7, false},
        {3, compacted | 7, 56, 7, false},
        {compacted | 3, compacted | 7, 0, 7, false},
        {0xe0, 0, 0, 7, false}, // AVX-512 where XCR0 has it not
        {0xe0, 0, 0, 0xe7, true},
        {3, compacted | 0xe7, 0, 7, false},
        {0x80, compacted | 0xe0, 0, 0xe7, true},
        {0x40, compacted | 0xa7, 0, 0xe7, false},
    };
    insn.mnemonic = ZYDIS_MNEMONIC_XRSTOR;
    request(7);
    gpr(rdi) = address(0);
    for (const auto& c : cases) {
        fill_memory(0);
        store(0, header_area, c.xstate_bv);
        store(0, header_area + 8, c.xcomp_bv);
        if (c.reserved_offset != 0) store<u8>(0, header_area + c.reserved_offset, 1);
        cpu->cb.state.xcr0 = c.xcr0;
        const HelperResult result = xrstor(*cpu, insn);
        if (c.valid)
            EXPECT_EQ(result, HelperResult::next);
        else
            expect_exception(result, Vector::gp);
    }
    fill_memory(0);
    cpu->cb.state.xcr0 = 7;
    store<u32>(0, ExtendedState::mxcsr, 0x80000000);
    random_state();
    const ExtendedState before = state();
    expect_exception(xrstor(*cpu, insn), Vector::gp);
    EXPECT_EQ(std::memcmp(&before, &state(), sizeof before), 0);
}

TEST_F(ExtendedStateTest, XsaveChecks) {
    random_state();
    request(7);
    select(Save::standard);
    gpr(rdi) = address(0, 32);
    expect_exception(xsave(*cpu, insn), Vector::gp);
    cpu->cb.state.cr0 |= cr0::ts;
    expect_exception(xsave(*cpu, insn), Vector::nm);
    cpu->cb.state.cr4 = 0;
    expect_exception(xsave(*cpu, insn), Vector::ud);
    insn.mnemonic = ZYDIS_MNEMONIC_XRSTOR;
    expect_exception(xrstor(*cpu, insn), Vector::ud);
    cpu->cb.state.cr4 = cr4::osxsave;
    expect_exception(xrstor(*cpu, insn), Vector::nm);
    cpu->cb.state.cr0 &= ~cr0::ts;
    expect_exception(xrstor(*cpu, insn), Vector::gp);
    insn.mnemonic = ZYDIS_MNEMONIC_XRSTORS;
    expect_exception(xrstor(*cpu, insn), Vector::ud);
    insn.mnemonic = ZYDIS_MNEMONIC_XSAVES;
    expect_exception(xsave(*cpu, insn), Vector::ud);

    select(Save::standard);
    fill_memory(0xa8);
    memory.set_kind(1, PageKind::read_only);
    gpr(rdi) = address(0, page_size - 576);
    expect_exception(xsave(*cpu, insn), Vector::pf);
    EXPECT_EQ(memory.fault_address, address(1));
    EXPECT_EQ(load<u64>(0, page_size - 576), 0xa8a8a8a8a8a8a8a8);
    EXPECT_EQ(load<u64>(0, page_size - 64), 0xa8a8a8a8a8a8a8a8);
}

TEST_F(ExtendedStateTest, XrstorOutside64BitModeLeavesTheUpperRegistersAlone) {
    enter_compatibility_mode();
    insn.address_size = 4;
    insn.mnemonic = ZYDIS_MNEMONIC_XRSTOR;
    random_state();
    const ExtendedState before = state();
    fill_memory(0);
    store<u32>(0, ExtendedState::mxcsr, 0x1f80);
    request(components());
    gpr(rdi) = address(0);
    ASSERT_EQ(xrstor(*cpu, insn), HelperResult::next);
    EXPECT_EQ(std::memcmp(state().high_zmm, before.high_zmm, sizeof before.high_zmm), 0);
    for (unsigned i = 0; i < 8 && host_has_avx512(); ++i) {
        EXPECT_EQ(state().opmask[i][0], 0);
        EXPECT_EQ(state().zmm_high[i][31], 0);
        EXPECT_EQ(state().zmm_high[8 + i][31], before.zmm_high[8 + i][31]);
    }
    for (u64 i = 0; i < 128; ++i) {
        ASSERT_EQ(state().legacy[sse_area + i], 0);
        ASSERT_EQ(state().legacy[sse_area + 128 + i], before.legacy[sse_area + 128 + i]);
        ASSERT_EQ(state().ymm_high[i / 16][i % 16], 0);
        ASSERT_EQ(state().ymm_high[8 + i / 16][i % 16], before.ymm_high[8 + i / 16][i % 16]);
    }
}

} // namespace
} // namespace gnomon::processor::soft
