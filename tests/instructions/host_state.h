// SPDX-License-Identifier: Apache-2.0
/// @file The host's XSAVE image: components of AVX-512 may lie elsewhere than in ExtendedState.
#pragma once

#include "processor/registers.h"

#include <cstddef>
#include <cstring>

namespace gnomon::test {

/// Where the host's standard format has the components that ExtendedState has.
class HostState {
public:
    static constexpr std::size_t size_limit = 0x2000;

    HostState();
    /// Those of ExtendedState's components that the host's kernel has enabled, as in XCR0.
    [[nodiscard]] static u64 components();

    /// Bytes of ExtendedState at `here`, and of the host's image at `there`.
    struct Part {
        std::size_t here = 0, there = 0, size = 0; ///< size 0: none
    };
    [[nodiscard]] const Part (&parts() const)[5] { return m_parts; }

    void write(u8* image, const processor::ExtendedState& state) const {
        std::memset(image, 0, size_limit);
        for (const Part& part : m_parts)
            std::memcpy(image + part.there, reinterpret_cast<const u8*>(&state) + part.here,
                        part.size);
    }
    /// What XSTATE_BV leaves out need not be there.
    void read(processor::ExtendedState& state, const u8* image) const {
        for (const Part& part : m_parts)
            std::memcpy(reinterpret_cast<u8*>(&state) + part.here, image + part.there, part.size);
    }

private:
    Part m_parts[5];
};

} // namespace gnomon::test
