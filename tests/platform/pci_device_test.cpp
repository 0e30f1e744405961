// SPDX-License-Identifier: Apache-2.0
#include "platform/pci/device.h"

#include "fixtures.h"
#include "pci_fixture.h"

#include <gtest/gtest.h>

namespace gnomon::platform {
namespace {

using test::PciHost;

/// Remembers what is written, and answers with where it was asked.
class Registers final : public BusDevice {
public:
    [[nodiscard]] u64 read(u64 offset, unsigned) override { return 0x1000 + offset; }
    void write(u64 offset, unsigned, u64 value) override { written = {offset, value}; }
    std::pair<u64, u64> written{};
};

class ExampleDevice final : public PciDevice {
public:
    ExampleDevice(PciSlot slot, GuestMemory& memory, unsigned vectors = 5)
        : PciDevice(std::move(slot),
                    {.vendor_id = 0x1234,
                     .device_id = 0x5678,
                     .subsystem_vendor_id = 0xabcd,
                     .subsystem_id = 0xef01,
                     .class_code = 0x010802,
                     .revision_id = 7},
                    "example", memory, nullptr) {
        add_memory_range(0, 0x4000, wide_registers, true);
        add_memory_range(2, 0x1000, registers);
        add_port_range(3, 16, ports);
        add_msix(4, vectors);
        add_express();
    }
    using PciDevice::dma;
    void function_reset() override { ++resets; }

    Registers wide_registers, registers, ports;
    unsigned resets = 0;
};

class PciDeviceTest : public testing::Test {
protected:
    PciDeviceTest() { EXPECT_TRUE(host.segment().insert({0, 3, 0}, device)); }
    u32 read(unsigned offset, unsigned size = 4) { return host.config_read(3, offset, size); }
    void write(unsigned offset, u32 value, unsigned size = 4) {
        host.config_write(3, offset, size, value);
    }
    void command(u16 bits) { write(4, bits, 2); }
    u64 memory(u64 at, unsigned size = 4) { return host.board().mmio_read(0, Gpa(at), size); }
    void write_memory(u64 at, u64 value, unsigned size = 4) {
        host.board().mmio_write(0, Gpa(at), size, value);
    }
    unsigned capability(u8 id) { return host.find_capability(3, id); }
    /// Points entry `vector` at CPU 0, as interrupt 0x40 + vector.
    void fill_entry(unsigned vector, u32 control = 0) {
        write_memory(msix_base + 16 * vector, 0xfee00000);
        write_memory(msix_base + 16 * vector + 8, 0x40 + vector);
        write_memory(msix_base + 16 * vector + 12, control);
    }
    void open_msix() {
        write(0x20, msix_base);
        command(6);
        write(capability(0x11) + 2, 0x8000, 2);
    }

