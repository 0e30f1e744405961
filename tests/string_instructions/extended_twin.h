// SPDX-License-Identifier: Apache-2.0
/// @file A Twin whose two sides also share x87, SSE and AVX registers.
#pragma once

#include "processor/soft/extended_state.h"
#include "twin.h"

#include <algorithm>

namespace gnomon::processor::soft {

class ExtendedTwin : public Twin {
protected:
    ExtendedTwin() {
        insn.is_memory = true;
        insn.base = rdi;
        insn.vector_length = 16;
    }

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
        set_legacy<u16>(ExtendedState::fcw, 0x37f);
        set_legacy<u16>(ExtendedState::fsw, static_cast<u16>(random() & 0x7f7f));
        set_legacy<u16>(ExtendedState::ftw, static_cast<u8>(random()));
        set_legacy<u32>(ExtendedState::mxcsr, static_cast<u32>((random() & 0xe07f) | 0x1f80));
        for (unsigned i = 0; i < 8; ++i)
            std::fill_n(state().legacy + ExtendedState::st0 + 16 * i + 10, 6, u8{0});
        std::fill_n(state().legacy + 416, 96, u8{0});
        std::fill_n(state().legacy + ExtendedState::fop, 18, u8{0});
        set_legacy<u32>(ExtendedState::mxcsr_mask, mxcsr_mask());
        const u64 header[8] = {7};
        std::memcpy(state().header, header, sizeof header);
    }

    /// A copy of the state for the host to run on; one at a time.
    HostRegisters host_registers_with_state() {
        m_host_state = state();
        HostRegisters registers = host_registers();
        registers.extended = &m_host_state;
        return registers;
    }

    /// The state that the helper left, loaded into the host's registers and stored again, is what
    /// the host's own run left - but for the x87 pointers, which are zero here.
    void expect_same_state(const HostRegisters& expected) {
        ExtendedState reloaded = state();
        HostRegisters registers;
        registers.extended = &reloaded;
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
        for (unsigned i = 0; i < 18; ++i)
            ASSERT_EQ(state().legacy[ExtendedState::fop + i], 0);
    }

private:
    ExtendedState m_host_state;
};

} // namespace gnomon::processor::soft
