// SPDX-License-Identifier: Apache-2.0
/// @file A virtqueue whose rings, descriptors and indirect tables are the input.
#include "fuzz/support/input.h"
#include "platform/virtio/queue.h"

#include <algorithm>

using namespace gnomon;
using namespace gnomon::fuzz;

namespace {

/// Every write must lie in the ring that the device owns.
class UsedRingOnly final : public platform::DmaListener {
public:
    void dma_written(Gpa gpa, u64 size) override {
        require(gpa >= first && size <= end - gpa, "a write outside the used ring");
    }
    Gpa first, end;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    constexpr u64 descriptors = 0x1000, available = 0x2000, used = 0x3000, tables = 0x4000;
    Input input(data, size);
    static auto memory = GuestMemory::create(u64{1} << 20);
    require(memory.has_value(), "no memory");
    std::fill_n(memory->base() + descriptors, 0x5000, std::byte{0}); // whatever was before
    UsedRingOnly listener;
    platform::Dma dma(*memory, &listener);
    platform::VirtioQueue queue(dma);
    const u8 shape = input.take<u8>();
    const auto entries = static_cast<u16>(1U << (shape & 7));
    const platform::VirtioQueue::Setting setting{entries, Gpa(descriptors), Gpa(available),
                                                 Gpa(used)};
    listener.first = Gpa(used);
    listener.end = Gpa(used + 6 + u64{8} * entries);
    require(queue.enable(setting, (shape & 0x10) != 0, (shape & 0x20) != 0), "rings in RAM");
    platform::VirtioChain chain;
    u32 heads = 0;
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        const auto write = [&](u64 at, const auto& value) {
            require(memory->write_object(Gpa(at), value), "a write of the driver's");
        };
        switch (what & 7) {
        case 0: // a descriptor in the ring, or in a table
        case 1:
        case 2: {
            const u64 at = ((what & 8) != 0 ? tables : descriptors) + u64{16} * (what >> 4) +
                           u64{16} * (input.take<u8>() & 0x1f);
            const bool to_table = (input.take<u8>() & 3) == 0;
            write(at, to_table ? u64{tables} : input.number());
            write(at + 8, u32{input.take<u16>()});
            write(at + 12, static_cast<u16>(input.take<u8>() & 15));
            write(at + 14, u16{input.take<u8>()});
            break;
        }
        case 3: write(available + 4 + u64{2} * (what >> 3), input.take<u16>()); break;
        case 4: write(available + 2, input.take<u16>()); break;
        case 5: write(available + 4 + u64{2} * entries, input.take<u16>()); break;
        default: {
            const auto next = queue.pop(chain);
            if (next == platform::VirtioQueue::Next::none) static_cast<void>(queue.ask_for_more());
            if (next != platform::VirtioQueue::Next::chain) break;
            require(++heads <= 0x10000 + size, "chains without end");
            u64 sums[2] = {};
            for (unsigned i = 0; i < 2; ++i)
                for (const platform::VirtioPiece& piece :
                     i == 0 ? chain.readable : chain.writable) {
                    require(piece.size != 0 && piece.host == memory->hva(piece.gpa, piece.size) &&
                                piece.host != nullptr,
                            "a piece outside RAM");
                    sums[i] += piece.size;
                }
            require(sums[0] == chain.readable_size && sums[1] == chain.writable_size, "wrong sums");
            require(sums[0] <= 0xffffffff && sums[1] <= 0xffffffff, "sums that do not fit");
            require(chain.head < entries, "a head that is no descriptor");
            require(queue.push(chain.head, static_cast<u32>(sums[1])), "the ring is there");
            static_cast<void>(queue.wants_interrupt());
        }
        }
    }
    return 0;
}
