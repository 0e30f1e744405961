// SPDX-License-Identifier: Apache-2.0
/// @file Owner of a memory mapping with inaccessible pages on both sides.
///
/// What a guest's accesses are computed into (its RAM, the code cache, the processor's state, the
/// shadow tables, the monitor's pages) lies in such mappings: an access that a mistake of ours lets
/// run over an end stops the process instead of reaching what happens to lie beside it.
#pragma once

#include "base/address.h"

#include <tl/expected.hpp>
#include <utility>

namespace gnomon {

/// Size of the inaccessible range on each side: more than any displacement from a checked address.
inline constexpr u64 mapping_guard_size = u64{64} << 10;

class GuardedMapping {
public:
    struct Options {
        int protection = 0;  ///< PROT_*
        int descriptor = -1; ///< mapped shared from its beginning; -1: private zero-filled pages
        bool below_2gib = false; ///< 31 bits name every address
    };
    /// @param bytes not zero; rounded up to pages. @return errno of the call that failed.
    [[nodiscard]] static tl::expected<GuardedMapping, int> create(u64 bytes,
                                                                  const Options& options);
    GuardedMapping() = default;
    GuardedMapping(GuardedMapping&& other) noexcept
        : m_base(std::exchange(other.m_base, nullptr)), m_size(std::exchange(other.m_size, 0)) {}
    GuardedMapping& operator=(GuardedMapping&& other) noexcept;
    ~GuardedMapping() { unmap(); }

    [[nodiscard]] Hva base() const { return m_base; }
    /// Whole pages.
    [[nodiscard]] u64 size() const { return m_size; }

private:
    GuardedMapping(Hva base, u64 size) : m_base(base), m_size(size) {}
    void unmap();

    Hva m_base = nullptr;
    u64 m_size = 0;
};

} // namespace gnomon
