// SPDX-License-Identifier: Apache-2.0
#include "platform/uart_16550.h"

#include "platform/layout.h"

namespace gnomon::platform {

Uart16550::Uart16550(const Clock& clock, InterruptLine irq, SerialBackEnd* back_end)
    : m_clock(clock), m_irq(std::move(irq)), m_back_end(back_end) {}

unsigned Uart16550::trigger_level() const {
    constexpr std::array<unsigned, 4> levels = {1, 4, 8, 14};
    return fifos() ? levels[m_fcr >> 6] : 1;
}

/// The time of one character on the line: start bit, 5 to 8 data bits, parity, 1 or 2 stop bits.
u64 Uart16550::character_ns() const {
    const u64 bits = 1 + 5 + (m_lcr & Lcr::word_length) + ((m_lcr & Lcr::parity) != 0 ? 1 : 0) +
                     ((m_lcr & Lcr::stop_bits) != 0 ? 2 : 1);
    const u64 divisor = m_divisor != 0 ? m_divisor : 1;
    return TickRate(layout::uart_clock_hz).ns(bits * divisor * 16);
}

/// The modem lines as MSR 7:4 shows them.
u8 Uart16550::modem_lines() const {
    if (!loop()) return Msr::cts | Msr::dsr | Msr::dcd;
    u8 lines = 0;
    if ((m_mcr & Mcr::rts) != 0) lines |= Msr::cts;
    if ((m_mcr & Mcr::dtr) != 0) lines |= Msr::dsr;
    if ((m_mcr & Mcr::out1) != 0) lines |= Msr::ri;
    if ((m_mcr & Mcr::out2) != 0) lines |= Msr::dcd;
    return lines;
}

/// The interrupt that IIR shows, by priority (data sheet table IV).
u8 Uart16550::interrupt() const {
    if ((m_ier & Ier::elsi) != 0 && m_sticky != 0) return Iir::line_status;
    if ((m_ier & Ier::erbfi) != 0) {
        if (m_receiver.size() >= trigger_level()) return Iir::received_data;
        if (m_timed_out) return Iir::time_out;
    }
    if ((m_ier & Ier::etbei) != 0 && m_thre_interrupt) return Iir::transmitter_empty;
    if ((m_ier & Ier::edssi) != 0 && m_delta != 0) return Iir::modem_status;
    return Iir::none;
}

void Uart16550::update_irq() {
    // In loop-back mode the OUT2 pin is inactive, and with it the buffer that drives the PC's
    // interrupt line.
    m_irq.set(interrupt() != Iir::none && (m_mcr & Mcr::out2) != 0 && !loop());
}

u8 Uart16550::line_status() const {
    u8 value = m_sticky;
    if (!m_receiver.empty()) value |= Lsr::data_ready;
    if (m_transmitter.empty()) value |= Lsr::thr_empty | Lsr::transmitter_empty;
    if (fifos())
        for (unsigned i = 0; i < m_receiver.size(); ++i)
            if (m_receiver.at(i).errors != 0) value |= Lsr::fifo_error;
    return value;
}

/// Parity, framing and break belong to the byte at the top of the FIFO and show when it gets there.
void Uart16550::note_line_errors() {
    if (!m_receiver.empty()) m_sticky |= m_receiver.front().errors;
}

void Uart16550::take(Received received) {
    if (m_receiver.size() >= depth()) {
        m_sticky |= Lsr::overrun;
        if (fifos()) return; // the FIFO keeps what it has, the byte in the shift register is lost
        m_receiver.clear();  // without FIFO the new byte replaces the old
    }
    m_receiver.push(received);
    m_timed_out = false;
    if (fifos()) m_receive_deadline_ns = m_clock.now_ns() + 4 * character_ns();
    if (m_receiver.size() == 1) note_line_errors();
}

std::size_t Uart16550::receive_space() const {
    return loop() || m_receiver.size() >= depth() ? 0 : depth() - m_receiver.size();
}

std::size_t Uart16550::receive(std::span<const u8> bytes) {
    const std::size_t count = std::min(bytes.size(), receive_space());
    for (std::size_t i = 0; i < count; ++i)
        take({bytes[i], 0});
    update_irq();
    return count;
}

bool Uart16550::receive_break() {
    if (receive_space() == 0) return false;
    take({0, Lsr::break_interrupt});
    update_irq();
    return true;
}

u8 Uart16550::read_receiver() {
    if (!m_receiver.empty()) {
        m_receiver_buffer = m_receiver.front().byte;
        m_receiver.pop();
        note_line_errors();
    }
    m_timed_out = false;
    m_receive_deadline_ns = m_receiver.empty() || !fifos()
                                ? std::nullopt
                                : std::optional<u64>(m_clock.now_ns() + 4 * character_ns());
    return m_receiver_buffer;
}

void Uart16550::transmitter_became_empty() {
    m_thre_interrupt = true;
    m_retry_ns.reset();
}

/// Sends what the back end takes.
void Uart16550::drain() {
    if (m_transmitter.empty()) return;
    while (!m_transmitter.empty()) {
        if (m_back_end != nullptr && !m_back_end->try_write(m_transmitter.front())) {
            m_retry_ns = m_clock.now_ns() + retry_ns;
            return;
        }
        m_transmitter.pop();
    }
    transmitter_became_empty();
}

void Uart16550::output_ready() {
    drain();
    update_irq();
}

void Uart16550::write_transmitter(u8 byte) {
    m_thre_interrupt = false;
    update_irq(); // falls here and rises again below, so that an edge-triggered input sees each one
    if (loop()) {
        const u8 mask = static_cast<u8>(0xff >> (3 - (m_lcr & Lcr::word_length)));
        take({static_cast<u8>(byte & mask), 0});
        if (m_transmitter.empty()) m_thre_interrupt = true;
        return;
    }
    if (m_transmitter.size() >= depth()) {
        if (fifos()) return; // overrun of the transmitter: the new byte is lost
        m_transmitter.clear();
    }
    m_transmitter.push(byte);
    drain();
}

void Uart16550::write_fifo_control(u8 value) {
    const bool enable = (value & Fcr::enable) != 0, changed = enable != fifos();
    // Other bits are programmed only together with FCR0; changing FCR0 clears both FIFOs.
    const bool reset_receiver = changed || (enable && (value & Fcr::reset_receiver) != 0);
    const bool reset_transmitter = changed || (enable && (value & Fcr::reset_transmitter) != 0);
    m_fcr = enable ? value & 0xc9 : 0;
    if (reset_receiver) {
        m_receiver.clear();
        m_timed_out = false;
        m_receive_deadline_ns.reset();
    }
    if (reset_transmitter && !m_transmitter.empty()) {
        m_transmitter.clear();
        transmitter_became_empty();
    }
}

void Uart16550::write_modem_control(u8 value) {
    const u8 before = modem_lines();
    m_mcr = value & Mcr::mask;
    const u8 after = modem_lines();
    const u8 changed = before ^ after;
    m_delta |= static_cast<u8>((changed & (Msr::cts | Msr::dsr | Msr::dcd)) >> 4);
    if ((before & Msr::ri) != 0 && (after & Msr::ri) == 0) m_delta |= Msr::trailing_ri;
}

u8 Uart16550::read_byte(u64 offset) {
    advance(m_clock.now_ns());
    u8 value = 0;
    switch (static_cast<Reg>(offset & 7)) {
    case Reg::rbr_thr_dll: value = dlab() ? static_cast<u8>(m_divisor) : read_receiver(); break;
    case Reg::ier_dlm: value = dlab() ? static_cast<u8>(m_divisor >> 8) : m_ier; break;
    case Reg::iir_fcr: {
        const u8 source = interrupt();
        if (source == Iir::transmitter_empty) m_thre_interrupt = false;
        value = static_cast<u8>(source | (fifos() ? Iir::fifos_enabled : 0));
        break;
    }
    case Reg::lcr: value = m_lcr; break;
    case Reg::mcr: value = m_mcr; break;
    case Reg::lsr:
        value = line_status();
        m_sticky = 0;
        break;
    case Reg::msr:
        value = static_cast<u8>(modem_lines() | m_delta);
        m_delta = 0;
        break;
    case Reg::scr: value = m_scr; break;
    }
    update_irq();
    return value;
}

void Uart16550::write_byte(u64 offset, u8 value) {
    advance(m_clock.now_ns());
    switch (static_cast<Reg>(offset & 7)) {
    case Reg::rbr_thr_dll:
        if (dlab())
            m_divisor = static_cast<u16>((m_divisor & 0xff00) | value);
        else
            write_transmitter(value);
        break;
    case Reg::ier_dlm:
        if (dlab()) {
            m_divisor = static_cast<u16>((m_divisor & 0x00ff) | value << 8);
            break;
        }
        // Enabling the interrupt while the transmitter is empty raises it at once.
        if ((value & ~m_ier & Ier::etbei) != 0 && m_transmitter.empty()) m_thre_interrupt = true;
        m_ier = value & Ier::mask;
        break;
    case Reg::iir_fcr: write_fifo_control(value); break;
    case Reg::lcr: m_lcr = value; break;
    case Reg::mcr: write_modem_control(value); break;
    case Reg::lsr: // written only in factory tests
    case Reg::msr: break;
    case Reg::scr: m_scr = value; break;
    }
    update_irq();
}

std::optional<u64> Uart16550::next_deadline_ns() const {
    const bool waits = (m_ier & Ier::erbfi) != 0 && !m_timed_out && m_receive_deadline_ns;
    if (!waits) return m_retry_ns;
    return earlier(m_retry_ns, m_receive_deadline_ns);
}

void Uart16550::advance(u64 now_ns) {
    if (m_receive_deadline_ns && *m_receive_deadline_ns <= now_ns) {
        m_receive_deadline_ns.reset();
        m_timed_out = fifos() && !m_receiver.empty();
    }
    if (m_retry_ns && *m_retry_ns <= now_ns) {
        m_retry_ns.reset();
        drain();
    }
    update_irq();
}

} // namespace gnomon::platform
