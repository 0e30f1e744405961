// SPDX-License-Identifier: Apache-2.0
/// @file Model-specific registers that neither the processor nor the local APIC holds:
/// identification, MTRRs, machine check.
#pragma once

#include "base/types.h"

#include <array>
#include <optional>

namespace gnomon::monitor {

/// Constants and storage only; nothing here changes how the machine behaves (memory types do not
/// matter to it).
class GuestMsrs {
public:
    /// nullopt: the guest gets #GP(0).
    [[nodiscard]] std::optional<u64> read(u32 index) const;
    /// False: #GP(0).
    [[nodiscard]] bool write(u32 index, u64 value);

private:
    u64 m_misc_enable = 1; ///< fast strings
    u64 m_spec_ctrl = 0;
    std::array<u64, 16> m_mtrr_variable{}; ///< base and mask pairs
    std::array<u64, 11> m_mtrr_fixed{};
    u64 m_mtrr_default = 0xc06; ///< enabled, fixed ranges enabled, write-back
    u64 m_bios_sign_id = u64{0x21000} << 32;
};

} // namespace gnomon::monitor
