// SPDX-License-Identifier: Apache-2.0
/// @file Linear views: host memory that shows a guest's address space as the guest sees it, so that
/// user code reaches its pages by the host's MMU, without a look into the TLB.
///
/// The user half of the linear address space is cut into regions of 64 GiB. A region of which a
/// page is wanted gets a range of host memory of that size, inaccessible but for the pages that
/// have been wanted: these are the guest's RAM, mapped once more, with the rights that the shadow
/// tables give user mode now. Translated code (Mode::viewed) adds to an address the delta of its
/// region, which it finds in a table by the address's upper bits. All of them: so whatever the
/// address, what it reaches is
///   - the view of its region: the page, or nothing, and then the host's page fault becomes a look
///     at the shadow tables (SoftProcessor::on_view_miss);
///   - for a region without a view, the *void*, a range in which nothing ever is;
///   - for the kernel half and what is not canonical, no entry of the table either, since its upper
///     part is inaccessible; or one that leads into the void, or to no host address.
/// Between the ranges lies more than any access goes beyond its address.
///
/// A load that must wait for its delta makes whoever follows pointers wait. So a place in
/// translated code counts on the piece of a region, 4 GiB of it, that it met before, if that is one
/// of the few that an address space uses most (ViewGuesses): it compares the upper half of the
/// address while it loads already, by way of a delta that does not depend on the address. What is
/// compared may be that of the base register alone: around a region as much is inaccessible as a
/// displacement can lead to.
///
/// Threads: the one that calls `enter`.
#pragma once

#include "base/address.h"
#include "base/guarded_mapping.h"
#include "base/result.h"

#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace gnomon::processor::soft {

inline constexpr unsigned view_region_shift = 36;
inline constexpr u64 view_region_size = u64{1} << view_region_shift;
/// Regions of the user half.
inline constexpr unsigned view_region_count = 1U << (47 - view_region_shift);
/// Those of the kernel half have deltas too, into the void: for pages of code, of which user mode
/// may have some there.
inline constexpr unsigned view_delta_count = 2 * view_region_count;
/// The number of the region of `gva`, which is canonical.
[[nodiscard]] constexpr unsigned view_region(Gva gva) {
    return static_cast<unsigned>(gva.value() >> view_region_shift) % view_delta_count;
}
/// Of the bits above a region's offset all index the table: this many bytes from its beginning can
/// be reached.
inline constexpr u64 view_table_reach = u64{8} << (64 - view_region_shift);
/// What is inaccessible on each side of a region: displacements have 32 bits, and what is accessed
/// there is small.
inline constexpr u64 view_margin = u64{4} << 30;

/// The pieces of regions that places in translated code may count on.
inline constexpr unsigned view_guess_count = 4;
inline constexpr unsigned view_piece_shift = 32;
struct ViewGuesses {
    u32 piece[view_guess_count] = {}; ///< the upper half of its addresses
    u64 delta[view_guess_count] = {};
};

/// What all views share: the void, and what bounds their number.
class ViewSpace {
public:
    [[nodiscard]] static Result<std::unique_ptr<ViewSpace>> create();
    ViewSpace(const ViewSpace&) = delete;
    ViewSpace& operator=(const ViewSpace&) = delete;
    ~ViewSpace() = default;

    /// The delta of `region` while it has no view.
    [[nodiscard]] u64 void_delta(unsigned region) const {
        const u64 upper = region < view_region_count ? 0 : ~u64{0} << 48;
        return base() - (upper | u64{region} << view_region_shift);
    }
    /// A page in the middle of the void.
    [[nodiscard]] u64 void_address() const { return base() + view_region_size / 2; }
    [[nodiscard]] bool in_void(u64 address) const {
        return address - (reinterpret_cast<u64>(m_void.base()) - mapping_guard_size) <
               m_void.size() + 2 * mapping_guard_size;
    }

