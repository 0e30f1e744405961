// SPDX-License-Identifier: Apache-2.0
/// @file The whole board with two processors: accesses of every address, width and value, with time
/// going by and interrupts taken.
#include "platform/board.h"
#include "fuzz/support/machine.h"

using namespace gnomon;
using namespace gnomon::fuzz;

namespace {

/// Ports where something is; the others are tried too.
u16 take_port(Input& input) {
    constexpr std::array<u16, 14> known = {0x20,  0x40,  0x60,  0x64,  0x70,  0xa0,  0x2e8,
                                           0x2f8, 0x3e8, 0x3f8, 0x4d0, 0x600, 0xcf8, 0x61};
    const u8 pick = input.take<u8>();
    if (pick >= 0xf0) return input.take<u16>();
    return static_cast<u16>(known[pick % known.size()] + input.take<u8>() % 16);
}

Gpa take_address(Input& input) {
    const u8 pick = input.take<u8>();
    if ((pick & 3) == 0) return Gpa(input.number());
    const u64 base =
        (pick & 3) == 1 ? platform::layout::io_apic_base : platform::layout::local_apic_base;
    return Gpa(base + (input.take<u16>() & ((pick & 4) != 0 ? 0xff0 : 0xfff)));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    platform::ManualClock clock;
    platform::BoardOptions options;
    options.cpu_count = 2;
    options.memory_bytes = u64{64} << 20;
    options.utc_ns = u64{1} << 60;
    const auto made = platform::Board::create(options, clock);
    require(made.has_value(), "the board cannot be made");
    platform::Board& board = **made;
    platform::InterruptLine line = board.pci_interrupt_line(platform::layout::first_pci_gsi);
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        const unsigned cpu = what >> 7;
        const unsigned width = 1U << (what >> 4 & 3);
        u64 value = 0;
        switch (what & 15) {
        case 0:
        case 1:
        case 2: {
            const u16 port = take_port(input);
            board.port_bus().write(port, width, input.take<u32>() & platform::byte_mask(width));
            break;
        }
        case 3: static_cast<void>(board.port_bus().read(take_port(input), width)); break;
        case 4:
        case 5: {
            const Gpa address = take_address(input);
            board.mmio_write(cpu, address, width, input.number() & platform::byte_mask(width));
            break;
        }
        case 6: static_cast<void>(board.mmio_read(cpu, take_address(input), width)); break;
        case 7: {
            const u32 msr = 0x800 + input.take<u8>() % 0x41;
            static_cast<void>(board.local_apic(cpu).write_msr(msr, input.number()));
            break;
        }
        case 8:
            static_cast<void>(board.local_apic(cpu).write_msr(
                0x1b,
                (what & 0x40) != 0 ? input.number() : 0xfee00000 | u64{input.take<u8>()} << 8));
            break;
        case 9: static_cast<void>(board.local_apic(cpu).read_msr(input.take<u16>(), value)); break;
        case 10:
            board.press_power_button();
            line.set((what & 0x20) != 0);
            break;
        case 11: {
            const std::array<u8, 3> bytes = {'a', what, 'b'};
            static_cast<void>(board.serial(what >> 4 & 3).receive(bytes));
            break;
        }
        case 12: board.set_cr8(cpu, what >> 4); break;
        default: {
            // As a run loop lets time pass.
            const u64 end = clock.now_ns() + take_delay(input);
            for (unsigned i = 0; i < 8; ++i) {
                const auto deadline = board.next_deadline_ns();
                if (!deadline || *deadline > end) break;
                clock.advance_to(*deadline);
                board.run_timers();
            }
            clock.advance_to(end);
            break;
        }
        }
        board.run_timers();
        const auto deadline = board.next_deadline_ns();
        require(!deadline || *deadline > clock.now_ns(), "a deadline is past after it was run");
        for (unsigned i = 0; i < board.cpu_count(); ++i) {
            const bool pending = board.interrupt_pending(i);
            if ((what & 0x40) == 0) continue;
            const auto vector = board.acknowledge_interrupt(i);
            require(vector.has_value() == pending, "what is pending can be taken, and only that");
            if (board.nmi_pending(i)) require(board.take_nmi(i), "an NMI that is not there");
        }
    }
    return 0;
}
