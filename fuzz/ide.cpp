// SPDX-License-Identifier: Apache-2.0
/// @file The IDE function with three disks: configuration space, ports of every width, commands
/// that mean something and commands that do not, descriptor tables anywhere in memory, a host that
/// answers in any order, resets and stops at any time.
#include "fuzz/support/machine.h"
#include "platform/bus.h"
#include "platform/ide/function.h"
#include "tests/platform/nvme_bench.h"

#include <optional>

using namespace gnomon;
using namespace gnomon::fuzz;
using namespace gnomon::platform;
using nvme::test::FixedDelay;
using nvme::test::HeldCompletions;
using nvme::test::MemoryDisk;

namespace {

constexpr u64 memory_bytes = u64{1} << 20, disk_bytes = u64{1} << 18;
constexpr u8 bsy = 0x80, drq = 0x08;
constexpr std::array<u16, 2> command_port = {0x1f0, 0x170}, control_port = {0x3f6, 0x376};
constexpr u16 bus_master_port = 0xc000;
constexpr u64 table = 0x10000, buffer = 0x20000;
// Those that move data twice, as they are what most depends on.
constexpr std::array<u8, 48> opcodes = {
    0x06, 0x06, 0x10, 0x20, 0x20, 0x24, 0x24, 0x25, 0x25, 0x27, 0x29, 0x29, 0x30, 0x30, 0x34, 0x34,
    0x35, 0x35, 0x39, 0x39, 0x3d, 0x40, 0x42, 0x70, 0x90, 0x91, 0xc4, 0xc4, 0xc5, 0xc5, 0xc6, 0xc8,
    0xc8, 0xc8, 0xca, 0xca, 0xca, 0xce, 0xe0, 0xe5, 0xe6, 0xe7, 0xea, 0xec, 0xef, 0xef, 0xf8, 0x00};

/// What devices say that they have written is RAM.
class Listener final : public DmaListener {
public:
    void dma_written(Gpa gpa, u64 size) override {
        require(gpa.value() < memory_bytes && size <= memory_bytes - gpa.value(),
                "a write outside memory");
        ++calls;
    }
    u64 calls = 0;
};

class Guest {
public:
    explicit Guest(Input& input) : m_input(input) {
        require(m_segment.insert(m_function.address(), m_function).has_value(), "no function");
        unsigned place = 0;
        for (MemoryDisk& disk : m_disks)
            m_function.attach(place++, {"ide", disk, std::make_unique<FixedDelay>(), {}});
        config_write(4, 2, 5);
    }

    void act() {
        const u8 what = m_input.take<u8>();
        const unsigned channel = what >> 4 & 1;
        switch (what & 15) {
        case 0: raw(channel); break;
        case 1: command(channel, true); break;
        case 2: command(channel, false); break;
        case 3: move_data(channel, what); break;
        case 4: bus_master(channel, what); break;
        case 5: write_table(what); break;
        case 6:
        case 7: finish(m_input.below(m_disks.size())); break;
        case 8:
            if (m_completions.waiting() != 0)
                m_completions.deliver(m_input.below(m_completions.waiting()));
            break;
        case 9: config_write(m_input.take<u8>(), 1U << (what >> 5 & 1), m_input.take<u16>()); break;
        case 10:
        case 11: // as a driver does it
            write_table(what);
            bus_master_out(channel, 4, table, 4);
            bus_master_out(channel, 0, what & 0x20 ? 8 : 0);
            issue(channel, what & 0x20 ? 0xc8 : 0xca, m_input.below(600), 1 + (what >> 6),
                  what >> 5 & 1);
            bus_master_out(channel, 0, what & 0x20 ? 9 : 1);
            break;
        default: surroundings(channel, what >> 5 & 7); break;
        }
    }

    void check() {
        require(m_completions.known <= 2, "more completions than channels");
        for (MemoryDisk& disk : m_disks)
            require(disk.uncommitted == 0, "a request is not handed to the host");
        require(m_disks[0].under_way() + m_disks[1].under_way() <= 1,
                "two requests of one channel");
        require(m_disks[2].under_way() <= 1, "two requests of one disk");
        for (unsigned channel = 0; channel < 2; ++channel) {
            const unsigned under_way = channel == 0
                                           ? m_disks[0].under_way() + m_disks[1].under_way()
                                           : m_disks[2].under_way();
            // The disks that are there answer, if they may.
            if (m_ports.name_at(control_port[channel]).empty()) continue;
            const auto status = static_cast<u8>(m_ports.read(control_port[channel], 1));
            if (status == 0x7f || status == 0) {
                require(under_way == 0, "no disk works");
                continue;
            }
            require(under_way == 0 || (status & bsy) != 0, "the host works and the disk is idle");
            require((status & bsy) == 0 || !m_wires.level[14 + channel], "busy and interrupting");
            require((status & (bsy | drq)) != (bsy | drq), "busy and asking for data");
        }
    }

