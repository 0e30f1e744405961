// SPDX-License-Identifier: Apache-2.0
/// @file The instruction table: an allow-list that says, for every instruction the guest may
/// execute, what becomes of it.
///
/// Whatever has no row raises #UD. Dispatch in the translator, the coverage list and the comparison
/// with the host CPU derive from this table.
#pragma once

#include "processor/soft/helpers.h"

#include <Zydis/Zydis.h>
#include <span>

namespace gnomon::processor::soft {

enum class Action : u8 {
    refuse,  ///< #UD
    pass,    ///< re-emitted with its registers and its memory operand replaced
    nothing, ///< NOP and hints with a memory operand that is not accessed
    lea,
    push,
    pop, ///< general registers, immediates, memory
    leave,
    call,
    ret,
    jump,
    jump_if,
    loop,           ///< near transfers; `loop` also JRCXZ and JECXZ
    helper,         ///< a C++ helper, then the next instruction
    helper_end,     ///< a helper that always changes RIP or the mode: the block ends
    extended,       ///< a helper that sees ControlBlock::state.extended
    bit_test,       ///< BT, BTS, BTR, BTC: helper when the bit offset is a register and the operand
                    ///< memory, else pass
    mov_or_segment, ///< MOV: pass, or a helper when a segment, control or debug register takes part
};

/// CPUID feature that permits a row; `base` is x86-64 itself.
enum class Feature : u8 {
    base,
    x87,
    mmx,
    sse,
    sse2,
    sse3,
    ssse3,
    sse41,
    sse42,
    popcnt,
    aes,
    pclmulqdq,
    cx16,
    movbe,
    rdrand,
    rdseed,
    adx,
    sha,
    bmi1,
    bmi2,
    lzcnt,
    avx,
    avx2,
    fma,
    f16c,
    avx_aes,
    gfni,
    avx_gfni,
    vaes,
    vpclmulqdq,
    avx512, ///< F, CD, BW, DQ and VL: guests are shown all of these or none
    avx512_ifma,
    avx512_vbmi,
    avx512_vbmi2,
    avx512_vnni,
    avx512_bf16,
    avx512_bitalg,
    avx512_vpopcntdq,
    avx512_gfni,
    avx512_vaes,
    avx512_vpclmulqdq,
    clflushopt,
    clwb,
    rdtscp,
    rdpid,
    fsgsbase,
    xsave,
    xsaveopt,
    xsavec,
    invpcid,
    smap,
    fxsr,
    quick_loop, ///< no instruction's: the host's LOOP takes no longer than another branch
    count,
};

struct Row {
    ZydisMnemonic mnemonic;
    Action action;
    Feature feature;
    Helper helper;
};

/// Rows by mnemonic: the base instructions, and those of other sets that are not simply passed.
[[nodiscard]] std::span<const Row> instruction_rows();

/// Instruction sets all of whose instructions without a row of their own are passed.
struct SetRow {
    ZydisISASet set;
    Feature feature;
};
[[nodiscard]] std::span<const SetRow> passed_sets();

/// What becomes of a decoded instruction. `host` limits the answer to what this CPU executes.
struct Disposition {
    Action action = Action::refuse;
    Feature feature = Feature::base;
    Helper helper = nullptr;
};
class FeatureSet {
public:
    constexpr void add(Feature f) { m_bits |= u64{1} << static_cast<unsigned>(f); }
    void remove(Feature f) { m_bits &= ~(u64{1} << static_cast<unsigned>(f)); }
    [[nodiscard]] constexpr bool has(Feature f) const {
        return (m_bits >> static_cast<unsigned>(f) & 1) != 0;
    }
    [[nodiscard]] FeatureSet without(FeatureSet others) const {
        FeatureSet rest = *this;
        rest.m_bits &= ~others.m_bits;
        return rest;
    }
    /// What the CPU that this process runs on has of the table's features.
    [[nodiscard]] static FeatureSet of_host();
    /// Those whose state is that of AVX-512 (XCR0, bits 5 to 7).
    [[nodiscard]] static constexpr FeatureSet of_avx512();

private:
    u64 m_bits = 0;
};
constexpr FeatureSet FeatureSet::of_avx512() {
    FeatureSet set;
    for (const Feature f : {Feature::avx512, Feature::avx512_ifma, Feature::avx512_vbmi,
                            Feature::avx512_vbmi2, Feature::avx512_vnni, Feature::avx512_bf16,
                            Feature::avx512_bitalg, Feature::avx512_vpopcntdq, Feature::avx512_gfni,
                            Feature::avx512_vaes, Feature::avx512_vpclmulqdq})
        set.add(f);
    return set;
}

[[nodiscard]] Disposition disposition(const ZydisDecodedInstruction& instruction,
                                      FeatureSet features);

} // namespace gnomon::processor::soft
