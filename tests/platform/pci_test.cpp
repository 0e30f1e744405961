// SPDX-License-Identifier: Apache-2.0
#include "platform/pci/host_bridge.h"

#include "fixtures.h"
#include "platform/power.h"
#include "platform/reset_control.h"

#include <gtest/gtest.h>

namespace gnomon::platform {
namespace {

class Pci : public testing::Test {
protected:
    Pci() { EXPECT_TRUE(segment.insert({0, 0, 0}, bridge)); }
    u64 config(u32 address, u64 offset, unsigned size) {
        ports.write(0, 4, 0x80000000 | address);
        return ports.read(4 + offset, size);
    }

    PowerControl power;
    ResetControl reset{power};
    PciSegment segment;
    PciHostBridge bridge;
    PciConfigPorts ports{segment, reset};
};

/// Linux's pci_check_type1 and pci_sanity_check.
TEST_F(Pci, Mechanism1IsDetected) {
    ports.write(3, 1, 0x01);
    ports.write(0, 4, 0x80000000);
    EXPECT_EQ(ports.read(0, 4), 0x80000000U);
    EXPECT_EQ(config(0x08, 2, 2), 0x0600U) << "host bridge";
}

TEST_F(Pci, HostBridge) {
    EXPECT_EQ(config(0, 0, 4), 0x12378086U);
    EXPECT_EQ(config(0, 2, 2), 0x1237U);
    EXPECT_EQ(config(0, 3, 1), 0x12U);
    EXPECT_EQ(config(0x0c, 2, 1), 0U) << "header type";
    ports.write(4, 4, ~u64{0});
    EXPECT_EQ(config(0, 0, 4), 0x12378086U) << "read-only";
    static_cast<void>(config(0x10, 0, 4));
    ports.write(4, 4, ~u64{0});
    EXPECT_EQ(config(0x10, 0, 4), 0U) << "no BARs";
    static_cast<void>(config(4, 0, 2));
    ports.write(4, 2, 0xffff);
    EXPECT_EQ(config(4, 0, 2), 0x0106U);
}

TEST_F(Pci, NothingElse) {
    for (u32 bus : {0U, 1U, 255U})
        for (u32 devfn = 0; devfn < 256; ++devfn) {
            if (bus == 0 && devfn == 0) continue;
            ASSERT_EQ(config(bus << 16 | devfn << 8, 0, 4), 0xffffffffU);
        }
    ports.write(0, 4, 0);
    EXPECT_EQ(ports.read(4, 4), 0xffffffffU) << "not enabled";
    EXPECT_FALSE(segment.insert({0, 0, 0}, bridge));
    EXPECT_FALSE(segment.insert({0, 32, 0}, bridge));
    EXPECT_FALSE(segment.insert({0, 1, 8}, bridge));
    EXPECT_EQ(segment.read({0, 0, 0}, 4096, 4), 0xffffffffU);
    EXPECT_EQ(segment.read({0, 0, 0}, 3, 2), 0xffffU) << "crosses a dword";
    EXPECT_EQ(segment.read({0, 0, 0}, 0, 3), 0xffffffU);
}

TEST_F(Pci, BytesDoNotReachTheAddressAndCf9Resets) {
    ports.write(0, 4, 0x80001234);
    for (u64 offset : {0, 2, 3})
        ports.write(offset, 1, 0xff);
    ports.write(0, 2, 0x00ff);
    EXPECT_EQ(ports.read(0, 4), 0x80001234U);
    EXPECT_EQ(ports.read(0, 1), 0xffU);
    EXPECT_FALSE(power.pending());
    ports.write(1, 1, 0x06);
    EXPECT_EQ(power.pending(), PowerRequest::reset);
    EXPECT_EQ(ports.read(1, 1), 0x06U);
    EXPECT_EQ(ports.read(0, 4), 0x80001234U);
}

TEST_F(Pci, AccessAcrossAddressAndDataIsSplit) {
    ports.write(0, 4, 0x80000000);
    EXPECT_EQ(ports.read(2, 4), 0x8086ffffU);
}

TEST_F(Pci, Hostile) {
    test::abuse(ports, 8, 3000, [](std::mt19937_64&) {});
    EXPECT_EQ(config(0, 0, 4), 0x12378086U);
}

} // namespace
} // namespace gnomon::platform
