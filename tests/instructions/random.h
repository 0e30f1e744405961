// SPDX-License-Identifier: Apache-2.0
/// @file Random numbers that depend on nothing but their seed, so that a case can be run again.
#pragma once

#include "base/types.h"

#include <cstring>
#include <initializer_list>
#include <span>

namespace gnomon::test {

/// SplitMix64: one word of state, every seed as good as another. Or choices made by given bytes,
/// as a fuzzer has them, for as long as these last: each choice takes as few of them as it needs,
/// so that one byte changed is one choice changed.
class Random {
public:
    explicit Random(u64 seed) : m_state(seed) {}
    Random(u64 seed, u64 stream) : m_state(seed * 0x9e3779b97f4a7c15 + stream) { m_state = next(); }
    /// @param choices must outlive this.
    explicit Random(std::span<const u8> choices) : m_state(choices.size()), m_choices(choices) {}

    u64 next() { return word(8); }
    /// In [0, limit); 0 if `limit` is 0.
    u64 below(u64 limit) {
        if (limit == 0) return 0;
        return word(limit <= 0x100 ? 1 : limit <= 0x10000 ? 2 : 8) % limit;
    }
    bool percent(unsigned p) { return below(100) < p; }
    u8 byte() { return static_cast<u8>(word(1)); }
    void fill(void* out, std::size_t size) {
        auto* to = static_cast<u8*>(out);
        for (std::size_t at = 0; at < size; at += 8) {
            const u64 value = next();
            std::memcpy(to + at, &value, size - at < 8 ? size - at : 8);
        }
    }
    template <class T>
    T pick(std::initializer_list<T> values) {
        return values.begin()[below(values.size())];
    }

private:
    /// Given bytes if any are left, else a random word of which the caller uses what it needs.
    u64 word(std::size_t bytes) {
        if (!m_choices.empty()) {
            u64 value = 0;
            const std::size_t n = bytes < m_choices.size() ? bytes : m_choices.size();
            std::memcpy(&value, m_choices.data(), n);
            m_choices = m_choices.subspan(n);
            m_state ^= value; // what follows the last choice depends on all of them
            return value;
        }
        m_state += 0x9e3779b97f4a7c15;
        u64 z = m_state;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }

    u64 m_state;
    std::span<const u8> m_choices;
};

} // namespace gnomon::test
