// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/extended_state.h"

#include <algorithm>

namespace gnomon::processor::soft {
namespace {

constexpr unsigned xmm_bytes = 256;
constexpr unsigned st_bytes = 128;

template <class T>
void put(u8 (&legacy)[512], unsigned offset, T value) {
    std::memcpy(legacy + offset, &value, sizeof value);
}

bool all_zero(const u8* bytes, u64 size) {
    // Every caller's size is a multiple of 64. State that is in use mostly shows it early.
    for (u64 i = 0; i < size; i += 64) {
        u64 words[8];
        std::memcpy(words, bytes + i, sizeof words);
        u64 sum = 0;
        for (const u64 word : words)
            sum |= word;
        if (sum != 0) return false;
    }
    return true;
}

void clear_x87_pointers(u8 (&legacy)[512]) {
    put<u16>(legacy, ExtendedState::fop, 0);
    put<u64>(legacy, ExtendedState::fip, 0);
    put<u64>(legacy, ExtendedState::fdp, 0);
}

/// FCW bit 6 is always set, bits 7 and 15:13 are always clear.
constexpr u16 fixed_fcw(u16 fcw) { return static_cast<u16>((fcw & 0x1f3f) | 0x40); }

/// ES and B say whether an exception flag is set that FCW does not mask.
constexpr u16 summarise(u16 fsw, u16 fcw) {
    constexpr u16 summary = LiveState::fsw_es | LiveState::fsw_b;
    const bool unmasked = (fsw & ~fcw & 0x3f) != 0;
    return static_cast<u16>((fsw & ~summary) | (unmasked ? summary : 0));
}

} // namespace

LiveState::LiveState(Cpu& cpu)
    : m_state(cpu.cb.state.extended), m_avx512_in_use(cpu.avx512_in_use) {
    u64 present = 0;
    std::memcpy(&present, m_state.header, sizeof present);
    u8(&legacy)[512] = m_state.legacy;
    if ((present & xcr0::x87) == 0) {
        std::fill_n(legacy, ExtendedState::mxcsr, u8{0});
        put<u16>(legacy, ExtendedState::fcw, initial_fcw);
        std::fill_n(st(0), st_bytes, u8{0});
    }
    // MXCSR belongs to no component here: the standard form of XSAVE and XRSTOR always has it.
    if ((present & xcr0::sse) == 0) std::fill_n(xmm(0), xmm_bytes, u8{0});
    if ((present & xcr0::avx) == 0) std::memset(m_state.ymm_high, 0, sizeof m_state.ymm_high);
    // While it is not in use nobody looks at it but XSAVE, on demand.
    if (m_avx512_in_use) initialise_avx512(m_state, xcr0::avx512 & ~present);
    put<u32>(legacy, ExtendedState::mxcsr_mask, mxcsr_mask());
    clear_x87_pointers(legacy);
}

LiveState::~LiveState() {
    u64 present = m_sealed ? m_in_use : in_use();
    if (mxcsr() != initial_mxcsr) present |= xcr0::sse;
    std::memset(m_state.header, 0, sizeof m_state.header);
    std::memcpy(m_state.header, &present, sizeof present);
}

u64 LiveState::in_use() const {
    const bool x87 = fcw() != initial_fcw || fsw() != 0 || ftw() != 0 || !all_zero(st(0), st_bytes);
    const bool sse = !all_zero(m_state.legacy + ExtendedState::xmm0, xmm_bytes);
    const bool avx = !all_zero(m_state.ymm_high[0], sizeof m_state.ymm_high);
    const u64 others = (x87 ? xcr0::x87 : 0) | (sse ? xcr0::sse : 0) | (avx ? xcr0::avx : 0);
    if (!m_avx512_in_use) return others;
    const bool opmask = !all_zero(m_state.opmask[0], sizeof m_state.opmask);
    const bool zmm_high = !all_zero(m_state.zmm_high[0], sizeof m_state.zmm_high);
    const bool high_zmm = !all_zero(m_state.high_zmm[0], sizeof m_state.high_zmm);
    return others | (opmask ? xcr0::opmask : 0) | (zmm_high ? xcr0::zmm_high : 0) |
           (high_zmm ? xcr0::high_zmm : 0);
}

void LiveState::set_x87_words(u16 fcw, u16 fsw, u8 ftw) {
    // The image orders registers from TOP on. Rotate by how far TOP moves.
    const unsigned moved = (top_of(fsw) - top_of(this->fsw())) & 7;
    std::rotate(st(0), st(0) + 16 * moved, st(0) + st_bytes);
    const u16 control = fixed_fcw(fcw);
    put<u16>(m_state.legacy, ExtendedState::fcw, control);
    put<u16>(m_state.legacy, ExtendedState::fsw, summarise(fsw, control));
    put<u16>(m_state.legacy, ExtendedState::ftw, ftw);
}

void LiveState::get_zmm(unsigned i, u8 (&out)[64]) const {
    if (i >= 16) {
        std::memcpy(out, m_state.high_zmm[i - 16], 64);
        return;
    }
    std::memcpy(out, m_state.legacy + ExtendedState::xmm0 + 16 * i, 16);
    std::memcpy(out + 16, m_state.ymm_high[i], 16);
    std::memcpy(out + 32, m_state.zmm_high[i], 32);
}

void LiveState::set_zmm(unsigned i, const u8 (&in)[64]) {
    if (i >= 16) {
        std::memcpy(m_state.high_zmm[i - 16], in, 64);
        return;
    }
    std::memcpy(xmm(i), in, 16);
    std::memcpy(m_state.ymm_high[i], in + 16, 16);
    std::memcpy(m_state.zmm_high[i], in + 32, 32);
}

u64 LiveState::opmask(unsigned i) const {
    u64 value;
    std::memcpy(&value, m_state.opmask[i], sizeof value);
    return value;
}

void LiveState::set_opmask(unsigned i, u64 value) {
    std::memcpy(m_state.opmask[i], &value, sizeof value);
}

void LiveState::get_ymm(unsigned i, u8 (&out)[32]) const {
    std::memcpy(out, m_state.legacy + ExtendedState::xmm0 + 16 * i, 16);
    std::memcpy(out + 16, m_state.ymm_high[i], 16);
}

void LiveState::set_ymm(unsigned i, const u8 (&in)[32]) {
    std::memcpy(xmm(i), in, 16);
    std::memcpy(m_state.ymm_high[i], in + 16, 16);
    std::memset(m_state.zmm_high[i], 0, sizeof m_state.zmm_high[i]);
}

void initialise_avx512(ExtendedState& state, u64 components) {
    if ((components & xcr0::opmask) != 0) std::memset(state.opmask, 0, sizeof state.opmask);
    if ((components & xcr0::zmm_high) != 0) std::memset(state.zmm_high, 0, sizeof state.zmm_high);
    if ((components & xcr0::high_zmm) != 0) std::memset(state.high_zmm, 0, sizeof state.high_zmm);
}

u32 mxcsr_mask() {
    static const u32 mask = [] {
        alignas(16) u8 area[512] = {};
        asm volatile("fxsave64 %0" : "+m"(area));
        u32 value;
        std::memcpy(&value, area + ExtendedState::mxcsr_mask, sizeof value);
        return value != 0 ? value : 0xffbf; // SDM vol. 1 section 11.6.6
    }();
    return mask;
}

void normalise_x87(u8 (&legacy)[512]) {
    u16 fcw;
    u16 fsw;
    std::memcpy(&fcw, legacy + ExtendedState::fcw, sizeof fcw);
    std::memcpy(&fsw, legacy + ExtendedState::fsw, sizeof fsw);
    fcw = fixed_fcw(fcw);
    put<u16>(legacy, ExtendedState::fcw, fcw);
    put<u16>(legacy, ExtendedState::fsw, summarise(fsw, fcw));
    put<u8>(legacy, ExtendedState::ftw + 1, 0);
    clear_x87_pointers(legacy);
    for (unsigned i = 0; i < 8; ++i)
        std::memset(legacy + ExtendedState::st0 + 16 * i + 10, 0, 6);
}

} // namespace gnomon::processor::soft
