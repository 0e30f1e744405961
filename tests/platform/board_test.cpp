// SPDX-License-Identifier: Apache-2.0
/// @file The board as a guest sees it: addresses, wiring, and the order of interrupts.
#include "platform/board.h"

#include "platform/layout.h"

#include <gmock/gmock.h>
#include <random>

namespace gnomon::platform {
namespace {

class Sink final : public SerialBackEnd {
public:
    bool try_write(u8 byte) override {
        text.push_back(static_cast<char>(byte));
        return true;
    }
    std::string text;
};

class BoardTest : public testing::Test {
protected:
    static constexpr u64 io_apic_at = layout::io_apic_base;

    BoardTest() {
        BoardOptions options;
        options.memory_bytes = u64{1} << 30;
        options.serial[0] = &sink;
        Result<std::unique_ptr<Board>> created = Board::create(options, clock);
        EXPECT_TRUE(created);
        board = std::move(*created);
    }
    void out(u16 port, u8 value) { board->port_bus().write(port, 1, value); }
    u8 in(u16 port) { return static_cast<u8>(board->port_bus().read(port, 1)); }
    void apic(u64 offset, u32 value) {
        board->mmio_write(0, Gpa(layout::local_apic_base + offset), 4, value);
    }
    u32 apic(u64 offset) {
        return static_cast<u32>(board->mmio_read(0, Gpa(layout::local_apic_base + offset), 4));
    }
    void route(unsigned pin, u64 entry) {
        for (const u32 half : {1U, 0U}) {
            board->mmio_write(0, Gpa(io_apic_at), 4, 0x10 + 2 * pin + half);
            board->mmio_write(0, Gpa(io_apic_at + 0x10), 4, (entry >> (32 * half)) & 0xffffffff);
        }
    }
    void initialize_pic(u8 master_mask, u8 slave_mask) {
        for (const auto& [port, vector, cascade, mask] :
             {std::tuple<u16, u8, u8, u8>{0x20, 0x30, 4, master_mask},
              {0xa0, 0x38, 2, slave_mask}}) {
            out(port, 0x11);
            out(static_cast<u16>(port + 1), vector);
            out(static_cast<u16>(port + 1), cascade);
            out(static_cast<u16>(port + 1), 1);
            out(static_cast<u16>(port + 1), mask);
        }
    }
    void start_pit(u16 count) {
        out(0x43, 0x34);
        out(0x40, static_cast<u8>(count));
        out(0x40, static_cast<u8>(count >> 8));
    }
    void run_to_deadline() {
        ASSERT_TRUE(board->next_deadline_ns());
        clock.advance_to(*board->next_deadline_ns());
        board->run_timers();
    }

    ManualClock clock;
    Sink sink;
    std::unique_ptr<Board> board;
};

TEST_F(BoardTest, EverythingIsInItsPlace) {
    for (const auto& [port, name] :
         std::initializer_list<std::pair<u16, const char*>>{{0x20, "pic-master"},
                                                            {0xa1, "pic-slave"},
                                                            {0x4d1, "pic-elcr"},
                                                            {0x43, "pit"},
                                                            {0x61, "system-control-b"},
                                                            {0x60, "i8042-data"},
                                                            {0x64, "i8042-command"},
                                                            {0x71, "rtc"},
                                                            {0x600, "acpi-pm"},
                                                            {0x60b, "acpi-pm"},
                                                            {0xcf8, "pci-config"},
                                                            {0xcff, "pci-config"},
                                                            {0x3f8, "serial0"},
                                                            {0x2ff, "serial1"},
                                                            {0x3e8, "serial2"},
                                                            {0x2e8, "serial3"},
                                                            {0x80, ""}})
        EXPECT_EQ(board->port_bus().name_at(port), name) << port;
    EXPECT_EQ(apic(0x30), 0x50014U);
    EXPECT_EQ(board->mmio_read(0, Gpa(layout::local_apic_base - 4), 4), 0xffffffffU);
    EXPECT_EQ(board->mmio_read(0, Gpa(0xfee00ffe), 4) & 0xffff0000, 0xffff0000U)
        << "straddles the page's end";
    board->mmio_write(0, Gpa(io_apic_at), 4, 1);
    EXPECT_EQ(board->mmio_read(0, Gpa(io_apic_at + 0x10), 4), 0x170020U);
    board->port_bus().write(0xcf8, 4, 0x80000000);
    EXPECT_EQ(board->port_bus().read(0xcfc, 4), 0x12378086U);
}

TEST_F(BoardTest, OptionsAreChecked) {
    for (const unsigned cpus : {0U, 256U}) {
        BoardOptions options;
        options.cpu_count = cpus;
        const auto created = Board::create(options, clock);
        ASSERT_FALSE(created);
        EXPECT_TRUE(created.error().usage);
    }
}

TEST_F(BoardTest, PicReachesTheProcessorAsFirmwareLeavesIt) {
    initialize_pic(0xfe, 0xff);
    start_pit(11932);
    while (board->acknowledge_interrupt(0))
        out(0x20, 0x20); // the edge of programming the mode
    run_to_deadline();
    ASSERT_TRUE(board->interrupt_pending(0));
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x30);
    EXPECT_FALSE(board->interrupt_pending(0));
    EXPECT_EQ(board->acknowledge_interrupt(0), std::nullopt);
    out(0x20, 0x20);
    run_to_deadline();
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x30);
}

