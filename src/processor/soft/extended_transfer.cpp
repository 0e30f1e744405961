// SPDX-License-Identifier: Apache-2.0
/// @file Where x87, SSE, AVX and AVX-512 state lives: in the registers and Cpu::vector_spill while
/// `enter` is under way, in the control block outside it and for `extended` helpers. What AVX-512
/// adds is in the registers or in the control block, where the thunks put it.
#include "processor/soft/extended_state.h"
#include "processor/soft/soft_processor.h"

#include <algorithm>
#include <cpuid.h>
#include <cstring>

namespace gnomon::processor::soft {

namespace {

constexpr u16 initial_fcw = 0x37f;
/// FCW, FSW, FTW, FOP, FIP and FDP.
constexpr std::size_t x87_environment_size = 24;
constexpr std::size_t x87_registers_size = 8 * 16;

/// Whether XGETBV tells which state components are in their initial configuration (SDM vol. 1
/// section 13.6).
bool host_tells_use() {
    static const bool tells = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 27 & 1) != 0 && // OSXSAVE
               __get_cpuid_count(0xd, 1, &a, &b, &c, &d) != 0 && (a >> 2 & 1) != 0;
    }();
    return tells;
}

/// Whether the host's x87 registers are as after FNINIT, as far as that can be told cheaply.
bool x87_is_initial() {
    if (!host_tells_use()) return false;
    u32 in_use = 0, high = 0;
    asm volatile("xgetbv" : "=a"(in_use), "=d"(high) : "c"(1)); // XCR0 & XINUSE
    return (in_use & xcr0::x87) == 0;
}

void make_x87_initial(u8 (&legacy)[512]) {
    std::memset(legacy, 0, x87_environment_size);
    std::memcpy(legacy + ExtendedState::fcw, &initial_fcw, sizeof initial_fcw);
    std::memset(legacy + ExtendedState::st0, 0, x87_registers_size);
}

bool is_x87_initial(const u8 (&legacy)[512]) {
    u8 environment[x87_environment_size] = {};
    std::memcpy(environment + ExtendedState::fcw, &initial_fcw, sizeof initial_fcw);
    const u8* const registers = legacy + ExtendedState::st0;
    return std::memcmp(legacy, environment, sizeof environment) == 0 &&
           std::all_of(registers, registers + x87_registers_size, [](u8 b) { return b == 0; });
}

} // namespace

void begin_avx512(Cpu& cpu) {
    if (cpu.avx512_in_use) return;
    initialise_avx512(cpu.cb.state.extended, xcr0::avx512);
    cpu.avx512_in_use = true;
}

bool export_extended_state(Cpu& cpu) {
    ExtendedState& e = cpu.cb.state.extended;
    // Most programs never use the x87 unit, and moving its state takes most of an exit's time.
    const bool initial = x87_is_initial();
    if (initial) {
        make_x87_initial(e.legacy);
        const u32 mask = mxcsr_mask();
        std::memcpy(e.legacy + ExtendedState::mxcsr_mask, &mask, sizeof mask);
    } else {
        // SAFETY: 512 bytes, 64-byte aligned. C++ keeps nothing in x87 registers; the XMM part is
        // overwritten below.
        asm volatile("fxsave64 %0" : "=m"(e.legacy));
    }
    std::memcpy(e.legacy + ExtendedState::mxcsr, &cpu.guest_mxcsr, 4);
    for (unsigned i = 0; i < 16; ++i) {
        std::memcpy(e.legacy + ExtendedState::xmm0 + 16 * i, cpu.vector_spill[i], 16);
        std::memcpy(e.ymm_high[i], cpu.vector_spill[i] + 16, 16);
    }
    std::memset(e.header, 0, sizeof e.header);
    e.header[0] = xcr0::x87 | xcr0::sse | xcr0::avx;
    if (cpu.avx512_in_use) e.header[0] |= static_cast<u8>(xcr0::avx512);
    return initial;
}

void import_extended_state(Cpu& cpu) {
    ExtendedState& e = cpu.cb.state.extended;
    if (const u64 given = e.header[0] & xcr0::avx512; cpu.avx512_available && given != 0)
        cpu.avx512_in_use = true;
    if (cpu.avx512_in_use) initialise_avx512(e, xcr0::avx512 & ~u64{e.header[0]});
    const bool has_x87 = (e.header[0] & xcr0::x87) != 0, has_sse = (e.header[0] & xcr0::sse) != 0,
               has_avx = (e.header[0] & xcr0::avx) != 0;
    alignas(64) u8 legacy[512];
    std::memcpy(legacy, e.legacy, sizeof legacy);
    std::memcpy(&cpu.guest_mxcsr, e.legacy + ExtendedState::mxcsr, 4);
    cpu.guest_mxcsr &= mxcsr_mask(); // the monitor may have put anything there
    if (cpu.guest_mxcsr == 0 && e.header[0] == 0)
        cpu.guest_mxcsr = 0x1f80; // never written: reset value
    std::memcpy(legacy + ExtendedState::mxcsr, &cpu.host_mxcsr, 4);
    if (!has_x87) make_x87_initial(legacy);
    if (!is_x87_initial(legacy) || !x87_is_initial())
        asm volatile("fxrstor64 %0"
                     :
                     : "m"(legacy)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
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
