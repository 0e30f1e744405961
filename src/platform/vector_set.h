// SPDX-License-Identifier: Apache-2.0
/// @file A set of interrupt vectors, as in IRR, ISR and TMR.
#pragma once

#include "base/types.h"

#include <array>
#include <bit>
#include <cstddef>
#include <optional>

namespace gnomon::platform {

class VectorSet {
public:
    [[nodiscard]] constexpr bool test(u8 vector) const {
        return (m_words[vector / 64] >> (vector % 64) & 1) != 0;
    }
    constexpr void set(u8 vector, bool on = true) {
        const u64 bit = u64{1} << (vector % 64);
        u64& word = m_words[vector / 64];
        word = on ? word | bit : word & ~bit;
    }
    constexpr void clear(u8 vector) { set(vector, false); }
    constexpr void clear_all() { m_words = {}; }
    [[nodiscard]] constexpr bool empty() const {
        return (m_words[0] | m_words[1] | m_words[2] | m_words[3]) == 0;
    }
    constexpr VectorSet& operator|=(const VectorSet& other) {
        for (std::size_t i = 0; i < m_words.size(); ++i)
            m_words[i] |= other.m_words[i];
        return *this;
    }
    /// Those that `other` does not have.
    [[nodiscard]] constexpr VectorSet without(const VectorSet& other) const {
        VectorSet left;
        for (std::size_t i = 0; i < m_words.size(); ++i)
            left.m_words[i] = m_words[i] & ~other.m_words[i];
        return left;
    }
    [[nodiscard]] constexpr std::optional<u8> highest() const {
        for (unsigned i = 4; i-- > 0;)
            if (m_words[i] != 0)
                return static_cast<u8>(i * 64 + 63 -
                                       static_cast<unsigned>(std::countl_zero(m_words[i])));
        return std::nullopt;
    }
    /// Vectors 32 * i to 32 * i + 31, `i` in 0..7.
    [[nodiscard]] constexpr u32 word32(unsigned i) const {
        return static_cast<u32>(m_words[(i / 2) & 3] >> (i % 2 * 32));
    }

private:
    std::array<u64, 4> m_words{};
};

} // namespace gnomon::platform
