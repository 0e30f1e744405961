// SPDX-License-Identifier: Apache-2.0
#include "platform/i8042.h"

#include "fixtures.h"

#include <gtest/gtest.h>

namespace gnomon::platform {
namespace {

class Controller : public testing::Test {
protected:
    void command(u8 value) { kbc.command_port().write(0, 1, value); }
    void data(u8 value) { kbc.data_port().write(0, 1, value); }
    u8 status() { return static_cast<u8>(kbc.command_port().read(0, 1)); }
    u8 response() {
        EXPECT_EQ(status() & 3, 1) << "output full, input empty";
        return static_cast<u8>(kbc.data_port().read(0, 1));
    }

    test::RecordingSink irq;
    PowerControl power;
    I8042 kbc{irq.line(1), power};
};

TEST_F(Controller, SelfTests) {
    EXPECT_EQ(status() & 0x05, 0);
    command(0xaa);
    EXPECT_EQ(response(), 0x55);
    EXPECT_EQ(status() & 0x05, 0x04) << "system flag, nothing waiting";
    command(0xab);
    EXPECT_EQ(response(), 0x00);
    command(0xa9);
    EXPECT_NE(response(), 0x00) << "no mouse port";
}

TEST_F(Controller, CommandByte) {
    command(0x60);
    data(0x47);
    command(0x20);
    EXPECT_EQ(response(), 0x47);
    EXPECT_EQ(irq.rises[1], 1U);
    EXPECT_FALSE(irq.level[1]) << "falls when the byte is read";
    command(0xad);
    command(0xa7);
    command(0x20);
    EXPECT_EQ(response(), 0x77);
}

TEST_F(Controller, NobodyAnswers) {
    data(0xff); // reset keyboard
    EXPECT_EQ(status() & 0x41, 0x41) << "time-out";
    EXPECT_EQ(response(), 0xfe);
    command(0xd4);
    data(0xff);
    EXPECT_EQ(status() & 0x61, 0x61);
    EXPECT_EQ(response(), 0xfe);
    command(0xd2);
    data(0x1c);
    EXPECT_EQ(response(), 0x1c);
    command(0xd3);
    data(0x5a);
    EXPECT_EQ(status() & 0x20, 0x20);
    EXPECT_EQ(response(), 0x5a);
}

TEST_F(Controller, ResetByPulse) {
    command(0xff);
    EXPECT_FALSE(power.pending());
    command(0xfe);
    EXPECT_EQ(power.pending(), PowerRequest::reset);
}

TEST_F(Controller, ResetByOutputPort) {
    command(0xd0);
    EXPECT_EQ(response() & 1, 1);
    command(0xd1);
    data(0x03);
    EXPECT_FALSE(power.pending());
    command(0xd1);
    data(0x02);
    EXPECT_EQ(power.pending(), PowerRequest::reset);
}

TEST_F(Controller, Hostile) {
    for (unsigned c = 0; c < 256; ++c)
        for (unsigned d = 0; d < 256; d += 5) {
            command(static_cast<u8>(c));
            data(static_cast<u8>(d));
            static_cast<void>(status());
            static_cast<void>(kbc.data_port().read(0, 1));
            ASSERT_EQ(status() & 3, 0);
        }
    command(0xaa);
    EXPECT_EQ(response(), 0x55);
}

} // namespace
} // namespace gnomon::platform
