// SPDX-License-Identifier: Apache-2.0
#include "platform/uart_16550.h"

#include "fixtures.h"

#include <gtest/gtest.h>
#include <string>

namespace gnomon::platform {
namespace {

using Reg = Uart16550::Reg;
using Lsr = Uart16550::Lsr;

class BackEnd final : public SerialBackEnd {
public:
    bool try_write(u8 byte) override {
        if (room == 0) return false;
        --room;
        text.push_back(static_cast<char>(byte));
        return true;
    }
    std::string text;
    unsigned room = ~0U;
};

class Uart : public testing::Test {
protected:
    u8 read(Reg r) { return static_cast<u8>(uart.read(static_cast<u8>(r), 1)); }
    void write(Reg r, u8 value) { uart.write(static_cast<u8>(r), 1, value); }
    u8 iir() { return read(Reg::iir_fcr) & 0x0f; }
    std::size_t type(std::string_view text) {
        std::vector<u8> bytes(text.begin(), text.end());
        return uart.receive(bytes);
    }
    void run(u64 ns) {
        clock.advance(ns);
        uart.advance(clock.now_ns());
    }
    /// FIFOs with the given trigger, OUT2, 115200 baud, 8N1: a character takes 86.8 us.
    void open(u8 ier, u8 trigger = 0) {
        write(Reg::lcr, 0x80);
        write(Reg::rbr_thr_dll, 1);
        write(Reg::ier_dlm, 0);
        write(Reg::lcr, 0x03);
        write(Reg::iir_fcr, static_cast<u8>(0x07 | trigger << 6));
        write(Reg::mcr, 0x0b);
        write(Reg::ier_dlm, ier);
    }

