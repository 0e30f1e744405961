// SPDX-License-Identifier: Apache-2.0
/// @file Guest virtual memory of which a test maps what it needs.
#pragma once

#include "guest/linux/memory_reader.h"

#include <array>
#include <cstring>
#include <map>

namespace gnomon::guest::linux_::test {

class FakeMemory final : public GuestVirtualMemory {
public:
    using Page = std::array<std::byte, page_size>;

    [[nodiscard]] bool read(Gva address, std::span<std::byte> out) const override {
        for (std::size_t i = 0; i < out.size(); ++i) {
            const Gva at = address + i;
            const auto page = m_pages.find(at.page());
            if (page == m_pages.end()) return false;
            out[i] = page->second[at.page_offset()];
        }
        return true;
    }
    void map(Gva address) { m_pages[address.page()]; }
    /// Maps what it writes.
    template <class T>
    void write(Gva address, const T& value) {
        const auto bytes = std::as_bytes(std::span(&value, 1));
        for (std::size_t i = 0; i < bytes.size(); ++i)
            m_pages[(address + i).page()][(address + i).page_offset()] = bytes[i];
    }
    void write_text(Gva address, std::string_view text) {
        for (std::size_t i = 0; i < text.size(); ++i)
            write(address + i, text[i]);
    }

private:
    std::map<Gva, Page> m_pages;
};

} // namespace gnomon::guest::linux_::test
