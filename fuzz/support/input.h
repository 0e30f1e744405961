// SPDX-License-Identifier: Apache-2.0
/// @file What a fuzz target needs: the input taken apart into numbers and texts, and a way to say
/// that an invariant is broken.
#pragma once

#include "base/types.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace gnomon::fuzz {

/// The bytes of one input, taken from the front. What is taken behind the end is zero, so that
/// every input means something.
class Input {
public:
    Input(const u8* data, std::size_t size) : m_rest(data, size) {}

    [[nodiscard]] bool empty() const { return m_rest.empty(); }
    [[nodiscard]] std::size_t remaining() const { return m_rest.size(); }

    template <class T>
    requires std::is_trivially_copyable_v<T>
    [[nodiscard]] T take() {
        T value{};
        const std::size_t count = std::min(sizeof value, m_rest.size());
        if (count != 0) std::memcpy(&value, m_rest.data(), count);
        m_rest = m_rest.subspan(count);
        return value;
    }
    /// In [0, limit); takes as many bytes as the limit needs.
    [[nodiscard]] u64 below(u64 limit) {
        if (limit <= 1) return 0;
        if (limit <= 0x100) return take<u8>() % limit;
        if (limit <= 0x10000) return take<u16>() % limit;
        if (limit <= u64{1} << 32) return take<u32>() % limit;
        return take<u64>() % limit;
    }
    [[nodiscard]] bool flag() { return (take<u8>() & 1) != 0; }
    /// A number of any magnitude: small ones, single bits and those near 2^64 often.
    [[nodiscard]] u64 number() {
        const u8 shape = take<u8>();
        switch (shape & 7) {
        case 0: return shape >> 3;
        case 1: return take<u8>();
        case 2: return take<u16>();
        case 3: return take<u32>();
        case 4: return u64{1} << (take<u8>() & 63);
        case 5: return ~u64{0} - take<u16>();
        case 6: return static_cast<u64>(static_cast<i64>(static_cast<i32>(take<u32>())));
        default: return take<u64>();
        }
    }
    /// At most `count` bytes.
    [[nodiscard]] std::span<const u8> bytes(std::size_t count) {
        const auto taken = m_rest.first(std::min(count, m_rest.size()));
        m_rest = m_rest.subspan(taken.size());
        return taken;
    }
    [[nodiscard]] std::string text(std::size_t count) {
        const auto taken = bytes(count);
        return {taken.begin(), taken.end()};
    }
    [[nodiscard]] std::span<const std::byte> rest() { return std::as_bytes(bytes(m_rest.size())); }

private:
    std::span<const u8> m_rest;
};

/// Stops the run, as a sanitizer's finding does, unless what a target checks holds.
inline void require(bool holds, std::string_view what) {
    if (holds) return;
    std::fprintf(stderr, "fuzz: broken invariant: %.*s\n", static_cast<int>(what.size()),
                 what.data());
    std::abort();
}

} // namespace gnomon::fuzz

/// The entry that libFuzzer and the driver call.
extern "C" int LLVMFuzzerTestOneInput(const gnomon::u8* data, std::size_t size);
