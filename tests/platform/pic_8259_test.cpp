// SPDX-License-Identifier: Apache-2.0
#include "platform/pic_8259.h"

#include "fixtures.h"

#include <gtest/gtest.h>

namespace gnomon::platform {
namespace {

class Pic : public testing::Test {
protected:
    /// As Linux does: vectors 0x30 and 0x38, everything unmasked.
    void initialize(u8 icw4 = 0x01) {
        for (BusDevice* chip : {&pic.master_ports(), &pic.slave_ports()}) {
            const bool master = chip == &pic.master_ports();
            chip->write(0, 1, 0x11);
            chip->write(1, 1, master ? 0x30 : 0x38);
            chip->write(1, 1, master ? 0x04 : 0x02);
            chip->write(1, 1, icw4);
            chip->write(1, 1, 0x00);
        }
    }
    void edge(unsigned irq) {
        pic.set_input(irq, true);
        pic.set_input(irq, false);
    }
    u8 master(u64 offset) { return static_cast<u8>(pic.master_ports().read(offset, 1)); }
    void master_command(u8 value) { pic.master_ports().write(0, 1, value); }
    void slave_command(u8 value) { pic.slave_ports().write(0, 1, value); }

    test::RecordingSink intr;
    Pic8259Pair pic{intr.line(0)};
};

TEST_F(Pic, MaskRegisterReadsBack) {
    EXPECT_EQ(master(1), 0xffU) << "masked before initialization";
    initialize();
    pic.master_ports().write(1, 1, 0xa5);
    EXPECT_EQ(master(1), 0xa5U);
}

TEST_F(Pic, DeliversByPriorityAndNests) {
    initialize();
    edge(4);
    edge(1);
    ASSERT_TRUE(pic.pending());
    EXPECT_TRUE(intr.level[0]);
    EXPECT_EQ(pic.acknowledge(), 0x31);
    EXPECT_FALSE(pic.pending()) << "IRQ 4 is below the one in service";
    edge(0);
    EXPECT_EQ(pic.acknowledge(), 0x30) << "IRQ 0 is above it";
    master_command(0x20);
    master_command(0x20);
    EXPECT_EQ(pic.acknowledge(), 0x34);
    master_command(0x64); // specific EOI
    EXPECT_FALSE(pic.pending());
    EXPECT_EQ(pic.acknowledge(), 0x37) << "spurious";
    master_command(0x0b);
    EXPECT_EQ(master(0), 0U) << "spurious sets no ISR bit";
}

TEST_F(Pic, SlaveComesThroughTheCascade) {
    initialize();
    edge(8);
    edge(14);
    EXPECT_EQ(pic.acknowledge(), 0x38);
    EXPECT_FALSE(pic.pending());
    slave_command(0x20);
    EXPECT_FALSE(pic.pending()) << "the master's IR2 is still in service";
    master_command(0x20);
    EXPECT_EQ(pic.acknowledge(), 0x3e);
}

TEST_F(Pic, SpecialFullyNestedModeLetsTheSlaveNest) {
    initialize(0x11);
    edge(14);
    EXPECT_EQ(pic.acknowledge(), 0x3e);
    edge(8);
    ASSERT_TRUE(pic.pending());
    EXPECT_EQ(pic.acknowledge(), 0x38);
}

TEST_F(Pic, MaskedRequestsWait) {
    initialize();
    pic.master_ports().write(1, 1, 0x10);
    edge(4);
    EXPECT_FALSE(pic.pending());
    master_command(0x0a);
    EXPECT_EQ(master(0), 0x10U) << "IRR";
    pic.master_ports().write(1, 1, 0);
    EXPECT_TRUE(pic.pending());
}

TEST_F(Pic, EdgeAndLevel) {
    initialize();
    pic.set_input(5, true);
    EXPECT_EQ(pic.acknowledge(), 0x35);
    master_command(0x20);
    EXPECT_FALSE(pic.pending()) << "a level is not an edge";
    pic.elcr_ports().write(0, 2, 0xffff);
    EXPECT_EQ(pic.elcr_ports().read(0, 2), 0xdef8U) << "IRQ 0, 1, 2, 8 and 13 stay edge-triggered";
    EXPECT_EQ(pic.acknowledge(), 0x35);
    master_command(0x20);
    EXPECT_TRUE(pic.pending()) << "still asserted";
    pic.set_input(5, false);
    EXPECT_FALSE(pic.pending());
}

TEST_F(Pic, AutomaticEoiAndRotation) {
    initialize(0x03);
    master_command(0x80); // rotate in automatic EOI mode
    edge(3);
    EXPECT_EQ(pic.acknowledge(), 0x33);
    edge(3);
    edge(5);
    EXPECT_EQ(pic.acknowledge(), 0x35) << "IRQ 3 now has the lowest priority";
    EXPECT_EQ(pic.acknowledge(), 0x33);
}

TEST_F(Pic, SetPriorityAndRotateOnEoi) {
    initialize();
    master_command(0xc4); // IRQ 4 lowest
    edge(4);
    edge(5);
    EXPECT_EQ(pic.acknowledge(), 0x35);
    master_command(0xa0); // rotate on non-specific EOI: IRQ 5 lowest
    edge(5);
    EXPECT_EQ(pic.acknowledge(), 0x34);
}

TEST_F(Pic, SpecialMaskMode) {
    initialize();
    edge(1);
    EXPECT_EQ(pic.acknowledge(), 0x31);
    edge(6);
    EXPECT_FALSE(pic.pending());
    pic.master_ports().write(1, 1, 0x02);
    master_command(0x68);
    EXPECT_EQ(pic.acknowledge(), 0x36) << "the masked level in service does not block";
    master_command(0x48);
}

TEST_F(Pic, Poll) {
    initialize();
    master_command(0x0c);
    EXPECT_EQ(master(0), 0U);
    edge(6);
    master_command(0x0c);
    EXPECT_EQ(master(0), 0x86U);
    master_command(0x0b);
    EXPECT_EQ(master(0), 0x40U) << "polling acknowledges";
}

TEST_F(Pic, Icw1ForgetsLatchedEdges) {
    initialize();
    edge(3);
    initialize();
    EXPECT_FALSE(pic.pending());
}

TEST_F(Pic, Hostile) {
    const auto between = [&](std::mt19937_64& random) {
        pic.set_input(static_cast<unsigned>(random() % 20), random() % 2 != 0);
        if (random() % 4 == 0) {
            const bool pending = pic.pending();
            const u8 vector = pic.acknowledge();
            ASSERT_TRUE(pending || (vector & 7) == 7);
        }
    };
    for (unsigned i = 0; i < 20; ++i) {
        test::abuse(pic.master_ports(), 2, 200, between);
        test::abuse(pic.slave_ports(), 2, 200, between);
        test::abuse(pic.elcr_ports(), 2, 20, between);
    }
    initialize();
    pic.elcr_ports().write(0, 2, 0);
    pic.set_input(4, false);
    edge(4);
    EXPECT_TRUE(pic.pending()) << "initialization always brings it back";
}

} // namespace
} // namespace gnomon::platform
