// SPDX-License-Identifier: Apache-2.0
#include "monitor/cpuid.h"

#include <algorithm>
#include <array>
#include <cpuid.h>
#include <cstring>

namespace gnomon::monitor {

using processor::CpuidLeaf;

namespace {

struct HostLeaf {
    u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
};

HostLeaf host(u32 leaf, u32 subleaf = 0) {
    HostLeaf h;
    __get_cpuid_count(leaf, subleaf, &h.eax, &h.ebx, &h.ecx, &h.edx);
    return h;
}

constexpr u32 bit(unsigned n) { return u32{1} << n; }

u32 word(const char* text) {
    u32 w = 0;
    std::memcpy(&w, text, 4);
    return w;
}

/// What guests are shown of AVX-512 is all of these or none: F DQ CD BW VL, of leaf 7's EBX.
constexpr u32 avx512_base = bit(16) | bit(17) | bit(28) | bit(30) | bit(31);

/// As the software processor asks for it: with AVX2, and state that the host's kernel has enabled.
bool host_has_avx512(const HostLeaf& h1, const HostLeaf& h7) {
    constexpr u32 osxsave = bit(27);
    constexpr u64 state = processor::xcr0::sse | processor::xcr0::avx | processor::xcr0::avx512;
    if ((h1.ecx & osxsave) == 0 || (h7.ebx & bit(5)) == 0 || (h7.ebx & avx512_base) != avx512_base)
        return false;
    u32 low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & state) == state;
}

} // namespace

