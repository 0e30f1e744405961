// SPDX-License-Identifier: Apache-2.0
#include "values.h"

#include "host_state.h"
#include "layout.h"

#include <algorithm>

namespace gnomon::test {

using processor::ExtendedState;

namespace {

constexpr u64 double_specials[] = {0,
                                   0x8000000000000000,
                                   0x3ff0000000000000,
                                   0xbff0000000000000,
                                   0x7ff0000000000000,
                                   0xfff0000000000000,
                                   0x7ff8000000000000,
                                   0x7ff0000000000001,
                                   0xfff8000000001234,
                                   1,
                                   0x000fffffffffffff,
                                   0x0010000000000000,
                                   0x7fefffffffffffff,
                                   0x43e0000000000000,
                                   0xc3e0000000000000,
                                   0x41dfffffffc00000,
                                   0x3fe0000000000000,
                                   0x4000000000000000,
                                   0x400921fb54442d18,
                                   0x3cb0000000000000};
constexpr u32 single_specials[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
                                   0xff800000, 0x7fc00000, 0x7f800001, 1,          0x007fffff,
                                   0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000, 0x4effffff,
                                   0x3f000000, 0x40490fdb};

u64 element(Random& random) {
    switch (random.below(6)) {
    case 0: return double_specials[random.below(std::size(double_specials))];
    case 1:
        return single_specials[random.below(std::size(single_specials))] |
               u64{single_specials[random.below(std::size(single_specials))]} << 32;
    case 2: return random.below(0x100);
    case 3: { // a number near one, as double
        return 0x3ff0000000000000 + (random.next() & 0x00ffffffffffffff) - 0x0080000000000000;
    }
    default: return random_word(random);
    }
}

void fill_register_stack(Random& random, u8 (&legacy)[512]) {
    for (unsigned i = 0; i < 8; ++i) {
        u64 significand = random.next() | u64{1} << 63;
        u16 sign_exponent = static_cast<u16>(0x3fff + random.below(64) - 32);
        if (random.percent(50)) sign_exponent |= 0x8000;
        switch (random.below(10)) {
        case 0: significand = 0, sign_exponent &= 0x8000; break;                  // zero
        case 1: sign_exponent |= 0x7fff; break;                                   // NaN
        case 2: significand = u64{1} << 63, sign_exponent |= 0x7fff; break;       // infinity
        case 3: significand >>= random.below(64), sign_exponent &= 0x8000; break; // denormal
        case 4: significand = random.next(), sign_exponent = static_cast<u16>(random.next()); break;
        case 5: significand = u64{1} << 63; break; // a power of two
        case 6:
            significand = (u64{1} << 63) | random.below(0x10000) << 47, sign_exponent = 0x400e;
            break;
        default: break;
        }
        std::memcpy(legacy + ExtendedState::st0 + 16 * i, &significand, 8);
        std::memcpy(legacy + ExtendedState::st0 + 16 * i + 8, &sign_exponent, 2);
    }
}

void fill_x87_words(Random& random, u8 (&legacy)[512], bool calm) {
    u16 fcw = 0x37f;
    if (calm)
        fcw = static_cast<u16>(0x7f | (random.next() & 0x0f00));
    else if (random.percent(40))
        fcw = static_cast<u16>((random.next() & 0x1f3f) | 0x40);
    u16 fsw = static_cast<u16>(random.next() & 0x7f00); // TOP, C0-C3, and bit 15 clear
    if (random.percent(calm ? 0 : 25)) fsw |= static_cast<u16>(random.below(0x80));
    if (random.percent(80))
        fsw &= static_cast<u16>(~0x3f); // a pending exception stops most instructions
    if ((fsw & ~fcw & 0x3f) != 0) fsw |= 0x8080;
    const u8 tags = random.percent(60) ? 0xff : random.percent(30) ? u8{0} : random.byte();
    std::memcpy(legacy + ExtendedState::fcw, &fcw, 2);
    std::memcpy(legacy + ExtendedState::fsw, &fsw, 2);
    legacy[ExtendedState::ftw] = tags;
}

/// None, all, few or many of the lanes, of however many there are.
u64 random_mask(Random& random) {
    switch (random.below(8)) {
    case 0: return 0;
    case 1: return ~u64{0};
    case 2: return u64{1} << random.below(64);
    case 3: return u64{1} << random.below(8);
    case 4: return ~(u64{1} << random.below(16));
    case 5: return (u64{1} << random.below(64)) - 1;
    default: return random.next();
    }
}

} // namespace

u64 random_word(Random& random) {
    switch (random.below(9)) {
    case 0: return random.below(16);
    case 1:
        return random.pick<u64>({~u64{0}, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
                                 0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000,
                                 0xffffffff80000000, 0xffffffffffffff80});
    case 2: return (u64{1} << random.below(64)) + random.below(3) - 1;
    case 3: return layout::data_begin + random.below(layout::data_size);
    case 4: return random.next() >> random.below(64);
    case 5: return ~(random.next() >> random.below(64));
    case 6: return random.next() & random.next() & random.next();
    default: return random.next();
    }
}

void fill_interesting(Random& random, std::span<u8> out) {
    for (std::size_t at = 0; at < out.size(); at += 8) {
        const u64 word = element(random);
        std::memcpy(out.data() + at, &word, std::min<std::size_t>(8, out.size() - at));
    }
}

MachineState random_state(Random& random, bool calm, bool code32) {
    MachineState s;
    for (u64& r : s.gpr)
        r = random_word(random);
    for (unsigned n = processor::rax; n < processor::r8 && code32; ++n)
        s.gpr[n] &= 0xffffffff;
    s.rflags = processor::rflags::fixed1 | (random.next() & processor::rflags::arithmetic);
    if (random.percent(20)) s.rflags |= processor::rflags::df;
    if (random.percent(20)) s.rflags |= processor::rflags::id;
    s.fs_base = random.below(0x8000000);
    s.gs_base = random.below(0x8000000);
    if (random.percent(10) && !code32) s.fs_base = random.next() | 0xffff800000000000;
    u8(&legacy)[512] = s.extended.legacy;
    fill_x87_words(random, legacy, calm);
    fill_register_stack(random, legacy);
    u32 mxcsr = 0x1f80;
    if (random.percent(50)) mxcsr = (static_cast<u32>(random.next()) & 0xe07f) | 0x1f80;
    if (!calm && random.percent(12)) mxcsr = static_cast<u32>(random.next()) & 0xffff;
    std::memcpy(legacy + ExtendedState::mxcsr, &mxcsr, 4);
    fill_interesting(random, std::span(legacy).subspan(ExtendedState::xmm0, 256));
    for (auto& high : s.extended.ymm_high)
        fill_interesting(random, high);
    u64 components = processor::xcr0::x87 | processor::xcr0::sse | processor::xcr0::avx;
    if ((HostState::components() & processor::xcr0::avx512) != 0) {
        components |= processor::xcr0::avx512;
        for (auto& mask : s.extended.opmask) {
            const u64 value = random_mask(random);
            std::memcpy(mask, &value, sizeof value);
        }
        for (auto& high : s.extended.zmm_high)
            fill_interesting(random, high);
        for (auto& zmm : s.extended.high_zmm)
            fill_interesting(random, zmm);
    }
    s.extended.header[0] = static_cast<u8>(components);
    return s;
}

void fill_extended_image(Random& random, std::span<u8> out) {
    MachineState s = random_state(random, false, false);
    if (random.percent(5))
        fill_interesting(random, std::span(s.extended.legacy).subspan(ExtendedState::mxcsr, 4));
    // Never component 9, which the host may have and guests have not.
    const u64 shown = HostState::components();
    if (random.percent(20))
        s.extended.header[random.below(3) * 8] = static_cast<u8>(random.byte() & (shown | 0x1f));
    else
        s.extended.header[0] = static_cast<u8>(random.below(256) & shown);
    if (random.percent(40)) { // compacted
        s.extended.header[8] = static_cast<u8>(s.extended.header[0] | (random.below(256) & shown));
        s.extended.header[15] = 0x80;
    }
    const auto* const bytes = reinterpret_cast<const u8*>(&s.extended);
    std::copy_n(bytes, std::min(out.size(), sizeof s.extended), out.begin());
}

} // namespace gnomon::test