    /// Whatever has happened, a reset leaves nothing behind, and a sound driver gets on.
    void finish() {
        m_completions.hold = false;
        config_write(0x40, 2, 0x8000);
        config_write(0x42, 2, 0x8000);
        config_write(0x20, 4, bus_master_port);
        config_write(4, 2, 5);
        for (MemoryDisk& disk : m_disks)
            disk.failure.reset();
        for (unsigned channel = 0; channel < 2; ++channel) {
            m_ports.write(control_port[channel], 1, 4);
            bus_master_out(channel, 0, 0);
            m_ports.write(control_port[channel], 1, 0);
        }
        require(m_completions.known == 0, "a reset leaves completions behind");
        for (MemoryDisk& disk : m_disks) {
            disk.reap();
            require(disk.under_way() == 0, "requests go on after a reset");
        }
        for (unsigned channel = 0; channel < 2; ++channel) {
            require(m_ports.read(command_port[channel] + 7, 1) == 0x50, "a reset does not end");
            require(!m_wires.level[14 + channel], "a reset leaves an interrupt");
            MemoryDisk& disk = m_disks[channel * 2];
            const ide::PrdEntry entry{buffer, 512, ide::PrdEntry::end_of_table};
            require(m_memory->write_object(Gpa(table), entry), "no memory");
            bus_master_out(channel, 4, table, 4);
            bus_master_out(channel, 2, 6);
            bus_master_out(channel, 0, 8);
            issue(channel, 0xc8, 3, 1, 0);
            bus_master_out(channel, 0, 9);
            disk.reap();
            require(m_ports.read(static_cast<u16>(bus_master_port + 8 * channel + 2), 1) % 8 == 4,
                    "no transfer after a reset");
            require(m_wires.level[14 + channel], "no interrupt after a reset");
            require(m_ports.read(command_port[channel] + 7, 1) == 0x50, "no success after a reset");
            std::array<u8, 512> sector{};
            require(m_memory->read(Gpa(buffer), std::as_writable_bytes(std::span(sector))),
                    "no memory");
            require(std::equal(sector.begin(), sector.end(), disk.contents.begin() + 3 * 512),
                    "other data than the disk's");
        }
    }

private:
    void config_write(unsigned offset, unsigned size, u32 value) {
        offset &= ~(size - 1);
        m_segment.write(m_function.address(), offset, size, value);
        require(m_segment.read(m_function.address(), 0, 4) == 0x7010'8086, "the identity changed");
    }
    void raw(unsigned channel) {
        constexpr u64 span = 0x18;
        const Access access = take_access(m_input, span);
        // The command block, the control block behind it, the bus master.
        const u64 port = access.offset < 8    ? command_port[channel] + access.offset
                         : access.offset == 8 ? control_port[channel]
                                              : bus_master_port + (access.offset & 15);
        const unsigned size = std::min(access.size, 4U);
        const auto at = static_cast<u16>(port);
        if (access.write)
            m_ports.write(at, size, access.value & byte_mask(size));
        else
            static_cast<void>(m_ports.read(at, size));
    }
    void out(unsigned channel, unsigned reg, u64 value) {
        m_ports.write(static_cast<u16>(command_port[channel] + reg), 1, value & 0xff);
    }
    void bus_master_out(unsigned channel, unsigned reg, u64 value, unsigned size = 1) {
        m_ports.write(static_cast<u16>(bus_master_port + 8 * channel + reg), size, value);
    }
    void issue(unsigned channel, unsigned opcode, u64 lba, u64 count, unsigned device) {
        out(channel, 6, 0xe0 | device << 4);
        // Both halves: commands of 28 bits have no use for the first.
        for (const unsigned shift : {24U, 0U}) {
            out(channel, 2, count >> (shift / 3));
            for (unsigned i = 0; i < 3; ++i)
                out(channel, 3 + i, lba >> (shift + 8 * i));
        }
        out(channel, 7, opcode);
    }
    void command(unsigned channel, bool sound) {
        const u8 shape = m_input.take<u8>();
        const u8 opcode = sound ? opcodes[shape % opcodes.size()] : m_input.take<u8>();
        out(channel, 1, sound ? (opcode == 0xef ? m_input.take<u8>() : 1) : m_input.take<u8>());
        const u64 lba = sound ? m_input.below(disk_bytes / 512 + 8) : m_input.number();
        const u64 count = sound ? m_input.below(40) : m_input.number();
        issue(channel, opcode, lba, count, shape >> 7);
    }
    /// Many words through the data port.
    void move_data(unsigned channel, u8 what) {
        const unsigned size = what & 0x20 ? 4 : 2;
        const u64 count = (u64{m_input.take<u8>()} + 1) << (what >> 6);
        for (u64 i = 0; i < count; ++i) {
            const auto status = static_cast<u8>(m_ports.read(control_port[channel], 1));
            if ((status & drq) == 0 || (status & bsy) != 0) break;
            for (unsigned k = 0; k < 32; ++k) {
                static_cast<void>(m_ports.read(command_port[channel], size));
                m_ports.write(command_port[channel], size, 0xa5a5'5a5a & byte_mask(size));
            }
        }
    }
    void bus_master(unsigned channel, u8 what) {
        switch (what >> 5) {
        case 0: bus_master_out(channel, 4, m_input.number() & 0xffff'ffff, 4); break;
        case 1: bus_master_out(channel, 4, table, 4); break;
        case 2: bus_master_out(channel, 2, m_input.take<u8>()); break;
        case 3: bus_master_out(channel, 0, 0); break;
        case 4: bus_master_out(channel, 0, 1); break;
        case 5: bus_master_out(channel, 0, 9); break;
        case 6: bus_master_out(channel, 0, 8); break;
        default: bus_master_out(channel, 0, m_input.take<u8>()); break;
        }
    }
    /// Entries at the usual place; some lead nowhere, or to the table itself.
    void write_table(u8 what) {
        for (u64 i = 0, count = 1 + (what >> 6); i < count; ++i) {
            const u8 shape = m_input.take<u8>();
            ide::PrdEntry entry;
            entry.base = static_cast<u32>((shape & 7) == 0   ? m_input.number()
                                          : (shape & 7) == 1 ? table
                                          : (shape & 7) == 2 ? memory_bytes - 512
                                                             : buffer + u64{shape} * 256);
            entry.count = static_cast<u16>((shape & 0x18) == 0 ? m_input.number() : 512);
            if (i + 1 == count && (shape & 0xe0) != 0) entry.flags = ide::PrdEntry::end_of_table;
            require(m_memory->write_object(Gpa(table + 8 * i), entry), "no memory");
        }
    }
    void finish(std::size_t disk) {
        if (m_disks[disk].under_way() == 0) return;
        // The host has guest memory only while the bus master is active.
        const unsigned port = bus_master_port + 8 * static_cast<unsigned>(disk / 2) + 2;
        const bool known = m_ports.name_at(port) == "ide-bar4";
        const bool active = known && (m_ports.read(static_cast<u16>(port), 1) & 1) != 0;
        const u64 before = m_listener.calls;
        m_disks[disk].finish(0);
        require(m_listener.calls == before || active || !known, "DMA without a bus master");
    }
    void surroundings(unsigned channel, unsigned what) {
        switch (what) {
        case 0: m_completions.hold = !m_completions.hold; break;
        case 1: m_disks[channel * 2].failure = static_cast<BlockStatus>(m_input.below(5)); break;
        case 2: m_disks[channel * 2].failure.reset(); break;
        case 3: m_ports.write(control_port[channel], 1, m_input.take<u8>()); break;
        case 4: m_ports.write(control_port[channel], 1, 4); break;
        case 5: m_ports.write(control_port[channel], 1, 0); break;
        case 6: config_write(4, 2, m_input.flag() ? 5 : 1); break;
        default: static_cast<void>(m_ports.read(command_port[channel] + 7, 1)); break;
        }
    }

    Input& m_input;
    std::optional<GuestMemory> m_memory = *GuestMemory::create(memory_bytes);
    Listener m_listener;
    PortBus m_ports;
    MmioBus m_mmio;
    ApicBus m_messages;
    PciDecoder m_decoder{m_ports, m_mmio};
    PciSegment m_segment;
    WireTap m_wires;
    HeldCompletions m_completions;
    std::array<MemoryDisk, 3> m_disks{MemoryDisk(disk_bytes), MemoryDisk(disk_bytes),
                                      MemoryDisk(disk_bytes)};
    ide::Function m_function{PciSlot{{0, 1, 1}, m_decoder, m_messages, InterruptLine(), 0},
                             "ide",
                             m_completions,
                             {m_wires.line(14), m_wires.line(15)},
                             *m_memory,
                             &m_listener};
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    Guest guest(input);
    while (!input.empty()) {
        guest.act();
        guest.check();
    }
    guest.finish();
    return 0;
}