std::vector<CpuidLeaf> guest_cpuid(u64 tsc_hz, u32 apic_id) {
    std::vector<CpuidLeaf> t;
    const auto add = [&](u32 leaf, u32 a, u32 b, u32 c, u32 d) {
        t.push_back({leaf, 0, false, a, b, c, d});
    };
    const auto add_sub = [&](u32 leaf, u32 sub, u32 a, u32 b, u32 c, u32 d) {
        t.push_back({leaf, sub, true, a, b, c, d});
    };
    const HostLeaf h1 = host(1), h7 = host(7), hx = host(0x80000001);

    add(0, 0x16, word("Genu"), word("ntel"), word("ineI"));

    // Leaf 1. Of the host's bits only those that the instruction table passes.
    const u32 ecx_from_host =
        bit(0) | bit(1) | bit(9) | bit(12) | bit(13) | bit(19) | bit(20) | bit(22) | bit(23) |
        bit(25) | bit(28) | bit(29) |
        bit(30); // SSE3 PCLMUL SSSE3 FMA CX16 SSE4.1 4.2 MOVBE POPCNT AES AVX F16C RDRAND
    const u32 ecx = (h1.ecx & ecx_from_host) | bit(17) // PCID
                    | bit(21)                          // x2APIC
                    | bit(24)                          // TSC deadline
                    | bit(26)                          // XSAVE; OSXSAVE follows CR4
                    | bit(31);                         // hypervisor
    const u32 edx = bit(0) | bit(2) | bit(3) | bit(4) | bit(5) | bit(6) | bit(7) | bit(8) | bit(9) |
                    bit(11) | bit(12) | bit(13) | bit(14) | bit(15) | bit(16) | bit(17) | bit(19) |
                    bit(23) | bit(24) | bit(25) |
                    bit(26); // FPU PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36
                             // CLFSH MMX FXSR SSE SSE2
    const bool avx = (h1.ecx & bit(28)) != 0 && (h1.ecx & bit(27)) != 0;
    const u32 ecx_shown = avx ? ecx : ecx & ~(bit(12) | bit(28) | bit(29));
    // Family 6, model 0xcf: a server part to which no erratum of the common kernels applies.
    add(1, 0x000c06f2, apic_id << 24 | bit(16) | 8 << 8, ecx_shown, edx);
    add(2, 0x00feff01, 0xf0, 0, 0); // "see leaf 4"
    // Caches: L1D 32K/8, L1I 32K/8, L2 1M/16, L3 16M/16; 64-byte lines; one thread shares each.
    add_sub(4, 0, 0x00000121, 0x01c0003f, 63, 0);
    add_sub(4, 1, 0x00000122, 0x01c0003f, 63, 0);
    add_sub(4, 2, 0x00000143, 0x03c0003f, 1023, 0);
    add_sub(4, 3, 0x00000163, 0x03c0003f, 16383, 0);
    add_sub(4, 4, 0, 0, 0, 0);
    add(5, 0, 0, 0, 0);
    add(6, bit(2), 0, 0, 0); // ARAT

    // BMI1 AVX2 BMI2 RDSEED CLFLUSHOPT CLWB SHA. Not ADX, which is no part of x86-64-v3: chains of
    // ADCX and ADOX keep flags over many accesses, and where there is no linear view each of these
    // pays for that. OpenSSL's RSA takes 1.5 times as long with it.
    const u32 h7_ebx = bit(3) | bit(5) | bit(8) | bit(18) | bit(23) | bit(24) | bit(29);
    u32 ebx7 = (h7.ebx & h7_ebx) | bit(0) | bit(1) // FSGSBASE, TSC_ADJUST
               | bit(7)                            // SMEP
               | bit(9)                            // ERMS
               | bit(10)                           // INVPCID
               | bit(20);                          // SMAP
    if (!avx) ebx7 &= ~bit(5);
    u32 ecx7 = bit(2) | bit(22);                 // UMIP, RDPID
    const u32 edx7 = bit(4) | bit(26) | bit(29); // FSRM, SPEC_CTRL, ARCH_CAPABILITIES
    u32 eax71 = 0;
    if (avx) ecx7 |= h7.ecx & (bit(8) | bit(9) | bit(10)); // GFNI VAES VPCLMULQDQ
    const bool avx512 = host_has_avx512(h1, h7);
    if (avx512) {
        ebx7 |= avx512_base | (h7.ebx & bit(21)); // IFMA
        // VBMI VBMI2 VNNI BITALG VPOPCNTDQ
        ecx7 |= h7.ecx & (bit(1) | bit(6) | bit(11) | bit(12) | bit(14));
        if (h7.eax != 0) eax71 = host(7, 1).eax & bit(5); // BF16
    }
    add_sub(7, 0, 2, ebx7, ecx7, edx7);
    add_sub(7, 1, eax71, 0, 0, 0);
    add_sub(7, 2, 0, 0, 0, bit(4)); // BHI_CTRL
    add(0xa, 0, 0, 0, 0);           // no performance counters
    add_sub(0xb, 0, 0, 1, 0x100, apic_id);
    add_sub(0xb, 1, 0, 1, 0x201, apic_id);
    add_sub(0xb, 2, 0, 0, 2, apic_id);
    // XSAVE: x87, SSE, AVX, AVX-512. EBX follows XCR0 in the processor.
    using State = processor::ExtendedState;
    const u64 xcr0 = processor::xcr0::x87 | processor::xcr0::sse |
                     (avx ? processor::xcr0::avx : 0) | (avx512 ? processor::xcr0::avx512 : 0);
    const u32 xsave_size = avx512 ? sizeof(State)
                           : avx  ? offsetof(State, opmask)
                                  : offsetof(State, ymm_high);
    add_sub(0xd, 0, static_cast<u32>(xcr0), xsave_size, xsave_size, 0);
    add_sub(0xd, 1, bit(0) | bit(1) | bit(2), xsave_size, 0,
            0); // XSAVEOPT, XSAVEC, XGETBV with ECX = 1
    if (avx) add_sub(0xd, 2, sizeof State::ymm_high, offsetof(State, ymm_high), 0, 0);
    if (avx512) {
        add_sub(0xd, 5, sizeof State::opmask, offsetof(State, opmask), 0, 0);
        add_sub(0xd, 6, sizeof State::zmm_high, offsetof(State, zmm_high), 0, 0);
        add_sub(0xd, 7, sizeof State::high_zmm, offsetof(State, high_zmm), 0, 0);
    }
    // TSC = crystal * EBX / EAX.
    add(0x15, 1, 2, static_cast<u32>(crystal_hz(tsc_hz)), 0);
    const u32 mhz = static_cast<u32>(tsc_hz / 1'000'000);
    add(0x16, mhz, mhz, 100, 0);

    add(0x40000000, 0x40000010, word("Gnom"), word("onGn"), word("omon"));
    add(0x40000010, static_cast<u32>(tsc_hz / 1000), static_cast<u32>(crystal_hz(tsc_hz) / 1000), 0,
        0);

    add(0x80000000, 0x80000008, 0, 0, 0);
    add(0x80000001, 0, 0,
        (hx.ecx & bit(5)) | bit(0) | bit(8),              // LZCNT from the host; LAHF, PREFETCHW
        bit(11) | bit(20) | bit(26) | bit(27) | bit(29)); // SYSCALL NX 1GiB-pages RDTSCP LM
    std::array<char, 48> brand{};
    std::memcpy(brand.data(), "Gnomon virtual processor", 24);
    for (u32 n = 0; n < 3; ++n) {
        const char* p = brand.data() + 16 * n;
        add(0x80000002 + n, word(p), word(p + 4), word(p + 8), word(p + 12));
    }
    add(0x80000005, 0, 0, 0, 0);
    add(0x80000006, 0, 0, 0x04008040, 0);
    add(0x80000007, 0, 0, 0, bit(8)); // invariant TSC
    add(0x80000008, guest_physical_bits | 48 << 8, 0, 0, 0);
    return t;
}

} // namespace gnomon::monitor
