// SPDX-License-Identifier: Apache-2.0
/// @file The code cache: memory for translations, and the index that finds them by guest-physical
/// place.
///
/// Code is written through one mapping of a memfd and run through another: no address is ever both
/// writable and executable. The executable mapping lies below 2 GiB, so that 32 bits name a host
/// code address.
#pragma once

#include "base/address.h"
#include "base/file_descriptor.h"
#include "base/guarded_mapping.h"
#include "base/result.h"
#include "processor/soft/mode.h"

#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <unordered_map>
#include <vector>

namespace gnomon::processor::soft {

struct BranchSite;

/// The host's CALL of one guest CALL, and the jump behind it, its *return pad*. The host predicts
/// that a RET goes to the pad of the last CALL, so while a translation at the guest's return
/// address exists, the entry table names the pad, which jumps there.
struct CallTail {
    u16 page_offset = 0; ///< of the CALL
    u32 begin = 0;       ///< executable address; every translation of the CALL ends by going here
    u32 pad = 0;
    const BranchSite* site = nullptr; ///< of the CALL, if its target may be refused
    u32 entry = 0;                    ///< where the pad jumps; 0: not yet
};

/// Translations that begin in one guest frame, for one mode. `entries` is what indirect branches
/// look into.
struct PageCode {
    Gpa frame;
    Mode mode;
    /// By page offset: executable address of the block's entry, of the return pad that jumps to it,
    /// or of the miss stub. Before the first: base_slot.
    u32* entries = nullptr;
    std::unique_ptr<u32[]> storage; ///< of the entries
    /// Where behind GS the page's base is, if the fetch TLB's current context has an entry for this
    /// page there (the last one filled or used, if it has several), else no_base. 0: there is no
    /// such place, since the page has blocks of one instruction. Translated code is entered by a
    /// comparison with it, and takes its base from it: so where code runs is predicted by the host
    /// as a branch, and what is computed from it does not wait for what RIP was computed from.
    u32 base_slot = 0;
    std::unordered_map<u16, CallTail> calls; ///< by page offset of the return address
    /// By page offset: the entries of all live blocks, and of the last one that was dropped, which
    /// may still be the target of jumps.
    std::vector<std::pair<u16, u32>> live;
    std::unordered_map<u16, u32> dropped;
};

/// A place in a block where one guest instruction's host code begins.
struct Mark {
    u32 host = 0; ///< executable address
    u16 page_offset = 0;
};

/// A direct jump within a page that is not linked yet. Lives until the cache is flushed.
struct LinkSite {
    u32 jump = 0; ///< executable address of the rel32 to patch
    u16 target = 0;
    bool polled = false; ///< a backward branch: goes to the target's polled entry
    bool call = false;   ///< of a host CALL: goes to the target's called entry
    PageCode* page = nullptr;
};

/// One translation.
struct Block {
    PageCode* page = nullptr;
    u32 begin = 0; ///< of its hot code, which goes on to `end`
    // Executable addresses, each leading into the next. The last is cold, and the first two are
    // where it is not likely that the block is entered by them.
    u32 entry = 0;        ///< from anywhere: R13 = RIP, and one word on the host's stack to drop
    u32 called_entry = 0; ///< from its page, by a host CALL
    u32 polled_entry = 0; ///< from its page
    u32 plain_entry = 0;  ///< past the poll, and the check of a straddling block
    /// Of a straddling block: as `entry`, but past the check.
    u32 unchecked_entry = 0;
    u32 end = 0;
    u32 cold_begin = 0, cold_end = 0; ///< its cold code
    u16 offset = 0;
    u16 guest_length = 0;
    u32 first_mark = 0, mark_count = 0;
    bool straddles = false; ///< one instruction that goes on in the next page
};

/// Which 64-byte chunks of which frames hold translated code. A directory of directories, so that
/// a look costs two loads; frames of RAM and of monitor pages apart.
class CodeChunks {
public:
    /// Bit n: bytes [64n, 64n+64) of the frame.
    [[nodiscard]] u64 of(Gpa frame) const {
        const Place place = place_of(frame);
        const Directory& d = place.monitor ? m_monitor : m_ram;
        if (place.group >= d.size() || d[place.group] == nullptr) return 0;
        return (*d[place.group])[place.index];
    }
    void add(Gpa frame, u64 chunks);
    void clear(Gpa frame);
    void clear();

private:
    static constexpr u64 group_size = 512;
    using Group = std::array<u64, group_size>;
    using Directory = std::vector<std::unique_ptr<Group>>;
    struct Place {
        bool monitor;
        u64 group, index;
    };
    [[nodiscard]] static Place place_of(Gpa frame) {
        const bool monitor = frame.value() >= monitor_frame_base;
        const u64 number =
            frame.frame_number() - (monitor ? Gpa(monitor_frame_base).frame_number() : 0);
        return {monitor, number / group_size, number % group_size};
    }

