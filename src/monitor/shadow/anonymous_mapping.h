// SPDX-License-Identifier: Apache-2.0
/// @file Owner of a zero-filled anonymous mapping whose pages the host provides when they are first
/// touched.
#pragma once

#include "base/address.h"
#include "base/result.h"

#include <cerrno>
#include <cstring>
#include <sys/mman.h>

namespace gnomon::monitor {

class AnonymousMapping {
public:
    /// @param bytes not zero. @param purpose names the mapping in the error.
    [[nodiscard]] static Result<AnonymousMapping> create(u64 bytes, const char* purpose) {
        void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED)
            return fail(
                "cannot map {} bytes for {}: {}; give the process more address space (ulimit -v) "
                "or choose a smaller shadow arena",
                bytes, purpose, std::strerror(errno));
        return AnonymousMapping(static_cast<Hva>(base), bytes);
    }
    AnonymousMapping(AnonymousMapping&& other) noexcept
        : m_base(std::exchange(other.m_base, nullptr)), m_size(std::exchange(other.m_size, 0)) {}
    AnonymousMapping& operator=(AnonymousMapping&&) = delete;
    ~AnonymousMapping() {
        if (m_base != nullptr) ::munmap(m_base, m_size);
    }

    [[nodiscard]] Hva base() const { return m_base; }
    [[nodiscard]] u64 size() const { return m_size; }
    /// The mapping as an array. T must be trivial, and meaningful when all its bytes are zero.
    template <class T>
    [[nodiscard]] T* array() const {
        static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= page_size);
        // SAFETY: page-aligned zero-filled memory; T is an implicit-lifetime type.
        return reinterpret_cast<T*>(m_base);
    }

private:
    AnonymousMapping(Hva base, u64 size) : m_base(base), m_size(size) {}

    Hva m_base;
    u64 m_size;
};

} // namespace gnomon::monitor