TEST_F(BoardTest, Lint0DecidesOnceTheApicIsEnabled) {
    initialize_pic(0xfe, 0xff);
    apic(0xf0, 0x1ff);
    start_pit(11932);
    run_to_deadline();
    EXPECT_FALSE(board->interrupt_pending(0)) << "LINT0 is masked";
    apic(0x350, 0x700);
    EXPECT_TRUE(board->interrupt_pending(0)) << "virtual wire";
    apic(0x350, 0x10700);
    route(0, 7 << 8);
    EXPECT_TRUE(board->interrupt_pending(0)) << "by the I/O APIC in ExtINT mode";
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x30);
}

TEST_F(BoardTest, PicThroughLint0InFixedMode) {
    initialize_pic(0xfe, 0xff);
    while (board->acknowledge_interrupt(0))
        out(0x20, 0x20);
    apic(0xf0, 0x1ff);
    apic(0x350, 0x31);
    start_pit(11932);
    run_to_deadline();
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x31);
}

TEST_F(BoardTest, TheLocalApicGoesBeforeThePic) {
    initialize_pic(0xfe, 0xff);
    apic(0xf0, 0x1ff);
    apic(0x350, 0x700);
    start_pit(11932);
    run_to_deadline();
    apic(0x300, 0x40055); // to self
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x55);
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x30);
}

TEST_F(BoardTest, PitComesAtPin2) {
    apic(0xf0, 0x1ff);
    route(2, 0x30);
    start_pit(11932);
    for (int tick = 0; tick < 5; ++tick) {
        run_to_deadline();
        EXPECT_EQ(board->acknowledge_interrupt(0), 0x30);
        apic(0xb0, 0);
    }
}

TEST_F(BoardTest, SerialLinesAreSeparate) {
    apic(0xf0, 0x1ff);
    for (unsigned n = 0; n < layout::serial_count; ++n) {
        const u16 base = layout::serial_port[n];
        route(layout::serial_irq[n], 0x40 + n);
        out(static_cast<u16>(base + 4), 0x0b);
        out(static_cast<u16>(base + 1), 0x01);
        const u8 byte = 'x';
        EXPECT_EQ(board->serial(n).receive({&byte, 1}), 1U);
        EXPECT_EQ(board->acknowledge_interrupt(0), 0x40 + n);
        EXPECT_EQ(in(base), 'x');
        apic(0xb0, 0);
    }
    out(0x3f8, '!');
    out(0x2f8, '?');
    EXPECT_EQ(sink.text, "!");
}

TEST_F(BoardTest, SciIsLevelTriggered) {
    apic(0xf0, 0x1ff);
    route(9, IoApic::Entry::level | 0x39);
    board->port_bus().write(0x602, 2, AcpiPm::Pm1::power_button);
    board->press_power_button();
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x39);
    apic(0xb0, 0);
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x39) << "until the status is cleared";
    board->port_bus().write(0x600, 2, AcpiPm::Pm1::power_button);
    apic(0xb0, 0);
    EXPECT_FALSE(board->interrupt_pending(0));
}

TEST_F(BoardTest, RtcIsIrq8) {
    apic(0xf0, 0x1ff);
    route(8, 0x38);
    out(0x70, 0x0b);
    out(0x71, 0x42);
    run_to_deadline();
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x38);
}

TEST_F(BoardTest, PciLinesAreJoined) {
    apic(0xf0, 0x1ff);
    route(16, IoApic::Entry::level | 0x50);
    InterruptLine a = board->pci_interrupt_line(16), b = board->pci_interrupt_line(16);
    a.set(true);
    b.set(true);
    a.set(false);
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x50);
    apic(0xb0, 0);
    EXPECT_EQ(board->acknowledge_interrupt(0), 0x50) << "b still asks";
    b.set(false);
    apic(0xb0, 0);
    EXPECT_FALSE(board->interrupt_pending(0));
}

