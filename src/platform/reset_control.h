// SPDX-License-Identifier: Apache-2.0
/// @file The reset control register at 0xcf9, which the FADT names as the ACPI reset register.
///
/// Intel 82371AB (PIIX4) data sheet section 4.5 (RC).
#pragma once

#include "platform/device.h"
#include "platform/power.h"

namespace gnomon::platform {

class ResetControl final : public ByteDevice {
public:
    enum class Bit : u8 {
        system_reset = 1 << 1, // rw with reset_cpu: reset the whole system, reset 0
        reset_cpu = 1 << 2,    // rw its change from 0 to 1 resets, reset 0
        full_reset = 1 << 3,   // rw power-cycle, reset 0
    };

    /// `power` must outlive the device.
    explicit ResetControl(PowerControl& power) : m_power(power) {}

    [[nodiscard]] u8 read_byte(u64) override { return m_value; }
    void write_byte(u64, u8 value) override {
        constexpr u8 reset_cpu = static_cast<u8>(Bit::reset_cpu);
        if ((value & ~m_value & reset_cpu) != 0) m_power.request(PowerRequest::reset);
        m_value = value & (static_cast<u8>(Bit::system_reset) | reset_cpu |
                           static_cast<u8>(Bit::full_reset));
    }

private:
    PowerControl& m_power;
    u8 m_value = 0;
};

} // namespace gnomon::platform
