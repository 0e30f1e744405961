// SPDX-License-Identifier: Apache-2.0
#include "platform/virtio/queue.h"

#include "virtio_driver.h"

#include <gtest/gtest.h>
#include <random>

namespace gnomon::platform {
namespace {

using test::DriverQueue;
using Next = VirtioQueue::Next;

class VirtioQueueTest : public testing::Test {
protected:
    static constexpr u64 memory_size = u64{2} << 20;
    static constexpr u16 size = 8;
    static constexpr u64 buffer = 0x40000;

    static GuestMemory make_memory() {
        auto made = GuestMemory::create(memory_size);
        EXPECT_TRUE(made);
        return std::move(*made);
    }
    VirtioQueueTest() { enable(false); }
    void enable(bool event_index, bool indirect = true) {
        driver = DriverQueue(memory, Gpa(0x10000), size);
        ASSERT_TRUE(queue.enable(setting(), event_index, indirect));
    }
    [[nodiscard]] VirtioQueue::Setting setting() {
        return {size, driver.descriptors(), driver.available(), driver.used()};
    }
    /// Offers the chain that begins at descriptor 0 and says what the device makes of it.
    Next offer(u16 head = 0) {
        driver.offer(head);
        return queue.pop(chain);
    }

    GuestMemory memory = make_memory();
    Dma dma{memory, nullptr};
    VirtioQueue queue{dma};
    DriverQueue driver;
    VirtioChain chain;
};

TEST_F(VirtioQueueTest, EnablesOnlyWhatItCanUse) {
    const auto refused = [&](auto change) {
        VirtioQueue::Setting changed = setting();
        change(changed);
        const bool enabled = queue.enable(changed, true, true);
        EXPECT_EQ(queue.enabled(), enabled);
        return !enabled;
    };
    using Setting = VirtioQueue::Setting;
    EXPECT_FALSE(refused([](Setting&) {}));
    for (const u16 wrong : {u16{0}, u16{3}, u16{9}, u16{0xffff}, u16{0x8001}})
        EXPECT_TRUE(refused([&](Setting& s) { s.size = wrong; })) << wrong;
    EXPECT_FALSE(refused([](Setting& s) { s.size = 1; }));
    EXPECT_TRUE(refused([](Setting& s) { s.descriptors += 8; }));
    EXPECT_TRUE(refused([](Setting& s) { s.available += 1; }));
    EXPECT_TRUE(refused([](Setting& s) { s.used += 2; }));
    EXPECT_TRUE(refused([](Setting& s) { s.descriptors = Gpa(memory_size - 64); }));
    EXPECT_FALSE(refused([](Setting& s) { s.descriptors = Gpa(memory_size - 128); }));
    EXPECT_TRUE(refused([](Setting& s) { s.available = Gpa(memory_size - 20); }));
    EXPECT_TRUE(refused([](Setting& s) { s.used = Gpa(memory_size - 68); }));
    EXPECT_TRUE(refused([](Setting& s) { s.used = Gpa(~u64{3}); }));
    EXPECT_TRUE(refused([](Setting& s) { s.available = Gpa(0xfee00000); }));
    EXPECT_FALSE(refused([](Setting& s) { s.size = 32768; }));
}

TEST_F(VirtioQueueTest, ChainsInOrder) {
    EXPECT_EQ(queue.pop(chain), Next::none);
    driver.set(3, {buffer, 16, DriverQueue::next_follows, 7});
    driver.set(7,
               {buffer + 0x1000, 512, DriverQueue::next_follows | DriverQueue::device_writes, 1});
    driver.set(1, {buffer + 0x3000, 1, DriverQueue::device_writes, 0});
    ASSERT_EQ(offer(3), Next::chain);
    EXPECT_EQ(chain.head, 3);
    ASSERT_EQ(chain.readable.size(), 1U);
    ASSERT_EQ(chain.writable.size(), 2U);
    EXPECT_EQ(chain.readable[0].host, memory.base() + buffer);
    EXPECT_EQ(chain.writable[1].gpa, Gpa(buffer + 0x3000));
    EXPECT_EQ(chain.readable_size, 16U);
    EXPECT_EQ(chain.writable_size, 513U);
    EXPECT_EQ(queue.pop(chain), Next::none);
    EXPECT_TRUE(queue.push(3, 513));
    EXPECT_EQ(driver.used_index(), 1);
    EXPECT_EQ(driver.used_element(0), (std::pair<u32, u32>(3, 513)));
}

TEST_F(VirtioQueueTest, IndirectTables) {
    const auto entry = [&](unsigned n, const DriverQueue::Descriptor& d) {
        driver.put(Gpa(0x30000 + u64{16} * n), d);
    };
    driver.set(0, {0x30000, 48, DriverQueue::indirect, 5});
    entry(0, {buffer, 16, DriverQueue::next_follows, 2});
    entry(2, {buffer + 16, 16, DriverQueue::next_follows, 1});
    entry(1, {buffer + 32, 16, DriverQueue::device_writes, 99});
    ASSERT_EQ(offer(), Next::chain);
    EXPECT_EQ(chain.readable_size, 32U);
    EXPECT_EQ(chain.writable_size, 16U);
    // Behind direct descriptors.
    driver.set(2, {buffer, 8, DriverQueue::next_follows, 0});
    ASSERT_EQ(offer(2), Next::chain);
    EXPECT_EQ(chain.readable_size, 40U);
    // Longer than the queue, as a driver makes them that had no memory for a larger one.
    for (unsigned n = 0; n < 40; ++n)
        entry(n, {buffer + n, 1, static_cast<u16>(n < 39 ? DriverQueue::next_follows : 0),
                  static_cast<u16>(n + 1)});
    driver.set(0, {0x30000, 40 * 16, DriverQueue::indirect, 0});
    ASSERT_EQ(offer(), Next::chain);
    EXPECT_EQ(chain.readable_size, 40U);
}

TEST_F(VirtioQueueTest, BrokenChains) {
    const auto broken = [&](const DriverQueue::Descriptor& first) {
        driver = DriverQueue(memory, Gpa(0x10000), size);
        EXPECT_TRUE(queue.enable(setting(), false, true));
        driver.set(0, first);
        driver.set(1, {buffer, 16, 0, 0});
        return offer() == Next::broken;
    };
    constexpr u16 next = DriverQueue::next_follows, writes = DriverQueue::device_writes,
                  indirect = DriverQueue::indirect;
    EXPECT_FALSE(broken({buffer, 16, 0, 0xffff}));
    EXPECT_TRUE(broken({buffer, 0, 0, 0})) << "empty";
    EXPECT_TRUE(broken({memory_size - 8, 16, 0, 0})) << "across the end of RAM";
    EXPECT_FALSE(broken({memory_size - 16, 16, 0, 0}));
    EXPECT_TRUE(broken({0xfee00000, 4, 0, 0})) << "not RAM";
    EXPECT_TRUE(broken({~u64{0}, 2, 0, 0})) << "wraps";
    EXPECT_TRUE(broken({0, 0xffffffff, 0, 0}));
    EXPECT_TRUE(broken({buffer, 16, next, 0})) << "loop";
    EXPECT_TRUE(broken({buffer, 16, next, size})) << "beyond the table";
    EXPECT_TRUE(broken({buffer, 16, next | writes, 1})) << "readable behind writable";
    EXPECT_TRUE(broken({0x30000, 0, indirect, 0}));
    EXPECT_TRUE(broken({0x30000, 24, indirect, 0})) << "half a descriptor";
    EXPECT_TRUE(broken({0x30000, 16, indirect | next, 1})) << "something behind it";
    EXPECT_TRUE(broken({memory_size, 16, indirect, 0})) << "table outside RAM";
    EXPECT_TRUE(broken({~u64{15}, 32, indirect, 0})) << "table wraps";
    driver.put(Gpa(0x30000), DriverQueue::Descriptor{0x30000, 16, indirect, 0});
    EXPECT_TRUE(broken({0x30000, 16, indirect, 0})) << "table in a table";
    driver.put(Gpa(0x30000), DriverQueue::Descriptor{buffer, 16, next, 0});
    EXPECT_TRUE(broken({0x30000, 16, indirect, 0})) << "loop in a table";
    driver.put(Gpa(0x30000), DriverQueue::Descriptor{buffer, 16, next, 1});
    EXPECT_TRUE(broken({0x30000, 16, indirect, 0})) << "behind the table's end";
    enable(false, false);
    driver.set(0, {0x30000, 16, indirect, 0});
    EXPECT_EQ(offer(), Next::broken) << "not negotiated";
    enable(false);
    EXPECT_EQ(offer(size), Next::broken) << "no such head";
}

TEST_F(VirtioQueueTest, SumsDoNotOverflow) {
    // 2 MiB each, 1024 of them: 2 GiB, and twice that by the indirect table's own size.
    auto big = GuestMemory::create(u64{64} << 20);
    ASSERT_TRUE(big);
    Dma big_dma{*big, nullptr};
    VirtioQueue big_queue{big_dma};
    DriverQueue rings(*big, Gpa(0x10000), size);
    ASSERT_TRUE(big_queue.enable({size, rings.descriptors(), rings.available(), rings.used()},
                                 false, true));
    constexpr unsigned count = 128;
    for (unsigned n = 0; n < count; ++n)
        rings.put(Gpa(0x100000 + u64{16} * n),
                  DriverQueue::Descriptor{0, 63 << 20, static_cast<u16>(n + 1 < count ? 1 : 0),
                                          static_cast<u16>(n + 1)});
    rings.set(0, {0x100000, 16 * count, DriverQueue::indirect, 0});
    rings.offer(0);
    EXPECT_EQ(big_queue.pop(chain), Next::broken) << "more than 4 GiB";
    rings.put(Gpa(0x100000 + 16 * 60), DriverQueue::Descriptor{0, 63 << 20, 0, 0});
    ASSERT_TRUE(big_queue.enable({size, rings.descriptors(), rings.available(), rings.used()},
                                 false, true));
    EXPECT_EQ(big_queue.pop(chain), Next::chain);
}

TEST_F(VirtioQueueTest, AnIndexThatRunsAwayIsBroken) {
    driver.set(0, {buffer, 16, 0, 0});
    driver.set_available_index(size);
    for (unsigned n = 0; n < size; ++n)
        EXPECT_EQ(queue.pop(chain), Next::chain);
    EXPECT_EQ(queue.pop(chain), Next::none);
    driver.set_available_index(size + size + 1);
    EXPECT_EQ(queue.pop(chain), Next::broken);
    driver.set_available_index(size - 1);
    EXPECT_EQ(queue.pop(chain), Next::broken) << "backwards";
}

TEST_F(VirtioQueueTest, IndicesWrap) {
    driver.set(0, {buffer, 16, 0, 0});
    for (u32 n = 0; n < 0x10000 + 100; ++n) {
        ASSERT_EQ(offer(), Next::chain);
        ASSERT_TRUE(queue.push(0, n));
        ASSERT_EQ(driver.used_index(), static_cast<u16>(n + 1));
        ASSERT_EQ(driver.used_element(static_cast<u16>(n)), (std::pair<u32, u32>(0, n)));
    }
}

TEST_F(VirtioQueueTest, InterruptsAsTheDriverWishes) {
    driver.set(0, {buffer, 16, 0, 0});
    const auto round = [&] {
        EXPECT_EQ(offer(), Next::chain);
        EXPECT_TRUE(queue.push(0, 0));
        return queue.wants_interrupt();
    };
    EXPECT_TRUE(round());
    driver.set_no_interrupt(true);
    EXPECT_FALSE(round());
    enable(true);
    driver.set(0, {buffer, 16, 0, 0});
    driver.set_used_event(0);
    EXPECT_TRUE(round());
    EXPECT_FALSE(round());
    driver.set_used_event(3);
    EXPECT_FALSE(round());
    EXPECT_TRUE(round());
    EXPECT_FALSE(queue.wants_interrupt()) << "nothing new";
    // The event index asks to be told of what is made available, and of nothing before.
    EXPECT_FALSE(queue.ask_for_more());
    EXPECT_EQ(driver.available_event(), 4);
    driver.offer(0);
    EXPECT_TRUE(queue.ask_for_more()) << "it came in between";
}

TEST_F(VirtioQueueTest, WithoutTheRightToMasterTheBus) {
    driver.set(0, {buffer, 16, 0, 0});
    driver.offer(0);
    dma.set_enabled(false);
    EXPECT_EQ(queue.pop(chain), Next::broken);
    EXPECT_FALSE(queue.push(0, 0));
    EXPECT_FALSE(queue.wants_interrupt());
    EXPECT_FALSE(queue.ask_for_more());
}

/// Any contents of rings and tables: what comes out lies in RAM, has no empty piece and the sums
/// that it says, and ends.
TEST_F(VirtioQueueTest, Hostile) {
    std::mt19937_64 random(21);
    unsigned chains = 0, broken = 0;
    for (unsigned round = 0; round < 20000; ++round) {
        enable((round & 1) != 0, (round & 6) != 0);
        for (u16 n = 0; n < size; ++n) {
            const auto any = [&] {
                const u64 pick = random();
                u64 address = (pick & 0x1f'ffff) & ~u64{15};
                if (pick % 7 == 0) address = 0x10000 + (pick >> 32 & 0xff0);
                if (pick % 31 == 0) address = random();
                u32 length = static_cast<u32>(random() >> (pick % 3 == 0 ? 32 : 54)) & ~15U;
                return DriverQueue::Descriptor{address, length, static_cast<u16>(random() % 9),
                                               static_cast<u16>(random() % (size + 1))};
            };
            driver.set(n, any());
            driver.put(Gpa(0x10000 + 0x1000 + 16 * u64{n}), any());
        }
        for (u16 n = 0; n < 4; ++n) {
            driver.offer(static_cast<u16>(random() % (size + 1)));
            const Next next = queue.pop(chain);
            ASSERT_NE(next, Next::none);
            if (next == Next::broken) {
                ++broken;
                break;
            }
            ++chains;
            u64 readable = 0, writable = 0;
            for (const auto* part : {&chain.readable, &chain.writable})
                for (const VirtioPiece& piece : *part) {
                    ASSERT_NE(piece.size, 0U);
                    ASSERT_EQ(piece.host, memory.hva(piece.gpa, piece.size));
                    ASSERT_NE(piece.host, nullptr);
                    (part == &chain.readable ? readable : writable) += piece.size;
                }
            ASSERT_EQ(readable, chain.readable_size);
            ASSERT_EQ(writable, chain.writable_size);
            static_cast<void>(queue.push(chain.head, static_cast<u32>(writable)));
            static_cast<void>(queue.wants_interrupt());
        }
    }
    EXPECT_GT(chains, 1000U);
    EXPECT_GT(broken, 1000U);
}

} // namespace
} // namespace gnomon::platform
