// SPDX-License-Identifier: Apache-2.0
/// @file Random numbers that depend on nothing but their seed, so that a case can be run again.
#pragma once

#include "base/types.h"

#include <cstring>
#include <initializer_list>

namespace gnomon::test {

/// SplitMix64: one word of state, every seed as good as another.
class Random {
public:
    explicit Random(u64 seed) : m_state(seed) {}
    Random(u64 seed, u64 stream) : m_state(seed * 0x9e3779b97f4a7c15 + stream) { m_state = next(); }

    u64 next() {
        m_state += 0x9e3779b97f4a7c15;
        u64 z = m_state;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    /// In [0, limit); 0 if `limit` is 0.
    u64 below(u64 limit) { return limit == 0 ? 0 : next() % limit; }
    bool percent(unsigned p) { return below(100) < p; }
    u8 byte() { return static_cast<u8>(next()); }
    void fill(void* out, std::size_t size) {
        auto* to = static_cast<u8*>(out);
        for (std::size_t at = 0; at < size; at += 8) {
            const u64 word = next();
            std::memcpy(to + at, &word, size - at < 8 ? size - at : 8);
        }
    }
    template <class T>
    T pick(std::initializer_list<T> values) {
        return values.begin()[below(values.size())];
    }

private:
    u64 m_state;
};

} // namespace gnomon::test
