// SPDX-License-Identifier: Apache-2.0
/// @file Data structures that a controller hands out, put together by offset.
#pragma once

#include "base/types.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gnomon::platform::nvme {

/// Zero but for what is put. Offsets are ours, not the guest's: they lie within.
class DataPage {
public:
    explicit DataPage(std::size_t size) : m_bytes(size) {}

    template <class T>
    requires std::is_trivially_copyable_v<T>
    void put(std::size_t offset, T value) {
        std::memcpy(m_bytes.data() + offset, &value, sizeof value);
    }
    /// ASCII, padded with spaces, cut at `width`.
    void put_text(std::size_t offset, std::size_t width, std::string_view text) {
        for (std::size_t i = 0; i < width; ++i) {
            const char c = i < text.size() ? text[i] : ' ';
            m_bytes[offset + i] = static_cast<std::byte>(c >= ' ' && c <= '~' ? c : '_');
        }
    }
    void put_bytes(std::size_t offset, std::span<const u8> bytes) {
        std::memcpy(m_bytes.data() + offset, bytes.data(), bytes.size());
    }
    [[nodiscard]] std::span<const std::byte> bytes() const { return m_bytes; }

private:
    std::vector<std::byte> m_bytes;
};

} // namespace gnomon::platform::nvme