    /// Pages that views may show in all: each may take two of the process's mappings, itself and
    /// the hole behind it (vm.max_map_count, by default 65530).
    static constexpr unsigned page_limit = 24'000;
    static constexpr unsigned region_limit = 256;
    unsigned pages = 0, regions = 0; ///< in use

private:
    ViewSpace() = default;
    [[nodiscard]] u64 base() const { return reinterpret_cast<u64>(m_void.base()) + view_margin; }
    GuardedMapping m_void; ///< with margins, as regions have them
};

/// The view of one address space. Off at first, when it shows nothing.
class LinearView {
public:
    /// @param table of view_delta_count deltas, which translated code reads; inaccessible behind
    /// that for view_table_reach. @param guesses which it reads too. All outlive the view.
    LinearView(ViewSpace& space, u64* table, ViewGuesses* guesses);
    LinearView(LinearView&&) noexcept = default;
    LinearView& operator=(LinearView&&) = delete;
    ~LinearView() = default;

    [[nodiscard]] bool is_on() const { return m_on; }
    void turn_on() { m_on = true; }
    /// Shows nothing, and gives the host memory back.
    void turn_off();

    /// Gives the region of `gva` host memory. False: it had it, or there is no room.
    bool open(Gva gva) { return region_of(gva) == nullptr && obtain(gva) != nullptr; }
    /// Shows `count` pages from `gva` on: those of the file `ram` from `offset` on.
    /// @param host of the first page, by which `revoke_writes` knows them. False: there is no room.
    [[nodiscard]] bool map(Gva gva, unsigned count, Hva host, int ram, u64 offset, bool writable);
    [[nodiscard]] bool shows(Gva gva, bool write) const;
    /// Whether a delta has changed since the last call.
    [[nodiscard]] bool take_moved() { return std::exchange(m_moved, false); }

    void forget_all();
    void forget_pages(Gva first, u64 count);
    void revoke_writes(Hva host_page);

    /// Whether an access by way of the view may have met `host`: in a region, or beside one.
    /// Async-signal-safe.
    [[nodiscard]] bool reaches(u64 host) const {
        for (const Region& region : m_regions)
            if (host - reinterpret_cast<u64>(region.memory.base()) < region.memory.size())
                return true;
        return false;
    }
    /// The guest's address of which the view would be at `host`.
    [[nodiscard]] std::optional<Gva> address_of(u64 host) const;

    // --- for whoever looks at everything ---
    [[nodiscard]] u64 delta(Gva gva) const { return m_table[view_region(gva)]; }
    struct Page {
        Hva host = nullptr;
        bool writable = false;
    };
    /// Whether each guess leads to a region, or into the void.
    [[nodiscard]] bool guesses_hold() const;
    /// By page address.
    [[nodiscard]] const std::unordered_map<u64, Page>& pages() const { return m_pages; }

private:
    struct Region {
        unsigned number;
        GuardedMapping memory; ///< with the margins
        unsigned pages = 0;
        [[nodiscard]] Hva base() const { return memory.base() + view_margin; }
        [[nodiscard]] u64 delta() const {
            return reinterpret_cast<u64>(base()) - (u64{number} << view_region_shift);
        }
    };
    [[nodiscard]] Region* region_of(Gva gva);
    [[nodiscard]] Region* obtain(Gva gva);
    [[nodiscard]] static Hva place(const Region& region, Gva gva) {
        return region.base() + (gva.value() & (view_region_size - 1));
    }
    void forget_writer(Hva host, u64 gva);
    void show_nothing();
    void guess(Gva gva, const Region& region);
    void guess_nothing();

    ViewSpace* m_space;
    u64* m_table;
    ViewGuesses* m_guesses;
    bool m_on = false;
    bool m_moved = false;
    std::vector<Region> m_regions;
    std::unordered_map<u64, Page> m_pages;
    /// From host page to the pages that may write to it.
    std::unordered_multimap<Hva, u64> m_writers;
};

} // namespace gnomon::processor::soft
