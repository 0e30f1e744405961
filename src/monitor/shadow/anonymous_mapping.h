// SPDX-License-Identifier: Apache-2.0
/// @file Owner of a zero-filled anonymous mapping between guard pages; the host provides its pages
/// when they are first touched.
#pragma once

#include "base/guarded_mapping.h"
#include "base/result.h"

#include <cstring>
#include <sys/mman.h>

namespace gnomon::monitor {

class AnonymousMapping {
public:
    /// @param bytes not zero. @param purpose names the mapping in the error.
    [[nodiscard]] static Result<AnonymousMapping> create(u64 bytes, const char* purpose) {
        auto mapping = GuardedMapping::create(bytes, {.protection = PROT_READ | PROT_WRITE});
        if (!mapping)
            return fail(
                "cannot map {} bytes for {}: {}; give the process more address space (ulimit -v) "
                "or choose a smaller shadow arena",
                bytes, purpose, std::strerror(mapping.error()));
        return AnonymousMapping(std::move(*mapping), bytes);
    }

    [[nodiscard]] Hva base() const { return m_mapping.base(); }
    [[nodiscard]] u64 size() const { return m_size; }
    /// The mapping as an array. T must be trivial, and meaningful when all its bytes are zero.
    template <class T>
    [[nodiscard]] T* array() const {
        static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= page_size);
        // SAFETY: page-aligned zero-filled memory; T is an implicit-lifetime type.
        return reinterpret_cast<T*>(base());
    }

private:
    AnonymousMapping(GuardedMapping mapping, u64 size)
        : m_mapping(std::move(mapping)), m_size(size) {}

    GuardedMapping m_mapping;
    u64 m_size; ///< as asked for
};

} // namespace gnomon::monitor
