// SPDX-License-Identifier: Apache-2.0
// A fast Fourier transform: double precision, radix 2, in place, 4096 points.
#include "rows.h"

#include <cerrno>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

namespace bench {

namespace {

constexpr std::size_t points = 4096;

/// std::complex's product checks for NaN in a library function; this is the plain one.
struct Complex {
    double real = 0, imaginary = 0;
};
Complex operator+(Complex a, Complex b) { return {a.real + b.real, a.imaginary + b.imaginary}; }
Complex operator-(Complex a, Complex b) { return {a.real - b.real, a.imaginary - b.imaginary}; }
Complex operator*(Complex a, Complex b) {
    return {a.real * b.real - a.imaginary * b.imaginary,
            a.real * b.imaginary + a.imaginary * b.real};
}

/// exp(-2 pi i k / points) for the first half of all k.
std::vector<Complex> make_roots() {
    std::vector<Complex> roots(points / 2);
    for (std::size_t k = 0; k < roots.size(); k++) {
        const double angle = -2 * std::numbers::pi * static_cast<double>(k) / points;
        roots[k] = {std::cos(angle), std::sin(angle)};
    }
    return roots;
}

void transform(std::vector<Complex>& data, const std::vector<Complex>& roots) {
    for (std::size_t i = 1, reversed = 0; i < points; i++) {
        std::size_t bit = points / 2;
        for (; (reversed & bit) != 0; bit /= 2)
            reversed ^= bit;
        reversed |= bit;
        if (i < reversed) std::swap(data[i], data[reversed]);
    }
    for (std::size_t half = 1; half < points; half *= 2) {
        const std::size_t stride = points / (2 * half);
        for (std::size_t start = 0; start < points; start += 2 * half) {
            for (std::size_t k = 0; k < half; k++) {
                const Complex even = data[start + k];
                const Complex odd = data[start + k + half] * roots[k * stride];
                data[start + k] = even + odd;
                data[start + k + half] = even - odd;
            }
        }
    }
}

/// Two waves, of 5 and of 100 periods.
std::vector<Complex> make_signal() {
    std::vector<Complex> signal(points);
    for (std::size_t i = 0; i < points; i++) {
        const double turn = 2 * std::numbers::pi * static_cast<double>(i) / points;
        signal[i] = {3 * std::cos(5 * turn) + std::sin(100 * turn), 0};
    }
    return signal;
}

/// The transform of those waves is known: 3/2 N at 5 and N-5, N/2 (times -i and i) at 100 and
/// N-100, else nothing.
void check(const std::vector<Complex>& spectrum) {
    constexpr double n = points;
    for (std::size_t k = 0; k < points; k++) {
        Complex expected;
        if (k == 5 || k == points - 5) expected.real = 1.5 * n;
        if (k == 100) expected.imaginary = -0.5 * n;
        if (k == points - 100) expected.imaginary = 0.5 * n;
        if (!(std::abs(spectrum[k].real - expected.real) < 1e-6) ||
            !(std::abs(spectrum[k].imaginary - expected.imaginary) < 1e-6)) {
            errno = EDOM;
            give_up("the Fourier transform is wrong");
        }
    }
}

} // namespace

Outcome fast_fourier_transform(Budget budget) {
    const std::vector<Complex> roots = make_roots();
    const std::vector<Complex> signal = make_signal();
    std::vector<Complex> data = signal;
    transform(data, roots);
    check(data);
    const Outcome outcome = least_of(budget, [&] {
        data = signal;
        const std::uint64_t start = now();
        transform(data, roots);
        return now() - start;
    });
    check(data);
    return outcome;
}

} // namespace bench
