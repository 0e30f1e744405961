// SPDX-License-Identifier: Apache-2.0
/// @file The IDE function as a guest finds it on the board: configuration space, the legacy ports,
/// the bus master's ports, and the interrupts.
#include "platform/ide/function.h"

#include "ide_bench.h"
#include "pci_fixture.h"
#include "platform/pci/isa_bridge.h"

namespace gnomon::platform::ide {
namespace {

using test::HeldCompletions;
using test::MemoryDisk;

class IdeFunction : public testing::Test {
protected:
    static PciSlot slot(Board& board) {
        PciSlot made = board.pci_slot(1);
        made.address.function = 1;
        return made;
    }
    IdeFunction() {
        EXPECT_TRUE(host.segment().insert({0, 1, 0}, bridge));
        EXPECT_TRUE(host.segment().insert(function.address(), function));
        for (unsigned i = 0; i < 4; ++i) {
            for (u64 k = 0; k < disks[i].contents.size(); ++k)
                disks[i].contents[k] = static_cast<u8>(k / 512 * 16 + i);
            DriveOptions options;
            options.serial = fmt::format("S{}", i);
            function.attach(i, {fmt::format("ide{}", i), disks[i], std::make_unique<NoDelay>(),
                                std::move(options)});
        }
    }
    /// Function 1 of device 1.
    [[nodiscard]] u32 config(unsigned offset, unsigned size) {
        return host.config_read(1, 0x1000 + offset, size);
    }
    void set_config(unsigned offset, unsigned size, u32 value) {
        host.config_write(1, 0x1000 + offset, size, value);
    }
    [[nodiscard]] u64 in(unsigned port, unsigned size = 1) {
        return host.board().port_bus().read(static_cast<u16>(port), size);
    }
    void out(unsigned port, u64 value, unsigned size = 1) {
        host.board().port_bus().write(static_cast<u16>(port), size, value);
    }
    void read_dma(unsigned base, unsigned bus_master, unsigned disk, unsigned sector) {
        out(bus_master + 4, 0x10000, 4);
        out(bus_master, 8);
        out(base + 2, 1);
        out(base + 3, sector);
        out(base + 4, 0);
        out(base + 5, 0);
        out(base + 6, 0xe0 | disk << 4);
        out(base + 7, 0xc8);
        out(bus_master, 9);
    }

