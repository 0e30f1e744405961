// SPDX-License-Identifier: Apache-2.0
/// @file The 8254 programmable interval timer and system control port B (0x61), through which
/// channel 2 is used.
///
/// Intel 8254 data sheet (231164); port B: Intel 82371AB (PIIX4) data sheet section 4.4. All six
/// modes. Counts are computed from the clock when somebody looks; nothing ticks. Deviations: a
/// count written to a running mode 3 takes effect at the end of the whole period (silicon: of the
/// half); an illegal count of 1 in modes 2 and 3 counts as 2.
#pragma once

#include "platform/clock.h"
#include "platform/device.h"
#include "platform/interrupt_line.h"
#include "platform/timer.h"

#include <array>

namespace gnomon::platform {

/// One counter. Times are in ticks of the PIT's clock.
class PitChannel {
public:
    /// The control word; `access` is 1 (LSB), 2 (MSB) or 3 (both); `mode` is 0 to 7, 6 and 7
    /// meaning 2 and 3.
    void program(u8 access, u8 mode, bool bcd, u64 now);
    void write_count_byte(u8 value, u64 now);
    [[nodiscard]] u8 read_byte(u64 now);
    void latch_count(u64 now);
    void latch_status(u64 now);
    void set_gate(bool gate, u64 now);

    [[nodiscard]] bool gate() const { return m_gate; }
    [[nodiscard]] bool output(u64 now) const;
    /// The next tick after `now` at which the output rises.
    [[nodiscard]] std::optional<u64> next_rise(u64 now) const;
    /// The period of modes 2 and 3 in ticks, 0 for the others.
    [[nodiscard]] u64 period() const { return m_armed && is_periodic() ? m_count : 0; }
    /// How often the output rose in (from, to]; of a periodic mode just whether it did.
    [[nodiscard]] bool rose(u64 from, u64 to) const;

private:
    [[nodiscard]] bool is_periodic() const { return m_mode == 2 || m_mode == 3; }
    [[nodiscard]] u64 modulus() const { return m_bcd ? 10'000 : 0x10000; }
    [[nodiscard]] u64 decode(u16 raw) const;
    [[nodiscard]] u16 encode(u64 count) const;
    [[nodiscard]] u64 elapsed(u64 now) const;
    [[nodiscard]] u16 current_count(u64 now) const;
    void load(u16 raw, u64 now);
    void settle(u64 now);

    u8 m_access = 3;
    u8 m_mode = 0; ///< undefined at power-on; in mode 0 the output is quiet
    bool m_bcd = false;
    bool m_gate = true;

    bool m_armed = false;        ///< counting (or stopped by the gate) since m_start
    bool m_null_count = true;    ///< a count was written and not yet loaded
    u64 m_count = 0x10000;       ///< count in force
    u64 m_start = 0;             ///< tick at which m_count was loaded
    std::optional<u64> m_frozen; ///< ticks that had elapsed when the gate fell
    std::optional<u64>
        m_next_count; ///< modes 2 and 3: from m_next_at on. Modes 1 and 5: from the next trigger on
    u64 m_next_at = 0;

    u8 m_write_low = 0;
    bool m_write_high = false, m_read_high = false; ///< the next byte is the MSB
    std::optional<u16> m_latched_count;
    std::optional<u8> m_latched_status;
};

class Pit8254 final : public ByteDevice, public Timed {
public:
    enum class Reg : u8 {
        counter0 = 0, // rw IRQ 0
        counter1 = 1, // rw formerly memory refresh
        counter2 = 2, // rw speaker; gate and output at port B
        control = 3,  // -w control word, counter latch, read-back
    };

    /// @param irq0 the output of counter 0. `clock` must outlive the device.
    Pit8254(const Clock& clock, InterruptLine irq0);

    [[nodiscard]] u8 read_byte(u64 offset) override;
    void write_byte(u64 offset, u8 value) override;
    [[nodiscard]] std::optional<u64> next_deadline_ns() const override;
    void advance(u64 now_ns) override;

    [[nodiscard]] BusDevice& system_control_b() { return m_port_b; }

private:
    /// System control port B.
    class PortB final : public ByteDevice {
    public:
        enum class Bit : u8 {
            gate2 = 1 << 0,         // rw gate of counter 2, reset 0
            speaker_data = 1 << 1,  // rw reset 0, no speaker is there
            serr_disable = 1 << 2,  // rw reset 0, no effect
            iochk_disable = 1 << 3, // rw reset 0, no effect
            refresh = 1 << 4,       // r- toggles every 15 us
            output2 = 1 << 5,       // r- output of counter 2
        };
        explicit PortB(Pit8254& pit) : m_pit(pit) {}
        [[nodiscard]] u8 read_byte(u64 offset) override;
        void write_byte(u64 offset, u8 value) override;

    private:
        Pit8254& m_pit;
        u8 m_control = 0;
    };

    [[nodiscard]] u64 now() const { return m_rate.ticks(m_clock.now_ns()); }
    void update_irq(u64 now_tick);

    const Clock& m_clock;
    TickRate m_rate;
    std::array<PitChannel, 3> m_channels;
    InterruptLine m_irq0;
    PortB m_port_b;
    u64 m_advanced_to = 0;  ///< tick up to which rises of counter 0 were delivered
    u64 m_last_rise_ns = 0; ///< when one was delivered last
};

} // namespace gnomon::platform
