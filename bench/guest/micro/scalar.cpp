// SPDX-License-Identifier: Apache-2.0
// Loops in registers: floating point, calls and returns, calls through pointers.
#include "rows.h"

#include <array>
#include <cerrno>
#include <cmath>

namespace bench {

namespace {

[[gnu::noinline]] unsigned fibonacci(unsigned n) {
    // Without this the compiler turns one of the calls into a loop.
    asm volatile("" : "+r"(n));
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

using Operation = std::uint64_t (*)(std::uint64_t);
[[gnu::noinline]] std::uint64_t add(std::uint64_t x) { return x + 12345; }
[[gnu::noinline]] std::uint64_t rotate(std::uint64_t x) { return (x << 7) | (x >> 57); }
[[gnu::noinline]] std::uint64_t invert(std::uint64_t x) { return ~x; }
[[gnu::noinline]] std::uint64_t mix(std::uint64_t x) { return x ^ (x >> 9); }

} // namespace

// An operation is one term of Euler's sum 1 + 1/4 + 1/9 + ...: conversion, product, division and
// sum.
Outcome scalar_double(Budget budget) {
    constexpr unsigned terms = 20'000;
    double sum = 0;
    const Outcome outcome = least_of(budget, [&] {
        const std::uint64_t start = now();
        sum = 0;
        for (unsigned i = terms; i != 0; i--) {
            const double x = i;
            sum += 1 / (x * x);
        }
        keep(sum);
        return static_cast<double>(now() - start) / terms;
    });
    if (!(std::abs(sum - 1.644884068098) < 1e-9)) {
        errno = EDOM;
        give_up("Euler's sum is wrong");
    }
    return outcome;
}

// An operation is one call.
Outcome call_and_return(Budget budget) {
    constexpr unsigned n = 20, calls = 21891; // calls(n) = 2 * fibonacci(n + 1) - 1
    return least_of(budget, [] {
        const std::uint64_t start = now();
        if (fibonacci(n) != 6765) {
            errno = EDOM;
            give_up("the Fibonacci number is wrong");
        }
        return static_cast<double>(now() - start) / calls;
    });
}

// An operation is one call to a target that changes each time.
Outcome indirect_call(Budget budget) {
    std::array<Operation, 4> operations{add, rotate, invert, mix};
    keep(operations);
    return least_of_batches(budget, [&](std::uint64_t count) {
        std::uint64_t x = count;
        for (; count != 0; count--)
            x = operations[count % operations.size()](x);
        keep(x);
    });
}

} // namespace bench
