// SPDX-License-Identifier: Apache-2.0
/// @file How the micro benchmarks measure: short batches, many times, the least of them. The least
/// is what the machine can do when nothing else disturbs it, and the only figure that repeats on a
/// busy host.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <time.h>

namespace bench {

/// Ends the program with a line about the failed call and errno. Not for expected conditions.
[[noreturn]] void give_up(const char* what);

/// CLOCK_MONOTONIC in nanoseconds.
[[nodiscard]] inline std::uint64_t now() {
    timespec time{};
    if (clock_gettime(CLOCK_MONOTONIC, &time) != 0) give_up("clock_gettime");
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(time.tv_nsec);
}

/// How long one row may measure.
struct Budget {
    std::uint64_t nanoseconds;
};

/// The result of one row.
struct Outcome {
    double nanoseconds; ///< per operation
};

/// The compiler must take `value` as read and memory as changed.
template <class T>
void keep(T& value) {
    asm volatile("" : "+m"(value) : : "memory");
}

/// Calls `sample`, which returns nanoseconds per operation, until the budget is spent, at least
/// three times.
/// @return the least.
template <class Sample>
Outcome least_of(Budget budget, Sample&& sample) {
    constexpr unsigned at_least = 3;
    double least = std::numeric_limits<double>::infinity();
    const std::uint64_t end = now() + budget.nanoseconds;
    for (unsigned done = 0; done < at_least || now() < end; done++)
        least = std::min(least, static_cast<double>(sample()));
    return {least};
}

/// As `least_of`, for `batch(n)`, which does n operations: n is chosen so that a batch takes about
/// one millisecond, which is long beside the cost of any guest's clock and short beside a time
/// slice of the host.
template <class Batch>
Outcome least_of_batches(Budget budget, Batch&& batch) {
    constexpr std::uint64_t long_enough = 1'000'000;
    constexpr std::uint64_t most = std::uint64_t{1} << 40;
    const auto timed = [&](std::uint64_t count) {
        const std::uint64_t start = now();
        batch(count);
        return now() - start;
    };
    // The lesser of two: a batch that the host interrupted must not pass for a long one.
    std::uint64_t count = 1;
    while (count < most && std::min(timed(count), timed(count)) < long_enough)
        count *= 2;
    return least_of(budget,
                    [&] { return static_cast<double>(timed(count)) / static_cast<double>(count); });
}

} // namespace bench
