// SPDX-License-Identifier: Apache-2.0
#include "platform/pit_8254.h"

#include "platform/layout.h"

namespace gnomon::platform {

// --- PitChannel ---

u64 PitChannel::decode(u16 raw) const {
    u64 count = raw;
    if (m_bcd)
        count = (raw & 15U) + 10U * ((raw >> 4) & 15U) + 100U * ((raw >> 8) & 15U) +
                1000U * (raw >> 12);
    if (count == 0) count = modulus();
    if (is_periodic() && count < 2) count = 2;
    return count;
}

u16 PitChannel::encode(u64 count) const {
    count %= modulus();
    if (!m_bcd) return static_cast<u16>(count);
    return static_cast<u16>(count % 10 | (count / 10 % 10) << 4 | (count / 100 % 10) << 8 |
                            count / 1000 << 12);
}

u64 PitChannel::elapsed(u64 now) const {
    if (m_frozen) return *m_frozen;
    return now > m_start ? now - m_start : 0;
}

/// Puts a pending count of a periodic mode into force once its time has come.
void PitChannel::settle(u64 now) {
    if (!m_armed || !is_periodic() || !m_next_count || m_frozen || now < m_next_at) return;
    m_count = *m_next_count;
    m_start = m_next_at;
    m_next_count.reset();
    m_null_count = false;
}

void PitChannel::program(u8 access, u8 mode, bool bcd, u64 now) {
    m_access = access;
    m_mode = mode > 5 ? mode & 3 : mode;
    m_bcd = bcd;
    m_armed = false;
    m_null_count = true;
    m_start = now;
    m_frozen.reset();
    m_next_count.reset();
    m_write_high = m_read_high = false;
    m_latched_count.reset();
    m_latched_status.reset();
}

void PitChannel::write_count_byte(u8 value, u64 now) {
    switch (m_access) {
    case 1: load(value, now); return;
    case 2: load(static_cast<u16>(value << 8), now); return;
    default: break;
    }
    m_write_high = !m_write_high;
    if (!m_write_high) {
        load(static_cast<u16>(value << 8 | m_write_low), now);
        return;
    }
    m_write_low = value;
    // Mode 0: the first byte of two stops the counting and drives the output low at once.
    if (m_mode == 0) {
        m_armed = false;
        m_null_count = true;
    }
}

void PitChannel::load(u16 raw, u64 now) {
    settle(now);
    const u64 count = decode(raw);
    if (m_mode == 1 || m_mode == 5) { // waits for a rising gate
        m_next_count = count;
        m_null_count = true;
        return;
    }
    if (is_periodic() && m_armed && !m_frozen) {
        m_next_count = count;
        m_next_at = m_start + (elapsed(now) / m_count + 1) * m_count;
        m_null_count = true;
        return;
    }
    m_count = count;
    m_start = now + 1; // loaded by the next clock pulse
    m_armed = true;
    m_null_count = false;
    m_next_count.reset();
    m_frozen = m_gate ? std::nullopt : std::optional<u64>(0);
}

void PitChannel::set_gate(bool gate, u64 now) {
    if (gate == m_gate) return;
    settle(now);
    const u64 so_far = elapsed(now);
    m_gate = gate;
    switch (m_mode) {
    case 1:
    case 5:
        if (!gate) break; // only the rising edge counts: a trigger
        if (m_next_count)
            m_count = *m_next_count;
        else if (!m_armed)
            break;
        m_next_count.reset();
        m_null_count = false;
        m_start = now + 1;
        m_armed = true;
        break;
    case 2:
    case 3: // a rising gate starts the period anew
        if (gate) {
            if (m_next_count) m_count = *m_next_count;
            m_next_count.reset();
            if (m_armed) m_null_count = false;
            m_start = now + 1;
            m_frozen.reset();
        } else {
            m_frozen = so_far;
        }
        break;
    default: // 0 and 4: a low gate suspends
        if (gate) {
            m_start = now - (m_frozen ? *m_frozen : 0);
            m_frozen.reset();
        } else {
            m_frozen = so_far;
        }
        break;
    }
}

u16 PitChannel::current_count(u64 now) const {
    if (!m_armed) return encode(m_count);
    const u64 e = elapsed(now);
    if (m_mode == 2) return encode(m_count - e % m_count);
    if (m_mode == 3) { // counts down by two, once in each half
        const u64 phase = e % m_count, high = (m_count + 1) / 2, even = m_count & ~u64{1};
        return encode(even - 2 * (phase < high ? phase : phase - high));
    }
    const u64 m = modulus();
    return encode((m_count + m - e % m) % m); // goes on counting after the end
}

bool PitChannel::output(u64 now) const {
    if (!m_armed) return m_mode != 0;
    const u64 e = elapsed(now);
    switch (m_mode) {
    case 0:
    case 1: return (m_mode == 0 || now >= m_start) ? e >= m_count : true;
    case 2: return m_frozen || e % m_count != m_count - 1;
    case 3: return m_frozen || e % m_count < (m_count + 1) / 2;
    default: return e != m_count; // 4 and 5: one pulse
    }
}

std::optional<u64> PitChannel::next_rise(u64 now) const {
    if (!m_armed || m_frozen) return std::nullopt;
    const u64 e = elapsed(now);
    switch (m_mode) {
    case 0:
    case 1: return e < m_count ? std::optional(m_start + m_count) : std::nullopt;
    case 2:
    case 3: {
        // A pending count changes the period only after the rise that ends the present one.
        if (m_next_count && now >= m_next_at)
            return m_next_at + ((now - m_next_at) / *m_next_count + 1) * *m_next_count;
        return m_start + (e / m_count + 1) * m_count;
    }
    default: return e <= m_count ? std::optional(m_start + m_count + 1) : std::nullopt;
    }
}

bool PitChannel::rose(u64 from, u64 to) const {
    const std::optional<u64> rise = next_rise(from);
    return rise && *rise <= to;
}

void PitChannel::latch_count(u64 now) {
    settle(now);
    if (!m_latched_count) m_latched_count = current_count(now);
}

void PitChannel::latch_status(u64 now) {
    settle(now);
    if (m_latched_status) return;
    m_latched_status = static_cast<u8>((output(now) ? 0x80 : 0) | (m_null_count ? 0x40 : 0) |
                                       m_access << 4 | m_mode << 1 | (m_bcd ? 1 : 0));
}

u8 PitChannel::read_byte(u64 now) {
    settle(now);
    if (m_latched_status) {
        const u8 status = *m_latched_status;
        m_latched_status.reset();
        return status;
    }
    const u16 count = m_latched_count ? *m_latched_count : current_count(now);
    const bool high = m_access == 2 || (m_access == 3 && m_read_high);
    if (m_access == 3) m_read_high = !m_read_high;
    if (m_access != 3 || high) m_latched_count.reset();
    return static_cast<u8>(high ? count >> 8 : count);
}

// --- Pit8254 ---

Pit8254::Pit8254(const Clock& clock, InterruptLine irq0)
    : m_clock(clock), m_rate(layout::pit_hz), m_irq0(std::move(irq0)), m_port_b(*this) {
    m_channels[2].set_gate(false, now());
    m_advanced_to = now();
    update_irq(m_advanced_to);
}

/// Brings the interrupt line up to `now_tick`: one edge for any number of rises since the last
/// time.
void Pit8254::update_irq(u64 now_tick) {
    PitChannel& channel = m_channels[0];
    if (channel.rose(m_advanced_to, now_tick)) {
        m_irq0.set(false);
        m_irq0.set(true);
        m_last_rise_ns = m_clock.now_ns();
    }
    m_advanced_to = now_tick;
    m_irq0.set(channel.output(now_tick));
}

void Pit8254::advance(u64 now_ns) {
    if (const u64 tick = m_rate.ticks(now_ns); tick > m_advanced_to) update_irq(tick);
}

std::optional<u64> Pit8254::next_deadline_ns() const {
    const std::optional<u64> rise = m_channels[0].next_rise(m_advanced_to);
    if (!rise) return std::nullopt;
    const u64 ns = m_rate.ns(*rise);
    return m_channels[0].period() != 0 ? std::max(ns, m_last_rise_ns + minimum_period_ns) : ns;
}

u8 Pit8254::read_byte(u64 offset) {
    if (offset >= m_channels.size()) return 0xff; // the control word cannot be read
    return m_channels[offset].read_byte(now());
}

void Pit8254::write_byte(u64 offset, u8 value) {
    const u64 tick = now();
    update_irq(tick); // what has happened so far happened under the old programming
    if (offset < m_channels.size()) {
        m_channels[offset].write_count_byte(value, tick);
    } else if (value >> 6 == 3) { // read-back
        for (unsigned n = 0; n < m_channels.size(); ++n) {
            if ((value >> (n + 1) & 1) == 0) continue;
            if ((value & 0x20) == 0) m_channels[n].latch_count(tick);
            if ((value & 0x10) == 0) m_channels[n].latch_status(tick);
        }
    } else {
        const u8 access = (value >> 4) & 3;
        PitChannel& channel = m_channels[value >> 6];
        if (access == 0)
            channel.latch_count(tick);
        else
            channel.program(access, (value >> 1) & 7, (value & 1) != 0, tick);
    }
    m_irq0.set(m_channels[0].output(tick));
}

u8 Pit8254::PortB::read_byte(u64) {
    constexpr u64 refresh_ns = 15'085;
    u8 value = m_control;
    if (m_pit.m_clock.now_ns() / refresh_ns % 2 != 0) value |= static_cast<u8>(Bit::refresh);
    if (m_pit.m_channels[2].output(m_pit.now())) value |= static_cast<u8>(Bit::output2);
    return value;
}

void Pit8254::PortB::write_byte(u64, u8 value) {
    m_control = value & 0x0f;
    m_pit.m_channels[2].set_gate((value & static_cast<u8>(Bit::gate2)) != 0, m_pit.now());
}

} // namespace gnomon::platform
