// SPDX-License-Identifier: Apache-2.0
/// @file Every instruction that the table permits, run by the software processor and by the host
/// CPU.
///
/// Each case follows from the seed and its number. Environment: GNOMON_SEED, GNOMON_CASES (how
/// many), GNOMON_CASE (this one only, printed), GNOMON_FORMS (a pattern: these forms only).
#include "comparison.h"
#include "layout.h"
#include "program_maker.h"

#include <algorithm>
#include <cstdlib>
#include <fnmatch.h>
#include <gtest/gtest.h>
#include <map>
#include <set>

namespace gnomon::test {

namespace {

constexpr u64 default_cases = 500000;
constexpr u64 shown_failures = 12, failure_limit = 2000;

u64 number_from(const char* name, u64 otherwise) {
    const char* const text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

/// What all the tests of this file share: made once, since the addresses are fixed.
class InstructionComparison : public testing::Test {
protected:
    void SetUp() override {
        if (!host_has_fsgsbase()) GTEST_SKIP() << "this host keeps WRFSBASE from programs";
        m_seed = number_from("GNOMON_SEED", 1);
        auto exclusions = Exclusions::load(GNOMON_INSTRUCTION_EXCLUSIONS);
        ASSERT_TRUE(exclusions) << exclusions.error().message;
        m_exclusions = std::move(*exclusions);
        auto comparison = Comparison::create(m_seed);
        ASSERT_TRUE(comparison) << comparison.error().message;
        m_comparison = std::move(*comparison);
    }

    /// The forms to compare: all but those excluded.
    std::vector<Form*> wanted_forms() {
        const char* const only = std::getenv("GNOMON_FORMS");
        std::vector<Form*> out;
        for (Form& f : m_list.forms())
            if (!m_exclusions.match(f.key) &&
                (only == nullptr || ::fnmatch(only, f.key.c_str(), 0) == 0))
                out.push_back(&f);
        return out;
    }

    /// Runs case `number`; false once there were too many failures.
    bool run_case(u64 number, const std::string& form, const Program& program) {
        if (number % 64 == 0) m_comparison->guest().flush_tlb();
        const std::string difference = m_comparison->run(program);
        if (number_from("GNOMON_CASE", ~u64{0}) == number)
            fmt::print("case {} ({})\n{}{}\n", number, form, program.text,
                       difference.empty() ? "  same\n" : difference);
        if (difference.empty()) return true;
        ++m_failures[form];
        if (++m_failure_count <= shown_failures || m_failures[form] == 1)
            ADD_FAILURE() << fmt::format("GNOMON_SEED={} case {} ({})\n{}{}", m_seed, number, form,
                                         program.text, difference);
        return m_failure_count < failure_limit;
    }

    void report_failures() {
        if (m_failures.empty()) return;
        fmt::print("{} failures:\n", m_failure_count);
        for (const auto& [form, count] : m_failures)
            fmt::print("  {:>6}  {}\n", count, form);
    }

    u64 m_seed = 1;
    FormList m_list;
    Exclusions m_exclusions;
    std::unique_ptr<Comparison> m_comparison;
    std::map<std::string, u64> m_failures;
    u64 m_failure_count = 0;
};

TEST_F(InstructionComparison, Single) {
    const std::vector<Form*> forms = wanted_forms();
    ASSERT_FALSE(forms.empty());
    const u64 only = number_from("GNOMON_CASE", ~u64{0});
    const u64 first = only != ~u64{0} ? only : 0;
    const u64 end = only != ~u64{0} ? only + 1 : number_from("GNOMON_CASES", default_cases);
    u64 made = 0;
    for (u64 n = first; n < end; ++n) {
        Form& form = *forms[n % forms.size()];
        Random random(m_seed, n);
        const auto program = make_single(m_list, form, random);
        if (!program) continue;
        ++made;
        ++form.cases;
        if (!run_case(n, form.key, *program)) break;
    }
    report_failures();
    const auto& statistics = m_comparison->guest().statistics();
    fmt::print("{} cases of {} forms, {} faults, {} slow accesses, {} straddles, {} traced writes, "
               "{} MMIO exits, {} restarts, "
               "{} code invalidations, {} cache flushes\n",
               made, forms.size(), m_comparison->faults(), statistics.slow_accesses,
               statistics.straddles, statistics.traced_writes, m_comparison->guest().mmio_exits(),
               m_comparison->guest().restarts(), statistics.code_invalidations,
               statistics.cache_flushes);
    if (only != ~u64{0}) return;
    u64 unreached = 0;
    for (const Form* f : forms)
        if (f->cases == 0) fmt::print("never reached: {}\n", f->key), ++unreached;
    if (std::getenv("GNOMON_FORMS") == nullptr)
        for (const std::string& pattern :
             m_exclusions.unused()) // perhaps an instruction that this host has not
            fmt::print("exclusion without a form: {}\n", pattern);
    if (end < 4 * forms.size()) return;
    EXPECT_EQ(unreached, 0U) << "forms of the table that no case exercises";
}

TEST_F(InstructionComparison, Sequence) {
    std::vector<const Form*> forms;
    for (const Form* f : wanted_forms())
        if (fits_sequence(*f)) forms.push_back(f);
    if (forms.empty()) GTEST_SKIP() << "none of the forms asked for can be part of a sequence";
    const u64 only = number_from("GNOMON_CASE", ~u64{0});
    const u64 first = only != ~u64{0} ? only : 0;
    const u64 end = only != ~u64{0} ? only + 1 : number_from("GNOMON_CASES", default_cases) / 5;
    for (u64 n = first; n < end; ++n) {
        Random random(~m_seed, n);
        if (const auto program = make_sequence(m_list, forms, random);
            program && !run_case(n, "sequence", *program))
            break;
    }
    report_failures();
    fmt::print("{} sequences of {} forms, {} faults\n", end - first, forms.size(),
               m_comparison->faults());
    EXPECT_LE(m_comparison->faults() * 20, end - first) << "sequences are to run to their end";
}

/// What the table permits but no opcode leads to, in 64-bit mode: a hole in the enumeration, or a
/// reason.
TEST(InstructionForms, EveryRowHasForms) {
    FormList list;
    std::set<ZydisMnemonic> found;
    for (const Form& f : list.forms())
        found.insert(f.mnemonic);
    const std::set<ZydisMnemonic> not_in_64_bit_mode = {
        ZYDIS_MNEMONIC_PUSHA,  ZYDIS_MNEMONIC_PUSHAD, ZYDIS_MNEMONIC_POPA,  ZYDIS_MNEMONIC_POPAD,
        ZYDIS_MNEMONIC_PUSHFD, ZYDIS_MNEMONIC_POPFD,  ZYDIS_MNEMONIC_BOUND, ZYDIS_MNEMONIC_SALC,
        ZYDIS_MNEMONIC_AAA,    ZYDIS_MNEMONIC_AAS,    ZYDIS_MNEMONIC_AAM,   ZYDIS_MNEMONIC_AAD,
        ZYDIS_MNEMONIC_DAA,    ZYDIS_MNEMONIC_DAS,    ZYDIS_MNEMONIC_INTO,  ZYDIS_MNEMONIC_ARPL,
        ZYDIS_MNEMONIC_LES,    ZYDIS_MNEMONIC_LDS,    ZYDIS_MNEMONIC_JCXZ};
    // Only with an address-size prefix, which samples have and the enumeration has not; or a hint
    // that decodes as NOP.
    const std::set<ZydisMnemonic> otherwise = {ZYDIS_MNEMONIC_JECXZ, ZYDIS_MNEMONIC_ENDBR32,
                                               ZYDIS_MNEMONIC_ENDBR64};
    for (const auto& row : processor::soft::instruction_rows()) {
        if (!list.features().has(row.feature) || not_in_64_bit_mode.contains(row.mnemonic) ||
            otherwise.contains(row.mnemonic))
            continue;
        EXPECT_TRUE(found.contains(row.mnemonic)) << ZydisMnemonicGetString(row.mnemonic);
    }
}

} // namespace

} // namespace gnomon::test
