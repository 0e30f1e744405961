// SPDX-License-Identifier: Apache-2.0
/// @file Random cases that follow from a seed: GNOMON_SEED and GNOMON_CASES choose others,
/// GNOMON_CASE one of them.
#pragma once

#include "base/types.h"

#include <cstdlib>
#include <fmt/format.h>
#include <functional>
#include <gtest/gtest.h>
#include <random>

namespace gnomon::test {

inline u64 from_environment(const char* name, u64 otherwise) {
    const char* const text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

using Random = std::mt19937_64;

/// A number from `first` to `last`, both included.
inline u64 pick(Random& random, u64 first, u64 last) {
    return std::uniform_int_distribution<u64>(first, last)(random);
}

/// Runs `body` for each case with a generator of its own.
inline void for_each_case(u64 cases, const std::function<void(Random&)>& body) {
    const u64 seed = from_environment("GNOMON_SEED", 1);
    const u64 only = from_environment("GNOMON_CASE", ~u64{0});
    const u64 count = from_environment("GNOMON_CASES", cases);
    for (u64 number = 0; number < count; number++) {
        if (only != ~u64{0} && number != only) continue;
        SCOPED_TRACE(fmt::format("again with GNOMON_SEED={} GNOMON_CASES={} GNOMON_CASE={}", seed,
                                 count, number));
        std::seed_seq sequence{static_cast<u32>(seed), static_cast<u32>(seed >> 32),
                               static_cast<u32>(number)};
        Random random(sequence);
        body(random);
        if (testing::Test::HasFailure()) return;
    }
}

} // namespace gnomon::test
