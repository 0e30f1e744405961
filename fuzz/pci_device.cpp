// SPDX-License-Identifier: Apache-2.0
/// @file Two PCI functions on a board: configuration space by both ways, base addresses anywhere,
/// the tables of messages, and the devices' own interrupts.
#include "fuzz/support/machine.h"
#include "platform/board.h"
#include "platform/pci/device.h"

using namespace gnomon;
using namespace gnomon::fuzz;

namespace {

/// Registers that count what reaches them.
class Registers final : public platform::BusDevice {
public:
    explicit Registers(u64 length) : m_length(length) {}
    [[nodiscard]] u64 read(u64 offset, unsigned size) override {
        require(size <= m_length && offset <= m_length - size, "a read outside the range");
        return 0;
    }
    void write(u64 offset, unsigned size, u64 value) override {
        require(size <= m_length && offset <= m_length - size, "a write outside the range");
        require((value & ~platform::byte_mask(size)) == 0, "a value wider than the access");
    }

private:
    u64 m_length;
};

class Device final : public platform::PciDevice {
public:
    Device(platform::PciSlot slot, GuestMemory& memory)
        : PciDevice(std::move(slot), {.vendor_id = 0x1af4, .device_id = 0x1042}, "fuzzed", memory,
                    nullptr) {
        add_memory_range(0, 0x4000, m_wide, true);
        add_memory_range(2, 0x1000, m_narrow);
        add_port_range(3, 64, m_ports);
        add_msix(4, 9);
        add_express();
    }
    void function_reset() override {}
    /// Whether what the command register permits is what the device may do.
    void check() {
        require(dma().enabled() == ((config_value(4, 2) & Command::bus_master) != 0),
                "DMA without mastering the bus");
        require(config_value(0, 4) == 0x10421af4, "the identity changed");
        require((config_value(0x10, 4) & 0x3fff) == 4, "a range changed its kind");
    }

private:
    Registers m_wide{0x4000}, m_narrow{0x1000}, m_ports{64};
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    static auto memory = GuestMemory::create(u64{1} << 20); // nothing is ever written
    require(memory.has_value(), "no memory");
    platform::ManualClock clock;
    const auto made = platform::Board::create({.memory_bytes = memory->size()}, clock);
    require(made.has_value(), "the board cannot be made");
    platform::Board& board = **made;
    board.mmio_write(0, Gpa(0xfee000f0), 4, 0x1ff);
    Device first(board.pci_slot(1), *memory), second(board.pci_slot(9), *memory);
    require(board.pci().insert(first.address(), first).has_value() &&
                board.pci().insert(second.address(), second).has_value(),
            "the devices have no place");
    constexpr std::array<u64, 6> places = {0xd0000000, 0xd0010000, 0xfec00000,
                                           0xe0000000, 0xfffff000, 0x80'0000'0000};
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        Device& device = (what & 0x80) != 0 ? second : first;
        const unsigned width = 1U << (what >> 4 & 3);
        const auto address = [&] {
            const u8 pick = input.take<u8>();
            return Gpa(places[pick % places.size()] + (input.take<u16>() & 0x7fff));
        };
        switch (what & 7) {
        case 0:
            board.mmio_write(0, address(), width, input.number() & platform::byte_mask(width));
            break;
        case 1: static_cast<void>(board.mmio_read(0, address(), width)); break;
        case 2: { // as drivers do: enable, and put a range somewhere
            const unsigned bar = 0x10 + 4 * (input.take<u8>() % 6);
            device.config_write(bar, 4, static_cast<u32>(places[input.take<u8>() % places.size()]));
            device.config_write(4, 2, input.take<u8>());
            break;
        }
        case 3: device.send(input.take<u8>() % 12); break;
        case 4: device.set_pin((what & 0x40) != 0); break;
        case 5: {
            const u16 port = input.take<u16>();
            board.port_bus().write(port, width, input.take<u32>() & platform::byte_mask(width));
            break;
        }
        default: {
            const unsigned offset = input.take<u16>() % platform::pci_config_size;
            const u32 value = input.take<u32>();
            board.pci().write(device.address(), offset, width, value);
            static_cast<void>(board.pci().read(device.address(), offset, width));
        }
        }
        first.check();
        second.check();
        static_cast<void>(board.acknowledge_interrupt(0));
    }
    return 0;
}
