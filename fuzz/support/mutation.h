// SPDX-License-Identifier: Apache-2.0
/// @file Inputs made from others, for runs without libFuzzer's guidance.
#pragma once

#include "base/types.h"

#include <span>
#include <string>
#include <vector>

namespace gnomon::fuzz {

using Bytes = std::vector<u8>;

/// SplitMix64: one word of state, every seed as good as another.
class Random {
public:
    Random(u64 seed, u64 stream) : m_state(seed * 0x9e3779b97f4a7c15 + stream) { m_state = next(); }

    [[nodiscard]] u64 next() {
        m_state += 0x9e3779b97f4a7c15;
        u64 z = m_state;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    /// In [0, limit); 0 if `limit` is 0.
    [[nodiscard]] u64 below(u64 limit) { return limit == 0 ? 0 : next() % limit; }

private:
    u64 m_state;
};

/// The words of a dictionary in libFuzzer's format: lines NAME="TEXT" or "TEXT", with \xHH, \\ and
/// \" in the text; # begins a comment. Lines that are none of these are passed over.
[[nodiscard]] std::vector<Bytes> parse_dictionary(std::string_view text);

/// An input of at most `longest` bytes: an entry of the corpus with up to eight changes (bits,
/// bytes, numbers that break sizes and offsets, words of the dictionary, pieces moved, repeated,
/// left out or taken from another entry), or random bytes where there is no corpus, and now and
/// then where there is.
[[nodiscard]] Bytes mutate(Random& random, std::span<const Bytes> corpus,
                           std::span<const Bytes> dictionary, std::size_t longest);

} // namespace gnomon::fuzz
