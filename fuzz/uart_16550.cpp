// SPDX-License-Identifier: Apache-2.0
/// @file A serial port between a hostile driver and a back end that sometimes refuses: nothing that
/// either side sends may be lost, repeated or reordered beyond what the data sheet allows.
#include "platform/uart_16550.h"
#include "fuzz/support/machine.h"

#include <deque>
#include <vector>

using namespace gnomon;
using namespace gnomon::fuzz;
using platform::Uart16550;

namespace {

class BackEnd final : public platform::SerialBackEnd {
public:
    bool try_write(u8 byte) override {
        if (refuses) return false;
        written.push_back(byte);
        return true;
    }
    bool refuses = false;
    std::deque<u8> written;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    platform::ManualClock clock;
    WireTap wires;
    BackEnd back_end;
    Uart16550 uart(clock, wires.line(0), &back_end);
    std::vector<u8> sent;      ///< bytes that the guest may have sent: writes to THR
    std::size_t sent_seen = 0; ///< how many of them came out, or can no longer come
    std::size_t written_seen = 0;
    u8 lcr = 0, mcr = 0;
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        switch (what & 7) {
        case 0:
        case 1:
        case 2: {
            const Access a = take_access(input, 8);
            if (a.write)
                for (unsigned i = 0; i < a.size; ++i) {
                    const u8 byte = static_cast<u8>(a.value >> (8 * i));
                    const u64 at = a.offset + i;
                    if (at == 0 && (lcr & Uart16550::Lcr::dlab) == 0 &&
                        (mcr & Uart16550::Mcr::loop) == 0)
                        sent.push_back(byte);
                    if (at == 3) lcr = byte;
                    if (at == 4) mcr = byte;
                }
            make_access(uart, a);
            break;
        }
        case 3: {
            const auto bytes = input.bytes(what >> 3);
            const std::size_t space = uart.receive_space();
            require(space <= Uart16550::fifo_depth, "more room than the FIFO has");
            const std::size_t taken = uart.receive(bytes);
            require(taken == std::min(space, bytes.size()), "receive takes what there is room for");
            require(uart.receive_space() == space - taken, "what is received takes room");
            break;
        }
        case 4: {
            const bool room = uart.receive_space() != 0;
            require(uart.receive_break() == room, "a break is taken if there is room");
            break;
        }
        case 5:
            back_end.refuses = (what & 8) != 0;
            if (!back_end.refuses && (what & 16) != 0) {
                uart.output_ready();
                require((uart.read(5, 1) & Uart16550::Lsr::thr_empty) != 0,
                        "the transmitter stays full though the back end takes everything");
            }
            break;
        default: pass(uart, clock, take_delay(input), 8); break;
        }
        settle(uart, clock);
        // What comes out went in, in that order; a driver that overruns or clears the FIFO loses
        // some.
        for (; written_seen < back_end.written.size(); ++written_seen, ++sent_seen) {
            while (sent_seen < sent.size() && sent[sent_seen] != back_end.written[written_seen])
                ++sent_seen;
            require(sent_seen < sent.size(), "a byte comes out that was not sent, or out of order");
        }
        require(!wires.level[0] ||
                    ((mcr & Uart16550::Mcr::out2) != 0 && (mcr & Uart16550::Mcr::loop) == 0),
                "an interrupt though OUT2 does not enable it");
        if ((mcr & Uart16550::Mcr::loop) != 0)
            require(uart.receive_space() == 0, "room for the line in loop-back mode");
    }

    // However it was left, a driver that begins anew gets a port that works: what it sends comes
    // out, and what is received is read, both whole and in order.
    back_end.refuses = false;
    clock.advance(Uart16550::retry_ns);
    uart.advance(clock.now_ns());
    uart.write(3, 1, 3);    // LCR: 8 bits, no DLAB
    uart.write(4, 1, 0x0b); // MCR: DTR, RTS, OUT2
    uart.write(1, 1, 0x0f);
    uart.write(2, 1, 0x07); // FCR: on and cleared
    back_end.written.clear();
    constexpr std::array<u8, 5> message = {'g', 0, 0xff, '\n', 1};
    for (const u8 byte : message)
        uart.write(0, 1, byte);
    require(std::equal(message.begin(), message.end(), back_end.written.begin(),
                       back_end.written.end()),
            "after all that, output does not come out");
    require(uart.receive(message) == message.size(), "after all that, input is not taken");
    for (const u8 byte : message) {
        require((uart.read(5, 1) & Uart16550::Lsr::data_ready) != 0, "input is not shown");
        require(uart.read(0, 1) == byte, "input is not what was received");
    }
    return 0;
}
