// SPDX-License-Identifier: Apache-2.0
/// @file Damaged copies of a sound input, the same ones in every run.
#pragma once

#include <cstddef>
#include <random>
#include <span>
#include <vector>

namespace gnomon::guest::linux_::test {

class Mutator {
public:
    explicit Mutator(unsigned seed) : m_random(seed) {}

    /// A copy with one to eight bytes or words changed, mostly to values that sizes and offsets
    /// break at; every fourth is also cut short. Every second change falls into [focus_begin,
    /// focus_end).
    std::vector<std::byte> operator()(std::span<const std::byte> sound, std::size_t focus_begin,
                                      std::size_t focus_end) {
        std::vector<std::byte> out(sound.begin(), sound.end());
        const std::size_t changes = 1 + below(8);
        for (std::size_t i = 0; i < changes; ++i) {
            const std::size_t at =
                below(2) == 0 ? focus_begin + below(focus_end - focus_begin) : below(out.size());
            switch (below(4)) {
            case 0: out[at] ^= static_cast<std::byte>(1u << below(8)); break;
            case 1: out[at] = static_cast<std::byte>(below(256)); break;
            default: {
                constexpr unsigned char edges[] = {0x00, 0xff, 0x7f, 0x80, 0x01};
                const auto edge = static_cast<std::byte>(edges[below(5)]);
                for (std::size_t k = at; k < out.size() && k < at + (std::size_t{1} << below(4));
                     ++k)
                    out[k] = edge;
            }
            }
        }
        if (below(4) == 0) out.resize(below(out.size() + 1));
        return out;
    }

    std::size_t below(std::size_t bound) {
        return bound == 0 ? 0 : static_cast<std::size_t>(m_random() % bound);
    }

private:
    std::mt19937_64 m_random;
};

} // namespace gnomon::guest::linux_::test
