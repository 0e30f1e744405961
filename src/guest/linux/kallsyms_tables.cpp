// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/kallsyms_tables.h"

#include "guest/linux/kernel_range.h"

#include <algorithm>
#include <cstring>
#include <functional>

namespace gnomon::guest::linux_ {

namespace {

/// Symbols per marker.
constexpr u32 marker_stride = 256;
/// A symbol's entry: a length and at least its type letter; KSYM_NAME_LEN is 512 and tokens only
/// shorten.
constexpr u32 min_entry_bytes = 2;
constexpr u32 max_entry_bytes = 2 + 512;
constexpr u32 max_symbols = u32{1} << 22;

/// How many false starts of each kind are followed up. A real image has none or a few; the bounds
/// make a hostile one cost no more than a few passes.
constexpr unsigned max_token_table_candidates = 16;
constexpr unsigned max_marker_candidates = 64;
constexpr std::size_t walk_budget_factor = 2;

template <class T>
T load(std::span<const std::byte> bytes, std::size_t at) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
}

struct TokenTable {
    std::size_t at = 0;        ///< of token_table, in the region
    std::size_t index_end = 0; ///< behind token_index
    std::array<std::string_view, 256> tokens;
};

struct Names {
    std::size_t num_syms_at = 0;
    std::size_t at = 0;
    std::size_t end = 0;
    u32 count = 0;
};

class Finder {
public:
    Finder(std::span<const std::byte> region, Gva address)
        : m_region(region), m_address(address), m_walk_budget(region.size() * walk_budget_factor) {}

    std::optional<KallsymsTables> find();

private:
    [[nodiscard]] std::optional<TokenTable> token_table_around(std::size_t digit_zero) const;
    [[nodiscard]] std::optional<TokenTable> token_table_with_index(std::size_t digit_zero,
                                                                   std::size_t index) const;
    std::optional<Names> names_before(std::size_t token_table);
    std::optional<Names> names_ending_at(std::size_t markers, u32 marker_count);
    std::optional<Names> walk_names(std::size_t names, u32 count, std::size_t markers);
    std::optional<KallsymsTables> with_addresses(const Names& names, const TokenTable& table) const;

    [[nodiscard]] bool zero(std::size_t from, std::size_t to) const {
        return std::all_of(m_region.begin() + static_cast<std::ptrdiff_t>(from),
                           m_region.begin() + static_cast<std::ptrdiff_t>(to),
                           [](std::byte b) { return b == std::byte{0}; });
    }
    /// The first offset at or after `offset` whose link-time address is a multiple of `alignment`.
    [[nodiscard]] std::size_t align_up(std::size_t offset, u64 alignment) const {
        return offset + (-(m_address.value() + offset) & (alignment - 1));
    }

