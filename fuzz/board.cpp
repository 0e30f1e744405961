// SPDX-License-Identifier: Apache-2.0
/// @file The whole board: accesses of every address, width and value, with time going by.
#include "platform/board.h"

#include <cstring>

using namespace gnomon;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    platform::ManualClock clock;
    platform::BoardOptions options;
    options.memory_bytes = u64{64} << 20;
    auto board = platform::Board::create(options, clock);
    if (!board) return 0;
    struct Step {
        u8 kind, width;
        u16 low;
        u32 value;
    };
    for (; size >= sizeof(Step); data += sizeof(Step), size -= sizeof(Step)) {
        Step s{};
        std::memcpy(&s, data, sizeof s);
        const unsigned width = 1U << (s.width & 3);
        u64 msr = 0;
        switch (s.kind % 8) {
        case 0: (*board)->port_bus().write(s.low, width & 7, s.value); break;
        case 1: (void)(*board)->port_bus().read(s.low, width & 7); break;
        case 2: (*board)->mmio_write(0, Gpa(0xfee00000 + (s.low & 0xfff)), width, s.value); break;
        case 3: (void)(*board)->mmio_read(0, Gpa(0xfee00000 + (s.low & 0xfff)), width); break;
        case 4: (*board)->mmio_write(0, Gpa(0xfec00000 + (s.low & 0xfff)), width, s.value); break;
        case 5: (void)(*board)->local_apic(0).write_msr(0x800U + (s.low & 0xff), s.value); break;
        case 6: (void)(*board)->local_apic(0).read_msr(s.low, msr); break;
        default: clock.advance(s.value); break;
        }
        (*board)->run_timers();
        if ((*board)->interrupt_pending(0)) (void)(*board)->acknowledge_interrupt(0);
        (void)(*board)->next_deadline_ns();
    }
    return 0;
}
