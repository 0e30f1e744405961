// SPDX-License-Identifier: Apache-2.0
/// @file What a guest asks of the machine's power supply.
#pragma once

#include "base/types.h"

#include <optional>

namespace gnomon::platform {

enum class PowerRequest : u8 {
    power_off, ///< ACPI S5
    reset,     ///< reset register, keyboard controller
};

/// Where devices leave the guest's request for the owner of the machine. The first one stands: a
/// guest that has asked for one thing cannot take it back by asking for another before the owner
/// has looked.
class PowerControl {
public:
    void request(PowerRequest request) {
        if (!m_request) m_request = request;
    }
    [[nodiscard]] std::optional<PowerRequest> pending() const { return m_request; }

private:
    std::optional<PowerRequest> m_request;
};

} // namespace gnomon::platform
