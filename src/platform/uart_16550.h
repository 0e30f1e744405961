// SPDX-License-Identifier: Apache-2.0
/// @file The 16550A serial port.
///
/// National Semiconductor PC16550D data sheet (TL/C/8652). The transmitter takes no time: what the
/// back end accepts is gone at once. The receiver's time-out follows the programmed speed. As on a
/// PC, OUT2 gates the interrupt. The line is a null-modem cable to a ready peer: CTS, DSR and DCD
/// asserted, RI not.
#pragma once

#include "platform/clock.h"
#include "platform/device.h"
#include "platform/interrupt_line.h"
#include "platform/timer.h"

#include <array>
#include <span>

namespace gnomon::platform {

/// Where the bytes go that a guest sends. Called from the device, so it must not call back into it.
class SerialBackEnd {
public:
    SerialBackEnd() = default;
    SerialBackEnd(const SerialBackEnd&) = delete;
    SerialBackEnd& operator=(const SerialBackEnd&) = delete;
    virtual ~SerialBackEnd() = default;
    /// Takes the byte, or returns false if it cannot now; the device keeps it then and offers it
    /// again.
    [[nodiscard]] virtual bool try_write(u8 byte) = 0;
};

class Uart16550 final : public ByteDevice, public Timed {
public:
    enum class Reg : u8 {
        rbr_thr_dll = 0, // rw DLAB=0: Receiver Buffer (r-), Transmitter Holding (-w); DLAB=1:
                         // Divisor Latch low, reset 0Ch
        ier_dlm =
            1, // rw DLAB=0: Interrupt Enable, reset 00h; DLAB=1: Divisor Latch high, reset 00h
        iir_fcr = 2, // rw Interrupt Identification (r-), reset 01h; FIFO Control (-w), reset 00h
        lcr = 3,     // rw Line Control, reset 00h
        mcr = 4,     // rw Modem Control, reset 00h
        lsr = 5,     // r- Line Status, reset 60h
        msr = 6,     // r- Modem Status, reset X0h
        scr = 7,     // rw Scratch, reset 00h
    };
    struct Ier {
        static constexpr u8 erbfi = 1 << 0, etbei = 1 << 1, elsi = 1 << 2, edssi = 1 << 3,
                            mask = 0x0f;
    };
    struct Iir {
        static constexpr u8 none = 0x01, modem_status = 0x00, transmitter_empty = 0x02,
                            received_data = 0x04, line_status = 0x06, time_out = 0x0c,
                            fifos_enabled = 0xc0;
    };
    struct Fcr {
        static constexpr u8 enable = 1 << 0, reset_receiver = 1 << 1, reset_transmitter = 1 << 2;
    };
    struct Lcr {
        static constexpr u8 word_length = 3, stop_bits = 1 << 2, parity = 1 << 3, dlab = 1 << 7;
    };
    struct Mcr {
        static constexpr u8 dtr = 1 << 0, rts = 1 << 1, out1 = 1 << 2, out2 = 1 << 3, loop = 1 << 4,
                            mask = 0x1f;
    };
    struct Lsr {
        static constexpr u8 data_ready = 1 << 0, overrun = 1 << 1, parity_error = 1 << 2,
                            framing_error = 1 << 3, break_interrupt = 1 << 4, thr_empty = 1 << 5,
                            transmitter_empty = 1 << 6, fifo_error = 1 << 7;
    };
    struct Msr {
        static constexpr u8 delta_cts = 1 << 0, delta_dsr = 1 << 1, trailing_ri = 1 << 2,
                            delta_dcd = 1 << 3, cts = 1 << 4, dsr = 1 << 5, ri = 1 << 6,
                            dcd = 1 << 7;
    };
    static constexpr unsigned fifo_depth = 16;
    /// How often a back end that refused a byte is asked again if nobody calls `output_ready`.
    static constexpr u64 retry_ns = 1'000'000;

    /// @param back_end may be null: what the guest sends is dropped. Must outlive the device, as
    /// `clock`.
    Uart16550(const Clock& clock, InterruptLine irq, SerialBackEnd* back_end);

    [[nodiscard]] u8 read_byte(u64 offset) override;
    void write_byte(u64 offset, u8 value) override;
    [[nodiscard]] std::optional<u64> next_deadline_ns() const override;
    void advance(u64 now_ns) override;

    /// Bytes arrive from the line. Returns how many were taken, from the front; the caller keeps
    /// the rest and tries again when `receive_space` is not 0. Nothing is taken in loop-back mode.
    [[nodiscard]] std::size_t receive(std::span<const u8> bytes);
    /// How many bytes `receive` would take now.
    [[nodiscard]] std::size_t receive_space() const;
    /// A break arrives from the line; false, and nothing happens, when there is no room for it.
    bool receive_break();
    /// The back end can take bytes again.
    void output_ready();

private:
    struct Received {
        u8 byte = 0;
        u8 errors = 0; ///< LSR bits that belong to the byte
    };
    /// A queue of at most 16.
    template <class T>
    class Fifo {
    public:
        [[nodiscard]] unsigned size() const { return m_size; }
        [[nodiscard]] bool empty() const { return m_size == 0; }
        [[nodiscard]] const T& at(unsigned i) const { return m_items[(m_first + i) % fifo_depth]; }
        [[nodiscard]] const T& front() const { return at(0); }
        void push(T item) { // the caller has seen that there is room
            m_items[(m_first + m_size) % fifo_depth] = item;
            if (m_size < fifo_depth) ++m_size;
        }
        void pop() {
            if (m_size == 0) return;
            m_first = (m_first + 1) % fifo_depth;
            --m_size;
        }
        void clear() { m_size = 0; }

    private:
        std::array<T, fifo_depth> m_items{};
        unsigned m_first = 0, m_size = 0;
    };

    [[nodiscard]] bool fifos() const { return (m_fcr & Fcr::enable) != 0; }
    [[nodiscard]] unsigned depth() const { return fifos() ? fifo_depth : 1; }
    [[nodiscard]] bool loop() const { return (m_mcr & Mcr::loop) != 0; }
    [[nodiscard]] bool dlab() const { return (m_lcr & Lcr::dlab) != 0; }
    [[nodiscard]] unsigned trigger_level() const;
    [[nodiscard]] u64 character_ns() const;
    [[nodiscard]] u8 modem_lines() const;
    [[nodiscard]] u8 interrupt() const;
    [[nodiscard]] u8 line_status() const;
    [[nodiscard]] u8 read_receiver();
    void write_transmitter(u8 byte);
    void write_fifo_control(u8 value);
    void write_modem_control(u8 value);
    void take(Received received);
    void drain();
    void transmitter_became_empty();
    void note_line_errors();
    void update_irq();

    const Clock& m_clock;
    InterruptLine m_irq;
    SerialBackEnd* m_back_end;
    Fifo<Received> m_receiver;
    Fifo<u8> m_transmitter;
    u8 m_receiver_buffer = 0; ///< what RBR shows when nothing is waiting
    u8 m_ier = 0, m_fcr = 0, m_lcr = 0, m_mcr = 0, m_scr = 0;
    u8 m_sticky = 0;    ///< LSR errors not yet read
    u8 m_delta = 0;     ///< MSR deltas not yet read
    u16 m_divisor = 12; ///< 9600 baud
    bool m_thre_interrupt = false;
    bool m_timed_out = false;
    std::optional<u64> m_receive_deadline_ns;
    std::optional<u64> m_retry_ns; ///< set while the back end refuses
};

} // namespace gnomon::platform
