// SPDX-License-Identifier: Apache-2.0
#include "platform/virtio/block.h"

#include "memory_disk.h"
#include "virtio_driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

namespace gnomon::platform {
namespace {

using test::DriverQueue;
using test::MemoryDisk;
using test::PciHost;
using test::VirtioDriver;

constexpr u64 version_1 = u64{1} << 32, event_index = 1 << 29, indirect = 1 << 28;
constexpr u64 flush = 1 << 9, config_wce = 1 << 11;

/// What devices say of their writes.
class WriteLog final : public DmaListener {
public:
    void dma_written(Gpa gpa, u64 size) override { writes.emplace_back(gpa.value(), size); }
    [[nodiscard]] bool covers(u64 gpa, u64 size) const {
        return std::any_of(writes.begin(), writes.end(), [&](const auto& w) {
            return w.first <= gpa && gpa + size <= w.first + w.second;
        });
    }
    std::vector<std::pair<u64, u64>> writes;
};

class VirtioBlockTest : public testing::Test {
protected:
    static constexpr u64 disk_size = u64{1} << 20;
    static constexpr u64 header_at = 0x80000, data_at = 0x90000, status_at = 0xa0000;

    void SetUp() override { make({.name = "virtio0", .serial = "S1234"}); }
    void make(const VirtioBlockOptions& options) {
        driver.reset();
        device.reset();
        host.emplace();
        device.emplace(host->board().pci_slot(2), disk, completions, options, host->memory(),
                       &writes);
        ASSERT_TRUE(host->segment().insert({0, 2, 0}, *device));
        driver.emplace(*host, 2);
    }
    /// Ready for requests in queue 0, with `features` beside VERSION_1.
    DriverQueue& start(u64 features = 0, u16 size = 16, bool messages = true) {
        EXPECT_TRUE(driver->negotiate(version_1 | features));
        if (messages) driver->enable_messages(5);
        DriverQueue& queue = driver->enable_queue(0, size, messages);
        EXPECT_EQ(driver->common(0x1c, 2), 1U);
        driver->set_status(15);
        return queue;
    }
    struct Part {
        u64 address;
        u32 size;
        bool writable;
    };
    /// Header, parts, status, as descriptors from `first` on.
    void offer(DriverQueue& queue, u32 type, u64 sector, const std::vector<Part>& parts,
               u16 first = 0) {
        queue.put(Gpa(header_at + 16 * first), type);
        queue.put(Gpa(header_at + 16 * first + 4), u32{0});
        queue.put(Gpa(header_at + 16 * first + 8), sector);
        queue.put(Gpa(status_at + first), u8{0xee});
        u16 at = first;
        const auto add = [&](u64 address, u32 size, bool writable, bool last) {
            const auto flags = static_cast<u16>((last ? 0 : DriverQueue::next_follows) |
                                                (writable ? DriverQueue::device_writes : 0));
            queue.set(at, {address, size, flags, static_cast<u16>(at + 1)});
            ++at;
        };
        add(header_at + 16 * first, 16, false, false);
        for (const Part& part : parts)
            add(part.address, part.size, part.writable, false);
        add(status_at + first, 1, true, true);
        queue.offer(first);
    }
    [[nodiscard]] u8 status(u16 first = 0) {
        u8 value = 0;
        EXPECT_TRUE(host->memory().read_object(Gpa(status_at + first), value));
        return value;
    }
    /// One request, done at once by the host.
    u8 request(DriverQueue& queue, u32 type, u64 sector, const std::vector<Part>& parts) {
        offer(queue, type, sector, parts);
        driver->notify(0);
        disk.reap();
        return status();
    }
    void fill(u64 at, u64 size, u8 value) {
        const std::vector<std::byte> bytes(size, std::byte{value});
        ASSERT_TRUE(host->memory().write(Gpa(at), bytes));
    }
    [[nodiscard]] std::vector<std::byte> bytes(u64 at, u64 size) {
        std::vector<std::byte> out(size);
        EXPECT_TRUE(host->memory().read(Gpa(at), out));
        return out;
    }

