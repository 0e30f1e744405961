// SPDX-License-Identifier: Apache-2.0
/// @file What the helpers marked `extended` share: ControlBlock::state.extended as x87, MMX, SSE,
/// AVX and AVX-512 registers.
#pragma once

#include "processor/soft/cpu.h"

#include <cstring>

namespace gnomon::processor::soft {

/// The live extended state while a helper works on it.
///
/// The host's XSAVE leaves a component out of XSTATE_BV that is in its initial configuration, and
/// need not write it. Construction makes every byte explicit; destruction sets XSTATE_BV again so
/// that an XRSTOR of its components would load exactly what is there, and keeps the host's own
/// tracking of initial components useful.
///
/// The x87 last-instruction pointers and opcode would be those of re-emitted code: they read as
/// zero.
class LiveState {
public:
    explicit LiveState(Cpu& cpu);
    ~LiveState();
    LiveState(const LiveState&) = delete;
    LiveState& operator=(const LiveState&) = delete;

    [[nodiscard]] ExtendedState& image() { return m_state; }
    /// The state is not changed any more, and `in_use` has returned this.
    void seal_as(u64 in_use) {
        m_sealed = true;
        m_in_use = in_use;
    }
    /// The image has got content of AVX-512's components.
    void begin_avx512() { m_avx512_in_use = true; }
    /// The components that are not in their initial configuration (XINUSE); MXCSR does not count.
    [[nodiscard]] u64 in_use() const;

    [[nodiscard]] u16 fcw() const { return get<u16>(ExtendedState::fcw); }
    [[nodiscard]] u16 fsw() const { return get<u16>(ExtendedState::fsw); }
    [[nodiscard]] u8 ftw() const {
        return get<u8>(ExtendedState::ftw);
    } ///< abridged: bit set = not empty
    [[nodiscard]] u32 mxcsr() const { return get<u32>(ExtendedState::mxcsr); }
    /// Sets the x87 words as the processor does: fixed bits of FCW, ES and B by what is unmasked.
    /// The registers keep their physical places, so that their order in the image follows TOP.
    void set_x87_words(u16 fcw, u16 fsw, u8 ftw);
    /// An unmasked x87 exception waits for the next waiting instruction.
    [[nodiscard]] bool x87_exception_pending() const { return (fsw() & fsw_es) != 0; }

    /// The 10 bytes of ST(i), i = 0..7, the lower 8 of which are MM((i + TOP) mod 8).
    [[nodiscard]] u8* st(unsigned i) { return m_state.legacy + ExtendedState::st0 + 16 * (i & 7); }
    [[nodiscard]] const u8* st(unsigned i) const {
        return m_state.legacy + ExtendedState::st0 + 16 * (i & 7);
    }
    [[nodiscard]] u8* xmm(unsigned i) { return m_state.legacy + ExtendedState::xmm0 + 16 * i; }
    void get_ymm(unsigned i, u8 (&out)[32]) const;
    /// What lies above is cleared, as by every VEX instruction.
    void set_ymm(unsigned i, const u8 (&in)[32]);
    /// i = 0..31
    void get_zmm(unsigned i, u8 (&out)[64]) const;
    void set_zmm(unsigned i, const u8 (&in)[64]);
    [[nodiscard]] u64 opmask(unsigned i) const;
    void set_opmask(unsigned i, u64 value);

    static constexpr u16 fsw_es = 1 << 7, fsw_b = 1 << 15, fsw_top = 7 << 11;
    static constexpr unsigned top_of(u16 fsw) { return (fsw & fsw_top) >> 11; }
    static constexpr u16 initial_fcw = 0x37f;
    static constexpr u32 initial_mxcsr = 0x1f80;

private:
    template <class T>
    [[nodiscard]] T get(unsigned offset) const {
        T value;
        std::memcpy(&value, m_state.legacy + offset, sizeof value);
        return value;
    }

    ExtendedState& m_state;
    bool m_sealed = false;
    u64 m_in_use = 0;     ///< if sealed
    bool m_avx512_in_use; ///< what AVX-512 adds may be other than initial
};

/// The bits of MXCSR that LDMXCSR accepts on this host, as FXSAVE reports them.
[[nodiscard]] u32 mxcsr_mask();

/// Gives those of `components` (XCR0, bits 5 to 7) their initial content.
void initialise_avx512(ExtendedState& state, u64 components);

/// Brings FCW, FSW, the pointers and the padding of a legacy region just loaded from guest memory
/// to what the registers hold after FXRSTOR or XRSTOR.
void normalise_x87(u8 (&legacy)[512]);

} // namespace gnomon::processor::soft
