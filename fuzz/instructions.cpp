// SPDX-License-Identifier: Apache-2.0
/// @file Instructions on the software processor and on the host CPU: the input chooses form,
/// operands, state and memory, or is the instruction itself. Any difference is a crash.
///
/// The first byte says what follows: bit 0 32-bit code, bit 1 single-stepped, bits 3:2 what kind of
/// program. Hosts that keep WRFSBASE from programs compare nothing.
#include "comparison.h"
#include "layout.h"
#include "places.h"
#include "program_maker.h"

#include <algorithm>
#include <cstdlib>

using namespace gnomon;
using namespace gnomon::test;

namespace {

/// Made at the first input, and kept: the addresses are fixed.
struct Engine {
    std::unique_ptr<Comparison> comparison;
    std::optional<FormList> lists[2]; ///< for 64-bit and 32-bit code
    std::vector<const Form*> forms[2], sequence_forms[2];

    Engine() {
        if (!host_has_fsgsbase()) return;
        auto exclusions = Exclusions::load(GNOMON_INSTRUCTION_EXCLUSIONS);
        auto made = Comparison::create({.name = "fuzz"}, 1);
        if (!exclusions || !made) {
            fmt::print(stderr, "{}\n", (exclusions ? made.error() : exclusions.error()).message);
            std::abort();
        }
        comparison = std::move(*made);
        for (const bool code32 : {false, true}) {
            FormList& list = lists[code32].emplace(code32, comparison->guest().features());
            for (const Form& f : list.forms()) {
                if (exclusions->match(f.key, code32)) continue;
                forms[code32].push_back(&f);
                if (fits_sequence(f)) sequence_forms[code32].push_back(&f);
            }
        }
    }

    std::optional<Program> make(u8 kind, bool code32, std::span<const u8> input) {
        const FormList& list = *lists[code32];
        const auto& wanted = forms[code32];
        if (kind == 0) { // the instruction's own bytes first
            constexpr std::size_t longest = 15;
            Sample sample;
            sample.address = layout::code_begin;
            sample.bytes.assign(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                                   input.size(), longest)));
            const std::size_t taken = sample.bytes.size();
            if (!list.decode(sample)) return std::nullopt;
            const Form* const form = list.form_of(sample.decoded);
            if (form == nullptr || std::ranges::find(wanted, form) == wanted.end())
                return std::nullopt;
            Random random(input.subspan(taken));
            return make_single_of(list, *form, sample, random);
        }
        Random random(input);
        if (kind == 1) return make_sequence(list, sequence_forms[code32], random);
        const Form& form = *wanted[random.below(wanted.size())];
        const u64 place = random.below(places().size());
        return make_single(list, form,
                           kind == 2 ? std::optional(static_cast<unsigned>(place)) : std::nullopt,
                           random);
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    static Engine engine;
    if (engine.comparison == nullptr || size == 0) return 0;
    const u8 head = data[0];
    auto program = engine.make(head >> 2 & 3, (head & 1) != 0, {data + 1, size - 1});
    if (!program) return 0;
    if ((head & 2) != 0) {
        program->stepped = true;
        program->state.rflags |= processor::rflags::tf;
    }
    engine.comparison->guest().flush_tlb();
    const std::string difference = engine.comparison->run(*program);
    if (difference.empty()) return 0;
    fmt::print(stderr, "{}{}", program->text, difference);
    std::abort();
}
