// SPDX-License-Identifier: Apache-2.0
// The code memory's two parts, and what is found by a host address in either.
#include "processor/soft/assembler.h"

#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <string>

namespace gnomon::processor::soft {
namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

std::unique_ptr<CodeCache> make_cache(std::size_t bytes, unsigned pages = code_page_limit) {
    auto cache = CodeCache::create(bytes, pages);
    EXPECT_TRUE(cache.has_value()) << cache.error().message;
    return std::move(*cache);
}

/// Adds a block of `hot` and `cold` NOPs, with marks at its first and its middle byte.
Block add_block(CodeCache& cache, PageCode& page, u16 offset, unsigned hot, unsigned cold) {
    Assembler a(cache);
    Block block;
    block.page = &page;
    block.offset = offset;
    block.begin = block.entry = a.here();
    a.nop(hot, false);
    block.end = a.here();
    a.switch_to(CodePart::cold);
    block.cold_begin = a.here();
    a.nop(cold, false);
    block.cold_end = a.here();
    EXPECT_EQ(a.commit(), hot + cold);
    const Mark marks[] = {{block.entry, offset},
                          {block.entry + hot / 2, static_cast<u16>(offset + 3)}};
    cache.add(block, marks, true);
    return block;
}

TEST(CodeParts, HotCodeIsDense) {
    const auto cache = make_cache(mib);
    PageCode& page = *cache->page(Gpa(0x1000), Mode{});
    const Block first = add_block(*cache, page, 0, 20, 30);
    const Block second = add_block(*cache, page, 0x10, 40, 10);
    EXPECT_EQ(second.entry, first.end);
    EXPECT_EQ(second.cold_begin, first.cold_end);
    EXPECT_GT(first.cold_begin, second.end);
    EXPECT_EQ(cache->used(), 100U);
}

TEST(CodeParts, BlocksAndInstructionsAreFoundByAddressesInEither) {
    const auto cache = make_cache(mib);
    PageCode& page = *cache->page(Gpa(0x1000), Mode{});
    const Block first = add_block(*cache, page, 0, 20, 30);
    // A twin between the blocks' cold code.
    Assembler twin(*cache, CodePart::cold);
    const u32 twin_begin = twin.here();
    twin.nop(8, false);
    const u32 twin_end = twin.here();
    EXPECT_EQ(twin.commit(), 8U);
    cache->add_twin(twin_begin, twin_end, 0x77);
    const Block second = add_block(*cache, page, 0x10, 40, 10);
    cache->drop(Gpa(0x1000)); // it may still be running

    const auto offset_of = [&](u32 address) {
        const Block* block = cache->containing(address);
        return block != nullptr ? int{block->offset} : -1;
    };
    for (const Block& block : {first, second}) {
        for (const u32 address : {block.entry, block.end - 1, block.cold_begin, block.cold_end - 1})
            EXPECT_EQ(offset_of(address), block.offset) << address - block.entry;
        EXPECT_EQ(cache->guest_offset(block.entry), block.offset);
        EXPECT_EQ(cache->guest_offset(block.end - 1), block.offset + 3);
        EXPECT_EQ(cache->guest_offset(block.cold_begin), std::nullopt);
    }
    EXPECT_EQ(offset_of(first.entry - 1), -1);
    EXPECT_EQ(offset_of(second.end), -1);
    EXPECT_EQ(offset_of(second.cold_end), -1);
    for (const u32 address : {twin_begin, twin_end - 1}) {
        EXPECT_EQ(offset_of(address), -1);
        EXPECT_EQ(cache->guest_offset(address), 0x77);
    }
}

TEST(CodeParts, AFlushEmptiesBothAndKeepsTheThunks) {
    const auto cache = make_cache(mib);
    Assembler thunks(*cache);
    thunks.nop(64, false);
    thunks.commit();
    cache->seal_thunks(cache->thunks_end(), {});
    const std::size_t hot_room = cache->room(CodePart::hot),
                      cold_room = cache->room(CodePart::cold);
    const std::size_t site_room = cache->site_room();
    const Block before = add_block(*cache, *cache->page(Gpa(0x1000), Mode{}), 0, 20, 30);
    EXPECT_LT(reinterpret_cast<std::uintptr_t>(cache->allocate<AccessSite>()), u64{1} << 31);
    EXPECT_EQ(cache->room(CodePart::hot), hot_room - 20);
    EXPECT_EQ(cache->room(CodePart::cold), cold_room - 30);
    EXPECT_EQ(cache->site_room(), site_room - sizeof(AccessSite));
    cache->flush();
    EXPECT_EQ(cache->room(CodePart::hot), hot_room);
    EXPECT_EQ(cache->room(CodePart::cold), cold_room);
    EXPECT_EQ(cache->site_room(), site_room);
    EXPECT_EQ(cache->containing(before.entry), nullptr);
    EXPECT_EQ(cache->containing(before.cold_begin), nullptr);
    EXPECT_EQ(add_block(*cache, *cache->page(Gpa(0x1000), Mode{}), 0, 20, 30).entry, before.entry);
}

/// Where the jump that was put at `entry` leads, or 0.
u32 jump_target(CodeCache& cache, u32 entry) {
    u32 relative = 0;
    std::memcpy(&relative, cache.writable(entry) + 1, sizeof relative);
    return *cache.writable(entry) == 0xe9 ? entry + 5 + relative : 0;
}

/// Jumps from other pages lead to entries, and are not known to anyone.
TEST(CodeParts, EntriesOfDroppedBlocksLeadOn) {
    const auto cache = make_cache(mib);
    Assembler thunks(*cache);
    thunks.nop(64, false);
    const u32 first_thunk = thunks.here() - 64;
    thunks.commit();
    cache->seal_thunks(first_thunk,
                       {first_thunk + 1, first_thunk + 2, first_thunk + 3, first_thunk + 4});
    PageCode& page =
        *cache->page(Gpa(0x1000), Mode{static_cast<u16>(TlbSet::supervisor) | Mode::code64});
    const Block first = add_block(*cache, page, 0, 20, 30);
    const Block other = add_block(*cache, page, 0x40, 20, 30);
    const Block kept = add_block(*cache, *cache->page(Gpa(0x2000), Mode{Mode::code64}), 0, 20, 30);
    EXPECT_EQ(jump_target(*cache, first.entry), 0U);
    cache->drop(Gpa(0x1000));
    EXPECT_EQ(jump_target(*cache, first.entry), first_thunk + 2) << "that of its set";
    EXPECT_EQ(jump_target(*cache, other.entry), first_thunk + 2);
    EXPECT_EQ(jump_target(*cache, kept.entry), 0U);
    const Block again = add_block(*cache, page, 0, 20, 30);
    EXPECT_EQ(jump_target(*cache, first.entry), again.entry);
    EXPECT_EQ(jump_target(*cache, other.entry), first_thunk + 2);
    cache->drop(Gpa(0x1000));
    EXPECT_EQ(jump_target(*cache, first.entry), again.entry);
    EXPECT_EQ(jump_target(*cache, again.entry), first_thunk + 2);
}

TEST(CodeParts, PagesHavePlacesForTheirBasesUntilThereAreNoMore) {
    const auto cache = make_cache(mib, 3);
    const Mode user{Mode::code64}, single{Mode::code64 | Mode::single};
    const Mode monitor{static_cast<u16>(TlbSet::monitor) | Mode::code64};
    for (u64 n = 0; n < 3; ++n) {
        PageCode* page = cache->page(Gpa(n * page_size), user);
        ASSERT_NE(page, nullptr);
        EXPECT_EQ(page->base_slot, base_slots_offset + 8 * n);
        EXPECT_EQ(page->entries[-1], page->base_slot);
    }
    EXPECT_EQ(cache->page(Gpa(3 * page_size), user), nullptr);
    EXPECT_EQ(cache->find_page(Gpa(3 * page_size), user), nullptr);
    EXPECT_NE(cache->page(Gpa(2 * page_size), user), nullptr) << "there already";
    EXPECT_EQ(cache->page(Gpa(3 * page_size), single)->base_slot, 0U);
    for (u64 n = 0; n < monitor_code_page_limit; ++n)
        EXPECT_EQ(cache->page(Gpa(n * page_size), monitor)->base_slot,
                  GNOMON_CPU(monitor_base_slots) + 8 * n);
    EXPECT_EQ(cache->page(Gpa(monitor_code_page_limit * page_size), monitor), nullptr);
    cache->flush();
    EXPECT_NE(cache->page(Gpa(3 * page_size), user), nullptr);
    EXPECT_NE(cache->page(Gpa(monitor_code_page_limit * page_size), monitor), nullptr);
}

/// Bytes of the mapping that begins at `begin` that are resident, by /proc/self/smaps.
std::size_t resident(const void* begin) {
    std::ifstream smaps("/proc/self/smaps");
    const auto address = reinterpret_cast<std::uintptr_t>(begin);
    bool there = false;
    for (std::string line; std::getline(smaps, line);) {
        if (const std::size_t dash = line.find('-'); dash != 0 && dash < line.find(' '))
            there = std::stoull(line, nullptr, 16) == address;
        else if (there && line.starts_with("Rss:"))
            return std::stoull(line.substr(4)) * 1024;
    }
    return 0;
}

TEST(CodeParts, FinishedCodeIsResidentOnceAndStaysAsItIs) {
    const auto cache = make_cache(20 * mib);
    std::vector<u32> jumps;
    constexpr std::size_t piece = 1000;
    while (cache->frontier(CodePart::hot) < 10 * mib) {
        Assembler a(*cache);
        jumps.push_back(a.jump_later());
        a.nop(piece - 5, false);
        a.commit();
    }
    EXPECT_LT(resident(cache->memory().data()), 4 * mib);
    // What was written is there, and can be patched.
    for (std::size_t n = 0; n < jumps.size(); ++n)
        cache->patch(jumps[n], jumps[n] + static_cast<u32>(n));
    for (std::size_t n = 0; n < jumps.size(); ++n) {
        // SAFETY: executable memory may be read.
        const auto* code = reinterpret_cast<const u8*>(static_cast<std::uintptr_t>(jumps[n])) - 5;
        u32 distance = 0;
        std::memcpy(&distance, code + 1, sizeof distance);
        ASSERT_EQ(code[0], 0xe9) << n;
        ASSERT_EQ(distance, n);
        ASSERT_EQ(code[piece - 1], 0x90) << n;
    }
    EXPECT_GT(resident(cache->memory().data()), 9 * mib) << "the patches brought it back";
    for (std::size_t added = 0; added < 2 * mib; added += piece) {
        Assembler a(*cache);
        a.nop(piece, false);
        a.commit();
    }
    EXPECT_LT(resident(cache->memory().data()), 4 * mib) << "and it goes again";
}

} // namespace
} // namespace gnomon::processor::soft
