// SPDX-License-Identifier: Apache-2.0
/// @file The kernel's symbols, from the table that it carries in itself for its own back-traces
/// (kallsyms).
#pragma once

#include "guest/linux/elf_image.h"
#include "guest/linux/kallsyms_tables.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gnomon::guest::linux_ {

/// All symbols of one kernel, decoded, in ascending order of their link-time addresses.
/// Threads: immutable after creation. Ownership: self-contained; names are views into it.
class Kallsyms {
public:
    struct Symbol {
        Gva address;     ///< link-time; a per-CPU variable's is its offset in the per-CPU area up
                         ///< to 6.14
        char type = '?'; ///< as `nm` prints it: 'T' 't' text, 'D' 'd' data, 'A' absolute, ...
        std::string_view name; ///< bytes of the image, printable or not
    };
    struct Location {
        Symbol symbol;
        u64 offset = 0; ///< from the symbol's address
    };

    /// Fails when the image carries no tables (CONFIG_KALLSYMS=n) or unusable ones.
    [[nodiscard]] static Result<Kallsyms> from_vmlinux(const ElfImage& image);

    /// The symbol of that exact name; of several, the one with the lowest address.
    [[nodiscard]] std::optional<Gva> lookup(std::string_view name) const;
    /// The last symbol at or below a link-time address. nullopt below the first.
    [[nodiscard]] std::optional<Location> symbol_at(Gva address) const;

    [[nodiscard]] std::size_t size() const { return m_addresses.size(); }
    /// @param index below `size()`; any other gives an empty symbol.
    [[nodiscard]] Symbol at(std::size_t index) const;
    [[nodiscard]] KallsymsEncoding encoding() const { return m_encoding; }

private:
    Kallsyms() = default;
    [[nodiscard]] static Result<Kallsyms> decode(KallsymsTables tables);
    void build_index();
    [[nodiscard]] std::size_t first_bucket(std::string_view name) const;
    [[nodiscard]] std::string_view name_at(std::size_t index) const;

    KallsymsEncoding m_encoding = KallsymsEncoding::absolute;
    std::vector<u64> m_addresses;
    std::string m_text;             ///< type letter and name of each symbol, one after the other
    std::vector<u32> m_text_begins; ///< one more than symbols
    std::vector<u32>
        m_buckets; ///< open-addressed hash of names: index + 1, 0 for free; a power of two
};

} // namespace gnomon::guest::linux_