    static constexpr u32 msix_base = 0xd0000000;
    PciHost host;
    ExampleDevice device{host.board().pci_slot(3), host.memory()};
};

TEST_F(PciDeviceTest, Header) {
    EXPECT_EQ(read(0), 0x56781234U);
    EXPECT_EQ(read(8), 0x01080207U);
    EXPECT_EQ(read(0x0c), 0U);
    EXPECT_EQ(read(0x2c), 0xef01abcdU);
    EXPECT_EQ(read(4), 0x00100000U) << "a capability list; nothing enabled";
    EXPECT_EQ(read(0x3c, 2), 0x010bU) << "INTA, which is IRQ 11";
    for (unsigned offset : {0x00U, 0x08U, 0x28U, 0x2cU, 0x30U, 0x34U}) {
        const u32 before = read(offset);
        write(offset, ~u32{0});
        EXPECT_EQ(read(offset), before) << offset;
    }
    command(0xffff);
    EXPECT_EQ(read(4, 2), 0x0547U);
    write(0x3c, 5, 1);
    EXPECT_EQ(read(0x3c, 1), 5U);
}

TEST_F(PciDeviceTest, SizingByAllOnes) {
    for (unsigned offset = 0x10; offset < 0x28; offset += 4)
        write(offset, ~u32{0});
    EXPECT_EQ(read(0x10), 0xffffc004U);
    EXPECT_EQ(read(0x14), 0xffffffffU);
    EXPECT_EQ(read(0x18), 0xfffff000U);
    EXPECT_EQ(read(0x1c), 0xfffffff1U);
    EXPECT_EQ(read(0x20), 0xfffff000U);
    EXPECT_EQ(read(0x24), 0U);
}

TEST_F(PciDeviceTest, RangesAnswerWhereTheyArePut) {
    write(0x18, 0xd0000000);
    EXPECT_EQ(memory(0xd0000010), 0xffffffffU) << "not enabled";
    command(2);
    EXPECT_EQ(memory(0xd0000010), 0x1010U);
    write(0x18, 0xd0008000); // moved while it is enabled
    EXPECT_EQ(memory(0xd0000010), 0xffffffffU);
    EXPECT_EQ(memory(0xd0008ffc), 0x1ffcU);
    write_memory(0xd0008004, 0x55, 1);
    EXPECT_EQ(device.registers.written, std::pair(u64{4}, u64{0x55}));
    write(0x10, 0x00010000);
    write(0x14, 0x12);
    EXPECT_EQ(memory(0x12'0001'0008), 0x1008U) << "above 4 GiB";
    write(0x1c, 0xc000);
    EXPECT_EQ(host.board().port_bus().read(0xc004, 2), 0xffffU);
    command(3);
    EXPECT_EQ(host.board().port_bus().read(0xc004, 2), 0x1004U);
    command(0);
    EXPECT_EQ(memory(0xd0008ffc), 0xffffffffU);
    EXPECT_EQ(host.board().port_bus().read(0xc004, 2), 0xffffU);
}

TEST_F(PciDeviceTest, OverlapsAreHarmless) {
    const u64 io_apic = host.board().mmio_read(0, Gpa(0xfec00000), 4);
    write(0x18, 0xfec00000);
    command(3);
    EXPECT_EQ(memory(0xfec00000), io_apic);
    EXPECT_EQ(memory(0xfec00800), io_apic) << "the I/O APIC's";
    write(0x18, 0xfee00000);
    EXPECT_NE(memory(0xfee00030), 0x1030U) << "the local APIC is in front";
    write(0x18, static_cast<u32>(layout::pci_ecam_base));
    EXPECT_EQ(memory(layout::pci_ecam_base), 0x12378086U) << "configuration space stays";
    write(0x1c, 0x3f8); // the first serial port's, and 8 beyond
    EXPECT_NE(host.board().port_bus().name_at(0x3f8), "example-bar3");
    EXPECT_EQ(host.board().port_bus().name_at(0x400), "") << "all of the range is hidden";
    write(0x1c, 0x1'0000);
    EXPECT_EQ(host.board().port_bus().name_at(0), "") << "beyond the port space";

    // One range over the other: the first stays, and the second appears when that goes.
    write(0x18, 0xd0000000);
    write(0x20, 0xd0000000);
    EXPECT_EQ(host.board().mmio_bus().name_at(0xd0000000), "example-bar2");
    write(0x18, 0xd0100000);
    EXPECT_EQ(host.board().mmio_bus().name_at(0xd0000000), "example-bar4");
    EXPECT_EQ(host.board().mmio_bus().name_at(0xd0100000), "example-bar2");
}

TEST_F(PciDeviceTest, CapabilitiesAreAList) {
    EXPECT_NE(capability(0x10), 0U);
    EXPECT_NE(capability(0x11), 0U);
    EXPECT_EQ(capability(0x05), 0U);
    EXPECT_EQ(read(capability(0x11) + 2, 2), 4U) << "five vectors";
    EXPECT_EQ(read(0x100), 0U) << "no extended ones";
    EXPECT_EQ(read(0xffc), 0U);
}

TEST_F(PciDeviceTest, MessagesArrive) {
    fill_entry(1);
    device.send(1);
    EXPECT_FALSE(host.board().interrupt_pending(0)) << "MSI-X is off";
    open_msix();
    fill_entry(1);
    EXPECT_TRUE(device.messages_enabled());
    EXPECT_FALSE(host.board().interrupt_pending(0)) << "nothing was noted while it was off";
    device.send(1);
    EXPECT_EQ(host.take_interrupt(), 0x41);
    device.send(5);
    device.send(2047);
    EXPECT_FALSE(host.board().interrupt_pending(0)) << "no such vectors";
}

TEST_F(PciDeviceTest, MaskedMessagesWait) {
    open_msix();
    for (unsigned vector = 0; vector < 5; ++vector)
        fill_entry(vector, 1);
    device.send(2);
    device.send(2);
    EXPECT_FALSE(host.board().interrupt_pending(0));
    const u64 pending = msix_base + 0x800;
    EXPECT_EQ(memory(pending, 8), 4U);
    write_memory(pending, 0xff, 8);
    EXPECT_EQ(memory(pending, 8), 4U) << "read-only";
    write(capability(0x11) + 2, 0xc000, 2); // the function as a whole
    write_memory(msix_base + 2 * 16 + 12, 0);
    EXPECT_FALSE(host.board().interrupt_pending(0));
    write(capability(0x11) + 2, 0x8000, 2);
    EXPECT_EQ(host.take_interrupt(), 0x42);
    EXPECT_FALSE(host.board().interrupt_pending(0)) << "one message for both";
    EXPECT_EQ(memory(pending, 8), 0U);
    command(2); // no bus master: no messages
    device.send(2);
    EXPECT_FALSE(host.board().interrupt_pending(0));
    command(6);
    EXPECT_EQ(host.take_interrupt(), 0x42);
}

TEST_F(PciDeviceTest, MessageTableRegisters) {
    open_msix();
    EXPECT_EQ(memory(msix_base + 12), 1U) << "masked at first";
    write_memory(msix_base + 16, ~u64{0}, 8);
    write_memory(msix_base + 24, ~u64{0}, 8);
    EXPECT_EQ(memory(msix_base + 16, 8), 0xffff'ffff'ffff'fffcU);
    EXPECT_EQ(memory(msix_base + 24, 8), 0x0000'0001'ffff'ffffU);
    write_memory(msix_base + 5 * 16, ~u64{0}, 8);
    EXPECT_EQ(memory(msix_base + 5 * 16, 8), 0U) << "behind the table";
}

TEST_F(PciDeviceTest, PinIsALevelAtBothControllers) {
    device.set_pin(true);
    EXPECT_EQ(read(6, 2), 0x18U) << "interrupt status";
    // The 8259s: IRQ 11 with vectors from 0x20, as without APICs.
    auto& ports = host.board().port_bus();
    for (const u16 base : {u16{0x20}, u16{0xa0}}) {
        ports.write(base, 1, 0x11);
        ports.write(static_cast<u16>(base + 1), 1, base == 0x20 ? 0x20 : 0x28);
        ports.write(static_cast<u16>(base + 1), 1, base == 0x20 ? 4 : 2);
        ports.write(static_cast<u16>(base + 1), 1, 1);
        ports.write(static_cast<u16>(base + 1), 1, 0);
    }
    ports.write(0xa0, 1, 0x0a); // read the requests
    EXPECT_EQ(ports.read(0xa0, 1) & 8, 8U);
    command(0x400);
    EXPECT_EQ(ports.read(0xa0, 1) & 8, 0U) << "disabled";
    EXPECT_EQ(read(6, 2), 0x18U) << "the status stays";
    command(0);
    EXPECT_EQ(ports.read(0xa0, 1) & 8, 8U);
    // The I/O APIC: input 16 + 3, level, active low, vector 0x61.
    host.board().mmio_write(0, Gpa(0xfec00000), 4, 0x10 + 2 * 19);
    host.board().mmio_write(0, Gpa(0xfec00010), 4, 0xa061);
    EXPECT_TRUE(host.board().local_apic(0).deliverable().has_value());
    open_msix();
    EXPECT_EQ(ports.read(0xa0, 1) & 8, 0U) << "messages instead";
    write(capability(0x11) + 2, 0, 2);
    EXPECT_EQ(ports.read(0xa0, 1) & 8, 8U);
    device.set_pin(false);
    EXPECT_EQ(read(6, 2), 0x10U);
    EXPECT_EQ(ports.read(0xa0, 1) & 8, 0U);
}

TEST_F(PciDeviceTest, OnlyABusMasterReachesMemory) {
    u32 value = 0;
    EXPECT_FALSE(device.dma().read_object(Gpa(0x1000), value));
    EXPECT_EQ(device.dma().map(Gpa(0x1000), 16), nullptr);
    command(4);
    EXPECT_TRUE(device.dma().write_object(Gpa(0x1000), u32{0x1234}));
    EXPECT_TRUE(device.dma().read_object(Gpa(0x1000), value));
    EXPECT_EQ(value, 0x1234U);
    EXPECT_EQ(device.dma().map(Gpa(0xfee00000), 4), nullptr);
    command(0);
    EXPECT_FALSE(device.dma().write_object(Gpa(0x1000), value));
}

TEST_F(PciDeviceTest, FunctionLevelReset) {
    std::array<u32, 1024> fresh{};
    for (unsigned i = 0; i < 1024; ++i)
        fresh[i] = read(4 * i);
    open_msix();
    fill_entry(0);
    write(0x18, 0xd0100000);
    write(0x3c, 3, 1);
    device.set_pin(true);
    const unsigned control = capability(0x10) + 8;
    EXPECT_EQ(device.resets, 0U);
    write(control, read(control, 2) | 0x8000, 2);
    EXPECT_EQ(device.resets, 1U);
    for (unsigned i = 0; i < 1024; ++i)
        EXPECT_EQ(read(4 * i), fresh[i]) << 4 * i;
    EXPECT_EQ(host.board().mmio_bus().name_at(0xd0100000), "");
    EXPECT_FALSE(device.messages_enabled());
    write(0x20, msix_base);
    command(2);
    EXPECT_EQ(memory(msix_base + 12), 1U) << "masked again";
    EXPECT_EQ(memory(msix_base), 0U);
}

/// The window shows what mechanism #1 shows, in any width and at any alignment.
TEST_F(PciDeviceTest, EcamIsTheSameSpace) {
    const u64 window = layout::pci_ecam_base + (3 << 15);
    for (unsigned offset = 0; offset + 8 <= 256; ++offset)
        for (unsigned size = 1; size <= 8; ++size) {
            u64 expected = 0;
            for (unsigned i = 0; i < size; ++i)
                expected |= u64{read(offset + i, 1)} << (8 * i);
            ASSERT_EQ(memory(window + offset, size), expected) << offset << ' ' << size;
        }
    write_memory(window + 0x18, 0xd0100000);
    EXPECT_EQ(read(0x18), 0xd0100000U);
    write_memory(window + 0x19, 0xd020, 2); // across nothing but bytes of it
    EXPECT_EQ(read(0x18), 0xd0d02000U & 0xfffff000U);
    EXPECT_EQ(memory(window + 0xffc), 0U);
    EXPECT_EQ(memory(layout::pci_ecam_base + (4 << 15)), 0xffffffffU) << "no such device";
    EXPECT_EQ(memory(layout::pci_ecam_base + (3 << 15) + 0x1000), 0xffffffffU) << "nor function";
    EXPECT_EQ(memory(layout::pci_ecam_base + 0x100000), 0xffffffffU) << "nor bus";
}

TEST_F(PciDeviceTest, LeavesNothingBehind) {
    {
        ExampleDevice other(host.board().pci_slot(4), host.memory());
        other.config_write(0x18, 4, 0xd0300000);
        other.config_write(4, 2, 7);
        other.set_pin(true);
        EXPECT_EQ(host.board().mmio_bus().name_at(0xd0300000), "example-bar2");
    }
    EXPECT_EQ(host.board().mmio_bus().name_at(0xd0300000), "");
    host.board().port_bus().write(0xa0, 1, 0x0a);
    EXPECT_EQ(host.board().port_bus().read(0xa0, 1) & 4, 0U) << "IRQ 10";
}

/// Any accesses to configuration space and to everything that it can map: identity and structure
/// stay, and what is decoded is what the registers say.
TEST_F(PciDeviceTest, Hostile) {
    std::mt19937_64 random(20);
    constexpr std::array<u64, 7> places = {0,          0xd0000000, 0xfec00000,    0xfee00000,
                                           0xe0000000, 0xfffff000, 0x12'0000'0000};
    for (unsigned round = 0; round < 60000; ++round) {
        const u64 pick = random();
        const unsigned size = 1U << (pick % 3);
        const auto offset =
            static_cast<unsigned>(pick >> 8 & (pick >> 40 & 1 ? 0xff : 0xfff)) & ~(size - 1);
        u64 value = (pick >> 44 & 3) == 0 ? random() : places[random() % places.size()];
        if (offset == 4) value |= 7;
        switch (pick >> 48 & 7) {
        case 0:
            write_memory(places[random() % places.size()] + (random() & 0xfff), value, 8);
            break;
        case 1: static_cast<void>(memory(places[random() % places.size()] + offset, 8)); break;
        case 2: device.send(static_cast<unsigned>(random() % 8)); break;
        case 3: device.set_pin((value & 1) != 0); break;
        default:
            host.segment().write({0, 3, 0}, offset, size, static_cast<u32>(value));
            static_cast<void>(host.segment().read({0, 3, 0}, offset, size));
        }
        ASSERT_EQ(read(0), 0x56781234U);
        ASSERT_EQ(read(0x10) & 0x3fff, 4U);
        ASSERT_EQ(read(0x34), 0x40U);
        const bool at_home = (read(4, 2) & 2) != 0 && (read(0x18) & 0xf0000000) == 0xd0000000;
        const bool overlapped = (read(0x18) ^ read(0x20)) < 0x4000 ||
                                (read(0x14) == 0 && (read(0x10) ^ read(0x18)) < 0x4000);
        if (at_home && !overlapped) {
            ASSERT_EQ(host.board().mmio_bus().name_at(read(0x18)), "example-bar2");
        }
        while (host.board().interrupt_pending(0))
            static_cast<void>(host.take_interrupt());
    }
}

} // namespace
} // namespace gnomon::platform
