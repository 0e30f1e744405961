// SPDX-License-Identifier: Apache-2.0
#include "fuzz/support/mutation.h"

#include <algorithm>
#include <cstring>

namespace gnomon::fuzz {

namespace {

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/// The text between the first and the last quote of a line.
Bytes unquote(std::string_view line) {
    const std::size_t begin = line.find('"'), end = line.rfind('"');
    if (begin == std::string_view::npos || end <= begin) return {};
    const std::string_view text = line.substr(begin + 1, end - begin - 1);
    Bytes out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size() && text[i + 1] == 'x' &&
            hex_digit(text[i + 2]) >= 0 && hex_digit(text[i + 3]) >= 0) {
            out.push_back(static_cast<u8>(hex_digit(text[i + 2]) << 4 | hex_digit(text[i + 3])));
            i += 3;
        } else {
            if (text[i] == '\\' && i + 1 < text.size()) ++i;
            out.push_back(static_cast<u8>(text[i]));
        }
    }
    return out;
}

Bytes random_bytes(Random& random, std::size_t count) {
    Bytes out(count);
    // Half of them small numbers, which mean something more often.
    const u64 mask = random.below(2) == 0 ? 0xff : 0x0f;
    for (u8& byte : out)
        byte = static_cast<u8>(random.next() & mask);
    return out;
}

u64 edge(Random& random) {
    constexpr u64 edges[] = {0,          1,           2,          7,        8,          0x10,
                             0x20,       0x3f,        0x40,       0x7f,     0x80,       0xff,
                             0x100,      0x1ff,       0x200,      0xfff,    0x1000,     0x7fff,
                             0x8000,     0xffff,      0x10000,    0x100000, 0x7fffffff, 0x80000000,
                             0xffffffff, 0x100000000, ~u64{0} - 1};
    const u64 value = edges[random.below(std::size(edges))];
    return random.below(3) == 0 ? ~value : value;
}

void insert(Bytes& out, std::size_t at, std::span<const u8> piece) {
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(at), piece.begin(), piece.end());
}

void overwrite(Bytes& out, std::size_t at, std::span<const u8> piece) {
    std::copy_n(piece.begin(), std::min(piece.size(), out.size() - at),
                out.begin() + static_cast<std::ptrdiff_t>(at));
}

void change(Random& random, Bytes& out, std::span<const Bytes> corpus,
            std::span<const Bytes> dictionary) {
    const std::size_t at = random.below(out.size());
    const auto put = [&](std::span<const u8> piece) {
        if (out.empty() || random.below(2) == 0)
            insert(out, at, piece);
        else
            overwrite(out, at, piece);
    };
    // A piece of some entry, or of the input itself.
    const auto piece_of = [&](const Bytes& from) {
        const std::size_t begin = random.below(from.size());
        const std::size_t length = std::min<std::size_t>(
            from.size() - begin, 1 + random.below(std::size_t{1} << random.below(9)));
        const auto first = from.begin() + static_cast<std::ptrdiff_t>(begin);
        return Bytes(first, first + static_cast<std::ptrdiff_t>(length));
    };
    switch (random.below(12)) {
    case 0:
    case 1:
        if (!out.empty()) out[at] ^= static_cast<u8>(1U << random.below(8));
        break;
    case 2:
        if (!out.empty()) out[at] = static_cast<u8>(random.next());
        break;
    case 3:
    case 4:
    case 5: { // a number of 1, 2, 4 or 8 bytes, often aligned as in tables
        const u64 value = edge(random);
        const std::size_t width = std::size_t{1} << random.below(4);
        u8 bytes[8];
        std::memcpy(bytes, &value, sizeof bytes);
        const std::size_t place = random.below(2) == 0 ? at / width * width : at;
        if (!out.empty()) overwrite(out, place, std::span(bytes).first(width));
        break;
    }
    case 6:
        if (!dictionary.empty()) put(dictionary[random.below(dictionary.size())]);
        break;
    case 7: // left out
        if (!out.empty()) {
            const auto first = out.begin() + static_cast<std::ptrdiff_t>(at);
            const std::size_t length = std::min<std::size_t>(
                out.size() - at, 1 + random.below(std::size_t{1} << random.below(9)));
            out.erase(first, first + static_cast<std::ptrdiff_t>(length));
        }
        break;
    case 8:
        if (!out.empty()) put(piece_of(out));
        break;
    case 9:
        if (!corpus.empty()) {
            if (const Bytes& other = corpus[random.below(corpus.size())]; !other.empty())
                put(piece_of(other));
        }
        break;
    case 10: put(random_bytes(random, 1 + random.below(16))); break;
    default: // one byte many times
        put(Bytes(1 + random.below(64), static_cast<u8>(edge(random))));
        break;
    }
}

} // namespace

std::vector<Bytes> parse_dictionary(std::string_view text) {
    std::vector<Bytes> words;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.starts_with('#')) continue;
        if (Bytes word = unquote(line); !word.empty()) words.push_back(std::move(word));
    }
    return words;
}

Bytes mutate(Random& random, std::span<const Bytes> corpus, std::span<const Bytes> dictionary,
             std::size_t longest) {
    Bytes out;
    if (corpus.empty() || random.below(8) == 0)
        out = random_bytes(random, random.below(std::min<std::size_t>(longest, 2048)));
    else
        out = corpus[random.below(corpus.size())];
    const u64 changes = 1 + random.below(8);
    for (u64 i = 0; i < changes; ++i)
        change(random, out, corpus, dictionary);
    if (random.below(8) == 0) out.resize(random.below(out.size() + 1));
    if (out.size() > longest) out.resize(longest);
    return out;
}

} // namespace gnomon::fuzz
