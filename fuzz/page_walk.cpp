// SPDX-License-Identifier: Apache-2.0
/// @file The reader's walk of hostile page tables beside the strict walker's, which follows the
/// architecture and shares no code with it.
#include "guest/linux/page_walk.h"
#include "fuzz/support/input.h"
#include "monitor/shadow/strict_walker.h"

#include <vector>

using namespace gnomon;
using namespace gnomon::fuzz;
namespace linux_ = gnomon::guest::linux_;

namespace {

constexpr u64 memory_bytes = u64{1} << 20;

GuestMemory& memory() {
    static GuestMemory shared = std::move(GuestMemory::create(memory_bytes).value());
    return shared;
}

/// A table in the first 16 pages of memory, a page or nowhere, with rights and reserved bits.
u64 take_entry(Input& input) {
    const u8 shape = input.take<u8>();
    if (shape < 8) return input.number();
    u64 entry = u64{shape & 15U} << page_shift | 0x27;
    const u8 flags = input.take<u8>();
    if ((flags & 0x07) == 0) entry |= 0x80;                             // a large page
    if ((flags & 0x38) == 0) entry &= ~u64{1};                          // not present
    if ((flags & 0x18) == 0x18) entry ^= u64{2};                        // read-only
    if ((flags & 0x22) == 0x22) entry ^= u64{4};                        // supervisor
    if ((flags & 0xc0) == 0xc0) entry |= u64{1} << 63;                  // not executable
    if (flags == 0xff) entry |= u64{1} << (40 + input.take<u8>() % 12); // a reserved bit
    if (flags == 0xfe) entry |= u64{1} << (13 + input.take<u8>() % 17);
    return entry;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    std::memset(memory().base(), 0, 16 * page_size);
    const u64 cr3 = input.below(18) << page_shift | (input.take<u8>() & 0x1f);
    const u8 addresses = input.take<u8>() % 8 + 1;
    std::vector<Gva> asked;
    for (u8 i = 0; i < addresses; ++i) {
        const u64 spread = input.number();
        asked.emplace_back((i & 1) != 0 ? spread
                                        : static_cast<u64>(static_cast<i64>(spread << 16) >> 16));
    }
    // Entries where the walks of these addresses look, and anywhere.
    while (!input.empty()) {
        const u8 where = input.take<u8>();
        const Gva gva = asked[where % asked.size()];
        const unsigned level = where >> 3 & 3;
        const u64 slot =
            (where & 0x80) != 0 ? input.below(512) : gva.value() >> (12 + 9 * level) & 511;
        const u64 entry = take_entry(input);
        require(memory().write_object(Gpa(input.below(16) * page_size + slot * 8), entry), "RAM");
    }
    monitor::PagingState state;
    state.cr0 = u64{1} << 31 | 1;
    state.cr4 = u64{1} << 5;
    state.efer = 0xd00; // LME, LMA, NXE
    state.cr3 = cr3;
    for (const Gva gva : asked) {
        const auto found = linux_::walk(memory(), cr3, gva);
        const auto canonical = static_cast<u64>(static_cast<i64>(gva.value() << 16) >> 16);
        if (canonical != gva.value()) {
            require(!found, "an address that is not canonical is translated");
            continue;
        }
        const auto strict = monitor::StrictWalker::translate(memory(), state, gva);
        require(found.has_value() == !strict.fault, "the walks differ in what is mapped");
        if (!found) continue;
        const auto& t = strict.translation;
        require(found->address == t.frame + gva.page_offset(), "the walks differ in the address");
        require(found->writable == t.writable && found->user == t.user &&
                    found->execute_disabled == !t.executable,
                "the walks differ in the rights");
        require(found->page_bytes == page_size << (9 * (t.leaf_level - 1)),
                "the walks differ in the page's size");
        require(linux_::translate(memory(), cr3, gva) == found->address, "translate is not walk");

        // A reader stops where the walk does.
        std::array<std::byte, 64> bytes;
        const bool all_there = [&] {
            for (const u64 offset : {u64{0}, u64{63}}) {
                const auto there = linux_::walk(memory(), cr3, gva + offset);
                if (!there || !memory().is_ram(there->address)) return false;
            }
            return gva.range_fits(bytes.size());
        }();
        require(linux_::PageTableReader(memory(), cr3).read(gva, bytes) == all_there,
                "the reader does not read what is mapped");
        if (!found->user)
            require(!linux_::PageTableReader(memory(), cr3, linux_::PageTableReader::Access::user)
                         .read(gva, bytes),
                    "the reader of user memory reads the kernel's");
    }
    return 0;
}
