// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/instruction_table.h"

#include <array>
#include <cpuid.h>

namespace gnomon::processor::soft {

namespace {

using enum Action;
using F = Feature;

#define PASS(name)                                                                                 \
    Row { ZYDIS_MNEMONIC_##name, pass, F::base, nullptr }
#define ROW(name, action)                                                                          \
    Row { ZYDIS_MNEMONIC_##name, action, F::base, nullptr }
#define HELPER(name, function)                                                                     \
    Row { ZYDIS_MNEMONIC_##name, helper, F::base, function }
#define HELPER_END(name, function)                                                                 \
    Row { ZYDIS_MNEMONIC_##name, helper_end, F::base, function }
#define EXTENDED(name, feature, function)                                                          \
    Row { ZYDIS_MNEMONIC_##name, extended, F::feature, function }
#define HELPER_F(name, feature, function)                                                          \
    Row { ZYDIS_MNEMONIC_##name, helper, F::feature, function }

constexpr Row rows[] = {
    // Integer arithmetic, logic, moves: the host's own silicon does them.
    PASS(ADC),
    PASS(ADD),
    PASS(AND),
    PASS(BSF),
    PASS(BSR),
    PASS(BSWAP),
    PASS(CBW),
    PASS(CDQ),
    PASS(CDQE),
    PASS(CLC),
    PASS(CMC),
    PASS(CMOVB),
    PASS(CMOVBE),
    PASS(CMOVL),
    PASS(CMOVLE),
    PASS(CMOVNB),
    PASS(CMOVNBE),
    PASS(CMOVNL),
    PASS(CMOVNLE),
    PASS(CMOVNO),
    PASS(CMOVNP),
    PASS(CMOVNS),
    PASS(CMOVNZ),
    PASS(CMOVO),
    PASS(CMOVP),
    PASS(CMOVS),
    PASS(CMOVZ),
    PASS(CMP),
    PASS(CMPXCHG),
    PASS(CQO),
    PASS(CWD),
    PASS(CWDE),
    PASS(DEC),
    PASS(DIV),
    PASS(IDIV),
    PASS(IMUL),
    PASS(INC),
    PASS(LAHF),
    PASS(SAHF),
    PASS(MOVSX),
    PASS(MOVSXD),
    PASS(MOVZX),
    PASS(MUL),
    PASS(NEG),
    PASS(NOT),
    PASS(OR),
    PASS(RCL),
    PASS(RCR),
    PASS(ROL),
    PASS(ROR),
    PASS(SAR),
    PASS(SBB),
    PASS(SETB),
    PASS(SETBE),
    PASS(SETL),
    PASS(SETLE),
    PASS(SETNB),
    PASS(SETNBE),
    PASS(SETNL),
    PASS(SETNLE),
    PASS(SETNO),
    PASS(SETNP),
    PASS(SETNS),
    PASS(SETNZ),
    PASS(SETO),
    PASS(SETP),
    PASS(SETS),
    PASS(SETZ),
    PASS(SHL),
    PASS(SHLD),
    PASS(SHR),
    PASS(SHRD),
    PASS(STC),
    PASS(SUB),
    PASS(TEST),
    PASS(XADD),
    PASS(XCHG),
    PASS(XOR),
    PASS(PAUSE),
    PASS(LFENCE),
    PASS(MFENCE),
    PASS(SFENCE),
    ROW(MOV, mov_or_segment),
    ROW(LEA, lea),
    ROW(NOP, nothing),
    ROW(ENDBR64, nothing),
    ROW(ENDBR32, nothing),
    ROW(PREFETCH, nothing),
    ROW(PREFETCHNTA, nothing),
    ROW(PREFETCHT0, nothing),
    ROW(PREFETCHT1, nothing),
    ROW(PREFETCHT2, nothing),
    ROW(PREFETCHW, nothing),
    ROW(PREFETCHWT1, nothing),
    PASS(CMPXCHG8B),
    Row{ZYDIS_MNEMONIC_CMPXCHG16B, pass, F::cx16, nullptr},
    ROW(BT, bit_test),
    ROW(BTS, bit_test),
    ROW(BTR, bit_test),
    ROW(BTC, bit_test),
    // Stack and near transfers.
    ROW(PUSH, push),
    ROW(POP, pop),
    ROW(LEAVE, leave),
    ROW(CALL, call),
    ROW(RET, ret),
    ROW(JMP, jump),
    ROW(JB, jump_if),
    ROW(JBE, jump_if),
    ROW(JL, jump_if),
    ROW(JLE, jump_if),
    ROW(JNB, jump_if),
    ROW(JNBE, jump_if),
    ROW(JNL, jump_if),
    ROW(JNLE, jump_if),
    ROW(JNO, jump_if),
    ROW(JNP, jump_if),
    ROW(JNS, jump_if),
    ROW(JNZ, jump_if),
    ROW(JO, jump_if),
    ROW(JP, jump_if),
    ROW(JS, jump_if),
    ROW(JZ, jump_if),
    ROW(LOOP, loop),
    ROW(LOOPE, loop),
    ROW(LOOPNE, loop),
    ROW(JCXZ, loop),
    ROW(JECXZ, loop),
    ROW(JRCXZ, loop),
    HELPER(ENTER, enter),
    HELPER(PUSHA, pusha),
    HELPER(PUSHAD, pusha),
    HELPER(POPA, popa),
    HELPER(POPAD, popa),
    HELPER(PUSHF, pushf),
    HELPER(PUSHFD, pushf),
    HELPER(PUSHFQ, pushf),
    HELPER(POPF, popf),
    HELPER(POPFD, popf),
    HELPER(POPFQ, popf),
    HELPER(BOUND, bound),
    HELPER(XLAT, xlat),
    HELPER(SALC, salc),
    HELPER(AAA, bcd_adjust),
    HELPER(AAS, bcd_adjust),
    HELPER(AAM, bcd_adjust),
    HELPER(AAD, bcd_adjust),
    HELPER(DAA, bcd_adjust),
    HELPER(DAS, bcd_adjust),
    // Strings.
    HELPER(MOVSB, movs),
    HELPER(MOVSW, movs),
    HELPER(MOVSD, movs),
    HELPER(MOVSQ, movs),
    HELPER(STOSB, stos),
    HELPER(STOSW, stos),
    HELPER(STOSD, stos),
    HELPER(STOSQ, stos),
    HELPER(LODSB, lods),
    HELPER(LODSW, lods),
    HELPER(LODSD, lods),
    HELPER(LODSQ, lods),
    HELPER(CMPSB, cmps),
    HELPER(CMPSW, cmps),
    HELPER(CMPSD, cmps),
    HELPER(CMPSQ, cmps),
    HELPER(SCASB, scas),
    HELPER(SCASW, scas),
    HELPER(SCASD, scas),
    HELPER(SCASQ, scas),
    HELPER(INSB, ins),
    HELPER(INSW, ins),
    HELPER(INSD, ins),
    HELPER(OUTSB, outs),
    HELPER(OUTSW, outs),
    HELPER(OUTSD, outs),
    // System instructions.
    HELPER(IN, in),
    HELPER_END(OUT, out),
    HELPER(CLI, cli),
    HELPER(STI, sti),
    HELPER(CLD, cld_std),
    HELPER(STD, cld_std),
    HELPER_END(HLT, hlt),
    HELPER(CPUID, cpuid),
    HELPER(RDTSC, rdtsc),
    HELPER_F(RDTSCP, rdtscp, rdtscp),
    HELPER_F(RDPID, rdpid, rdpid),
    HELPER(RDPMC, rdpmc),
    HELPER_F(CLAC, smap, clac_stac),
    HELPER_F(STAC, smap, clac_stac),
    HELPER_END(VMCALL, vmcall),
    HELPER_END(UD0, raise_ud),
    HELPER_END(UD1, raise_ud),
    HELPER_END(UD2, raise_ud),
    // Zydis counts them among the base instructions of the Pentium Pro.
    Row{ZYDIS_MNEMONIC_FCOMI, pass, F::x87, nullptr},
    Row{ZYDIS_MNEMONIC_FCOMIP, pass, F::x87, nullptr},
    Row{ZYDIS_MNEMONIC_FUCOMI, pass, F::x87, nullptr},
    Row{ZYDIS_MNEMONIC_FUCOMIP, pass, F::x87, nullptr},
    HELPER_END(INT, int_n),
    HELPER_END(INT3, int_n),
    HELPER_END(INT1, int_n),
    HELPER_END(INTO, into),
    HELPER_END(IRET, iret),
    HELPER_END(IRETD, iret),
    HELPER_END(IRETQ, iret),
    HELPER_END(SYSCALL, syscall),
    HELPER_END(SYSRET, sysret),
    HELPER_END(SYSENTER, sysenter),
    HELPER_END(SYSEXIT, sysexit),
    HELPER(SWAPGS, swapgs),
    HELPER_F(RDFSBASE, fsgsbase, rdwr_fsgsbase),
    HELPER_F(RDGSBASE, fsgsbase, rdwr_fsgsbase),
    HELPER_F(WRFSBASE, fsgsbase, rdwr_fsgsbase),
    HELPER_F(WRGSBASE, fsgsbase, rdwr_fsgsbase),
    HELPER(RDMSR, rdmsr),
    HELPER(WRMSR, wrmsr),
    HELPER(CLTS, clts),
    HELPER(LMSW, lmsw),
    HELPER(SMSW, smsw),
    HELPER(INVLPG, invlpg),
    HELPER_F(INVPCID, invpcid, invpcid),
    HELPER_F(XSETBV, xsave, xsetbv),
    HELPER_F(XGETBV, xsave, xgetbv),
    HELPER(WBINVD, wbinvd),
    HELPER(INVD, wbinvd),
    HELPER(LGDT, lgdt_lidt),
    HELPER(LIDT, lgdt_lidt),
    HELPER(SGDT, sgdt_sidt),
    HELPER(SIDT, sgdt_sidt),
    HELPER(LLDT, lldt),
    HELPER(LTR, ltr),
    HELPER(SLDT, sldt_str),
    HELPER(STR, sldt_str),
    HELPER(LAR, lar_lsl),
    HELPER(LSL, lar_lsl),
    HELPER(VERR, verr_verw),
    HELPER(VERW, verr_verw),
    HELPER(ARPL, arpl),
    HELPER(LSS, load_far_pointer),
    HELPER(LFS, load_far_pointer),
    HELPER(LGS, load_far_pointer),
    HELPER(LES, load_far_pointer),
    HELPER(LDS, load_far_pointer),
    // x87 and SSE state; instructions whose memory footprint is not one plain operand.
    EXTENDED(FXSAVE, fxsr, fxsave),
    EXTENDED(FXSAVE64, fxsr, fxsave),
    EXTENDED(FXRSTOR, fxsr, fxrstor),
    EXTENDED(FXRSTOR64, fxsr, fxrstor),
    EXTENDED(XSAVE, xsave, xsave),
    EXTENDED(XSAVE64, xsave, xsave),
    EXTENDED(XSAVEC, xsavec, xsave),
    EXTENDED(XSAVEC64, xsavec, xsave),
    EXTENDED(XSAVEOPT, xsaveopt, xsave),
    EXTENDED(XSAVEOPT64, xsaveopt, xsave),
    EXTENDED(XRSTOR, xsave, xrstor),
    EXTENDED(XRSTOR64, xsave, xrstor),
    EXTENDED(FNSTENV, x87, fnstenv),
    EXTENDED(FLDENV, x87, fldenv),
    EXTENDED(FNSAVE, x87, fnsave),
    EXTENDED(FRSTOR, x87, frstor),
    EXTENDED(MASKMOVQ, sse, maskmov),
    EXTENDED(MASKMOVDQU, sse2, maskmov),
    EXTENDED(VMASKMOVDQU, avx, maskmov),
    EXTENDED(VMASKMOVPS, avx, maskmov),
    EXTENDED(VMASKMOVPD, avx, maskmov),
    EXTENDED(VPMASKMOVD, avx2, maskmov),
    EXTENDED(VPMASKMOVQ, avx2, maskmov),
    EXTENDED(VGATHERDPS, avx2, gather),
    EXTENDED(VGATHERDPD, avx2, gather),
    EXTENDED(VGATHERQPS, avx2, gather),
    EXTENDED(VGATHERQPD, avx2, gather),
    EXTENDED(VPGATHERDD, avx2, gather),
    EXTENDED(VPGATHERDQ, avx2, gather),
    EXTENDED(VPGATHERQD, avx2, gather),
    EXTENDED(VPGATHERQQ, avx2, gather),
    EXTENDED(VSCATTERDPS, avx512, scatter),
    EXTENDED(VSCATTERDPD, avx512, scatter),
    EXTENDED(VSCATTERQPS, avx512, scatter),
    EXTENDED(VSCATTERQPD, avx512, scatter),
    EXTENDED(VPSCATTERDD, avx512, scatter),
    EXTENDED(VPSCATTERDQ, avx512, scatter),
    EXTENDED(VPSCATTERQD, avx512, scatter),
    EXTENDED(VPSCATTERQQ, avx512, scatter),
};

constexpr SetRow sets[] = {
    {ZYDIS_ISA_SET_X87, F::x87},
    {ZYDIS_ISA_SET_FCMOV, F::x87},
    {ZYDIS_ISA_SET_SSE3X87, F::sse3},
    {ZYDIS_ISA_SET_PENTIUMMMX, F::mmx},
    {ZYDIS_ISA_SET_SSE, F::sse},
    {ZYDIS_ISA_SET_SSEMXCSR, F::sse},
    {ZYDIS_ISA_SET_SSE2, F::sse2},
    {ZYDIS_ISA_SET_SSE2MMX, F::sse2},
    {ZYDIS_ISA_SET_SSE3, F::sse3},
    {ZYDIS_ISA_SET_SSSE3, F::ssse3},
    {ZYDIS_ISA_SET_SSSE3MMX, F::ssse3},
    {ZYDIS_ISA_SET_SSE4, F::sse41},
    {ZYDIS_ISA_SET_SSE42, F::sse42},
    {ZYDIS_ISA_SET_POPCNT, F::popcnt},
    {ZYDIS_ISA_SET_AES, F::aes},
    {ZYDIS_ISA_SET_PCLMULQDQ, F::pclmulqdq},
    {ZYDIS_ISA_SET_MOVBE, F::movbe},
    {ZYDIS_ISA_SET_RDRAND, F::rdrand},
    {ZYDIS_ISA_SET_RDSEED, F::rdseed},
    {ZYDIS_ISA_SET_ADOX_ADCX, F::adx},
    {ZYDIS_ISA_SET_SHA, F::sha},
    {ZYDIS_ISA_SET_BMI1, F::bmi1},
    {ZYDIS_ISA_SET_BMI2, F::bmi2},
    {ZYDIS_ISA_SET_LZCNT, F::lzcnt},
    {ZYDIS_ISA_SET_AVX, F::avx},
    {ZYDIS_ISA_SET_AVX2, F::avx2},
    {ZYDIS_ISA_SET_FMA, F::fma},
    {ZYDIS_ISA_SET_F16C, F::f16c},
    {ZYDIS_ISA_SET_AVXAES, F::avx_aes},
    {ZYDIS_ISA_SET_CLFSH, F::base},
    {ZYDIS_ISA_SET_CLFLUSHOPT, F::clflushopt},
    {ZYDIS_ISA_SET_CLWB, F::clwb},
    {ZYDIS_ISA_SET_GFNI, F::gfni},
    {ZYDIS_ISA_SET_AVX_GFNI, F::avx_gfni},
    {ZYDIS_ISA_SET_VAES, F::vaes},
    {ZYDIS_ISA_SET_VPCLMULQDQ, F::vpclmulqdq},
    {ZYDIS_ISA_SET_AVX512F_128, F::avx512},
    {ZYDIS_ISA_SET_AVX512F_128N, F::avx512},
    {ZYDIS_ISA_SET_AVX512F_256, F::avx512},
    {ZYDIS_ISA_SET_AVX512F_512, F::avx512},
    {ZYDIS_ISA_SET_AVX512F_KOP, F::avx512},
    {ZYDIS_ISA_SET_AVX512F_SCALAR, F::avx512},
    {ZYDIS_ISA_SET_AVX512CD_128, F::avx512},
    {ZYDIS_ISA_SET_AVX512CD_256, F::avx512},
    {ZYDIS_ISA_SET_AVX512CD_512, F::avx512},
    {ZYDIS_ISA_SET_AVX512BW_128, F::avx512},
    {ZYDIS_ISA_SET_AVX512BW_128N, F::avx512},
    {ZYDIS_ISA_SET_AVX512BW_256, F::avx512},
    {ZYDIS_ISA_SET_AVX512BW_512, F::avx512},
    {ZYDIS_ISA_SET_AVX512BW_KOP, F::avx512},
    {ZYDIS_ISA_SET_AVX512DQ_128, F::avx512},
    {ZYDIS_ISA_SET_AVX512DQ_128N, F::avx512},
    {ZYDIS_ISA_SET_AVX512DQ_256, F::avx512},
    {ZYDIS_ISA_SET_AVX512DQ_512, F::avx512},
    {ZYDIS_ISA_SET_AVX512DQ_KOP, F::avx512},
    {ZYDIS_ISA_SET_AVX512DQ_SCALAR, F::avx512},
    {ZYDIS_ISA_SET_AVX512_IFMA_128, F::avx512_ifma},
    {ZYDIS_ISA_SET_AVX512_IFMA_256, F::avx512_ifma},
    {ZYDIS_ISA_SET_AVX512_IFMA_512, F::avx512_ifma},
    {ZYDIS_ISA_SET_AVX512_VBMI_128, F::avx512_vbmi},
    {ZYDIS_ISA_SET_AVX512_VBMI_256, F::avx512_vbmi},
    {ZYDIS_ISA_SET_AVX512_VBMI_512, F::avx512_vbmi},
    {ZYDIS_ISA_SET_AVX512_VBMI2_128, F::avx512_vbmi2},
    {ZYDIS_ISA_SET_AVX512_VBMI2_256, F::avx512_vbmi2},
    {ZYDIS_ISA_SET_AVX512_VBMI2_512, F::avx512_vbmi2},
    {ZYDIS_ISA_SET_AVX512_VNNI_128, F::avx512_vnni},
    {ZYDIS_ISA_SET_AVX512_VNNI_256, F::avx512_vnni},
    {ZYDIS_ISA_SET_AVX512_VNNI_512, F::avx512_vnni},
    {ZYDIS_ISA_SET_AVX512_BF16_128, F::avx512_bf16},
    {ZYDIS_ISA_SET_AVX512_BF16_256, F::avx512_bf16},
    {ZYDIS_ISA_SET_AVX512_BF16_512, F::avx512_bf16},
    {ZYDIS_ISA_SET_AVX512_BITALG_128, F::avx512_bitalg},
    {ZYDIS_ISA_SET_AVX512_BITALG_256, F::avx512_bitalg},
    {ZYDIS_ISA_SET_AVX512_BITALG_512, F::avx512_bitalg},
    {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128, F::avx512_vpopcntdq},
    {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_256, F::avx512_vpopcntdq},
    {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512, F::avx512_vpopcntdq},
    {ZYDIS_ISA_SET_AVX512_GFNI_128, F::avx512_gfni},
    {ZYDIS_ISA_SET_AVX512_GFNI_256, F::avx512_gfni},
    {ZYDIS_ISA_SET_AVX512_GFNI_512, F::avx512_gfni},
    {ZYDIS_ISA_SET_AVX512_VAES_128, F::avx512_vaes},
    {ZYDIS_ISA_SET_AVX512_VAES_256, F::avx512_vaes},
    {ZYDIS_ISA_SET_AVX512_VAES_512, F::avx512_vaes},
    {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128, F::avx512_vpclmulqdq},
    {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_256, F::avx512_vpclmulqdq},
    {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_512, F::avx512_vpclmulqdq},
};

/// By mnemonic, so that a look-up is one index.
constexpr auto row_index = [] {
    std::array<u16, ZYDIS_MNEMONIC_MAX_VALUE + 1> index{};
    for (std::size_t i = 0; i < std::size(rows); ++i)
        index[rows[i].mnemonic] = static_cast<u16>(i + 1);
    return index;
}();
constexpr auto set_index = [] {
    std::array<u8, ZYDIS_ISA_SET_MAX_VALUE + 1> index{};
    for (std::size_t i = 0; i < std::size(sets); ++i)
        index[sets[i].set] = static_cast<u8>(i + 1);
    return index;
}();

} // namespace

namespace {

u64 read_xcr0() {
    u32 low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return u64{high} << 32 | low;
}

/// AVX-512 as every processor since Skylake's servers has it. The first, without BW, DQ and VL, do
/// not count: masks of 64 bits are BW's.
void add_avx512(FeatureSet& set, u64 host_xcr0) {
    u32 a = 0, b = 0, c = 0, d = 0;
    __cpuid_count(7, 0, a, b, c, d);
    constexpr u32 all = u32{1} << 16 | u32{1} << 17 | u32{1} << 28 | u32{1} << 30 | u32{1} << 31;
    constexpr u64 state = xcr0::sse | xcr0::avx | xcr0::avx512;
    if ((b & all) != all || (host_xcr0 & state) != state || !set.has(F::avx2)) return;
    const auto when = [&](bool on, F f) {
        if (on) set.add(f);
    };
    set.add(F::avx512);
    when((b >> 21 & 1) != 0, F::avx512_ifma);
    when((c >> 1 & 1) != 0, F::avx512_vbmi);
    when((c >> 6 & 1) != 0, F::avx512_vbmi2);
    when((c >> 11 & 1) != 0, F::avx512_vnni);
    when((c >> 12 & 1) != 0, F::avx512_bitalg);
    when((c >> 14 & 1) != 0, F::avx512_vpopcntdq);
    when(set.has(F::avx_gfni), F::avx512_gfni);
    when(set.has(F::vaes), F::avx512_vaes);
    when(set.has(F::vpclmulqdq), F::avx512_vpclmulqdq);
    if (a == 0) return;
    __cpuid_count(7, 1, a, b, c, d);
    when((a >> 5 & 1) != 0, F::avx512_bf16);
}

} // namespace

std::span<const Row> instruction_rows() { return rows; }
std::span<const SetRow> passed_sets() { return sets; }

Disposition disposition(const ZydisDecodedInstruction& z, FeatureSet features) {
    // XOP, 3DNow! and MVEX forms are never shown.
    const bool evex = z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
    if (z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        z.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX && !evex)
        return {};
    // MOVSD and CMPSD name a string instruction and an SSE2 one each.
    const bool sse_namesake =
        (z.mnemonic == ZYDIS_MNEMONIC_MOVSD || z.mnemonic == ZYDIS_MNEMONIC_CMPSD) &&
        z.meta.isa_set == ZYDIS_ISA_SET_SSE2;
    if (const u16 i = row_index[z.mnemonic]; i != 0 && !sse_namesake) {
        const Row& row = rows[i - 1];
        // Gathers have forms of both kinds.
        const F feature = evex ? F::avx512 : row.feature;
        if (!features.has(feature)) return {};
        return {row.action, feature, row.helper};
    }
    if (z.meta.isa_set <= ZYDIS_ISA_SET_MAX_VALUE)
        if (const u8 i = set_index[z.meta.isa_set]; i != 0 && features.has(sets[i - 1].feature))
            return {pass, sets[i - 1].feature, nullptr};
    return {};
}

FeatureSet FeatureSet::of_host() {
    FeatureSet set;
    for (const F f : {F::base, F::x87, F::mmx, F::fxsr, F::sse, F::sse2, F::rdpid, F::rdtscp,
                      F::fsgsbase, F::invpcid, F::smap, F::xsaveopt, F::xsavec})
        set.add(f); // x86-64's own, and those that helpers do without the host's aid
    u32 a = 0, b = 0, c = 0, d = 0;
    u64 host_xcr0 = 0;
    const auto when = [&](bool on, F f) {
        if (on) set.add(f);
    };
    if (__get_cpuid(1, &a, &b, &c, &d) != 0) {
        when((c & 1) != 0, F::sse3);
        when((c >> 1 & 1) != 0, F::pclmulqdq);
        when((c >> 9 & 1) != 0, F::ssse3);
        when((c >> 12 & 1) != 0, F::fma);
        when((c >> 13 & 1) != 0, F::cx16);
        when((c >> 19 & 1) != 0, F::sse41);
        when((c >> 20 & 1) != 0, F::sse42);
        when((c >> 22 & 1) != 0, F::movbe);
        when((c >> 23 & 1) != 0, F::popcnt);
        when((c >> 25 & 1) != 0, F::aes);
        when((c >> 27 & 1) != 0, F::xsave);
        when((c >> 29 & 1) != 0, F::f16c);
        when((c >> 30 & 1) != 0, F::rdrand);
        const bool host_avx = (c >> 27 & 1) != 0 && (c >> 28 & 1) != 0;
        if ((c >> 27 & 1) != 0) host_xcr0 = read_xcr0();
        when(host_avx, F::avx);
        when(host_avx && set.has(F::aes), F::avx_aes);
        if (!host_avx) {
            set.remove(F::fma);
            set.remove(F::f16c);
        }
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) {
        when((b >> 3 & 1) != 0, F::bmi1);
        when((b >> 5 & 1) != 0 && set.has(F::avx), F::avx2);
        when((b >> 8 & 1) != 0, F::bmi2);
        when((b >> 18 & 1) != 0, F::rdseed);
        when((b >> 19 & 1) != 0, F::adx);
        when((b >> 23 & 1) != 0, F::clflushopt);
        when((b >> 24 & 1) != 0, F::clwb);
        when((b >> 29 & 1) != 0, F::sha);
        when((c >> 8 & 1) != 0, F::gfni);
        when((c >> 8 & 1) != 0 && set.has(F::avx), F::avx_gfni);
        when((c >> 9 & 1) != 0 && set.has(F::avx_aes), F::vaes);
        when((c >> 10 & 1) != 0 && set.has(F::avx) && set.has(F::pclmulqdq), F::vpclmulqdq);
        add_avx512(set, host_xcr0);
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d) != 0) when((c >> 5 & 1) != 0, F::lzcnt);
    // "Auth" and "Hygo": theirs is one operation; that of others takes seven.
    if (__get_cpuid(0, &a, &b, &c, &d) != 0)
        when(b == 0x68747541 || b == 0x6f677948, F::quick_loop);
    return set;
}

} // namespace gnomon::processor::soft
