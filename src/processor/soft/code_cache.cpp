// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/code_cache.h"

#include "base/verify.h"
#include "processor/soft/cpu.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>

namespace gnomon::processor::soft {

namespace {

/// Bytes of code memory for which there is a byte for sites; they take about a fifth of the code.
constexpr std::size_t code_per_site_byte = 2;
/// How much of a part's newest code stays in the writable mapping: links are patched there first.
constexpr std::size_t kept_writable = 1024 * 1024;
/// The share of the code memory that is for cold code.
constexpr std::size_t cold_share = 4;

constexpr u32 jump_length = 5; // E9, rel32

u64 straddle_key(Gpa frame, u16 offset) { return frame.frame_number() << page_shift | offset; }

} // namespace

void CodeChunks::add(Gpa frame, u64 chunks) {
    const Place place = place_of(frame);
    Directory& d = place.monitor ? m_monitor : m_ram;
    if (place.group >= d.size()) d.resize(place.group + 1);
    if (d[place.group] == nullptr) d[place.group] = std::make_unique<Group>();
    (*d[place.group])[place.index] |= chunks;
}

void CodeChunks::clear(Gpa frame) {
    const Place place = place_of(frame);
    Directory& d = place.monitor ? m_monitor : m_ram;
    if (place.group < d.size() && d[place.group] != nullptr) (*d[place.group])[place.index] = 0;
}

void CodeChunks::clear() {
    m_ram.clear();
    m_monitor.clear();
}

Result<std::unique_ptr<CodeCache>> CodeCache::create(std::size_t bytes, unsigned pages) {
    VERIFY(pages >= 2 && pages <= code_page_limit);
    std::unique_ptr<CodeCache> cache(new CodeCache);
    cache->m_page_limit = pages;
    cache->m_fd = FileDescriptor(::memfd_create("gnomon-code", MFD_CLOEXEC));
    if (!cache->m_fd || ::ftruncate(cache->m_fd.get(), static_cast<off_t>(bytes)) != 0)
        return fail("cannot create {} MiB of code memory: {}", bytes >> 20, std::strerror(errno));
    auto writable = GuardedMapping::create(
        bytes, {.protection = PROT_READ | PROT_WRITE, .descriptor = cache->m_fd.get()});
    if (!writable)
        return fail("cannot map {} MiB of code memory: {}", bytes >> 20,
                    std::strerror(writable.error()));
    auto executable = GuardedMapping::create(
        bytes,
        {.protection = PROT_READ | PROT_EXEC, .descriptor = cache->m_fd.get(), .below_2gib = true});
    if (!executable)
        return fail("cannot map {} MiB of executable memory below 2 GiB: {}", bytes >> 20,
                    std::strerror(executable.error()));
    auto sites = GuardedMapping::create(bytes / code_per_site_byte,
                                        {.protection = PROT_READ | PROT_WRITE, .below_2gib = true});
    if (!sites)
        return fail("cannot map {} MiB of memory below 2 GiB: {}",
                    (bytes / code_per_site_byte) >> 20, std::strerror(sites.error()));
    cache->m_sites = std::move(*sites);
    cache->m_writable_mapping = std::move(*writable);
    cache->m_executable_mapping = std::move(*executable);
    cache->m_size = bytes;
    // SAFETY: bytes as bytes.
    cache->m_writable = reinterpret_cast<u8*>(cache->m_writable_mapping.base());
    cache->m_executable =
        static_cast<u32>(reinterpret_cast<std::uintptr_t>(cache->m_executable_mapping.base()));
    const std::size_t cold_begin = (bytes - bytes / cold_share) & ~page_offset_mask;
    cache->m_areas = {Area{0, 0, cold_begin, 0}, Area{cold_begin, cold_begin, bytes, cold_begin}};
    return cache;
}

void CodeCache::advance(CodePart part, std::size_t frontier) {
    Area& area = m_areas[static_cast<unsigned>(part)];
    VERIFY(frontier >= area.used && frontier <= area.end);
    area.used = frontier;
    if (frontier - area.released < 2 * kept_writable) return;
    // All of it again, since links have been patched there meanwhile.
    area.released = (frontier - kept_writable) & ~page_offset_mask;
    // SAFETY: pages of a shared mapping: their contents stay in the memfd, and come back when they
    // are touched. That it fails costs memory only.
    ::madvise(m_writable + area.begin, area.released - area.begin, MADV_DONTNEED);
}

std::size_t CodeCache::used() const {
    std::size_t sum = 0;
    for (const Area& area : m_areas)
        sum += area.used - area.begin;
    return sum;
}

void* CodeCache::raw(std::size_t size, std::size_t alignment) {
    const std::size_t begin = (m_sites_used + alignment - 1) / alignment * alignment;
    VERIFY(begin + size <= m_sites.size());
    m_sites_used = begin + size;
    return m_sites.base() + begin;
}

PageCode* CodeCache::page(Gpa frame, Mode mode) {
    if (PageCode* known = find_page(frame, mode); known != nullptr) return known;
    u32 base_slot = 0;
    if (!mode.has(Mode::single)) {
        const bool monitor = mode.set() == TlbSet::monitor;
        unsigned& used = m_slots_used[monitor ? 1 : 0];
        if (used == (monitor ? monitor_code_page_limit : m_page_limit)) return nullptr;
        base_slot = static_cast<u32>(
            (monitor ? offsetof(Cpu, monitor_base_slots) : base_slots_offset) + 8 * used++);
    }
    auto page = std::make_unique<PageCode>();
    page->frame = frame;
    page->mode = mode;
    page->base_slot = base_slot;
    page->storage = std::make_unique_for_overwrite<u32[]>(1 + page_size);
    page->entries = page->storage.get() + 1;
    page->entries[-1] = base_slot;
    std::fill_n(page->entries, page_size, m_entry_miss);
    return (m_pages[page_key(frame, mode)] = std::move(page)).get();
}

void CodeCache::add(Block block, std::span<const Mark> marks, bool findable) {
    block.first_mark = static_cast<u32>(m_marks.size());
    block.mark_count = static_cast<u32>(marks.size());
    m_marks.insert(m_marks.end(), marks.begin(), marks.end());
    FrameCode& frame = m_code_frames[block.page->frame.frame_number()];
    if (std::find(frame.pages.begin(), frame.pages.end(), block.page) == frame.pages.end())
        frame.pages.push_back(block.page);
    if (findable) {
        PageCode& page = *block.page;
        set_entry(page, block.offset, block.entry);
        page.live.emplace_back(block.offset, block.entry);
        if (const auto old = page.dropped.find(block.offset); old != page.dropped.end()) {
            lead_away(old->second, block.entry);
            page.dropped.erase(old);
        }
    }
    m_block_list.push_back(block);
}

/// Has what jumps to `entry` go on at `target`. No code of the block but its entry is touched.
void CodeCache::lead_away(u32 entry, u32 target) {
    constexpr u8 jump = 0xe9; // rel32
    *writable(entry) = jump;
    patch(entry + jump_length, target);
}

void CodeCache::set_entry(PageCode& page, u16 offset, u32 entry) {
    const auto call = page.calls.find(offset);
    if (call != page.calls.end())
        route_by_pad(page, offset, call->second, entry);
    else
        page.entries[offset] = entry;
}

void CodeCache::add_call(PageCode& page, u16 return_offset, const CallTail& tail) {
    const auto [it, added] = page.calls.try_emplace(return_offset, tail);
    if (!added) return;
    if (tail.site != nullptr) m_call_sites.emplace(tail.pad, tail.site);
    if (const u32 e = page.entries[return_offset]; e != m_entry_miss)
        route_by_pad(page, return_offset, it->second, e);
}

void CodeCache::route_by_pad(PageCode& page, u16 offset, CallTail& tail, u32 entry) {
    patch(tail.pad + jump_length, entry);
    tail.entry = entry;
    page.entries[offset] = tail.pad;
}

const Block* CodeCache::containing(u32 address) const {
    const bool cold = address - m_executable >= area(CodePart::cold).begin;
    const u32 Block::*const begin = cold ? &Block::cold_begin : &Block::begin;
    const u32 Block::*const end = cold ? &Block::cold_end : &Block::end;
    auto it = std::upper_bound(m_block_list.begin(), m_block_list.end(), address,
                               [begin](u32 a, const Block& b) { return a < b.*begin; });
    if (it == m_block_list.begin()) return nullptr;
    --it;
    return address < (*it).*end ? &*it : nullptr;
}

std::optional<u16> CodeCache::guest_offset(u32 address) const {
    if (const Block* block = containing(address)) {
        if (address - block->begin >= block->end - block->begin) return std::nullopt; // cold
        const auto first = m_marks.begin() + block->first_mark, last = first + block->mark_count;
        auto it =
            std::upper_bound(first, last, address, [](u32 a, const Mark& m) { return a < m.host; });
        if (it != first) return (it - 1)->page_offset;
        return std::nullopt;
    }
    auto it = std::upper_bound(m_twins.begin(), m_twins.end(), address,
                               [](u32 a, const Twin& t) { return a < t.begin; });
    if (it == m_twins.begin()) return std::nullopt;
    --it;
    return address < it->end ? std::optional(it->page_offset) : std::nullopt;
}

void CodeCache::add_twin(u32 begin, u32 end, u16 page_offset) {
    m_twins.push_back({begin, end, page_offset});
}

u32 CodeCache::straddling_entry(PageCode& page, u16 offset, Gpa second, bool findable) {
    const auto [first, last] = m_straddlers.equal_range(straddle_key(page.frame, offset));
    for (auto it = first; it != last; ++it) {
        const Straddler& s = it->second;
        if (s.page != &page || s.second != second) continue;
        if (findable) set_entry(page, offset, s.entry);
        return s.unchecked_entry;
    }
    return 0;
}

void CodeCache::add_straddling(const Block& block, Gpa second) {
    m_straddlers.emplace(
        straddle_key(block.page->frame, block.offset),
        Straddler{block.page, block.offset, second, block.entry, block.unchecked_entry});
    m_code_frames[block.page->frame.frame_number()].straddled = true;
    m_code_frames[second.frame_number()].straddled = true;
}

void CodeCache::note_code_bytes(Gpa frame, u32 begin, u32 end) {
    m_chunks.add(frame, chunk_mask(begin, end));
}

void CodeCache::drop(Gpa frame) {
    const auto it = m_code_frames.find(frame.frame_number());
    if (it == m_code_frames.end()) return;
    for (PageCode* page : it->second.pages) {
        std::fill_n(page->entries, page_size, m_entry_miss);
        page->calls.clear();
        for (const auto& [offset, entry] : page->live) {
            lead_away(entry, m_find[static_cast<unsigned>(page->mode.set())]);
            page->dropped[offset] = entry;
        }
        page->live.clear();
    }
    if (it->second.straddled)
        std::erase_if(m_straddlers, [&](const auto& item) {
            const Straddler& s = item.second;
            if (s.page->frame != frame.page() && s.second != frame.page()) return false;
            if (entry(*s.page, s.offset) == s.entry) s.page->entries[s.offset] = m_entry_miss;
            if (std::erase(s.page->live, std::pair(s.offset, s.entry)) != 0) {
                lead_away(s.entry, m_find[static_cast<unsigned>(s.page->mode.set())]);
                s.page->dropped[s.offset] = s.entry;
            }
            return true;
        });
    m_code_frames.erase(it);
    m_chunks.clear(frame);
}

void CodeCache::flush() {
    for (Area& area : m_areas)
        area.used = area.released = area.begin;
    m_areas[static_cast<unsigned>(CodePart::hot)].used = m_thunks_end;
    m_pages.clear();
    m_slots_used[0] = m_slots_used[1] = 0;
    m_call_sites.clear();
    m_code_frames.clear();
    m_chunks.clear();
    m_straddlers.clear();
    m_block_list.clear();
    m_marks.clear();
    m_twins.clear();
    m_sites_used = 0;
}

} // namespace gnomon::processor::soft
