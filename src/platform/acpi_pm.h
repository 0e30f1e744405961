// SPDX-License-Identifier: Apache-2.0
/// @file ACPI fixed hardware: the PM1a event and control blocks and the power management timer.
///
/// ACPI 6.4 sections 4.8.1 to 4.8.3. SCI_EN is always set (no legacy mode, no SMI command port). Of
/// the sleeping states only S5 exists. GPE blocks and PM2 are absent; the timer is 32 bits wide
/// (FADT TMR_VAL_EXT).
#pragma once

#include "platform/clock.h"
#include "platform/device.h"
#include "platform/interrupt_line.h"
#include "platform/power.h"
#include "platform/timer.h"

namespace gnomon::platform {

class AcpiPm final : public BusDevice, public Timed {
public:
    /// Byte offsets, as in layout.h.
    enum class Reg : u8 {
        pm1_status = 0,  // rw 16 bits, write 1 to clear, reset 0000h
        pm1_enable = 2,  // rw 16 bits, reset 0000h
        pm1_control = 4, // rw 16 bits, reset 0001h (SCI_EN)
        pm_timer = 8,    // r- 32 bits, 3.579545 MHz
    };
    struct Pm1 { ///< bits of status and enable
        static constexpr u16 timer = 1 << 0, bus_master = 1 << 4, global = 1 << 5,
                             power_button = 1 << 8, sleep_button = 1 << 9, rtc = 1 << 10,
                             pcie_wake = 1 << 14, wake = 1 << 15;
        static constexpr u16 status_mask =
            timer | bus_master | global | power_button | sleep_button | rtc | pcie_wake | wake;
        static constexpr u16 enable_mask =
            timer | global | power_button | sleep_button | rtc | pcie_wake;
    };
    struct Control {
        static constexpr u16 sci_enable = 1 << 0, bus_master_reload = 1 << 1,
                             global_release = 1 << 2, sleep_type = 7 << 10, sleep_enable = 1 << 13;
        static constexpr unsigned sleep_type_shift = 10;
    };

    /// `clock` and `power` must outlive the device.
    AcpiPm(const Clock& clock, InterruptLine sci, PowerControl& power);

    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    [[nodiscard]] std::optional<u64> next_deadline_ns() const override;
    void advance(u64 now_ns) override;

    /// The user presses the power button: the guest is asked to shut down.
    void press_power_button();

private:
    [[nodiscard]] u64 ticks() const { return m_rate.ticks(m_clock.now_ns()); }
    void write_control(u16 value, u16 written);
    void update_sci();

    const Clock& m_clock;
    TickRate m_rate;
    InterruptLine m_sci;
    PowerControl& m_power;
    u64 m_advanced_to = 0; ///< timer tick
    u16 m_status = 0, m_enable = 0, m_control = Control::sci_enable;
};

} // namespace gnomon::platform
