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
                out.append(bytes.data(), bytes.data() + length);
                used = length;
            } else {
                const char text[] = {'\\', 'u', '0', '0', hex_digits[c >> 4], hex_digits[c & 15]};
                out.append(text, text + sizeof text);
            }
        }
        bytes.remove_prefix(used);
    }
    out.push_back('"');
}

} // namespace gnomon::trace
