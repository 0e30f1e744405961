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
///   - for the kernel half and what is not canonical, no entry of the table either: its upper part
///     is inaccessible.
/// Between the ranges lies more than any access goes beyond its address.
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
#include <vector>

namespace gnomon::processor::soft {

inline constexpr unsigned view_region_shift = 36;
inline constexpr u64 view_region_size = u64{1} << view_region_shift;
/// Regions of the user half.
inline constexpr unsigned view_region_count = 1U << (47 - view_region_shift);
/// Of the bits above a region's offset all index the table: this many bytes from its beginning can
/// be reached.
inline constexpr u64 view_table_reach = u64{8} << (64 - view_region_shift);

/// What all views share: the void, and what bounds their number.
class ViewSpace {
public:
    [[nodiscard]] static Result<std::unique_ptr<ViewSpace>> create();
    ViewSpace(const ViewSpace&) = delete;
    ViewSpace& operator=(const ViewSpace&) = delete;
    ~ViewSpace() = default;

    /// The delta of `region` while it has no view.
    [[nodiscard]] u64 void_delta(unsigned region) const {
        return reinterpret_cast<u64>(m_void.base()) - (u64{region} << view_region_shift);
    }
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
    GuardedMapping m_void;
};

/// The view of one address space. Off at first, when it shows nothing.
class LinearView {
public:
    /// @param table of view_region_count deltas, which translated code reads; inaccessible behind
    /// that for view_table_reach. Both outlive the view.
    LinearView(ViewSpace& space, u64* table);
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

    void forget_all();
    void forget_pages(Gva first, u64 count);
    void revoke_writes(Hva host_page);

    /// Whether an access by way of the view may have met `host`: in a region, or right beside one.
    /// Async-signal-safe.
    [[nodiscard]] bool reaches(u64 host) const {
        for (const Region& region : m_regions)
            if (host - (reinterpret_cast<u64>(region.memory.base()) - mapping_guard_size) <
                view_region_size + 2 * mapping_guard_size)
                return true;
        return false;
    }
    /// The guest's address of which the view would be at `host`.
    [[nodiscard]] std::optional<Gva> address_of(u64 host) const;

    // --- for whoever looks at everything ---
    struct Page {
        Hva host = nullptr;
        bool writable = false;
    };
    /// By page address.
    [[nodiscard]] const std::unordered_map<u64, Page>& pages() const { return m_pages; }

private:
    struct Region {
        unsigned number;
        GuardedMapping memory;
        unsigned pages = 0;
    };
    [[nodiscard]] Region* region_of(Gva gva);
    [[nodiscard]] Region* obtain(Gva gva);
    [[nodiscard]] static Hva place(const Region& region, Gva gva) {
        return region.memory.base() + (gva.value() & (view_region_size - 1));
    }
    void forget_writer(Hva host, u64 gva);
    void show_nothing();

    ViewSpace* m_space;
    u64* m_table;
    bool m_on = false;
    std::vector<Region> m_regions;
    std::unordered_map<u64, Page> m_pages;
    /// From host page to the pages that may write to it.
    std::unordered_multimap<Hva, u64> m_writers;
};

} // namespace gnomon::processor::soft
