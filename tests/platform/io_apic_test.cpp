// SPDX-License-Identifier: Apache-2.0
#include "platform/io_apic.h"

#include "fixtures.h"
#include "platform/local_apic.h"

#include <gtest/gtest.h>

namespace gnomon::platform {
namespace {

using Entry = IoApic::Entry;
using Reg = LocalApic::Reg;

class IoApicTest : public testing::Test {
protected:
    IoApicTest() {
        bus.attach(apic);
        bus.attach(io_apic);
        apic.write(0xf0, 4, 0x1ff);
    }
    u32 read(u8 index) {
        io_apic.write(0x00, 4, index);
        return static_cast<u32>(io_apic.read(0x10, 4));
    }
    void write(u8 index, u32 value) {
        io_apic.write(0x00, 4, index);
        io_apic.write(0x10, 4, value);
    }
    void route(unsigned pin, u64 entry) {
        write(static_cast<u8>(0x11 + 2 * pin), static_cast<u32>(entry >> 32));
        write(static_cast<u8>(0x10 + 2 * pin), static_cast<u32>(entry));
    }
    bool remote_irr(unsigned pin) {
        return (read(static_cast<u8>(0x10 + 2 * pin)) & Entry::remote_irr) != 0;
    }
    void eoi() { apic.write(0xb0, 4, 0); }

    ManualClock clock;
    ApicBus bus;
    LocalApic apic{{.id = 0}, clock, bus};
    IoApic io_apic{bus};
};

TEST_F(IoApicTest, Registers) {
    EXPECT_EQ(read(1), 0x00170020U);
    write(0, 0xffffffff);
    EXPECT_EQ(read(0), 0x0f000000U);
    EXPECT_EQ(read(2), 0x0f000000U);
    for (u8 pin = 0; pin < 24; ++pin)
        EXPECT_EQ(read(static_cast<u8>(0x10 + 2 * pin)), 0x10000U);
    EXPECT_EQ(read(0x40), 0xffffffffU) << "no such register";
    route(3, ~u64{0});
    EXPECT_EQ(read(0x16), 0x0001afffU) << "status bits are read-only";
    EXPECT_EQ(read(0x17), 0xff000000U);
    EXPECT_EQ(io_apic.read(0x00, 4), 0x17U) << "the index";
    io_apic.write(0x10, 1, 0);
    EXPECT_EQ(read(0x17), 0xff000000U) << "the window takes 32 bits";
}

TEST_F(IoApicTest, Edge) {
    io_apic.set_input(4, true);
    route(4, 0x34);
    EXPECT_FALSE(apic.deliverable()) << "an edge while masked is lost";
    io_apic.set_input(4, false);
    io_apic.set_input(4, true);
    EXPECT_EQ(apic.acknowledge(), 0x34);
    EXPECT_FALSE(remote_irr(4));
    eoi();
    EXPECT_FALSE(apic.deliverable()) << "a level is not an edge";
    io_apic.set_input(24, true); // no such pin
}

TEST_F(IoApicTest, LevelUntilDeasserted) {
    route(9, Entry::level | 0x39);
    io_apic.set_input(9, true);
    EXPECT_TRUE(remote_irr(9));
    EXPECT_EQ(apic.acknowledge(), 0x39);
    EXPECT_FALSE(apic.deliverable());
    eoi();
    EXPECT_EQ(apic.acknowledge(), 0x39) << "still asserted at EOI";
    io_apic.set_input(9, false);
    eoi();
    EXPECT_FALSE(remote_irr(9));
    EXPECT_FALSE(apic.deliverable());
}

TEST_F(IoApicTest, LevelWaitsWhileMasked) {
    route(9, Entry::level | Entry::masked | 0x39);
    io_apic.set_input(9, true);
    EXPECT_FALSE(apic.deliverable());
    route(9, Entry::level | 0x39);
    EXPECT_EQ(apic.acknowledge(), 0x39);
}

TEST_F(IoApicTest, EoiRegister) {
    route(9, Entry::level | 0x39);
    io_apic.set_input(9, true);
    EXPECT_EQ(apic.acknowledge(), 0x39);
    io_apic.set_input(9, false);
    io_apic.write(0x40, 4, 0x38);
    EXPECT_TRUE(remote_irr(9)) << "another vector";
    io_apic.write(0x40, 4, 0x39);
    EXPECT_FALSE(remote_irr(9));
}

/// Linux clears a stale remote IRR by making the entry edge-triggered and back.
TEST_F(IoApicTest, MakingAnEntryEdgeClearsRemoteIrr) {
    route(9, Entry::level | 0x39);
    io_apic.set_input(9, true);
    io_apic.set_input(9, false);
    EXPECT_TRUE(remote_irr(9));
    route(9, Entry::masked | 0x39);
    route(9, Entry::masked | Entry::level | 0x39);
    EXPECT_FALSE(remote_irr(9));
}

TEST_F(IoApicTest, LevelIsSentAgainWhenAProcessorAccepts) {
    apic.write(0xf0, 4, 0xff); // software-disabled
    route(9, Entry::level | 0x39);
    io_apic.set_input(9, true);
    EXPECT_FALSE(remote_irr(9)) << "nobody took it";
    apic.write(0xf0, 4, 0x1ff);
    EXPECT_EQ(apic.acknowledge(), 0x39);
}

TEST_F(IoApicTest, DestinationsAndModes) {
    route(5, u64{3} << 56 | 0x35);
    io_apic.set_input(5, true);
    EXPECT_FALSE(apic.deliverable()) << "nobody has this ID";
    io_apic.set_input(5, false);
    route(5, u64{0xff} << 56 | 0x35);
    io_apic.set_input(5, true);
    EXPECT_EQ(apic.acknowledge(), 0x35) << "broadcast";
    eoi();
    apic.write(0xd0, 4, 0x01000000);
    route(6, u64{1} << 56 | Entry::logical | 1 << 8 | 0x36); // lowest priority, as Linux uses
    io_apic.set_input(6, true);
    EXPECT_EQ(apic.acknowledge(), 0x36);
    eoi();
    route(7, Entry::level | 4 << 8); // NMI: an edge whatever the trigger mode says
    io_apic.set_input(7, true);
    EXPECT_TRUE(apic.take_nmi());
    EXPECT_FALSE(remote_irr(7));
    route(8, 2 << 8);
    io_apic.set_input(8, true); // SMI: nothing to see
    route(0, 7 << 8);
    EXPECT_TRUE(io_apic.routes_external_interrupt(0, apic));
    EXPECT_FALSE(io_apic.routes_external_interrupt(1, apic));
    EXPECT_FALSE(io_apic.routes_external_interrupt(24, apic));
    io_apic.set_input(0, true);
    EXPECT_FALSE(apic.deliverable()) << "the vector comes from the 8259";
}

TEST_F(IoApicTest, Hostile) {
    test::abuse(io_apic, 0x60, 100, [&](std::mt19937_64& random) {
        io_apic.set_input(static_cast<unsigned>(random() % 26), random() % 2 != 0);
        write(static_cast<u8>(random() % 0x50), static_cast<u32>(random()));
        if (random() % 4 == 0) apic.write(0xf0, 4, random() & 0x3ff);
        for (unsigned i = 0; i < 4; ++i) { // an asserted level comes again after every EOI
            static_cast<void>(apic.acknowledge());
            eoi();
        }
        apic.take_init();
    });
}

} // namespace
} // namespace gnomon::platform
