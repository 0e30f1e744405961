// SPDX-License-Identifier: Apache-2.0
#include "trace/escape.h"

namespace gnomon::trace {

namespace {

constexpr char hex_digits[] = "0123456789abcdef";

void append_octal(Text& out, unsigned char c, bool full) {
    out.push_back('\\');
    if (full || c >= 0100) out.push_back(static_cast<char>('0' + (c >> 6)));
    if (full || c >= 010) out.push_back(static_cast<char>('0' + ((c >> 3) & 7)));
    out.push_back(static_cast<char>('0' + (c & 7)));
}

bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x7f; }

/// The length of the well-formed UTF-8 sequence at the start of `bytes`, 0 if there is none (RFC
/// 3629).
size_t utf8_length(std::string_view bytes) {
    const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
    const auto continues = [&](size_t i) { return i < bytes.size() && (at(i) & 0xc0) == 0x80; };
    const unsigned char first = at(0);
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        if (!continues(1) || !continues(2)) return 0;
        if (first == 0xe0 && at(1) < 0xa0) return 0;  // overlong
        if (first == 0xed && at(1) >= 0xa0) return 0; // surrogates
        return 3;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        if (!continues(1) || !continues(2) || !continues(3)) return 0;
        if (first == 0xf0 && at(1) < 0x90) return 0;
        if (first == 0xf4 && at(1) >= 0x90) return 0;
        return 4;
    }
    return 0;
}

/// Whether a terminal might obey the character instead of showing it: C1 controls, and what
/// reorders text (Unicode's bidirectional controls) or ends lines.
bool is_control(char32_t c) {
    return (c >= 0x80 && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/// The character of a well-formed sequence of `length` bytes.
char32_t utf8_character(std::string_view bytes, size_t length) {
    auto c = static_cast<char32_t>(static_cast<unsigned char>(bytes[0]) & (0xff >> (length + 1)));
    for (size_t i = 1; i < length; ++i)
        c = c << 6 | (static_cast<unsigned char>(bytes[i]) & 0x3f);
    return c;
}

void append_json_code(Text& out, unsigned c) {
    const char text[] = {'\\',
                         'u',
                         hex_digits[c >> 12],
                         hex_digits[c >> 8 & 15],
                         hex_digits[c >> 4 & 15],
                         hex_digits[c & 15]};
    out.append(text, text + sizeof text);
}

} // namespace

void append_escaped(Text& out, std::string_view bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) {
        const auto c = static_cast<unsigned char>(bytes[i]);
        switch (c) {
        case '"': append(out, "\\\""); continue;
        case '\\': append(out, "\\\\"); continue;
        case '\t': append(out, "\\t"); continue;
        case '\n': append(out, "\\n"); continue;
        case '\v': append(out, "\\v"); continue;
        case '\f': append(out, "\\f"); continue;
        case '\r': append(out, "\\r"); continue;
        default: break;
        }
        if (is_plain(c)) {
            out.push_back(static_cast<char>(c));
            continue;
        }
        const bool digit_follows =
            i + 1 < bytes.size() && bytes[i + 1] >= '0' && bytes[i + 1] <= '7';
        append_octal(out, c, digit_follows);
    }
}

void append_hex_escaped(Text& out, std::string_view bytes) {
    for (const char b : bytes) {
        const auto c = static_cast<unsigned char>(b);
        const char text[] = {'\\', 'x', hex_digits[c >> 4], hex_digits[c & 15]};
        out.append(text, text + sizeof text);
    }
}

void append_command(Text& out, std::string_view bytes) {
    for (const char b : bytes) {
        const auto c = static_cast<unsigned char>(b);
        if (c == '\\')
            append(out, "\\\\");
        else if (is_plain(c) && c != ']' && c != '<' && c != '>')
            out.push_back(b);
        else
            append_octal(out, c, true);
    }
}

void append_json(Text& out, std::string_view bytes) {
    out.push_back('"');
    while (!bytes.empty()) {
        const auto c = static_cast<unsigned char>(bytes[0]);
        size_t used = 1;
        switch (c) {
        case '"': append(out, "\\\""); break;
        case '\\': append(out, "\\\\"); break;
        case '\n': append(out, "\\n"); break;
        case '\r': append(out, "\\r"); break;
        case '\t': append(out, "\\t"); break;
        default:
            if (is_plain(c)) {
                out.push_back(static_cast<char>(c));
            } else if (const size_t length = c < 0x80 ? 0 : utf8_length(bytes); length != 0) {
                used = length;
                if (const char32_t wide = utf8_character(bytes, length); is_control(wide))
                    append_json_code(out, static_cast<unsigned>(wide));
                else
                    out.append(bytes.data(), bytes.data() + length);
            } else {
                append_json_code(out, c);
            }
        }
        bytes.remove_prefix(used);
    }
    out.push_back('"');
}

} // namespace gnomon::trace