    MemoryDisk disk{disk_size};
    ImmediateCompletions completions;
    WriteLog writes;
    std::optional<PciHost> host;
    std::optional<VirtioBlock> device;
    std::optional<VirtioDriver> driver;
};

TEST_F(VirtioBlockTest, IsFoundByItsIdentityAndStructures) {
    EXPECT_EQ(host->config_read(2, 0, 4), 0x10421af4U);
    EXPECT_EQ(host->config_read(2, 8, 1), 1U) << "revision: modern";
    EXPECT_NE(host->find_capability(2, 0x11), 0U);
    for (u32 type = 1; type <= 5; ++type)
        EXPECT_NE(driver->capability(type), 0U);
    EXPECT_EQ(driver->common(0x12, 2), 4U);
    EXPECT_EQ(driver->device(0, 8), disk_size / 512);
    EXPECT_EQ(driver->device(20, 4), 512U);
    EXPECT_EQ(driver->device(34, 2), 4U);
    EXPECT_EQ(driver->device(60, 4), 0U);
    EXPECT_EQ(driver->offered() & 0xffff'ffff'3000'0000, version_1 | event_index | indirect);
}

TEST_F(VirtioBlockTest, StatusProtocol) {
    EXPECT_EQ(driver->status(), 0);
    EXPECT_FALSE(driver->negotiate(0)) << "legacy";
    EXPECT_FALSE(driver->negotiate(version_1 | u64{1} << 40)) << "not offered";
    driver->set_status(0x0f);
    EXPECT_EQ(driver->status(), 3) << "and does not run without";
    EXPECT_TRUE(driver->negotiate(version_1));
    driver->accept(version_1 | flush);
    driver->set_common(8, 4, 0);
    EXPECT_EQ(driver->common(12, 4), 0U) << "too late to change";
    driver->set_status(1);
    EXPECT_EQ(driver->status(), 11) << "bits are not taken back";
    driver->set_status(0);
    EXPECT_EQ(driver->status(), 0);
    driver->set_common(8, 4, 1);
    EXPECT_EQ(driver->common(12, 4), 0U);
}

TEST_F(VirtioBlockTest, ReadsAndWrites) {
    DriverQueue& queue = start();
    fill(data_at, 1024, 0x5a);
    EXPECT_EQ(request(queue, 1, 3, {{data_at, 1024, false}}), 0);
    EXPECT_EQ(queue.used_element(0), (std::pair<u32, u32>(0, 1)));
    EXPECT_EQ(host->take_interrupt(), 0x50U);
    EXPECT_EQ(disk.contents[3 * 512], std::byte{0x5a});
    EXPECT_EQ(disk.contents[5 * 512 - 1], std::byte{0x5a});
    EXPECT_EQ(disk.contents[5 * 512], std::byte{0});
    disk.contents[4 * 512] = std::byte{0x77};
    // In pieces of any size.
    EXPECT_EQ(request(queue, 0, 4,
                      {{data_at + 0x2000, 7, true},
                       {data_at + 0x3001, 500, true},
                       {data_at + 0x4000, 5, true}}),
              0);
    EXPECT_EQ(queue.used_element(1), (std::pair<u32, u32>(0, 513)));
    EXPECT_EQ(bytes(data_at + 0x2000, 2), (std::vector{std::byte{0x77}, std::byte{0x5a}}));
    EXPECT_EQ(bytes(data_at + 0x4004, 2), (std::vector{std::byte{0x5a}, std::byte{0}}));
    EXPECT_TRUE(writes.covers(data_at + 0x2000, 7));
    EXPECT_TRUE(writes.covers(data_at + 0x3001, 500));
    EXPECT_TRUE(writes.covers(status_at, 1));
    EXPECT_TRUE(writes.covers(queue.used().value() + 2, 2));
    EXPECT_EQ(host->take_interrupt(), 0x50U);
    EXPECT_EQ(driver->status(), 15);
}

TEST_F(VirtioBlockTest, HeaderAndStatusInAnyFrame) {
    DriverQueue& queue = start();
    disk.contents[512] = std::byte{0x42};
    queue.put(Gpa(header_at), u32{0});
    queue.put(Gpa(header_at + 8), u64{1});
    constexpr u16 next = DriverQueue::next_follows, writable = DriverQueue::device_writes;
    queue.set(0, {header_at, 3, next, 1});
    queue.set(1, {header_at + 3, 13, next, 2});
    queue.set(2, {data_at, 513, writable, 0}); // data and status in one
    queue.offer(0);
    driver->notify(0);
    disk.reap();
    EXPECT_EQ(bytes(data_at, 1)[0], std::byte{0x42});
    EXPECT_EQ(bytes(data_at + 512, 1)[0], std::byte{0});
    EXPECT_EQ(queue.used_element(0), (std::pair<u32, u32>(0, 513)));
}

TEST_F(VirtioBlockTest, RefusesWhatTheDiskHasNot) {
    DriverQueue& queue = start();
    const u64 sectors = disk_size / 512;
    EXPECT_EQ(request(queue, 0, sectors, {{data_at, 512, true}}), 1);
    EXPECT_EQ(request(queue, 0, sectors - 1, {{data_at, 1024, true}}), 1);
    EXPECT_EQ(request(queue, 0, sectors - 1, {{data_at, 512, true}}), 0);
    EXPECT_EQ(request(queue, 1, ~u64{0}, {{data_at, 512, false}}), 1);
    EXPECT_EQ(request(queue, 1, u64{1} << 55, {{data_at, 512, false}}), 1);
    EXPECT_EQ(request(queue, 1, 0, {{data_at, 511, false}}), 1);
    EXPECT_EQ(request(queue, 1, 0, {}), 1) << "no data";
    EXPECT_EQ(request(queue, 2, 0, {}), 2) << "no such request";
    EXPECT_EQ(request(queue, 0xffffffff, 0, {}), 2);
    EXPECT_EQ(driver->status(), 15);
    offer(queue, 0, 0, {{data_at, 512, true}});
    driver->notify(0);
    disk.finish(0, BlockStatus::io_error);
    EXPECT_EQ(status(), 1) << "the host's error";
    EXPECT_EQ(queue.used_element(static_cast<u16>(queue.used_index() - 1)).second, 0U);
}

TEST_F(VirtioBlockTest, SaysWhoItIs) {
    DriverQueue& queue = start();
    fill(data_at, 32, 0xff);
    EXPECT_EQ(request(queue, 8, 0, {{data_at, 20, true}}), 0);
    const auto id = bytes(data_at, 21);
    EXPECT_STREQ(reinterpret_cast<const char*>(id.data()), "S1234");
    EXPECT_EQ(id[19], std::byte{0});
    EXPECT_EQ(id[20], std::byte{0xff});
    EXPECT_EQ(request(queue, 8, 0, {{data_at + 0x100, 3, true}, {data_at + 0x200, 9, true}}), 0);
    EXPECT_EQ(bytes(data_at + 0x200, 1)[0], std::byte{'3'});
}

TEST_F(VirtioBlockTest, FlushDiscardAndZeroes) {
    DriverQueue& queue = start(flush);
    EXPECT_EQ(request(queue, 4, 0, {}), 0);
    EXPECT_EQ(disk.flushes, 1U);
    std::fill(disk.contents.begin(), disk.contents.end(), std::byte{1});
    const auto range = [&](u64 sector, u32 count, u32 flags) {
        queue.put(Gpa(data_at), sector);
        queue.put(Gpa(data_at + 8), count);
        queue.put(Gpa(data_at + 12), flags);
        return std::vector<Part>{{data_at, 16, false}};
    };
    EXPECT_EQ(request(queue, 13, 0, range(2, 3, 1)), 0);
    EXPECT_EQ(disk.contents[2 * 512 - 1], std::byte{1});
    EXPECT_EQ(disk.contents[2 * 512], std::byte{0});
    EXPECT_EQ(disk.contents[5 * 512 - 1], std::byte{0});
    EXPECT_EQ(disk.contents[5 * 512], std::byte{1});
    EXPECT_EQ(request(queue, 11, 0, range(8, 8, 0)), 0);
    EXPECT_EQ(disk.discards, 1U);
    EXPECT_EQ(request(queue, 11, 0, range(8, 8, 1)), 2) << "no flags";
    EXPECT_EQ(request(queue, 13, 0, range(8, 8, 2)), 2);
    EXPECT_EQ(request(queue, 13, 0, range(8, 0, 0)), 1);
    EXPECT_EQ(request(queue, 13, 0, range(disk_size / 512 - 1, 2, 0)), 1);
    EXPECT_EQ(request(queue, 13, 0, range(~u64{0}, 2, 0)), 1);
    EXPECT_EQ(request(queue, 11, 0, {{data_at, 32, false}}), 1) << "two ranges";
    EXPECT_EQ(disk.submitted, 3U);
}

TEST_F(VirtioBlockTest, WritesThroughUnlessTheDriverCanFlush) {
    DriverQueue* queue = &start();
    EXPECT_EQ(request(*queue, 1, 0, {{data_at, 512, false}}), 0);
    EXPECT_EQ(disk.fua, 1U);
    queue = &start(flush);
    EXPECT_EQ(request(*queue, 1, 0, {{data_at, 512, false}}), 0);
    EXPECT_EQ(disk.fua, 1U);
    driver->set_device(32, 1, 0);
    EXPECT_EQ(driver->device(32, 1), 1U) << "not negotiated";
    queue = &start(flush | config_wce);
    driver->set_device(32, 1, 0);
    EXPECT_EQ(driver->device(32, 1), 0U);
    EXPECT_EQ(request(*queue, 1, 0, {{data_at, 512, false}}), 0);
    EXPECT_EQ(disk.fua, 2U);
    driver->set_device(32, 1, 7);
    driver->set_device(0, 8, 0);
    EXPECT_EQ(driver->device(32, 1), 0U);
    EXPECT_EQ(driver->device(0, 8), disk_size / 512) << "read-only";
    driver->set_device(32, 1, 1);
    EXPECT_EQ(request(*queue, 1, 0, {{data_at, 512, false}}), 0);
    EXPECT_EQ(disk.fua, 2U);
}

TEST_F(VirtioBlockTest, ReadOnly) {
    make({.name = "virtio0", .serial = {}, .read_only = true});
    EXPECT_EQ(driver->offered() & 0x6020, 0x20U) << "RO; neither discard nor zeroes";
    DriverQueue& queue = start(1 << 5);
    EXPECT_EQ(request(queue, 1, 0, {{data_at, 512, false}}), 1);
    EXPECT_EQ(request(queue, 13, 0, {{data_at, 16, false}}), 1);
    EXPECT_EQ(request(queue, 0, 0, {{data_at, 512, true}}), 0);
    EXPECT_EQ(disk.submitted, 1U);
}

TEST_F(VirtioBlockTest, CompletesInAnyOrder) {
    DriverQueue& queue = start();
    for (u16 n = 0; n < 3; ++n)
        offer(queue, 0, n, {{data_at + 512U * n, 512, true}}, static_cast<u16>(3 * n));
    disk.commits = 0;
    driver->notify(0);
    EXPECT_EQ(disk.waiting.size(), 3U);
    EXPECT_EQ(disk.commits, 1U) << "one batch";
    disk.finish(1);
    EXPECT_EQ(queue.used_element(0).first, 3U);
    EXPECT_EQ(status(3), 0);
    EXPECT_EQ(status(0), 0xee) << "not yet";
    disk.finish(1);
    disk.finish(0);
    EXPECT_EQ(queue.used_element(1).first, 6U);
    EXPECT_EQ(queue.used_element(2).first, 0U);
}

TEST_F(VirtioBlockTest, PinWithoutMessages) {
    DriverQueue& queue = start(0, 16, false);
    EXPECT_EQ(request(queue, 0, 0, {{data_at, 512, true}}), 0);
    EXPECT_EQ(host->config_read(2, 6, 2) & 8, 8U);
    EXPECT_EQ(driver->isr(), 1);
    EXPECT_EQ(host->config_read(2, 6, 2) & 8, 0U) << "read clears";
    EXPECT_EQ(driver->isr(), 0);
    queue.set_no_interrupt(true);
    EXPECT_EQ(request(queue, 0, 0, {{data_at, 512, true}}), 0);
    EXPECT_EQ(driver->isr(), 0);
}

TEST_F(VirtioBlockTest, ADriversErrorNeedsAReset) {
    DriverQueue& queue = start();
    queue.set(0, {header_at, 16, DriverQueue::next_follows, 0});
    queue.offer(0);
    driver->notify(0);
    EXPECT_EQ(driver->status(), 15 | 64);
    EXPECT_EQ(host->take_interrupt(), 0x4fU) << "the configuration's";
    EXPECT_EQ(request(queue, 0, 0, {{data_at, 512, true}}), 0xee) << "nothing runs";
    EXPECT_EQ(disk.submitted, 0U);
    DriverQueue& again = start();
    EXPECT_EQ(request(again, 0, 0, {{data_at, 512, true}}), 0);
    // No room for a status; then no header.
    again.set(0, {header_at, 16, 0, 0});
    again.offer(0);
    driver->notify(0);
    EXPECT_EQ(driver->status() & 64, 64);
    DriverQueue& third = start();
    third.set(0, {header_at, 15, DriverQueue::next_follows, 1});
    third.set(1, {status_at, 1, DriverQueue::device_writes, 0});
    third.offer(0);
    driver->notify(0);
    EXPECT_EQ(driver->status() & 64, 64);
    // Rings outside memory.
    EXPECT_TRUE(driver->negotiate(version_1));
    driver->set_common(0x16, 2, 1);
    driver->set_common(0x20, 8, ~u64{15});
    driver->set_common(0x1c, 2, 1);
    EXPECT_EQ(driver->common(0x1c, 2), 0U);
    EXPECT_EQ(driver->status() & 64, 64);
}

TEST_F(VirtioBlockTest, ResetWaitsForTheHost) {
    DriverQueue& queue = start();
    offer(queue, 0, 0, {{data_at, 512, true}});
    driver->notify(0);
    driver->set_status(0);
    EXPECT_EQ(driver->status(), 15) << "still under way";
    driver->set_status(1);
    driver->notify(0);
    EXPECT_EQ(driver->status(), 15);
    const u16 used = queue.used_index();
    disk.finish(0);
    EXPECT_EQ(driver->status(), 0);
    EXPECT_EQ(queue.used_index(), used) << "nobody is told";
    EXPECT_EQ(status(), 0xee);
    EXPECT_TRUE(writes.covers(data_at, 512)) << "but memory has changed";
    EXPECT_FALSE(host->board().interrupt_pending(0));
    DriverQueue& again = start();
    EXPECT_EQ(request(again, 0, 0, {{data_at, 512, true}}), 0);
}

TEST_F(VirtioBlockTest, FunctionLevelResetToo) {
    DriverQueue& queue = start();
    offer(queue, 1, 0, {{data_at, 512, false}});
    driver->notify(0);
    host->config_write(2, host->find_capability(2, 0x10) + 8, 2, 0x8000);
    EXPECT_EQ(host->config_read(2, 4, 2), 0U);
    disk.reap();
    VirtioDriver fresh(*host, 2);
    EXPECT_EQ(fresh.status(), 0);
    EXPECT_FALSE(host->board().interrupt_pending(0));
}

TEST_F(VirtioBlockTest, GoesAwayWithRequestsUnderWay) {
    DriverQueue& queue = start();
    for (u16 n = 0; n < 3; ++n)
        offer(queue, 0, n, {{data_at, 512, true}}, static_cast<u16>(3 * n));
    driver->notify(0);
    EXPECT_EQ(disk.under_way(), 3U);
    device.reset();
    EXPECT_EQ(disk.under_way(), 0U);
    EXPECT_EQ(queue.used_index(), 0);
}

/// A driver that reuses descriptors in use gets no more under way than its queue has entries, and
/// all of them in the end.
TEST_F(VirtioBlockTest, NoMoreThanTheQueueHolds) {
    DriverQueue& queue = start(0, 4);
    for (unsigned n = 0; n < 4; ++n)
        offer(queue, 0, 0, {{data_at, 512, true}});
    driver->notify(0);
    EXPECT_EQ(disk.waiting.size(), 4U);
    for (unsigned n = 0; n < 3; ++n)
        offer(queue, 0, 0, {{data_at, 512, true}});
    driver->notify(0);
    EXPECT_EQ(disk.waiting.size(), 4U);
    EXPECT_EQ(driver->status(), 15);
    disk.finish(0);
    EXPECT_EQ(disk.waiting.size(), 4U) << "one out, one in";
    disk.reap();
    EXPECT_EQ(queue.used_index(), 7);
    EXPECT_EQ(disk.submitted, 7U);
}

TEST_F(VirtioBlockTest, EventIndexKeepsBothSidesQuiet) {
    DriverQueue& queue = start(event_index);
    queue.set_used_event(1);
    for (u16 n = 0; n < 2; ++n)
        offer(queue, 0, n, {{data_at, 512, true}}, static_cast<u16>(3 * n));
    driver->notify(0);
    EXPECT_EQ(queue.available_event(), 2);
    disk.finish(0);
    EXPECT_FALSE(host->board().interrupt_pending(0));
    disk.finish(0);
    EXPECT_EQ(host->take_interrupt(), 0x50U);
}

TEST_F(VirtioBlockTest, SeveralQueues) {
    EXPECT_TRUE(driver->negotiate(version_1));
    driver->enable_messages(5);
    DriverQueue& first = driver->enable_queue(0, 16, true);
    DriverQueue& last = driver->enable_queue(3, 8, true);
    driver->set_common(0x16, 2, 4);
    EXPECT_EQ(driver->common(0x18, 2), 0U) << "there is none";
    driver->set_status(15);
    offer(last, 0, 0, {{data_at, 512, true}});
    driver->notify(3);
    disk.reap();
    EXPECT_EQ(host->take_interrupt(), 0x53U);
    EXPECT_EQ(last.used_index(), 1);
    EXPECT_EQ(first.used_index(), 0);
    driver->notify(1); // not enabled
    EXPECT_EQ(driver->status(), 15);
}

/// All of the memory range, by configuration space alone.
TEST_F(VirtioBlockTest, AccessThroughConfigurationSpace) {
    const unsigned at = driver->capability(5);
    const auto select = [&](u32 offset, u32 size) {
        host->config_write(2, at + 4, 1, 0);
        host->config_write(2, at + 8, 4, offset);
        host->config_write(2, at + 12, 4, size);
    };
    select(0x14, 1);
    host->config_write(2, at + 16, 1, 1);
    EXPECT_EQ(driver->status(), 1);
    EXPECT_EQ(host->config_read(2, at + 16, 1), 1U);
    select(0x2000, 4);
    EXPECT_EQ(host->config_read(2, at + 16, 4), disk_size / 512);
    select(0x4000, 4); // outside
    EXPECT_EQ(host->config_read(2, at + 16, 4), disk_size / 512) << "what was there";
    for (const u32 size : {0U, 3U, 8U, ~0U}) {
        select(0x14, size);
        host->config_write(2, at + 16, 4, 0);
        EXPECT_EQ(driver->status(), 1);
    }
}

TEST_F(VirtioBlockTest, Hostile) {
    std::mt19937_64 random(22);
    for (unsigned round = 0; round < 300; ++round) {
        if (round % 3 != 0) {
            DriverQueue& queue = start(random() & (event_index | indirect | flush), 8);
            for (u16 n = 0; n < 8; ++n)
                queue.set(n, {header_at + (random() & 0xffff), static_cast<u32>(random() & 0xfff),
                              static_cast<u16>(random() & 7), static_cast<u16>(random() & 7)});
            for (unsigned n = 0; n < 6; ++n)
                queue.offer(static_cast<u16>(random() % 9));
        }
        for (unsigned step = 0; step < 200; ++step) {
            const u64 pick = random();
            const u64 at = VirtioDriver::base + (pick & 0x3000) + (pick >> 16 & 0x3f);
            const unsigned size = 1U << (pick >> 32 & 3);
            u64 value = random() >> (pick >> 40 & 63);
            if ((pick & 0x303f'0000) == 0x14'0000) value &= 15; // half of the way to a device
            if ((pick >> 48 & 1) != 0)
                host->board().mmio_write(0, Gpa(at), size, value & byte_mask(size));
            else
                static_cast<void>(host->board().mmio_read(0, Gpa(at), size));
            if ((pick >> 49 & 7) == 0) disk.reap();
        }
        disk.reap();
        driver->set_status(0);
        ASSERT_EQ(driver->status(), 0);
        ASSERT_EQ(driver->device(0, 8), disk_size / 512);
        ASSERT_EQ(disk.under_way(), 0U);
    }
}

} // namespace
} // namespace gnomon::platform
