// SPDX-License-Identifier: Apache-2.0
/// @file Linux system calls and small text helpers for the init program, which has no C library: it
/// must start in any kernel at once, and be small in every initramfs.
#pragma once

#include <asm/unistd.h>
#include <stddef.h>
#include <stdint.h>

namespace gnomon::guest::init {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;

namespace detail {
template <class T>
long argument(T value) {
    if constexpr (__is_same(T, decltype(nullptr)))
        return 0;
    else if constexpr (requires { *value; })
        return reinterpret_cast<long>(value);
    else
        return static_cast<long>(value);
}
} // namespace detail

/// The system call `number`. @return its result: negative errno on failure.
template <class... Arguments>
long system_call(long number, Arguments... arguments) {
    static_assert(sizeof...(arguments) <= 6);
    long a[6] = {detail::argument(arguments)...};
    register long r10 asm("r10") = a[3];
    register long r8 asm("r8") = a[4];
    register long r9 asm("r9") = a[5];
    long result;
    // SAFETY: the kernel's x86-64 convention; it clobbers rcx and r11 only, and may read or write
    // any memory that the arguments point to.
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}

[[noreturn]] inline void exit_process(int status) {
    for (;;)
        system_call(__NR_exit_group, status);
}

inline size_t length(const char* text) {
    size_t n = 0;
    while (text[n] != '\0')
        ++n;
    return n;
}

inline bool equal(const char* a, const char* b) {
    while (*a != '\0' && *a == *b) {
        ++a;
        ++b;
    }
    return *a == *b;
}

/// `text` behind `prefix`, or nullptr when it does not begin with that.
inline const char* after_prefix(const char* text, const char* prefix) {
    while (*prefix != '\0')
        if (*text++ != *prefix++) return nullptr;
    return text;
}

/// Reads a decimal number at `text` and moves behind it. False when there is none or it has more
/// than 64 bits.
inline bool parse_number(const char*& text, u64& value) {
    if (*text < '0' || *text > '9') return false;
    value = 0;
    for (; *text >= '0' && *text <= '9'; ++text) {
        const u64 digit = static_cast<u64>(*text - '0');
        if (value > (~u64{0} - digit) / 10) return false;
        value = value * 10 + digit;
    }
    return true;
}

/// A line under construction. What does not fit is cut off, but the line end always fits.
class Line {
public:
    Line& operator<<(const char* text) {
        while (*text != '\0')
            put(*text++);
        return *this;
    }
    Line& operator<<(u64 number) {
        char digits[20];
        unsigned count = 0;
        do {
            digits[count++] = static_cast<char>('0' + number % 10);
            number /= 10;
        } while (number != 0);
        while (count != 0)
            put(digits[--count]);
        return *this;
    }
    Line& end() {
        m_text[m_size++] = '\n';
        return *this;
    }
    [[nodiscard]] const char* data() const { return m_text; }
    [[nodiscard]] size_t size() const { return m_size; }

private:
    static constexpr size_t capacity = 512;
    // A newline inside would forge a second line of the protocol.
    void put(char c) {
        if (m_size < capacity - 1) m_text[m_size++] = c == '\n' ? ' ' : c;
    }
    char m_text[capacity];
    size_t m_size = 0;
};

/// Text of an errno value (positive), as the C library words it.
const char* error_text(long error);

/// Writes all of it, waiting while a non-blocking `fd` is full. False on any other error.
bool write_all(int fd, const char* data, size_t size);

/// Adds O_NONBLOCK.
void set_nonblocking(int fd);

} // namespace gnomon::guest::init
