// SPDX-License-Identifier: Apache-2.0
#include "platform/acpi_pm.h"

#include "platform/layout.h"

namespace gnomon::platform {

namespace {

/// TMR_STS is set whenever the timer's most significant bit changes.
constexpr unsigned timer_msb = 31;

} // namespace

AcpiPm::AcpiPm(const Clock& clock, InterruptLine sci, PowerControl& power)
    : m_clock(clock), m_rate(layout::acpi_pm_timer_hz), m_sci(std::move(sci)), m_power(power) {
    m_advanced_to = ticks();
}

void AcpiPm::update_sci() { m_sci.set((m_status & m_enable) != 0); }

void AcpiPm::advance(u64 now_ns) {
    const u64 now = m_rate.ticks(now_ns);
    if (now <= m_advanced_to) return;
    if (now >> timer_msb != m_advanced_to >> timer_msb) m_status |= Pm1::timer;
    m_advanced_to = now;
    update_sci();
}

std::optional<u64> AcpiPm::next_deadline_ns() const {
    if ((m_enable & ~m_status & Pm1::timer) == 0) return std::nullopt;
    return m_rate.ns(((m_advanced_to >> timer_msb) + 1) << timer_msb);
}

u64 AcpiPm::read(u64 offset, unsigned size) {
    advance(m_clock.now_ns());
    // The block as it lies in port space; an access of any size and alignment is a window onto it.
    const u64 low = u64{m_status} | u64{m_enable} << 16 | u64{m_control} << 32;
    const u64 high = ticks() & 0xffff'ffff;
    u64 value = 0;
    for (unsigned i = 0; i < size && i < 8; ++i) {
        const u64 at = offset + i;
        const u64 byte = at < 8 ? low >> (8 * at) : at < 16 ? high >> (8 * (at - 8)) : 0;
        value |= (byte & 0xff) << (8 * i);
    }
    return value;
}

void AcpiPm::write(u64 offset, unsigned size, u64 value) {
    advance(m_clock.now_ns());
    u64 bits = 0, written = 0; // values and which bits were written, in the layout of `read`
    for (unsigned i = 0; i < size && i < 8 && offset + i < 8; ++i) {
        bits |= ((value >> (8 * i)) & 0xff) << (8 * (offset + i));
        written |= u64{0xff} << (8 * (offset + i));
    }
    const auto lane = [](u64 word, Reg reg) {
        return static_cast<u16>(word >> (8 * static_cast<unsigned>(reg)));
    };
    m_status = static_cast<u16>(m_status & ~lane(bits, Reg::pm1_status));
    const u16 enable_written = lane(written, Reg::pm1_enable) & Pm1::enable_mask;
    m_enable = static_cast<u16>((m_enable & ~enable_written) |
                                (lane(bits, Reg::pm1_enable) & enable_written));
    if (lane(written, Reg::pm1_control) != 0)
        write_control(lane(bits, Reg::pm1_control), lane(written, Reg::pm1_control));
    update_sci();
}

void AcpiPm::write_control(u16 value, u16 written) {
    const u16 kept =
        Control::bus_master_reload | Control::sleep_type; // GBL_RLS and SLP_EN read as 0
    const u16 changed = written & kept;
    m_control = static_cast<u16>((m_control & ~changed) | (value & changed) | Control::sci_enable);
    const unsigned type = (m_control & Control::sleep_type) >> Control::sleep_type_shift;
    if ((value & Control::sleep_enable) != 0 && type == layout::acpi_s5_sleep_type)
        m_power.request(PowerRequest::power_off);
}

void AcpiPm::press_power_button() {
    advance(m_clock.now_ns());
    m_status |= Pm1::power_button;
    update_sci();
}

} // namespace gnomon::platform
