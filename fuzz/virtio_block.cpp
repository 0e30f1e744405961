// SPDX-License-Identifier: Apache-2.0
/// @file A virtio disk on a board: its registers, and requests that a driver may or may not mean.
#include "fuzz/support/machine.h"
#include "platform/board.h"
#include "platform/virtio/block.h"
#include "tests/platform/memory_disk.h"

using namespace gnomon;
using namespace gnomon::fuzz;

namespace {

constexpr u64 registers = 0xd0000000, rings = 0x10000, buffers = 0x20000;
constexpr u64 disk_size = 0x8000;

class Driver {
public:
    Driver(platform::Board& board, GuestMemory& memory) : m_board(board), m_memory(memory) {
        config(0x10, 4, registers);
        config(0x18, 4, 0xd0100000);
        config(4, 2, 6);
    }
    void config(unsigned offset, unsigned size, u64 value) {
        m_board.pci().write({0, 1, 0}, offset, size, static_cast<u32>(value));
    }
    void common(u64 offset, unsigned size, u64 value) {
        m_board.mmio_write(0, Gpa(registers + offset), size, value);
    }
    /// As a driver starts the device, all but the checks.
    void start(u64 features) {
        for (const u64 status : {u64{0}, u64{1}, u64{3}})
            common(0x14, 1, status);
        common(8, 4, 0);
        common(12, 4, features);
        common(8, 4, 1);
        common(12, 4, 1);
        common(0x14, 1, 11);
        common(0x16, 2, 0);
        common(0x18, 2, 16);
        common(0x20, 8, rings);
        common(0x28, 8, rings + 0x1000);
        common(0x30, 8, rings + 0x2000);
        put(rings + 0x1002, u16{0});
        common(0x1c, 2, 1);
        common(0x14, 1, 15);
        m_available = 0;
    }
    template <class T>
    void put(u64 at, const T& value) {
        require(m_memory.write_object(Gpa(at), value), "a write of the driver's");
    }
    void descriptor(unsigned n, u64 address, u32 size, u16 flags, u16 next) {
        const u64 at = rings + 16 * n;
        put(at, address);
        put(at + 8, size);
        put(at + 12, flags);
        put(at + 14, next);
    }
    void offer(u16 head) {
        put(rings + 0x1004 + 2 * (m_available % 16), head);
        put(rings + 0x1002, ++m_available);
    }
    void notify() { m_board.mmio_write(0, Gpa(registers + 0x3000), 2, 0); }

private:
    platform::Board& m_board;
    GuestMemory& m_memory;
    u16 m_available = 0;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    static auto memory = GuestMemory::create(u64{1} << 20);
    require(memory.has_value(), "no memory");
    std::fill_n(memory->base() + rings, 0x20000, std::byte{0}); // whatever was before
    platform::ManualClock clock;
    const auto made = platform::Board::create({.memory_bytes = memory->size()}, clock);
    require(made.has_value(), "the board cannot be made");
    platform::Board& board = **made;
    platform::test::MemoryDisk disk(disk_size);
    platform::ImmediateCompletions completions;
    platform::VirtioBlock device(board.pci_slot(1), disk, completions,
                                 {.name = "virtio0", .serial = "fuzzed", .queues = 2}, *memory,
                                 nullptr);
    require(board.pci().insert({0, 1, 0}, device).has_value(), "the device has no place");
    Driver driver(board, *memory);
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        switch (what & 7) {
        case 0: driver.start(input.take<u32>() & 0x3000'7a64); break;
        case 1: { // a request as drivers make it, with one thing or another changed
            constexpr std::array<u32, 8> types = {0, 1, 4, 8, 11, 13, 14, 0x80000000};
            const u32 type = (what & 0x80) != 0 ? input.take<u32>() : types[what >> 4 & 7];
            driver.put(buffers, type);
            driver.put(buffers + 8, (what & 8) != 0 ? input.number() : u64{input.take<u8>()});
            driver.put(buffers + 0x100, u64{input.take<u8>()});
            driver.put(buffers + 0x108, u64{input.take<u16>()});
            const u16 direction = type == 0 || type == 8 ? 2 : 0;
            const u8 change = input.take<u8>();
            const u32 length = (change & 1) != 0 ? input.take<u16>() : 16U << (change >> 1 & 7);
            driver.descriptor(0, buffers, 16, 1, 1);
            driver.descriptor(1, buffers + 0x100, length, direction | 1, 2);
            driver.descriptor(2, buffers + 0x8000, 1, 2, 0);
            if ((change & 0xf0) == 0x10)
                driver.descriptor(change & 2, input.number(), input.take<u16>(),
                                  input.take<u8>() & 7, input.take<u8>() & 15);
            driver.offer(0);
            driver.notify();
            break;
        }
        case 2: driver.notify(); break;
        case 3:
            if (!disk.waiting.empty())
                disk.finish(what % disk.waiting.size(),
                            static_cast<platform::BlockStatus>((what >> 3) % 5));
            break;
        case 4: driver.config(input.take<u8>(), 1U << (what >> 4 & 1), input.take<u16>()); break;
        default: {
            const u64 at = (u64{what} >> 4 & 3) * 0x1000 + input.take<u8>() % 0x48;
            const Gpa address(registers + at);
            const unsigned width = 1U << (what >> 6 & 3);
            if ((what & 8) != 0)
                board.mmio_write(0, address, width, input.number() & platform::byte_mask(width));
            else
                static_cast<void>(board.mmio_read(0, address, width));
        }
        }
        require(disk.contents.size() == disk_size, "the disk changed its size");
        require(disk.under_way() <= 2 * platform::VirtioBlock::queue_size, "requests without end");
        static_cast<void>(board.acknowledge_interrupt(0));
    }
    // Whatever it was told, it can be reset.
    disk.reap();
    driver.config(0x18, 4, 0xd0100000);
    driver.config(0x10, 4, registers);
    driver.config(0x14, 4, 0);
    driver.config(4, 2, 6);
    driver.common(0x14, 1, 0);
    require((board.mmio_read(0, Gpa(registers + 0x14), 1)) == 0, "the device cannot be reset");
    return 0;
}
