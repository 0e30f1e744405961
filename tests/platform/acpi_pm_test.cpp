// SPDX-License-Identifier: Apache-2.0
#include "platform/acpi_pm.h"

#include "fixtures.h"
#include "platform/layout.h"
#include "platform/reset_control.h"

#include <gtest/gtest.h>

namespace gnomon::platform {
namespace {

class Pm : public testing::Test {
protected:
    ManualClock clock;
    test::RecordingSink irq;
    PowerControl power;
    AcpiPm pm{clock, irq.line(9), power};
};

TEST_F(Pm, TimerRunsAt3579545Hz) {
    EXPECT_EQ(pm.read(8, 4), 0U);
    clock.advance(ns_per_second);
    EXPECT_EQ(pm.read(8, 4), 3'579'545U);
    EXPECT_EQ(pm.read(8, 1), 3'579'545U & 0xff);
    EXPECT_EQ(pm.read(9, 1), 3'579'545U >> 8 & 0xff);
    pm.write(8, 4, 0);
    EXPECT_EQ(pm.read(8, 4), 3'579'545U) << "read-only";
}

TEST_F(Pm, TimerOverflowRaisesSci) {
    const u64 half = TickRate(layout::acpi_pm_timer_hz).ns(u64{1} << 31);
    EXPECT_FALSE(pm.next_deadline_ns());
    pm.write(2, 2, AcpiPm::Pm1::timer);
    EXPECT_EQ(pm.next_deadline_ns(), half);
    clock.advance_to(half);
    pm.advance(clock.now_ns());
    EXPECT_TRUE(irq.level[9]);
    EXPECT_EQ(pm.read(0, 2), AcpiPm::Pm1::timer);
    EXPECT_FALSE(pm.next_deadline_ns());
    pm.write(0, 2, AcpiPm::Pm1::timer); // write 1 to clear
    EXPECT_FALSE(irq.level[9]);
    EXPECT_GT(*pm.next_deadline_ns(), half);
    EXPECT_EQ(pm.read(8, 4), 0x8000'0000U);
}

TEST_F(Pm, PowerButton) {
    pm.press_power_button();
    EXPECT_FALSE(irq.level[9]) << "not enabled";
    pm.write(3, 1, AcpiPm::Pm1::power_button >> 8);
    EXPECT_TRUE(irq.level[9]);
    pm.write(1, 1, AcpiPm::Pm1::power_button >> 8);
    EXPECT_FALSE(irq.level[9]);
}

TEST_F(Pm, SoftOff) {
    EXPECT_EQ(pm.read(4, 2), 1U) << "SCI_EN";
    pm.write(4, 2, 0);
    EXPECT_EQ(pm.read(4, 2), 1U);
    for (u64 type = 0; type < 8; ++type)
        if (type != layout::acpi_s5_sleep_type)
            pm.write(4, 2, type << 10 | AcpiPm::Control::sleep_enable);
    EXPECT_FALSE(power.pending());
    pm.write(4, 2, u64{layout::acpi_s5_sleep_type} << 10 | 1); // as Linux: first the type alone
    EXPECT_FALSE(power.pending());
    EXPECT_EQ(pm.read(4, 2), 0x1401U);
    pm.write(4, 2, u64{layout::acpi_s5_sleep_type} << 10 | AcpiPm::Control::sleep_enable | 1);
    EXPECT_EQ(power.pending(), PowerRequest::power_off);
}

TEST_F(Pm, SoftOffByBytes) {
    pm.write(5, 1, layout::acpi_s5_sleep_type << 2 | 0x20);
    EXPECT_EQ(power.pending(), PowerRequest::power_off);
}

TEST_F(Pm, Hostile) {
    test::abuse(pm, layout::acpi_pm_port_count, 3000, [&](std::mt19937_64& random) {
        clock.advance(random() % (u64{1} << 38));
        if (const auto deadline = pm.next_deadline_ns()) {
            clock.advance_to(*deadline);
            pm.advance(clock.now_ns());
        }
        ASSERT_EQ(pm.read(4, 1) & 1, 1U);
    });
}

TEST(ResetControlTest, ResetsOnTheRisingBit) {
    for (const u8 value : {u8{layout::acpi_reset_value}, u8{0x0e}}) {
        PowerControl power;
        ResetControl reset(power);
        reset.write_byte(0, 0x02);
        EXPECT_FALSE(power.pending());
        EXPECT_EQ(reset.read_byte(0), 0x02);
        reset.write_byte(0, value);
        EXPECT_EQ(power.pending(), PowerRequest::reset);
    }
}

} // namespace
} // namespace gnomon::platform