    ManualClock clock;
    test::RecordingSink irq;
    BackEnd back_end;
    Uart16550 uart{clock, irq.line(4), &back_end};
};

TEST_F(Uart, ResetValues) {
    EXPECT_EQ(read(Reg::ier_dlm), 0);
    EXPECT_EQ(read(Reg::iir_fcr), 0x01);
    EXPECT_EQ(read(Reg::lcr), 0);
    EXPECT_EQ(read(Reg::mcr), 0);
    EXPECT_EQ(read(Reg::lsr), 0x60);
    EXPECT_EQ(read(Reg::msr), 0xb0);
    EXPECT_EQ(read(Reg::scr), 0);
}

/// The steps of Linux's autoconfig: IER mask, loop-back, FIFO identification, scratch.
TEST_F(Uart, IsDetectedAs16550A) {
    write(Reg::ier_dlm, 0xff);
    EXPECT_EQ(read(Reg::ier_dlm), 0x0f);
    write(Reg::ier_dlm, 0);
    write(Reg::mcr, 0x1a);
    EXPECT_EQ(read(Reg::msr) & 0xf0, 0x90);
    write(Reg::mcr, 0xff);
    EXPECT_EQ(read(Reg::mcr), 0x1f);
    write(Reg::iir_fcr, 0x01);
    EXPECT_EQ(read(Reg::iir_fcr) >> 6, 3);
    write(Reg::scr, 0xa5);
    EXPECT_EQ(read(Reg::scr), 0xa5);
    write(Reg::lcr, 0xbf);
    write(Reg::rbr_thr_dll, 0x34);
    write(Reg::ier_dlm, 0x12);
    EXPECT_EQ(uart.read(0, 2), 0x1234U) << "divisor";
    write(Reg::lcr, 0x03);
    EXPECT_EQ(read(Reg::ier_dlm), 0);
}

TEST_F(Uart, TransmitsAndReportsEmpty) {
    open(0x02);
    EXPECT_TRUE(irq.level[4]) << "enabled while empty: at once";
    EXPECT_EQ(iir(), 0x02);
    EXPECT_FALSE(irq.level[4]) << "reading IIR clears it";
    EXPECT_EQ(iir(), 0x01);
    const unsigned rises = irq.rises[4];
    write(Reg::rbr_thr_dll, 'h');
    write(Reg::rbr_thr_dll, 'i');
    EXPECT_EQ(back_end.text, "hi");
    EXPECT_EQ(irq.rises[4], rises + 2) << "every byte makes an edge";
    EXPECT_EQ(read(Reg::lsr), 0x60);
    write(Reg::ier_dlm, 0);
    EXPECT_FALSE(irq.level[4]);
    write(Reg::ier_dlm, 0x02);
    EXPECT_TRUE(irq.level[4]) << "and again when enabled again";
}

TEST_F(Uart, BackPressureKeepsBytes) {
    open(0x02);
    EXPECT_EQ(iir(), 0x02);
    back_end.room = 1;
    for (const char c : std::string("abcdefghijklmnopqrstuvwxyz"))
        write(Reg::rbr_thr_dll, static_cast<u8>(c));
    EXPECT_EQ(back_end.text, "a");
    EXPECT_EQ(read(Reg::lsr) & 0x60, 0);
    back_end.room = 3;
    EXPECT_TRUE(uart.next_deadline_ns());
    run(Uart16550::retry_ns);
    EXPECT_EQ(back_end.text, "abcd") << "asked again by the timer";
    back_end.room = 100;
    uart.output_ready();
    EXPECT_EQ(back_end.text, "abcdefghijklmnopq")
        << "one and sixteen; what did not fit is lost, as in silicon";
    EXPECT_EQ(read(Reg::lsr) & 0x60, 0x60);
    EXPECT_EQ(iir(), 0x02);
    EXPECT_FALSE(uart.next_deadline_ns());
}

TEST_F(Uart, ReceivesWithoutFifo) {
    write(Reg::mcr, 0x08);
    write(Reg::ier_dlm, 0x01);
    EXPECT_EQ(uart.receive_space(), 1U);
    EXPECT_EQ(type("xy"), 1U);
    EXPECT_EQ(type("y"), 0U);
    EXPECT_EQ(iir(), 0x04);
    EXPECT_EQ(read(Reg::lsr) & Lsr::data_ready, Lsr::data_ready);
    EXPECT_EQ(read(Reg::rbr_thr_dll), 'x');
    EXPECT_EQ(iir(), 0x01);
    EXPECT_EQ(read(Reg::rbr_thr_dll), 'x') << "the buffer keeps the last byte";
    EXPECT_FALSE(uart.next_deadline_ns());
}

TEST_F(Uart, TriggerLevels) {
    for (const auto& [trigger, level] : {std::pair<u8, unsigned>{0, 1}, {1, 4}, {2, 8}, {3, 14}}) {
        open(0x01, trigger);
        for (unsigned i = 1; i <= 16; ++i) {
            EXPECT_EQ(type("z"), 1U);
            EXPECT_EQ(irq.level[4], i >= level) << level;
        }
        EXPECT_EQ(uart.receive_space(), 0U);
        EXPECT_EQ(type("z"), 0U) << "no overrun from the line";
        for (unsigned i = 16; i > 0; --i) {
            EXPECT_EQ(iir() == 0x04, i >= level);
            EXPECT_EQ(read(Reg::rbr_thr_dll), 'z');
        }
        EXPECT_EQ(read(Reg::lsr), 0x60);
    }
}

TEST_F(Uart, TimeOutAfterFourCharacters) {
    open(0x01, 3);
    EXPECT_EQ(type("abc"), 3U);
    EXPECT_FALSE(irq.level[4]);
    const u64 deadline = *uart.next_deadline_ns();
    EXPECT_NEAR(static_cast<double>(deadline), 4 * 86'806.0, 10);
    run(deadline - 1);
    EXPECT_FALSE(irq.level[4]);
    run(1);
    EXPECT_TRUE(irq.level[4]);
    EXPECT_EQ(read(Reg::iir_fcr), 0xcc);
    EXPECT_EQ(read(Reg::rbr_thr_dll), 'a');
    EXPECT_FALSE(irq.level[4]) << "reading resets it";
    run(*uart.next_deadline_ns() - clock.now_ns());
    EXPECT_EQ(iir(), 0x0c);
    EXPECT_EQ(read(Reg::rbr_thr_dll), 'b');
    EXPECT_EQ(read(Reg::rbr_thr_dll), 'c');
    EXPECT_FALSE(uart.next_deadline_ns());
}

TEST_F(Uart, PriorityOfInterrupts) {
    open(0x0f);
    EXPECT_TRUE(uart.receive_break());
    write(Reg::mcr, 0x10); // loop with nothing asserted: the modem lines change
    write(Reg::mcr, 0x0b);
    EXPECT_EQ(iir(), 0x06);
    EXPECT_EQ(read(Reg::lsr), 0x60 | Lsr::data_ready | Lsr::break_interrupt | Lsr::fifo_error);
    EXPECT_EQ(iir(), 0x04);
    EXPECT_EQ(read(Reg::rbr_thr_dll), 0);
    EXPECT_EQ(iir(), 0x02);
    EXPECT_EQ(iir(), 0x00) << "modem status last";
    EXPECT_NE(read(Reg::msr) & 0x0f, 0);
    EXPECT_EQ(iir(), 0x01);
    EXPECT_EQ(read(Reg::msr) & 0x0f, 0);
}

TEST_F(Uart, LoopBack) {
    open(0x00);
    write(Reg::mcr, 0x10);
    static_cast<void>(read(Reg::msr));
    EXPECT_EQ(type("x"), 0U) << "the line is disconnected";
    EXPECT_FALSE(uart.receive_break());
    write(Reg::rbr_thr_dll, 0x5a);
    EXPECT_EQ(read(Reg::rbr_thr_dll), 0x5a);
    EXPECT_EQ(back_end.text, "");
    for (unsigned i = 0; i < 17; ++i)
        write(Reg::rbr_thr_dll, static_cast<u8>(i));
    EXPECT_EQ(read(Reg::lsr) & Lsr::overrun, Lsr::overrun);
    EXPECT_EQ(read(Reg::lsr) & Lsr::overrun, 0) << "cleared by reading";
    EXPECT_EQ(read(Reg::rbr_thr_dll), 0);
    write(Reg::mcr, 0x1f);
    EXPECT_EQ(read(Reg::msr), 0xf0 | 0x0b) << "RI rising is no delta";
    write(Reg::mcr, 0x10);
    EXPECT_EQ(read(Reg::msr), 0x0f) << "RI falling is";
    write(Reg::lcr, 0x00);
    write(Reg::iir_fcr, 0x07);
    write(Reg::rbr_thr_dll, 0xff);
    EXPECT_EQ(read(Reg::rbr_thr_dll), 0x1f) << "five bits";
}

TEST_F(Uart, Out2GatesTheInterrupt) {
    open(0x02);
    EXPECT_TRUE(irq.level[4]);
    write(Reg::mcr, 0x03);
    EXPECT_FALSE(irq.level[4]);
    write(Reg::mcr, 0x0b);
    EXPECT_TRUE(irq.level[4]);
    write(Reg::mcr, 0x1b);
    EXPECT_FALSE(irq.level[4]);
}

TEST_F(Uart, FifoControlClears) {
    open(0x00);
    EXPECT_EQ(type("abc"), 3U);
    write(Reg::iir_fcr, 0x03);
    EXPECT_EQ(read(Reg::lsr) & Lsr::data_ready, 0);
    EXPECT_EQ(type("abc"), 3U);
    write(Reg::iir_fcr, 0x00);
    EXPECT_EQ(read(Reg::lsr) & Lsr::data_ready, 0) << "turning FIFOs off clears them";
    EXPECT_EQ(read(Reg::iir_fcr), 0x01);
    open(0x00);
    back_end.room = 0;
    write(Reg::rbr_thr_dll, 'x');
    write(Reg::iir_fcr, 0x05);
    EXPECT_EQ(read(Reg::lsr), 0x60);
    back_end.room = 1;
    uart.output_ready();
    EXPECT_EQ(back_end.text, "");
}

TEST_F(Uart, NoBackEndDropsOutput) {
    Uart16550 silent(clock, irq.line(5), nullptr);
    silent.write(0, 1, 'x');
    EXPECT_EQ(silent.read(5, 1), 0x60U);
}

TEST_F(Uart, Hostile) {
    test::abuse(uart, 8, 3000, [&](std::mt19937_64& random) {
        back_end.room = static_cast<unsigned>(random() % 3);
        static_cast<void>(type("some text that is longer than a FIFO"));
        if (random() % 16 == 0) uart.receive_break();
        run(random() % 10'000'000);
        if (const auto deadline = uart.next_deadline_ns()) {
            clock.advance_to(*deadline);
            uart.advance(clock.now_ns());
            const auto next = uart.next_deadline_ns();
            ASSERT_TRUE(!next || *next > clock.now_ns());
        }
        ASSERT_LE(uart.receive_space(), 16U);
    });
}

} // namespace
} // namespace gnomon::platform
