// SPDX-License-Identifier: Apache-2.0
/// @file The NVMe disk as a guest finds it on the board: configuration space, base address,
/// messages and the pin.
#include "platform/nvme/function.h"

#include "nvme_host.h"
#include "pci_fixture.h"
#include "platform/nvme/command.h"

namespace gnomon::platform::nvme {
namespace {

using test::HeldCompletions;
using test::MemoryDisk;

class NvmeFunction : public testing::Test {
protected:
    static constexpr unsigned slot = 3;
    static constexpr u64 registers = 0xc000'0000, messages = 0xc001'0000;

    NvmeFunction() { EXPECT_TRUE(host.segment().insert({0, slot, 0}, function)); }

    [[nodiscard]] u32 get(u64 offset) {
        return static_cast<u32>(host.board().mmio_read(0, Gpa(registers + offset), 4));
    }
    void set(u64 offset, u64 value, unsigned size = 4) {
        host.board().mmio_write(0, Gpa(registers + offset), size, value);
    }
    void place() {
        host.config_write(slot, 0x10, 4, registers);
        host.config_write(slot, 0x14, 4, 0);
        host.config_write(slot, 0x20, 4, messages);
        host.config_write(slot, 0x04, 2, 6);
    }
    void enable() {
        set(0x24, 0x000f'000f);
        set(0x28, 0x1000, 8);
        set(0x30, 0x2000, 8);
        set(0x14, 0x0046'0001);
    }
    void identify(unsigned index) {
        SubmissionEntry command;
        command.opcode = u8(AdminOpcode::identify);
        command.prp1 = 0x3000;
        command.cdw10 = 1;
        EXPECT_TRUE(host.memory().write_object(Gpa(0x1000 + index * 64), command));
        set(0x1000, index + 1);
    }

    platform::test::PciHost host;
    ManualClock clock;
    MemoryDisk disk{u64{1} << 20};
    HeldCompletions completions;
    Function function{host.board().pci_slot(slot),
                      "nvme0",
                      disk,
                      completions,
                      std::make_unique<NoDelay>(),
                      clock,
                      {},
                      host.memory(),
                      nullptr};
};

TEST_F(NvmeFunction, IsFound) {
    EXPECT_EQ(host.config_read(slot, 8, 4) >> 8, 0x010802U);
    host.config_write(slot, 0x10, 4, ~0U);
    host.config_write(slot, 0x14, 4, ~0U);
    EXPECT_EQ(host.config_read(slot, 0x10, 4), 0xffff'e004U) << "8 KiB, 64 bits";
    EXPECT_EQ(host.config_read(slot, 0x14, 4), 0xffff'ffffU);
    const unsigned msix = host.find_capability(slot, 0x11);
    ASSERT_NE(msix, 0U);
    EXPECT_EQ(host.config_read(slot, msix + 2, 2), 16U) << "17 vectors";
    EXPECT_NE(host.find_capability(slot, 0x10), 0U) << "PCI Express";
    EXPECT_EQ(completions.names, std::vector<std::string>{"nvme0"});
}

TEST_F(NvmeFunction, SendsMessages) {
    place();
    EXPECT_EQ(get(0x08), 0x10400U);
    const unsigned msix = host.find_capability(slot, 0x11);
    host.board().mmio_write(0, Gpa(messages), 4, 0xfee0'0000);
    host.board().mmio_write(0, Gpa(messages + 8), 4, 0x41);
    host.board().mmio_write(0, Gpa(messages + 12), 4, 0);
    host.config_write(slot, msix + 2, 2, 0x8000);
    enable();
    EXPECT_EQ(get(0x1c), 1U);
    identify(0);
    EXPECT_EQ(host.take_interrupt(), 0x41U);
    u16 vendor = 0;
    EXPECT_TRUE(host.memory().read_object(Gpa(0x3000), vendor));
    EXPECT_EQ(vendor, 0x1af4U);
    host.board().mmio_write(0, Gpa(messages + 12), 4, 1);
    identify(1);
    EXPECT_EQ(host.take_interrupt(), 0U) << "masked";
    host.board().mmio_write(0, Gpa(messages + 12), 4, 0);
    EXPECT_EQ(host.take_interrupt(), 0x41U) << "and pending";
}

TEST_F(NvmeFunction, DrivesThePin) {
    place();
    enable();
    identify(0);
    EXPECT_EQ(host.config_read(slot, 6, 2) & 8, 8U) << "interrupt status";
    set(0x1004, 1);
    EXPECT_EQ(host.config_read(slot, 6, 2) & 8, 0U);
}

TEST_F(NvmeFunction, NeedsTheBus) {
    place();
    enable();
    host.config_write(slot, 0x04, 2, 2);
    identify(0);
    EXPECT_EQ(get(0x1c), 3U) << "fatal: the queue cannot be read";
    host.config_write(slot, 0x04, 2, 6);
    set(0x14, 0);
    enable();
    EXPECT_EQ(get(0x1c), 1U);
}

TEST_F(NvmeFunction, IsResetByItsFunction) {
    place();
    enable();
    const unsigned express = host.find_capability(slot, 0x10);
    host.config_write(slot, express + 8, 2, 0x8000);
    place();
    EXPECT_EQ(get(0x1c), 0U);
    EXPECT_EQ(get(0x24), 0U);
    enable();
    EXPECT_EQ(get(0x1c), 1U);
}

} // namespace
} // namespace gnomon::platform::nvme
