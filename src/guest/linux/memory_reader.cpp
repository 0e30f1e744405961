// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/memory_reader.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace gnomon::guest::linux_ {

std::optional<GuestVirtualMemory::String> GuestVirtualMemory::read_string(Gva address,
                                                                          std::size_t limit) const {
    String result;
    // Small pieces: most strings are paths, and a piece never crosses a page.
    std::array<char, 256> piece;
    while (result.text.size() < limit) {
        const std::size_t size =
            std::min({piece.size(), limit - result.text.size(),
                      static_cast<std::size_t>(page_size - address.page_offset())});
        if (!read(address, std::as_writable_bytes(std::span(piece).first(size))))
            return std::nullopt;
        const auto* end = static_cast<const char*>(std::memchr(piece.data(), 0, size));
        result.text.append(piece.data(),
                           end == nullptr ? size : static_cast<std::size_t>(end - piece.data()));
        if (end != nullptr) {
            result.terminated = true;
            return result;
        }
        // A string that runs off the top of the address space does not continue at address zero.
        if (!address.range_fits(size + 1)) return std::nullopt;
        address += size;
    }
    return result;
}

} // namespace gnomon::guest::linux_
