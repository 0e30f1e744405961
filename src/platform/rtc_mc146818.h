// SPDX-License-Identifier: Apache-2.0
/// @file The MC146818A real-time clock with 128 bytes of CMOS memory.
///
/// Motorola MC146818A data sheet (ADI1198); the PC's extensions: century at 0x32, memory sizes,
/// checksum. The time is host UTC when the machine starts, plus virtual time. Deviations: no square
/// wave, no daylight saving (DSE is stored); time bases other than 32.768 kHz are stored but not
/// modelled; IRQF is seen as the interrupt line, bit 7 of the index (NMI disable) is ignored.
#pragma once

#include "platform/clock.h"
#include "platform/device.h"
#include "platform/interrupt_line.h"
#include "platform/timer.h"

#include <array>

namespace gnomon::platform {

class RtcMc146818 final : public ByteDevice, public Timed {
public:
    enum class Port : u8 {
        index = 0, // -w register number, bits 6:0
        data = 1,  // rw register
    };
    enum class Reg : u8 {
        seconds = 0x00,       // rw
        seconds_alarm = 0x01, // rw C0h-FFh: any; reset 00h
        minutes = 0x02,       // rw
        minutes_alarm = 0x03, // rw
        hours = 0x04,         // rw bit 7: PM in 12-hour mode
        hours_alarm = 0x05,   // rw
        day_of_week = 0x06,   // rw 1 is Sunday
        day = 0x07,           // rw
        month = 0x08,         // rw
        year = 0x09,          // rw 00-99
        a = 0x0a,             // rw UIP (r-), DV, RS; reset 26h
        b = 0x0b,             // rw SET PIE AIE UIE SQWE DM 24/12 DSE; reset 02h
        c = 0x0c,             // r- IRQF PF AF UF, cleared by reading; reset 00h
        d = 0x0d,             // r- VRT; reset 80h
        century = 0x32,       // rw 19, 20 ...
    };
    static constexpr u8 uip = 1 << 7;
    static constexpr u8 set = 1 << 7, pie = 1 << 6, aie = 1 << 5, uie = 1 << 4, sqwe = 1 << 3,
                        dm = 1 << 2, hours24 = 1 << 1, dse = 1 << 0;
    static constexpr u8 irqf = 1 << 7, pf = 1 << 6, af = 1 << 5, uf = 1 << 4;
    static constexpr u8 vrt = 1 << 7;

    /// UIP is set this long before the time changes (t_BUC + t_UC at 32.768 kHz, data sheet table
    /// 5).
    static constexpr u64 update_ns = 244'000 + 1'984'000;

    /// @param utc_ns nanoseconds since 1970-01-01 UTC at the clock's present instant.
    /// @param memory_bytes RAM of the machine, of which low RAM ends below 3 GiB (guest_memory.h);
    /// fills the size cells.
    RtcMc146818(const Clock& clock, InterruptLine irq8, u64 utc_ns, u64 memory_bytes);

    [[nodiscard]] u8 read_byte(u64 offset) override;
    void write_byte(u64 offset, u8 value) override;
    [[nodiscard]] std::optional<u64> next_deadline_ns() const override;
    void advance(u64 now_ns) override;

    /// Direct access to the memory, for firmware-like set-up; `index` in 0..127. No side effects.
    [[nodiscard]] u8 memory(u8 index) const { return m_memory[index & 0x7f]; }
    void set_memory(u8 index, u8 value) { m_memory[index & 0x7f] = value; }

private:
    [[nodiscard]] u8& reg(Reg r) { return m_memory[static_cast<u8>(r)]; }
    [[nodiscard]] u8 reg(Reg r) const { return m_memory[static_cast<u8>(r)]; }
    [[nodiscard]] bool stopped() const;
    [[nodiscard]] u64 rtc_ns(u64 now_ns) const { return now_ns + m_utc_offset_ns; }
    [[nodiscard]] u64 periodic_ticks() const;
    [[nodiscard]] u8 encode(unsigned value) const;
    [[nodiscard]] unsigned decode(u8 value) const;
    [[nodiscard]] u8 encode_hours(unsigned hours) const;
    [[nodiscard]] unsigned decode_hours(u8 value) const;
    [[nodiscard]] bool alarm_matches(u64 utc_seconds) const;
    [[nodiscard]] u8 read_register(u8 index);
    void write_register(u8 index, u8 value);
    void store_time(u64 now_ns);
    void load_time(u64 now_ns, u64 ns_into_second);
    void update_irq();
    void fill_memory_sizes(u64 memory_bytes);

    const Clock& m_clock;
    InterruptLine m_irq8;
    u64 m_utc_offset_ns =
        0;                 ///< UTC = virtual time + this, modulo 2^64; of no meaning while stopped
    u64 m_advanced_to = 0; ///< virtual time up to which flags were computed
    u8 m_index = 0;
    std::array<u8, 128> m_memory{};
};

} // namespace gnomon::platform
