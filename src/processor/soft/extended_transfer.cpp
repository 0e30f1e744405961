// SPDX-License-Identifier: Apache-2.0
/// @file Where x87, SSE and AVX state lives: in the registers and Cpu::vector_spill while `enter`
/// is under way, in the control block outside it and for `extended` helpers.
#include "processor/soft/extended_state.h"
#include "processor/soft/soft_processor.h"

#include <cstring>

namespace gnomon::processor::soft {

void export_extended_state(Cpu& cpu) {
    ExtendedState& e = cpu.cb.state.extended;
    // SAFETY: 512 bytes, 64-byte aligned. C++ keeps nothing in x87 registers; the XMM part is
    // overwritten below.
    asm volatile("fxsave64 %0" : "=m"(e.legacy));
    std::memcpy(e.legacy + ExtendedState::mxcsr, &cpu.guest_mxcsr, 4);
    for (unsigned i = 0; i < 16; ++i) {
        std::memcpy(e.legacy + ExtendedState::xmm0 + 16 * i, cpu.vector_spill[i], 16);
        std::memcpy(e.ymm_high[i], cpu.vector_spill[i] + 16, 16);
    }
    std::memset(e.header, 0, sizeof e.header);
    e.header[0] = xcr0::x87 | xcr0::sse | xcr0::avx;
}

void import_extended_state(Cpu& cpu) {
    const ExtendedState& e = cpu.cb.state.extended;
    const bool has_x87 = (e.header[0] & xcr0::x87) != 0, has_sse = (e.header[0] & xcr0::sse) != 0,
               has_avx = (e.header[0] & xcr0::avx) != 0;
    alignas(64) u8 legacy[512];
    std::memcpy(legacy, e.legacy, sizeof legacy);
    std::memcpy(&cpu.guest_mxcsr, e.legacy + ExtendedState::mxcsr, 4);
    cpu.guest_mxcsr &= mxcsr_mask(); // the monitor may have put anything there
    if (cpu.guest_mxcsr == 0 && e.header[0] == 0)
        cpu.guest_mxcsr = 0x1f80; // never written: reset value
    std::memcpy(legacy + ExtendedState::mxcsr, &cpu.host_mxcsr, 4);
    if (!has_x87) {
        std::memset(legacy, 0, 24);
        const u16 fcw = 0x37f;
        std::memcpy(legacy + ExtendedState::fcw, &fcw, 2);
        std::memset(legacy + ExtendedState::st0, 0, 128);
    }
    asm volatile("fxrstor64 %0"
                 :
                 : "m"(legacy)
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                   "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    for (unsigned i = 0; i < 16; ++i) {
        if (has_sse)
            std::memcpy(cpu.vector_spill[i], e.legacy + ExtendedState::xmm0 + 16 * i, 16);
        else
            std::memset(cpu.vector_spill[i], 0, 16);
        if (has_avx)
            std::memcpy(cpu.vector_spill[i] + 16, e.ymm_high[i], 16);
        else
            std::memset(cpu.vector_spill[i] + 16, 0, 16);
    }
}

} // namespace gnomon::processor::soft