    std::span<const std::byte> m_region;
    Gva m_address;
    std::size_t m_walk_budget; ///< name entries that may still be stepped over
};

std::optional<KallsymsTables> Finder::find() {
    // Bytes that occur in names are tokens that stand for themselves, and digits always occur.
    static constexpr std::string_view digits("0\0001\0002\0003\0004\0005\0006\0007\0008\0009\000",
                                             20);
    const auto* begin =
        reinterpret_cast<const char*>(m_region.data()); // SAFETY: bytes as characters
    const auto* end = begin + m_region.size();
    const std::boyer_moore_horspool_searcher searcher(digits.begin(), digits.end());
    const char* from = begin;
    for (unsigned i = 0; i < max_token_table_candidates; ++i) {
        const char* match = std::search(from, end, searcher);
        if (match == end) return std::nullopt;
        from = match + digits.size();
        const auto table = token_table_around(static_cast<std::size_t>(match - begin));
        if (!table) continue;
        const auto names = names_before(table->at);
        if (!names) continue;
        if (auto tables = with_addresses(*names, *table)) return tables;
    }
    return std::nullopt;
}

/// The tokens from '0' on lead to the end of the table, and the index behind it confirms them all.
std::optional<TokenTable> Finder::token_table_around(std::size_t digit_zero) const {
    std::size_t end = digit_zero;
    for (unsigned token = '0'; token < 256; ++token) {
        // The index holds 16-bit offsets, so no table is longer.
        const std::size_t limit = std::min(m_region.size(), digit_zero + 0x10000);
        if (end >= limit) return std::nullopt;
        const void* nul = std::memchr(m_region.data() + end, 0, limit - end);
        if (nul == nullptr) return std::nullopt;
        end = static_cast<std::size_t>(static_cast<const std::byte*>(nul) - m_region.data()) + 1;
    }
    for (const u64 alignment : {u64{4}, u64{8}})
        if (auto table = token_table_with_index(digit_zero, align_up(end, alignment))) return table;
    return std::nullopt;
}

std::optional<TokenTable> Finder::token_table_with_index(std::size_t digit_zero,
                                                         std::size_t index) const {
    constexpr std::size_t index_bytes = 256 * sizeof(u16);
    if (index > m_region.size() || m_region.size() - index < index_bytes) return std::nullopt;
    const auto start_of = [&](unsigned token) -> std::size_t {
        return load<u16>(m_region, index + token * sizeof(u16));
    };
    if (start_of(0) != 0 || start_of('0') > digit_zero) return std::nullopt;
    TokenTable table{
        .at = digit_zero - start_of('0'), .index_end = index + index_bytes, .tokens = {}};
    std::size_t expected = 0;
    for (unsigned token = 0; token < 256; ++token) {
        const std::size_t start = start_of(token);
        if (start != expected || start >= index - table.at) return std::nullopt;
        const std::byte* text = m_region.data() + table.at + start;
        const void* nul = std::memchr(text, 0, index - table.at - start);
        if (nul == nullptr) return std::nullopt;
        const auto length = static_cast<std::size_t>(static_cast<const std::byte*>(nul) - text);
        // SAFETY: bytes as characters, inside the region
        table.tokens[token] = std::string_view(reinterpret_cast<const char*>(text), length);
        expected = start + length + 1;
    }
    return table;
}

/// Markers are the only table that begins with zero and then rises in steps of an entry's size
/// times 256. They are looked for from the token table backwards, where the first candidate is
/// usually the right one.
std::optional<Names> Finder::names_before(std::size_t token_table) {
    constexpr u32 min_step = marker_stride * min_entry_bytes;
    constexpr u32 max_step = marker_stride * max_entry_bytes;
    unsigned candidates = 0;
    if (token_table < 8) return std::nullopt;
    const std::size_t first = align_up(0, 4);
    for (std::size_t at = align_up(token_table, 4) - 8; at >= first && at < token_table; at -= 4) {
        if (token_table - at < 2 * sizeof(u32) || load<u32>(m_region, at) != 0) continue;
        u32 count = 1;
        u32 last = 0;
        for (std::size_t next = at + 4; token_table - next >= 4; next += 4) {
            const u32 value = load<u32>(m_region, next);
            if (value <= last || value - last < min_step || value - last > max_step) break;
            last = value;
            if (++count > max_symbols / marker_stride) break;
        }
        if (count < 2) continue;
        // What follows the markers may look like one or two more of them.
        for (u32 surplus = 0; surplus < 3 && count - surplus >= 2; ++surplus)
            if (auto names = names_ending_at(at, count - surplus)) return names;
        if (++candidates == max_marker_candidates) return std::nullopt;
    }
    return std::nullopt;
}

/// The names end where the markers begin, and the last marker says how far before that they began,
/// give or take the entries of the last stride; num_syms stands before them and must agree with the
/// markers' number.
std::optional<Names> Finder::names_ending_at(std::size_t markers, u32 marker_count) {
    const u64 last = load<u32>(m_region, markers + (marker_count - 1) * sizeof(u32));
    const u64 longest = last + u64{marker_stride} * max_entry_bytes + 8;
    if (last >= markers) return std::nullopt;
    const std::size_t lowest = longest < markers ? markers - longest : 0;
    for (std::size_t names = align_up(markers - last, 4) - 4; names >= 8 && names >= lowest;
         names -= 4) {
        if (names > markers) return std::nullopt;
        // Aligned to 8, num_syms is followed by four bytes of padding.
        for (const std::size_t num_syms : {names - 8, names - 4}) {
            const u32 count = load<u32>(m_region, num_syms);
            if (count <= (marker_count - 1) * marker_stride || count > marker_count * marker_stride)
                continue;
            if (!zero(num_syms + 4, names)) continue;
            if (auto found = walk_names(names, count, markers)) {
                found->num_syms_at = num_syms;
                return found;
            }
        }
    }
    return std::nullopt;
}

std::optional<Names> Finder::walk_names(std::size_t names, u32 count, std::size_t markers) {
    const auto bytes = m_region.subspan(names, markers - names);
    std::size_t at = 0;
    for (u32 i = 0; i < count; ++i) {
        if (i % marker_stride == 0 &&
            load<u32>(m_region, markers + i / marker_stride * sizeof(u32)) != at)
            return std::nullopt;
        if (m_walk_budget == 0) return std::nullopt;
        --m_walk_budget;
        if (!next_kallsyms_name(bytes, at)) return std::nullopt;
    }
    if (bytes.size() - at >= 8 || !zero(names + at, markers)) return std::nullopt;
    return Names{.num_syms_at = 0, .at = names, .end = names + at, .count = count};
}

bool ascends_within_kernel(const std::vector<u64>& addresses) {
    // The first may be per-CPU offsets and absolute values; the last is the end of the kernel.
    return std::is_sorted(addresses.begin(), addresses.end()) &&
           addresses.front() != addresses.back() && in_kernel_image(Gva(addresses.back()));
}

std::optional<std::vector<u64>> decode(std::span<const std::byte> region, Gva region_address,
                                       std::size_t at, u32 count, KallsymsEncoding encoding,
                                       u64 base) {
    std::vector<u64> addresses(count);
    for (u32 i = 0; i < count; ++i) {
        const std::size_t entry = at + std::size_t{i} * sizeof(u32);
        switch (encoding) {
        case KallsymsEncoding::absolute:
            addresses[i] = load<u64>(region, at + std::size_t{i} * sizeof(u64));
            break;
        case KallsymsEncoding::base_relative: addresses[i] = base + load<u32>(region, entry); break;
        case KallsymsEncoding::base_relative_percpu: {
            const i64 offset = load<i32>(region, entry);
            addresses[i] =
                offset >= 0 ? static_cast<u64>(offset) : base - 1 - static_cast<u64>(offset);
            break;
        }
        case KallsymsEncoding::place_relative:
            addresses[i] =
                (region_address + entry).value() + static_cast<u64>(i64{load<i32>(region, entry)});
            break;
        }
    }
    if (!ascends_within_kernel(addresses)) return std::nullopt;
    return addresses;
}

std::optional<KallsymsTables> Finder::with_addresses(const Names& names,
                                                     const TokenTable& table) const {
    KallsymsTables tables{.count = names.count,
                          .names = m_region.subspan(names.at, names.end - names.at),
                          .tokens = table.tokens,
                          .addresses = {},
                          .encoding = {}};
    const auto accept = [&](std::size_t at, KallsymsEncoding encoding, u64 base) {
        auto addresses = decode(m_region, m_address, at, names.count, encoding, base);
        if (!addresses) return false;
        tables.addresses = std::move(*addresses);
        tables.encoding = encoding;
        return true;
    };
    // Ordered by how little is left to chance: the base is a kernel address, and so is every
    // absolute value.
    const auto try_base_relative = [&](std::size_t at, std::size_t base_at) {
        const u64 base = load<u64>(m_region, base_at);
        return in_kernel_image(Gva(base)) &&
               (accept(at, KallsymsEncoding::base_relative_percpu, base) ||
                accept(at, KallsymsEncoding::base_relative, base));
    };
    const std::size_t offsets_bytes = std::size_t{names.count} * sizeof(u32);
    const std::size_t absolute_bytes = std::size_t{names.count} * sizeof(u64);

    if (names.num_syms_at >= 8 + offsets_bytes) {
        const std::size_t base_at = names.num_syms_at - 8;
        // The offsets begin aligned, so an odd number of them is followed by four bytes of padding.
        const std::size_t at = base_at - offsets_bytes - (names.count % 2 != 0 ? 4 : 0);
        if (at < base_at && try_base_relative(at, base_at)) return tables;
    }
    const auto fits = [&](std::size_t at, std::size_t bytes) {
        return at <= m_region.size() && m_region.size() - at >= bytes;
    };
    const std::size_t after_index = align_up(table.index_end, 8);
    if (fits(after_index, offsets_bytes)) {
        const std::size_t base_at = align_up(after_index + offsets_bytes, 8);
        if (fits(base_at, sizeof(u64)) && try_base_relative(after_index, base_at)) return tables;
    }
    if (fits(after_index, absolute_bytes) && accept(after_index, KallsymsEncoding::absolute, 0))
        return tables;
    // The lesser alignment first: padding taken for an offset breaks the order of the addresses,
    // whereas a table read from its second entry on would look almost right.
    for (const u64 alignment : {u64{4}, u64{8}}) {
        const std::size_t at = align_up(table.index_end, alignment);
        if (fits(at, offsets_bytes) && accept(at, KallsymsEncoding::place_relative, 0))
            return tables;
    }
    if (names.num_syms_at >= absolute_bytes &&
        accept(names.num_syms_at - absolute_bytes, KallsymsEncoding::absolute, 0))
        return tables;
    return std::nullopt;
}

} // namespace

std::optional<std::span<const std::byte>> next_kallsyms_name(std::span<const std::byte> names,
                                                             std::size_t& at) {
    if (at >= names.size()) return std::nullopt;
    std::size_t start = at + 1;
    u32 length = std::to_integer<u32>(names[at]);
    if ((length & 0x80) != 0) {
        if (start >= names.size()) return std::nullopt;
        length = (length & 0x7f) | std::to_integer<u32>(names[start]) << 7;
        ++start;
    }
    if (length == 0 || length > names.size() - start) return std::nullopt;
    at = start + length;
    return names.subspan(start, length);
}

std::optional<KallsymsTables> find_kallsyms_tables(std::span<const std::byte> region, Gva address) {
    return Finder(region, address).find();
}

} // namespace gnomon::guest::linux_