TEST_F(BoardTest, PowerRequests) {
    EXPECT_FALSE(board->power_request());
    board->port_bus().write(0x604, 2, u64{layout::acpi_s5_sleep_type} << 10 | 1 << 13);
    EXPECT_EQ(board->power_request(), PowerRequest::power_off);
    out(layout::reset_control_port, layout::acpi_reset_value);
    EXPECT_EQ(board->power_request(), PowerRequest::power_off) << "the first one stands";
}

TEST_F(BoardTest, ResetRequests) {
    out(layout::reset_control_port, layout::acpi_reset_value);
    EXPECT_EQ(board->power_request(), PowerRequest::reset);
}

TEST_F(BoardTest, ApicPageFollowsTheBaseAndWinsOverTheBus) {
    apic(0x80, 0x20);
    ASSERT_TRUE(board->local_apic(0).write_msr(0x1b, io_apic_at | 0x900));
    EXPECT_EQ(board->mmio_read(0, Gpa(io_apic_at + 0x80), 4), 0x20U) << "in front of the I/O APIC";
    EXPECT_EQ(apic(0x80), 0xffffffffU);
    EXPECT_EQ(board->cr8(0), 2);
    board->set_cr8(0, 15);
    EXPECT_EQ(board->mmio_read(0, Gpa(io_apic_at + 0x80), 4), 0xf0U);
}

TEST_F(BoardTest, EachProcessorSeesItsOwnApic) {
    BoardOptions options;
    options.cpu_count = 3;
    auto smp = std::move(*Board::create(options, clock));
    ASSERT_EQ(smp->cpu_count(), 3U);
    for (unsigned cpu = 0; cpu < 3; ++cpu)
        EXPECT_EQ(smp->mmio_read(cpu, Gpa(0xfee00020), 4), cpu << 24);
    smp->mmio_write(0, Gpa(0xfee00310), 4, 2U << 24);
    smp->mmio_write(0, Gpa(0xfee00300), 4, 0x4400); // NMI
    EXPECT_FALSE(smp->nmi_pending(1));
    EXPECT_TRUE(smp->nmi_pending(2));
    EXPECT_TRUE(smp->take_nmi(2));
}

TEST_F(BoardTest, Hostile) {
    std::mt19937_64 random(7);
    for (unsigned i = 0; i < 300'000; ++i) {
        const unsigned size = 1U << random() % 3;
        constexpr std::array<u16, 12> bases = {0x20,  0x40,  0x60,  0x70,  0xa0,  0x2e8,
                                               0x2f8, 0x3e8, 0x3f8, 0x4d0, 0x600, 0xcf8};
        const auto port = static_cast<u16>(
            random() % 8 == 0 ? random() : bases[random() % bases.size()] + random() % 8);
        if (random() % 2 == 0)
            board->port_bus().write(port, size, random());
        else
            static_cast<void>(board->port_bus().read(port, size));
        const Gpa gpa((random() % 2 == 0 ? layout::local_apic_base : io_apic_at) +
                      random() % 0x420 - 0x10);
        const unsigned wide = 1 + static_cast<unsigned>(random() % 8);
        if (random() % 2 == 0)
            board->mmio_write(0, gpa, wide, random());
        else
            static_cast<void>(board->mmio_read(0, gpa, wide));
        if (random() % 8 == 0) clock.advance(random() % 10'000'000);
        board->run_timers();
        static_cast<void>(board->next_deadline_ns());
        const bool pending = board->interrupt_pending(0);
        ASSERT_EQ(board->acknowledge_interrupt(0).has_value(), pending);
        if (random() % 2 == 0) apic(0xb0, 0);
        board->take_nmi(0);
        board->local_apic(0).take_init();
    }
}

/// Whatever a guest programs, serving deadlines moves time on at a bounded rate.
TEST_F(BoardTest, DeadlinesAreBounded) {
    start_pit(2);
    apic(0xf0, 0x1ff);
    apic(0x320, 0x20040);
    apic(0x3e0, 0xb);
    apic(0x380, 1);
    out(0x70, 0x0b);
    out(0x71, 0x72);
    unsigned wakes = 0;
    while (clock.now_ns() < 10'000'000) {
        run_to_deadline();
        ++wakes;
    }
    EXPECT_LE(wakes, 3 * 10'000'000 / minimum_period_ns);
}

} // namespace
} // namespace gnomon::platform
