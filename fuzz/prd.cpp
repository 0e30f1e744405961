// SPDX-License-Identifier: Apache-2.0
/// @file The bus master's physical region descriptors: tables of any content against a second
/// reading of the specification, which goes word by word.
#include "platform/ide/prd.h"
#include "fuzz/support/input.h"

#include <vector>

using namespace gnomon;
using namespace gnomon::fuzz;
using platform::Dma;
using platform::ide::PrdEntry;
using platform::ide::PrdResult;
using platform::ide::Region;

namespace {

constexpr u64 memory_bytes = (u64{1} << 20) + page_size; // its end is no multiple of 64 KiB

struct Expected {
    PrdResult result = PrdResult::too_short;
    std::vector<u32> words; ///< the addresses of the transfer's words, in order
};

/// The incrementers of both the table's and the region's address have 16 bits.
Expected expect(const GuestMemory& memory, u32 table, u64 length) {
    Expected out;
    const auto is_ram = [](u64 at, u64 size) { return at + size <= memory_bytes; };
    u64 at = table & ~u32{3};
    while (true) {
        if ((at & 0xffff) + 8 > 0x10000) return out;
        if (!is_ram(at, 8)) {
            out.result = PrdResult::unreachable;
            return out;
        }
        PrdEntry entry;
        require(memory.read_object(Gpa(at), entry), "no memory");
        u32 address = entry.base & ~u32{1};
        u32 left = entry.count & ~u32{1};
        if (left == 0) left = 0x10000;
        for (; left != 0 && 2 * out.words.size() < length; left -= 2) {
            if (!is_ram(address, 2)) {
                out.result = PrdResult::unreachable;
                return out;
            }
            out.words.push_back(address);
            address = (address & 0xffff'0000) | ((address + 2) & 0xffff);
        }
        const bool last = (entry.flags & 0x8000) != 0;
        if (2 * out.words.size() == length) {
            out.result = last && left == 0 ? PrdResult::exhausted : PrdResult::left_over;
            return out;
        }
        if (last) return out;
        at += 8;
        if ((at & 0xffff) == 0) return out;
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    auto memory = GuestMemory::create(memory_bytes);
    require(memory.has_value(), "no memory");
    const Dma dma(*memory, nullptr);
    const auto address = [&]() -> u32 {
        const u8 shape = input.take<u8>();
        if (shape < 8) return static_cast<u32>(input.number());
        const u32 base = u32{input.take<u8>()} << 12;
        if (shape < 128) return base + (shape & 7) * 2;
        if (shape < 192) return (base | 0xffff) + 1 - (shape & 63) * 8; // below a boundary
        return static_cast<u32>(memory_bytes) - (shape & 63) * 8;
    };
    while (!input.empty()) {
        // Some entries, then some requests.
        for (u64 i = input.below(8); i != 0; --i) {
            u64 at = address() % (memory_bytes - 0x1000) & ~u64{3};
            PrdEntry entry{address(), static_cast<u16>(input.number()), 0};
            const u32 step = input.flag() ? 0x1000 : 2;
            for (u64 k = 1 + input.below(64); k != 0 && at <= memory_bytes - 8; --k, at += 8) {
                if (k == 1 && input.flag()) entry.flags = PrdEntry::end_of_table;
                require(memory->write_object(Gpa(at), entry), "no memory");
                entry.base += step;
            }
        }
        const u32 table = address();
        const u64 length = 2 + 2 * (input.flag() ? input.below(0x100) : input.below(0x10000));
        std::vector<Region> out;
        const PrdResult result = platform::ide::walk_prds(dma, table, length, out);
        const Expected expected = expect(*memory, table, length);
        require(result == expected.result, "another result than expected");
        if (result != PrdResult::exhausted && result != PrdResult::left_over) continue;
        auto word = expected.words.begin();
        for (const Region& region : out) {
            require(region.host == memory->hva(region.gpa, region.size) && region.host != nullptr,
                    "a region is not where it says");
            for (u64 done = 0; done < region.size; done += 2, ++word) {
                require(word != expected.words.end(), "too many bytes");
                require(region.gpa.value() + done == *word, "another place");
            }
        }
        require(word == expected.words.end(), "too few bytes");
    }
    return 0;
}
