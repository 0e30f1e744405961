// SPDX-License-Identifier: Apache-2.0
/// @file Every instruction that the table permits, run by the software processor and by the host
/// CPU: one at a time, in sequences, in both code sizes, and in each of the ways in which the
/// processor translates.
///
/// Each case follows from the seed and its number. Environment: GNOMON_SEED, GNOMON_CASES (single
/// instructions a variant; sequences in proportion, and fewer where stepped), GNOMON_CASE (this one
/// only, printed), GNOMON_FORMS (a pattern: these forms only).
#include "comparison.h"
#include "layout.h"
#include "places.h"
#include "program_maker.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fnmatch.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <set>

namespace gnomon::test {

namespace {

using processor::soft::Action;
using processor::soft::Feature;
using processor::soft::FeatureSet;

constexpr u64 default_cases = 320000;
constexpr u64 cases_of_a_sequence = 40; ///< single cases for which one sequence is made
constexpr u64 states_of_a_sequence = 4;
constexpr u64 cost_of_stepping = 4; ///< signals make stepped runs so much slower, or more
constexpr u64 shown_failures = 12, failure_limit = 2000;
constexpr u64 all_cases = ~u64{0};

constexpr Variant variants[] = {
    {.name = "LongMode"},
    {.name = "CompatibilityMode", .code32 = true},
    {.name = "LongModeWithoutBmi2", .without_bmi2 = true},
    {.name = "CompatibilityModeWithoutBmi2", .code32 = true, .without_bmi2 = true},
    {.name = "LongModeWithoutLoop", .without_loop = true},
    {.name = "LongModeByView", .viewed = true},
    {.name = "LongModeStepped", .stepped = true},
    {.name = "CompatibilityModeStepped", .code32 = true, .stepped = true},
};

u64 number_from(const char* name, u64 otherwise) {
    const char* const text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

class InstructionComparison : public testing::TestWithParam<Variant> {
protected:
    void SetUp() override {
        if (!host_has_fsgsbase()) GTEST_SKIP() << "this host keeps WRFSBASE from programs";
        m_seed = number_from("GNOMON_SEED", 1);
        m_only = number_from("GNOMON_CASE", all_cases);
        auto exclusions = Exclusions::load(GNOMON_INSTRUCTION_EXCLUSIONS);
        ASSERT_TRUE(exclusions) << exclusions.error().message;
        m_exclusions = std::move(*exclusions);
        auto comparison = Comparison::create(GetParam(), m_seed);
        ASSERT_TRUE(comparison) << comparison.error().message;
        m_comparison = std::move(*comparison);
        m_list.emplace(GetParam().code32, m_comparison->guest().features());
    }

    /// The forms to compare: all but those excluded.
    std::vector<Form*> wanted_forms() {
        const char* const only = std::getenv("GNOMON_FORMS");
        std::vector<Form*> out;
        for (Form& f : m_list->forms())
            if (!m_exclusions.match(f.key, GetParam().code32) &&
                (only == nullptr || ::fnmatch(only, f.key.c_str(), 0) == 0))
                out.push_back(&f);
        return out;
    }

    /// Single instructions to run.
    [[nodiscard]] static u64 cases() {
        const u64 all = number_from("GNOMON_CASES", default_cases);
        return GetParam().stepped ? all / cost_of_stepping : all;
    }
    /// Cases to run: [first, end).
    [[nodiscard]] u64 first() const { return m_only == all_cases ? 0 : m_only; }
    [[nodiscard]] u64 end(u64 count) const { return m_only == all_cases ? count : m_only + 1; }

    /// Runs case `number`; false once there were too many failures.
    bool run_case(u64 number, const std::string& form, Program& program, bool loaded = false) {
        if (number % 64 == 0 && !loaded) m_comparison->guest().flush_tlb();
        if (GetParam().stepped) {
            program.stepped = true;
            program.state.rflags |= processor::rflags::tf;
        }
        const std::string difference = m_comparison->run(program, loaded);
        if (m_only == number)
            fmt::print("case {} ({})\n{}{}\n", number, form, program.text,
                       difference.empty() ? "  same\n" : difference);
        if (difference.empty()) return true;
        ++m_failures[form];
        if (++m_failure_count <= shown_failures || m_failures[form] == 1)
            ADD_FAILURE() << fmt::format("GNOMON_SEED={} GNOMON_CASE={} ({})\n{}{}", m_seed, number,
                                         form, program.text, difference);
        return m_failure_count < failure_limit;
    }

    void report(u64 forms) {
        for (const auto& [form, count] : m_failures)
            fmt::print("  {:>6} failures  {}\n", count, form);
        const Comparison::Counts& c = m_comparison->counts();
        const auto& s = m_comparison->guest().statistics();
        fmt::print("{}: {} instructions compared in {} runs of {} forms, {} after single steps; {} "
                   "faults, {} slow accesses, {} straddles, {} traced writes, {} MMIO exits, {} "
                   "restarts, {} code invalidations, {} cache flushes\n",
                   GetParam().name, c.instructions, c.programs, forms, c.steps, c.faults,
                   s.slow_accesses, s.straddles, s.traced_writes,
                   m_comparison->guest().mmio_exits(), m_comparison->guest().restarts(),
                   s.code_invalidations, s.cache_flushes);
    }

    /// Every form was exercised, and those that access memory at every place that they can have.
    /// Only where there were cases enough.
    void expect_all_met(const std::vector<Form*>& forms, u64 count) {
        constexpr u64 enough = 4;
        const bool all_places = count >= forms.size() * places().size();
        for (const Form* f : forms) {
            EXPECT_TRUE(f->cases != 0 || count < enough * forms.size())
                << "no case exercises " << f->key;
            for (unsigned p = 0; p < places().size() && f->accesses_memory && all_places; ++p)
                EXPECT_TRUE(f->met.contains(p)) << f->key << " never met " << places()[p].text();
        }
    }

    u64 m_seed = 1, m_only = all_cases;
    std::optional<FormList> m_list;
    Exclusions m_exclusions;
    std::unique_ptr<Comparison> m_comparison;
    std::map<std::string, u64> m_failures;
    u64 m_failure_count = 0;
};

TEST_P(InstructionComparison, Single) {
    const std::vector<Form*> forms = wanted_forms();
    ASSERT_FALSE(forms.empty());
    const u64 last = end(cases());
    for (u64 n = first(); n < last; ++n) {
        // Each form at each place, and then at any address as often.
        Form& form = *forms[n % forms.size()];
        const u64 round = n / forms.size() % (2 * places().size());
        std::optional<unsigned> place;
        if (round < places().size()) place = static_cast<unsigned>(round);
        Random random(m_seed, n);
        auto program = make_single(*m_list, form, place, random);
        if (!program) continue;
        ++form.cases;
        if (program->operand.size != 0) form.accesses_memory = true;
        if (program->place_refused) form.met.insert(*place);
        if (const auto met = place_of(program->operand)) form.met.insert(*met);
        if (!run_case(n, form.key, *program)) break;
    }
    report(forms.size());
    expect_all_met(forms, last - first());
}

TEST_P(InstructionComparison, Sequence) {
    std::vector<const Form*> forms;
    for (const Form* f : wanted_forms())
        if (fits_sequence(*f)) forms.push_back(f);
    if (forms.empty()) GTEST_SKIP() << "none of the forms asked for can be part of a sequence";
    const u64 last = end(cases() / cases_of_a_sequence);
    bool go_on = true;
    for (u64 n = first(); n < last && go_on; ++n) {
        Random random(~m_seed, n);
        auto program = make_sequence(*m_list, forms, random);
        if (!program) continue;
        go_on = run_case(n, "sequence", *program);
        for (u64 k = 1; k < states_of_a_sequence && go_on; ++k) {
            vary_sequence(*program, random);
            go_on = run_case(n, "sequence", *program, true);
        }
    }
    report(forms.size());
    const Comparison::Counts& c = m_comparison->counts();
    // One in twenty at the most; four standard deviations for short runs, since the states of one
    // sequence fault together.
    const double expected = static_cast<double>(c.programs) / 20;
    const double deviation = std::sqrt(expected * static_cast<double>(states_of_a_sequence));
    EXPECT_LE(static_cast<double>(c.faults), expected + 4 * deviation)
        << "sequences are to run to their end";
}

INSTANTIATE_TEST_SUITE_P(Instructions, InstructionComparison, testing::ValuesIn(variants),
                         [](const auto& instance) { return std::string(instance.param.name); });

FeatureSet every_feature() {
    FeatureSet all;
    for (unsigned f = 0; f < static_cast<unsigned>(Feature::count); ++f)
        all.add(static_cast<Feature>(f));
    return all;
}

/// What the table permits but no opcode leads to: a hole in the enumeration, or a reason.
TEST(InstructionForms, EveryRowHasForms) {
    std::set<ZydisMnemonic> mnemonics;
    std::set<ZydisISASet> sets;
    for (const bool code32 : {false, true}) {
        FormList list(code32, every_feature());
        for (const Form& f : list.forms()) {
            mnemonics.insert(f.mnemonic);
            sets.insert(f.isa_set);
        }
    }
    // Hints that decode as NOP, since CPUID does not show them.
    const std::set<ZydisMnemonic> otherwise = {ZYDIS_MNEMONIC_ENDBR32, ZYDIS_MNEMONIC_ENDBR64};
    for (const auto& row : processor::soft::instruction_rows())
        EXPECT_TRUE(otherwise.contains(row.mnemonic) || mnemonics.contains(row.mnemonic))
            << ZydisMnemonicGetString(row.mnemonic);
    for (const auto& row : processor::soft::passed_sets())
        EXPECT_TRUE(sets.contains(row.set)) << ZydisISASetGetString(row.set);
}

/// An exclusion that excludes nothing says something untrue.
// The other way round: what Zydis decodes and the table refuses belongs to a feature that guests
// are not shown, or has its reason here. Otherwise a row forgotten would be #UD, and never be
// compared.
TEST(InstructionForms, WhatIsRefusedIsNotShown) {
    constexpr ZydisISASet not_shown[] = {
        ZYDIS_ISA_SET_AMD3DNOW,
        ZYDIS_ISA_SET_AMD_INVLPGB,
        ZYDIS_ISA_SET_AMX_BF16,
        ZYDIS_ISA_SET_AMX_INT8,
        ZYDIS_ISA_SET_AMX_TILE,
        ZYDIS_ISA_SET_AVX512ER_512,
        ZYDIS_ISA_SET_AVX512ER_SCALAR,
        ZYDIS_ISA_SET_AVX512PF_512,
        ZYDIS_ISA_SET_AVX512_4FMAPS_512,
        ZYDIS_ISA_SET_AVX512_4FMAPS_SCALAR,
        ZYDIS_ISA_SET_AVX512_4VNNIW_512,
        ZYDIS_ISA_SET_AVX512_FP16_128,
        ZYDIS_ISA_SET_AVX512_FP16_128N,
        ZYDIS_ISA_SET_AVX512_FP16_256,
        ZYDIS_ISA_SET_AVX512_FP16_512,
        ZYDIS_ISA_SET_AVX512_FP16_SCALAR,
        ZYDIS_ISA_SET_AVX512_VP2INTERSECT_128,
        ZYDIS_ISA_SET_AVX512_VP2INTERSECT_256,
        ZYDIS_ISA_SET_AVX512_VP2INTERSECT_512,
        ZYDIS_ISA_SET_AVX_VNNI,
        ZYDIS_ISA_SET_CET,
        ZYDIS_ISA_SET_CLZERO,
        ZYDIS_ISA_SET_ENQCMD,
        ZYDIS_ISA_SET_FMA4,
        ZYDIS_ISA_SET_HRESET,
        ZYDIS_ISA_SET_KEYLOCKER,
        ZYDIS_ISA_SET_KEYLOCKER_WIDE,
        ZYDIS_ISA_SET_KNCJKBR,
        ZYDIS_ISA_SET_KNCV,
        ZYDIS_ISA_SET_MCOMMIT,
        ZYDIS_ISA_SET_MONITOR,
        ZYDIS_ISA_SET_MONITORX,
        ZYDIS_ISA_SET_MOVDIR,
        ZYDIS_ISA_SET_PADLOCK_ACE,
        ZYDIS_ISA_SET_PADLOCK_PHE,
        ZYDIS_ISA_SET_PADLOCK_PMM,
        ZYDIS_ISA_SET_PADLOCK_RNG,
        ZYDIS_ISA_SET_PCONFIG,
        ZYDIS_ISA_SET_PKU,
        ZYDIS_ISA_SET_PT,
        ZYDIS_ISA_SET_RDPRU,
        ZYDIS_ISA_SET_RTM,
        ZYDIS_ISA_SET_SERIALIZE,
        ZYDIS_ISA_SET_SGX,
        ZYDIS_ISA_SET_SGX_ENCLV,
        ZYDIS_ISA_SET_SMX,
        ZYDIS_ISA_SET_SNP,
        ZYDIS_ISA_SET_SSE4A,
        ZYDIS_ISA_SET_SVM,
        ZYDIS_ISA_SET_TDX,
        ZYDIS_ISA_SET_TSX_LDTRK,
        ZYDIS_ISA_SET_UINTR,
        ZYDIS_ISA_SET_VMFUNC,
        ZYDIS_ISA_SET_VTX,
        ZYDIS_ISA_SET_WAITPKG,
        ZYDIS_ISA_SET_XOP,
        ZYDIS_ISA_SET_XSAVES,
    };
    // RSM is #UD outside system-management mode, which these machines do not have.
    constexpr ZydisMnemonic reasoned[] = {ZYDIS_MNEMONIC_RSM};

    ZydisDecoder decoder;
    ASSERT_TRUE(
        ZYAN_SUCCESS(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)));
    // Extensions that were never shown, under which hints and other encodings mean something else.
    for (const ZydisDecoderMode mode : {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CLDEMOTE,
                                        ZYDIS_DECODER_MODE_KNC, ZYDIS_DECODER_MODE_CET})
        ASSERT_TRUE(ZYAN_SUCCESS(ZydisDecoderEnableMode(&decoder, mode, ZYAN_FALSE)));
    const FeatureSet all = every_feature(); // this host may lack some
    std::set<std::string> forgotten;
    unsigned decoded = 0;
    const auto look = [&](std::span<const u8> bytes) {
        ZydisDecodedInstruction i;
        if (ZYAN_FAILED(
                ZydisDecoderDecodeInstruction(&decoder, nullptr, bytes.data(), bytes.size(), &i)))
            return;
        ++decoded;
        const bool known = i.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
                           i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ||
                           i.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
        if (!known || disposition(i, all).action != Action::refuse) return;
        if (std::ranges::find(not_shown, i.meta.isa_set) != std::end(not_shown)) return;
        if (std::ranges::find(reasoned, i.mnemonic) != std::end(reasoned)) return;
        forgotten.insert(std::string(ZydisISASetGetString(i.meta.isa_set)) + " " +
                         ZydisMnemonicGetString(i.mnemonic));
    };
    const std::vector<u8> prefixes[] = {{},     {0x66},       {0xf2},       {0xf3},
                                        {0x48}, {0x66, 0x48}, {0xf3, 0x48}, {0xf2, 0x48}};
    const std::vector<u8> maps[] = {{}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};
    for (const auto& prefix : prefixes)
        for (const auto& map : maps)
            for (unsigned opcode = 0; opcode < 256; ++opcode)
                for (unsigned modrm = 0; modrm < 256; ++modrm) {
                    std::vector<u8> bytes = prefix;
                    bytes.insert(bytes.end(), map.begin(), map.end());
                    bytes.push_back(static_cast<u8>(opcode));
                    bytes.push_back(static_cast<u8>(modrm));
                    bytes.resize(ZYDIS_MAX_INSTRUCTION_LENGTH);
                    look(bytes);
                }
    for (unsigned map = 1; map <= 3; ++map)
        for (unsigned last = 0; last < 256; ++last) // W, vvvv, L, pp
            for (unsigned opcode = 0; opcode < 256; ++opcode)
                for (const unsigned modrm : {0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x04,
                                             0xc0, 0xc8, 0xd0, 0xd8, 0xe0, 0xe8, 0xf0, 0xf8})
                    look(std::vector<u8>{0xc4, static_cast<u8>(0xe0 | map), static_cast<u8>(last),
                                         static_cast<u8>(opcode), static_cast<u8>(modrm), 0, 0, 0,
                                         0, 0, 0, 0});
    for (unsigned map = 1; map <= 3; ++map)
        for (const unsigned second : {0x7cU, 0x5cU, 0xfcU, 0xdcU}) // W, vvvv
            for (unsigned pp = 0; pp < 4; ++pp)
                for (unsigned last = 0; last < 256; last += 8) // z, L'L, b, V'
                    for (unsigned opcode = 0; opcode < 256; ++opcode)
                        for (const unsigned modrm : {0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38,
                                                     0x04, 0xc0, 0xd0, 0xe0, 0xf0})
                            look(std::vector<u8>{0x62, static_cast<u8>(0xf0 | map),
                                                 static_cast<u8>(second | pp),
                                                 static_cast<u8>(last | 1), static_cast<u8>(opcode),
                                                 static_cast<u8>(modrm), 0, 0, 0, 0, 0, 0});
    EXPECT_GT(decoded, 100'000U);
    EXPECT_THAT(forgotten, testing::IsEmpty());
}

TEST(InstructionForms, EveryExclusionMatches) {
    auto exclusions = Exclusions::load(GNOMON_INSTRUCTION_EXCLUSIONS);
    ASSERT_TRUE(exclusions) << exclusions.error().message;
    for (const bool code32 : {false, true}) {
        FormList list(code32, every_feature());
        for (const Form& f : list.forms())
            (void)exclusions->match(f.key, code32);
    }
    for (const std::string& pattern : exclusions->unused())
        ADD_FAILURE() << "no form is called " << pattern;
}

} // namespace

} // namespace gnomon::test
