// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/kallsyms.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace gnomon::guest::linux_ {

namespace {

/// KSYM_NAME_LEN, with the type letter.
constexpr std::size_t max_name_bytes = 513;
/// A distribution's kernel has 4 MB of names.
constexpr std::size_t max_text_bytes = std::size_t{64} << 20;
/// Steps along a hash chain. Real tables need a few dozen at most; names chosen to collide must not
/// make the index quadratic, and those beyond the bound are simply not found.
constexpr unsigned max_probes = 1024;

} // namespace

Result<Kallsyms> Kallsyms::from_vmlinux(const ElfImage& image) {
    if (const auto rodata = image.section(".rodata"))
        if (auto tables = find_kallsyms_tables(rodata->bytes, rodata->address))
            return decode(std::move(*tables));
    // No section table, or one that misleads: the tables are still somewhere in what is loaded.
    for (const ElfImage::Segment& segment : image.segments())
        if (auto tables = find_kallsyms_tables(segment.bytes, segment.address))
            return decode(std::move(*tables));
    return fail(
        "the kernel image carries no symbol table (CONFIG_KALLSYMS), or one of an unknown layout");
}

Result<Kallsyms> Kallsyms::decode(KallsymsTables tables) {
    Kallsyms result;
    result.m_encoding = tables.encoding;
    result.m_addresses = std::move(tables.addresses);
    result.m_text_begins.reserve(std::size_t{tables.count} + 1);
    result.m_text.reserve(tables.names.size() * 2);
    std::size_t at = 0;
    for (u32 i = 0; i < tables.count; ++i) {
        const auto begin = result.m_text.size();
        result.m_text_begins.push_back(static_cast<u32>(begin));
        const auto entry = next_kallsyms_name(tables.names, at);
        if (!entry)
            return fail("the kernel image's symbol table ends at symbol {} of {}", i, tables.count);
        for (const std::byte token : *entry) {
            result.m_text += tables.tokens[std::to_integer<u8>(token)];
            if (result.m_text.size() - begin > max_name_bytes)
                return fail("the kernel image's symbol {} has an impossibly long name", i);
        }
        if (result.m_text.size() > max_text_bytes)
            return fail("the kernel image's symbol names exceed {} bytes", max_text_bytes);
    }
    result.m_text_begins.push_back(static_cast<u32>(result.m_text.size()));
    result.build_index();
    return result;
}

void Kallsyms::build_index() {
    // At most half full, so that a search ends soon, and at all.
    m_buckets.assign(std::bit_ceil(size() * 2 + 2), 0);
    const std::size_t mask = m_buckets.size() - 1;
    for (std::size_t i = 0; i < size(); ++i) {
        const std::string_view name = name_at(i);
        std::size_t bucket = first_bucket(name);
        for (unsigned probe = 0; probe < max_probes; ++probe, bucket = (bucket + 1) & mask) {
            if (m_buckets[bucket] == 0) {
                m_buckets[bucket] = static_cast<u32>(i + 1);
                break;
            }
            // Of several symbols of one name, the first alone is ever asked for.
            if (name_at(m_buckets[bucket] - 1) == name) break;
        }
    }
}

std::size_t Kallsyms::first_bucket(std::string_view name) const {
    const std::size_t hash = std::hash<std::string_view>()(name);
    return hash & (m_buckets.size() - 1);
}

std::string_view Kallsyms::name_at(std::size_t index) const {
    const std::size_t begin = m_text_begins[index];
    const std::size_t end = m_text_begins[index + 1];
    // The first byte is the type.
    return begin == end ? std::string_view{}
                        : std::string_view(m_text).substr(begin + 1, end - begin - 1);
}

Kallsyms::Symbol Kallsyms::at(std::size_t index) const {
    if (index >= size()) return {};
    const std::size_t begin = m_text_begins[index];
    const bool empty = begin == m_text_begins[index + 1];
    return {.address = Gva(m_addresses[index]),
            .type = empty ? '?' : m_text[begin],
            .name = name_at(index)};
}

std::optional<Gva> Kallsyms::lookup(std::string_view name) const {
    const std::size_t mask = m_buckets.size() - 1;
    std::size_t bucket = first_bucket(name);
    for (unsigned probe = 0; probe < max_probes; ++probe, bucket = (bucket + 1) & mask) {
        if (m_buckets[bucket] == 0) return std::nullopt;
        const std::size_t index = m_buckets[bucket] - 1;
        if (name_at(index) == name) return Gva(m_addresses[index]);
    }
    return std::nullopt;
}

std::optional<Kallsyms::Location> Kallsyms::symbol_at(Gva address) const {
    const auto after = std::upper_bound(m_addresses.begin(), m_addresses.end(), address.value());
    if (after == m_addresses.begin()) return std::nullopt;
    const auto index = static_cast<std::size_t>(after - m_addresses.begin()) - 1;
    return Location{.symbol = at(index), .offset = address.value() - m_addresses[index]};
}

} // namespace gnomon::guest::linux_
