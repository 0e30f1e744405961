// SPDX-License-Identifier: Apache-2.0
/// @file How much of its nominal delay a device keeps, by how its guest gets on with less.
#pragma once

#include "base/types.h"

#include <algorithm>

namespace gnomon::monitor {

/// Starts with none of the delay. Each sign of trouble doubles what is kept, and a grave one keeps
/// all of it: nothing comes before its time then. Calm halves it again; after every trouble it has
/// to last longer.
class BackOff {
public:
    static constexpr unsigned whole = 16;                          ///< sixteenths of the delay
    static constexpr u64 first_calm = 1000, longest_calm = 64'000; ///< completions

    /// The least age at which a completion may come early.
    [[nodiscard]] u64 least_ns(u64 nominal_ns) const {
        return nominal_ns / whole * m_kept + nominal_ns % whole * m_kept / whole;
    }
    [[nodiscard]] unsigned kept() const { return m_kept; }

    void trouble(bool grave) {
        if (m_kept != 0) m_calm_needed = std::min(m_calm_needed * 2, longest_calm);
        m_kept = grave ? whole : std::min(std::max(1U, m_kept * 2), whole);
        m_calm = 0;
    }
    /// A completion was delivered.
    void delivered() {
        if (m_kept == 0 || ++m_calm < m_calm_needed) return;
        m_kept /= 2;
        m_calm = 0;
    }

private:
    unsigned m_kept = 0;
    u64 m_calm = 0, m_calm_needed = first_calm;
};

} // namespace gnomon::monitor
