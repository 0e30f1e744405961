// SPDX-License-Identifier: Apache-2.0
#include "transcript.h"

namespace {

constexpr u16 data_port = 0x3f8, line_status_port = 0x3fd;
constexpr u8 transmitter_empty = 0x20;

u64 digest;
bool shown;

u8 in_byte(u16 port) {
    u8 v;
    asm volatile("inb %1, %0" : "=a"(v) : "d"(port));
    return v;
}
void out_byte(u16 port, u8 v) { asm volatile("outb %0, %1" : : "a"(v), "d"(port)); }

void put(char c) {
    while ((in_byte(line_status_port) & transmitter_empty) == 0) {
    }
    out_byte(data_port, static_cast<u8>(c));
}

/// The value of `word=` in the command line, decimal; or whether `word` stands in it.
bool find(const char* line, const char* word, u64* value) {
    for (const char* at = line; *at != 0;) {
        const char* w = word;
        const char* p = at;
        for (; *w != 0 && *p == *w; ++p, ++w) {
        }
        if (*w == 0 && (value == nullptr || *p == '=')) {
            if (value == nullptr) return *p == 0 || *p == ' ';
            *value = 0;
            for (++p; *p >= '0' && *p <= '9'; ++p)
                *value = *value * 10 + static_cast<u64>(*p - '0');
            return true;
        }
        for (; *at != 0 && *at != ' '; ++at) {
        }
        for (; *at == ' '; ++at) {
        }
    }
    return false;
}

} // namespace

Options read_options() {
    constexpr u64 cmd_line_ptr = 0x228; // Linux boot protocol
    Options o;
    if (boot_parameters == 0) return o;
    const u32 address = *reinterpret_cast<const volatile u32*>(boot_parameters + cmd_line_ptr);
    if (address == 0) return o;
    const char* line = reinterpret_cast<const char*>(u64{address});
    static_cast<void>(find(line, "seed", &o.seed));
    static_cast<void>(find(line, "from", &o.from));
    static_cast<void>(find(line, "cases", &o.cases));
    static_cast<void>(find(line, "directed", &o.directed));
    o.verbose = find(line, "verbose", nullptr);
    o.list = find(line, "list", nullptr);
    o.fatal = find(line, "fatal", nullptr);
    return o;
}

void put_text(const char* text) {
    for (; *text != 0; ++text)
        put(*text);
}

void put_hex(u64 value) {
    int shift = 60;
    while (shift > 0 && value >> shift == 0)
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        put("0123456789abcdef"[value >> shift & 15]);
}

void begin_case(const char* name, u64 number, bool verbose) {
    digest = 0xcbf29ce484222325;
    shown = verbose;
    if (shown) put('\n');
    put_text(name);
    put(' ');
    put_hex(number);
    if (shown) put('\n');
}

void note(const char* name, u64 value) {
    digest = (digest ^ value) * 0x100000001b3;
    digest ^= digest >> 29;
    if (!shown) return;
    put_text(name);
    put('=');
    put_hex(value);
    put(' ');
}

void end_line() {
    if (shown) put('\n');
}

void end_case() {
    put_text(": ");
    put_hex(digest);
    put('\n');
}

void list_call(bool wanted, u64 tables, u64 number, const u64 (&args)[5]) {
    if (!wanted) return;
    put_text("\nCALL ");
    put_hex(tables);
    put(' ');
    // The kernel takes EAX as a signed int, and so it is printed.
    put_hex(static_cast<u64>(static_cast<long long>(static_cast<int>(number))));
    for (const u64 a : args) {
        put(' ');
        put_hex(a);
    }
    put('\n');
}
