// SPDX-License-Identifier: Apache-2.0
/// @file A Twin whose two sides also share x87, SSE and AVX registers.
#pragma once

#include "processor/soft/extended_state.h"
#include "twin.h"

#include <algorithm>
#include <cpuid.h>
#include <vector>

namespace gnomon::processor::soft {

class ExtendedTwin : public Twin {
protected:
    ExtendedTwin() {
        insn.is_memory = true;
        insn.base = rdi;
        insn.vector_length = 16;
        if (!host_has_avx512()) return;
        m_components |= xcr0::avx512;
        cpu->cb.state.xcr0 = m_components;
        cpu->avx512_available = cpu->avx512_in_use = true;
    }

    /// Whether the host has it, with its state where guests see it.
    static bool host_has_avx512() {
        u32 low = 0, high = 0;
        asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        if ((low & xcr0::avx512) != xcr0::avx512) return false;
        const auto place = [](u32 component) {
            u32 a = 0, b = 0, c = 0, d = 0;
            __cpuid_count(0xd, component, a, b, c, d);
            return b;
        };
        return place(5) == offsetof(ExtendedState, opmask) &&
               place(6) == offsetof(ExtendedState, zmm_high) &&
               place(7) == offsetof(ExtendedState, high_zmm);
    }
    /// Components, as in XCR0, to ask for: all combinations of the first three, and of AVX-512's.
    [[nodiscard]] std::vector<u64> component_sets() const {
        std::vector<u64> sets = {0, 1, 2, 3, 4, 5, 6, 7};
        if ((m_components & xcr0::avx512) != 0)
            sets.insert(sets.end(), {0x20, 0x40, 0x80, 0xe0, 0xe7, 0xa4, 0x63, 0xc1, 0xe4});
        return sets;
    }
    [[nodiscard]] u64 components() const { return m_components; }

    ExtendedState& state() { return cpu->cb.state.extended; }
    template <class T>
    [[nodiscard]] T legacy(unsigned offset) {
        T value;
        std::memcpy(&value, state().legacy + offset, sizeof value);
        return value;
    }
    template <class T>
    void set_legacy(unsigned offset, T value) {
        std::memcpy(state().legacy + offset, &value, sizeof value);
    }

    /// Random registers, as the host's XSAVE would store them; exceptions are masked, so that none
    /// is pending.
    void random_state() {
        for (u8& byte : state().legacy)
            byte = static_cast<u8>(random() | 1);
        for (auto& ymm : state().ymm_high)
            for (u8& byte : ymm)
                byte = static_cast<u8>(random() | 1);
        const auto fill = [this](auto& registers) {
            for (auto& one : registers)
                for (u8& byte : one)
                    byte = static_cast<u8>(random() | 1);
        };
        if ((m_components & xcr0::avx512) != 0)
            fill(state().opmask), fill(state().zmm_high), fill(state().high_zmm);
        set_legacy<u16>(ExtendedState::fcw, 0x37f);
        set_legacy<u16>(ExtendedState::fsw, static_cast<u16>(random() & 0x7f7f));
        set_legacy<u16>(ExtendedState::ftw, static_cast<u8>(random()));
        set_legacy<u32>(ExtendedState::mxcsr, static_cast<u32>((random() & 0xe07f) | 0x1f80));
        for (unsigned i = 0; i < 8; ++i)
            std::fill_n(state().legacy + ExtendedState::st0 + 16 * i + 10, 6, u8{0});
        std::fill_n(state().legacy + 416, 96, u8{0});
        std::fill_n(state().legacy + ExtendedState::fop, 18, u8{0});
        set_legacy<u32>(ExtendedState::mxcsr_mask, mxcsr_mask());
        const u64 header[8] = {m_components};
        std::memcpy(state().header, header, sizeof header);
    }

    /// A copy of the state for the host to run on; one at a time.
    HostRegisters host_registers_with_state() {
        m_host_state = state();
        HostRegisters registers = host_registers();
        registers.extended = &m_host_state;
        registers.components = m_components;
        return registers;
    }

    /// The state that the helper left, loaded into the host's registers and stored again, is what
    /// the host's own run left - but for the x87 pointers, which are zero here.
    void expect_same_state(const HostRegisters& expected) {
        ExtendedState reloaded = state();
        HostRegisters registers;
        registers.extended = &reloaded;
        registers.components = m_components;
        host.run({}, registers);
        ExtendedState native = *expected.extended;
        for (ExtendedState* s : {&reloaded, &native}) {
            std::memset(s->legacy + ExtendedState::fop, 0, 18);
            std::memset(s->header, 0,
                        sizeof s->header); // what the host tracks as initial is its own matter
            std::memset(s->legacy + 416, 0, 96);
        }
        for (unsigned i = 0; i < 416; ++i)
            ASSERT_EQ(reloaded.legacy[i], native.legacy[i]) << "offset " << i;
        for (unsigned i = 0; i < 16; ++i)
            for (unsigned j = 0; j < 16; ++j)
                ASSERT_EQ(reloaded.ymm_high[i][j], native.ymm_high[i][j])
                    << "YMM" << i << " byte " << j + 16;
        const auto compare = [](const auto& ours, const auto& theirs, const char* what) {
            for (unsigned i = 0; i < std::size(ours); ++i)
                ASSERT_TRUE(std::ranges::equal(ours[i], theirs[i])) << what << i;
        };
        if ((m_components & xcr0::avx512) != 0) {
            compare(reloaded.opmask, native.opmask, "k");
            compare(reloaded.zmm_high, native.zmm_high, "upper half of ZMM");
            compare(reloaded.high_zmm, native.high_zmm, "ZMM16 and ");
        }
        for (unsigned i = 0; i < 18; ++i)
            ASSERT_EQ(state().legacy[ExtendedState::fop + i], 0);
    }

private:
    u64 m_components = xcr0::x87 | xcr0::sse | xcr0::avx;
    ExtendedState m_host_state;
};

} // namespace gnomon::processor::soft