    Directory m_ram, m_monitor;
};

/// Where in the code memory something goes.
enum class CodePart : u8 {
    hot,  ///< what guest code runs as a rule: dense, so that it fills few cache lines and pages
    cold, ///< ways out of it that are seldom taken, and copies that seldom run
};
inline constexpr unsigned code_part_count = 2;

class CodeCache {
public:
    /// @param bytes size of the code memory; at least 256 KiB.
    /// @param pages that can have a base slot, beside monitor mode's; at most code_page_limit.
    [[nodiscard]] static Result<std::unique_ptr<CodeCache>> create(std::size_t bytes,
                                                                   unsigned pages);
    CodeCache(const CodeCache&) = delete;
    CodeCache& operator=(const CodeCache&) = delete;
    ~CodeCache() = default;

    unsigned likely_guess = 0; ///< the view's guess that new places count on (linear_view.h)

    // --- memory ---
    [[nodiscard]] u8* writable(u32 executable_address) {
        return m_writable + (executable_address - m_executable);
    }
    [[nodiscard]] u32 executable(const u8* writable_address) const {
        return m_executable + static_cast<u32>(writable_address - m_writable);
    }
    /// Points the rel32 of a jump, which ends at `after_jump`, at `target`.
    void patch(u32 after_jump, u32 target) {
        const u32 relative = target - after_jump;
        std::memcpy(writable(after_jump) - 4, &relative, sizeof relative);
    }
    /// Sets the displacement of 8 bits that ends at `end`.
    void patch_displacement(u32 end, u8 displacement) { writable(end)[-1] = displacement; }
    /// All of the code memory. A place in it has the same distance from here as the executable one
    /// from the first executable address.
    [[nodiscard]] std::span<u8> memory() { return {m_writable, m_size}; }
    /// Where the next code of a part goes: its distance from the beginning of `memory`.
    [[nodiscard]] std::size_t frontier(CodePart part) const { return area(part).used; }
    [[nodiscard]] std::size_t room(CodePart part) const { return area(part).end - area(part).used; }
    /// The code of a part up to `frontier` is finished. Its memory is kept, but beside what was
    /// written last, only as what is run: it is resident once. A patch brings its page back.
    void advance(CodePart part, std::size_t frontier);
    /// Bytes of thunks and translations.
    [[nodiscard]] std::size_t used() const;
    /// Executable address behind the thunks.
    [[nodiscard]] u32 thunks_end() const { return m_executable + static_cast<u32>(m_thunks_end); }
    [[nodiscard]] bool contains(u64 executable_address) const {
        return executable_address >= m_executable && executable_address < m_executable + m_size;
    }
    /// Everything before the hot part's frontier belongs to the thunks and survives `flush`.
    /// @param find by TlbSet, as Thunks::find.
    void seal_thunks(u32 entry_miss, const std::array<u32, tlb_set_count>& find) {
        m_thunks_end = area(CodePart::hot).used;
        m_entry_miss = entry_miss;
        m_find = find;
    }

    // --- index ---
    /// nullptr: there are as many as there can be, until `flush`.
    [[nodiscard]] PageCode* page(Gpa frame, Mode mode);
    [[nodiscard]] PageCode* find_page(Gpa frame, Mode mode) const {
        const auto it = m_pages.find(page_key(frame, mode));
        return it == m_pages.end() ? nullptr : it->second.get();
    }
    /// What an entry table holds where nothing is translated.
    [[nodiscard]] u32 entry_miss() const { return m_entry_miss; }
    /// The way to the block at `offset`, as indirect branches take it: its entry, or the return pad
    /// that jumps there; or 0.
    [[nodiscard]] u32 way(const PageCode& page, u16 offset) const {
        const u32 e = page.entries[offset];
        return e == m_entry_miss ? 0 : e;
    }
    /// The entry of the block at `offset`, or 0.
    [[nodiscard]] u32 entry(const PageCode& page, u16 offset) const {
        const u32 e = way(page, offset);
        const auto call = page.calls.find(offset);
        return e != 0 && call != page.calls.end() && call->second.pad == e ? call->second.entry : e;
    }
    /// The site of the CALL whose pad is at `address`, which may be a dropped one's, or nullptr.
    [[nodiscard]] const BranchSite* call_site(u32 pad) const {
        const auto it = m_call_sites.find(pad);
        return it == m_call_sites.end() ? nullptr : it->second;
    }
    /// Calls f(page) for each page.
    template <class F>
    void for_each_page(F f) const {
        for (const auto& item : m_pages)
            f(*item.second);
    }
    /// Makes the pad behind a host CALL the way to its return address.
    void add_call(PageCode& page, u16 return_offset, const CallTail& tail);
    /// Keeps a finished block, and makes it findable by its page's entry table. One that straddles
    /// is run only after a look at the second page's mapping: it is findable if its code begins
    /// with that.
    void add(Block block, std::span<const Mark> marks, bool findable);
    /// Block whose host code, hot or cold, holds this address; live or dropped (it may still be
    /// running).
    [[nodiscard]] const Block* containing(u32 executable_address) const;
    /// Guest offset of the instruction whose host code holds this address. Cold code of blocks
    /// belongs to none: no instruction of the guest's is in it.
    [[nodiscard]] std::optional<u16> guest_offset(u32 executable_address) const;
    /// Host code emitted later for one instruction of a block (cold twins).
    void add_twin(u32 begin, u32 end, u16 page_offset);

