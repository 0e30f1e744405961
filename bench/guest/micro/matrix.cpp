// SPDX-License-Identifier: Apache-2.0
// The product of two matrices of doubles, 80 by 80, row by row of both.
#include "rows.h"

#include <cerrno>
#include <cmath>
#include <vector>

namespace bench {

namespace {

constexpr std::size_t size = 80;
using Matrix = std::vector<double>;

void multiply(const Matrix& a, const Matrix& b, Matrix& product) {
    std::fill(product.begin(), product.end(), 0.0);
    for (std::size_t i = 0; i < size; i++) {
        for (std::size_t k = 0; k < size; k++) {
            const double factor = a[i * size + k];
            for (std::size_t j = 0; j < size; j++)
                product[i * size + j] += factor * b[k * size + j];
        }
    }
}

/// a[i][k] = i + k and b[k][j] = k - j: whole numbers, so that the product is exact and has a
/// closed form.
double expected(double i, double j) {
    constexpr double n = size, sum = n * (n - 1) / 2, squares = n * (n - 1) * (2 * n - 1) / 6;
    return squares + (i - j) * sum - n * i * j;
}

void check(const Matrix& product) {
    for (std::size_t i = 0; i < size; i++) {
        for (std::size_t j = 0; j < size; j++) {
            const double wanted = expected(static_cast<double>(i), static_cast<double>(j));
            if (!(std::abs(product[i * size + j] - wanted) < 0.5)) {
                errno = EDOM;
                give_up("the matrix product is wrong");
            }
        }
    }
}

} // namespace

Outcome matrix_product(Budget budget) {
    Matrix a(size * size), b(size * size), product(size * size);
    for (std::size_t i = 0; i < size; i++) {
        for (std::size_t j = 0; j < size; j++) {
            a[i * size + j] = static_cast<double>(i + j);
            b[i * size + j] = static_cast<double>(i) - static_cast<double>(j);
        }
    }
    const Outcome outcome = least_of(budget, [&] {
        const std::uint64_t start = now();
        multiply(a, b, product);
        return now() - start;
    });
    check(product);
    return outcome;
}

} // namespace bench