    platform::test::PciHost host;
    std::array<MemoryDisk, 4> disks{MemoryDisk(1 << 16), MemoryDisk(1 << 16), MemoryDisk(1 << 16),
                                    MemoryDisk(1 << 16)};
    HeldCompletions completions;
    PciIsaBridge bridge;
    Function function{slot(host.board()), "ide",
                      completions,        {host.board().isa_line(14), host.board().isa_line(15)},
                      host.memory(),      nullptr};
};

TEST_F(IdeFunction, IsFound) {
    EXPECT_EQ(host.config_read(1, 0, 4), 0x7000'8086U);
    EXPECT_EQ(host.config_read(1, 8, 4), 0x0601'0000U);
    EXPECT_EQ(host.config_read(1, 0x0e, 1), 0x80U) << "with other functions";
    EXPECT_EQ(config(0, 4), 0x7010'8086U);
    EXPECT_EQ(config(8, 4), 0x0101'8000U);
    EXPECT_EQ(config(6, 2), 0x0280U);
    EXPECT_EQ(config(0x3d, 1), 0U) << "no pin";
    EXPECT_EQ(config(0x34, 1), 0U) << "no capabilities";
    EXPECT_EQ(config(4, 2), 1U) << "ports, as firmware leaves it";
    EXPECT_EQ(config(0x20, 4), 0xc001U);
    for (unsigned bar = 0; bar < 4; ++bar) {
        set_config(0x10 + 4 * bar, 4, ~0U);
        EXPECT_EQ(config(0x10 + 4 * bar, 4), 0U) << bar;
    }
    set_config(0x20, 4, ~0U);
    EXPECT_EQ(config(0x20, 4), 0xffff'fff1U) << "16 ports";
    for (const unsigned timing : {0x40U, 0x42U}) {
        EXPECT_EQ(config(timing, 2), 0x8000U);
        set_config(timing, 2, 0xffff);
        EXPECT_EQ(config(timing, 2), 0xf3ffU);
    }
    set_config(0x44, 4, ~0U);
    EXPECT_EQ(config(0x44, 4), 0xffU);
}

TEST_F(IdeFunction, TheBridgeKeepsWhatIsWritten) {
    EXPECT_EQ(host.config_read(1, 0x60, 4), 0x8080'8080U);
    host.config_write(1, 0x60, 4, ~0U);
    EXPECT_EQ(host.config_read(1, 0x60, 4), 0x8f8f'8f8fU);
    host.config_write(1, 0, 4, 0);
    EXPECT_EQ(host.config_read(1, 0, 4), 0x7000'8086U);
    EXPECT_EQ(host.config_read(1, 0xffc, 4), 0U);
}

TEST_F(IdeFunction, HasTheLegacyPorts) {
    for (const unsigned base : {0x1f0U, 0x170U}) {
        EXPECT_EQ(in(base + 7), 0x50U);
        EXPECT_EQ(in(base + 0x206), 0x50U);
        EXPECT_EQ(in(base + 3), 1U);
    }
    // Each channel can be turned off, and both.
    set_config(0x42, 2, 0);
    EXPECT_EQ(in(0x177), 0xffU);
    EXPECT_EQ(in(0x376), 0xffU);
    EXPECT_EQ(in(0x1f7), 0x50U);
    set_config(0x42, 2, 0x8000);
    EXPECT_EQ(in(0x177), 0x50U);
    set_config(4, 2, 0);
    EXPECT_EQ(in(0x1f7), 0xffU);
    EXPECT_EQ(in(0xc002), 0xffU);
    set_config(4, 2, 1);
    EXPECT_EQ(in(0x1f7), 0x50U);
    EXPECT_EQ(in(0xc002), 0U);
    set_config(0x20, 4, 0xd000);
    EXPECT_EQ(in(0xc002), 0xffU);
    EXPECT_EQ(in(0xd002), 0U);
}

TEST_F(IdeFunction, HasFourDisks) {
    for (unsigned disk = 0; disk < 4; ++disk) {
        const unsigned base = disk < 2 ? 0x1f0 : 0x170;
        out(base + 6, 0xa0 | (disk & 1) << 4);
        out(base + 7, 0xec);
        ASSERT_EQ(in(base + 7), 0x58U);
        std::array<u16, 256> words{};
        for (u16& word : words)
            word = static_cast<u16>(in(base, 2));
        EXPECT_EQ(words[10], 'S' << 8 | ('0' + disk));
        EXPECT_EQ(in(base + 7), 0x50U);
    }
}

TEST_F(IdeFunction, InterruptsByTheIoApic) {
    // Pins 14 and 15: edge-triggered, to vectors 4Eh and 4Fh.
    for (const u32 pin : {14U, 15U}) {
        host.board().mmio_write(0, Gpa(0xfec0'0000), 4, 0x10 + 2 * pin);
        host.board().mmio_write(0, Gpa(0xfec0'0010), 4, 0x40 + pin);
    }
    set_config(4, 2, 5);
    const PrdEntry entry{0x20000, 512, PrdEntry::end_of_table};
    ASSERT_TRUE(host.memory().write_object(Gpa(0x10000), entry));
    unsigned vector = 0x4e;
    for (const auto& [base, bus_master, disk] :
         {std::tuple(0x1f0U, 0xc000U, 0U), std::tuple(0x170U, 0xc008U, 3U)}) {
        for (unsigned again = 0; again < 3; ++again) {
            read_dma(base, bus_master, disk & 1, 2 + again);
            EXPECT_EQ(host.take_interrupt(), 0U);
            EXPECT_EQ(in(bus_master + 2), 1U);
            disks[disk].reap();
            EXPECT_EQ(host.take_interrupt(), vector);
            EXPECT_EQ(in(bus_master + 2), 4U);
            out(bus_master, 8);
            EXPECT_EQ(in(base + 7), 0x50U);
            out(bus_master + 2, 4);
            EXPECT_EQ(host.take_interrupt(), 0U);
            u8 byte = 0;
            EXPECT_TRUE(host.memory().read_object(Gpa(0x20000), byte));
            EXPECT_EQ(byte, (2 + again) * 16 + disk);
        }
        ++vector;
    }
}

TEST_F(IdeFunction, InterruptsByThe8259) {
    // Vectors from 20h and 28h on, only IRQ 2, 14 and 15 unmasked; LINT0 lets them through.
    const std::pair<unsigned, unsigned> writes[] = {
        {0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1},    {0xa0, 0x11},
        {0xa1, 0x28}, {0xa1, 2},    {0xa1, 1}, {0x21, 0xfb}, {0xa1, 0x3f}};
    for (const auto& [port, value] : writes)
        out(port, value);
    host.board().mmio_write(0, Gpa(0xfee0'0350), 4, 0x700);
    for (unsigned again = 0; again < 3; ++again)
        for (const unsigned base : {0x1f0U, 0x170U}) {
            out(base + 7, 0xe0);
            ASSERT_TRUE(host.board().interrupt_pending(0));
            EXPECT_EQ(host.board().acknowledge_interrupt(0), base == 0x1f0 ? 0x2e : 0x2f);
            EXPECT_EQ(in(base + 7), 0x50U);
            out(0xa0, 0x20);
            out(0x20, 0x20);
            EXPECT_FALSE(host.board().interrupt_pending(0));
        }
}

TEST_F(IdeFunction, ChannelsWorkAtOnce) {
    set_config(4, 2, 5);
    const PrdEntry entry{0x20000, 512, PrdEntry::end_of_table};
    ASSERT_TRUE(host.memory().write_object(Gpa(0x10000), entry));
    read_dma(0x1f0, 0xc000, 0, 1);
    read_dma(0x170, 0xc008, 0, 1);
    EXPECT_EQ(in(0xc002) | in(0xc00a) << 8, 0x101U);
    disks[2].reap();
    EXPECT_EQ(in(0xc002) | in(0xc00a) << 8, 0x401U);
    disks[0].reap();
    EXPECT_EQ(in(0xc002) | in(0xc00a) << 8, 0x404U);
}

TEST_F(IdeFunction, NeedsTheBus) {
    const PrdEntry entry{0x20000, 512, PrdEntry::end_of_table};
    ASSERT_TRUE(host.memory().write_object(Gpa(0x10000), entry));
    read_dma(0x1f0, 0xc000, 0, 1);
    EXPECT_EQ(in(0xc002), 2U) << "it is no master: an error";
    EXPECT_EQ(disks[0].under_way(), 0U);
}

} // namespace
} // namespace gnomon::platform::ide