    /// Blocks of one instruction that crosses a page end, keyed by both frames. The block's
    /// unchecked entry, or 0: the caller has looked at the second page's mapping. `findable`: from
    /// now on also by the entry table, where there may have been the one for another second frame.
    [[nodiscard]] u32 straddling_entry(PageCode& page, u16 offset, Gpa second, bool findable);
    void add_straddling(const Block& block, Gpa second);

    // --- coherence with guest memory ---
    [[nodiscard]] bool has_code(Gpa frame) const { return m_chunks.of(frame) != 0; }
    /// Whether translated bytes lie in [gpa, gpa + size), at 64-byte granularity; the range lies in
    /// one page.
    [[nodiscard]] bool overlaps_code(Gpa gpa, u64 size) const {
        return (m_chunks.of(gpa) & chunk_mask(gpa.page_offset(), gpa.page_offset() + size)) != 0;
    }
    void note_code_bytes(Gpa frame, u32 begin, u32 end);
    /// Drops every translation made from `frame`. Its host code stays until `flush`; what jumps to
    /// an entry of it gets to Thunks::find, or to what is translated there next.
    void drop(Gpa frame);
    /// Drops everything. Not while translated code is on the host stack.
    void flush();

    // --- sites ---
    /// Storage for what translated code points to (access and helper sites); freed by `flush`. Its
    /// address has 31 bits. There must be room.
    template <class T>
    requires std::is_trivially_destructible_v<T> T* allocate() {
        return new (raw(sizeof(T), alignof(T))) T();
    }
    /// Bytes left for sites.
    [[nodiscard]] std::size_t site_room() const {
        return static_cast<std::size_t>(m_sites.size()) - m_sites_used;
    }

private:
    CodeCache() = default;
    void set_entry(PageCode& page, u16 offset, u32 entry);
    void lead_away(u32 entry, u32 target);
    void route_by_pad(PageCode& page, u16 offset, CallTail& tail, u32 entry);
    void* raw(std::size_t size, std::size_t alignment);
    [[nodiscard]] static u64 page_key(Gpa frame, Mode mode) {
        constexpr unsigned mode_width = 20;
        return frame.frame_number() << mode_width | mode.bits;
    }

    /// 64-byte chunks that [begin, end) of a page touches, as bits.
    [[nodiscard]] static u64 chunk_mask(u64 begin, u64 end) {
        const u64 first = begin / 64, last = (end - 1) / 64;
        const u64 upto_last = last == 63 ? ~u64{0} : (u64{1} << (last + 1)) - 1;
        return upto_last & ~((u64{1} << first) - 1);
    }

    struct FrameCode {
        std::vector<PageCode*> pages;
        bool straddled = false; ///< a straddling block begins or ends here
    };
    struct Straddler {
        PageCode* page;
        u16 offset;
        Gpa second;
        u32 entry, unchecked_entry;
    };

    /// The code memory of one part, as distances from its beginning.
    struct Area {
        std::size_t begin = 0, used = 0, end = 0;
        std::size_t released = 0; ///< the writable mapping up to here was released at least once
    };
    [[nodiscard]] const Area& area(CodePart part) const {
        return m_areas[static_cast<unsigned>(part)];
    }

    FileDescriptor m_fd;
    GuardedMapping m_writable_mapping, m_executable_mapping, m_sites;
    std::size_t m_sites_used = 0;
    u8* m_writable = nullptr;
    u32 m_executable = 0;
    std::size_t m_size = 0, m_thunks_end = 0;
    unsigned m_page_limit = 0;
    std::array<Area, code_part_count> m_areas; ///< by CodePart
    u32 m_entry_miss = 0;
    std::array<u32, tlb_set_count> m_find{};
    /// Pages that have a base slot, by whether they are monitor mode's.
    unsigned m_slots_used[2] = {};
    std::unordered_map<u32, const BranchSite*> m_call_sites;    ///< by pad
    std::unordered_map<u64, std::unique_ptr<PageCode>> m_pages; ///< key: frame number << 16 | mode
    std::unordered_map<u64, FrameCode> m_code_frames;
    CodeChunks m_chunks;
    std::unordered_multimap<u64, Straddler>
        m_straddlers; ///< key: frame number of the first page << 12 | offset
    // Deques, since they grow to several MiB: a vector would copy them, and keep room for twice as
    // many.
    std::deque<Block> m_block_list; ///< by ascending host address, of hot and of cold code
    std::deque<Mark> m_marks;
    struct Twin {
        u32 begin, end;
        u16 page_offset;
    };
    std::vector<Twin> m_twins; ///< by ascending host address
};

} // namespace gnomon::processor::soft
