// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/linear_view.h"

#include "base/verify.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <sys/mman.h>
#include <utility>

namespace gnomon::processor::soft {

namespace {

/// The upper half of no user's address.
constexpr u32 no_piece = ~u32{0};

bool hide(Hva at, u64 size) {
    return ::mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
                  0) != MAP_FAILED;
}

} // namespace

Result<std::unique_ptr<ViewSpace>> ViewSpace::create() {
    std::unique_ptr<ViewSpace> space(new ViewSpace);
    auto mapping =
        GuardedMapping::create(view_region_size + 2 * view_margin, {.protection = PROT_NONE});
    if (!mapping)
        return fail("cannot reserve address space for the guest's memory: {}",
                    std::strerror(mapping.error()));
    space->m_void = std::move(*mapping);
    return space;
}

LinearView::LinearView(ViewSpace& space, u64* table, ViewGuesses* guesses)
    : m_space(&space), m_table(table), m_guesses(guesses) {
    guess_nothing();
    for (unsigned n = 0; n < view_delta_count; ++n)
        m_table[n] = space.void_delta(n);
}

LinearView::Region* LinearView::region_of(Gva gva) {
    const auto number = static_cast<unsigned>(gva.value() >> view_region_shift);
    const auto it = std::find_if(m_regions.begin(), m_regions.end(),
                                 [number](const Region& r) { return r.number == number; });
    return it == m_regions.end() ? nullptr : &*it;
}

LinearView::Region* LinearView::obtain(Gva gva) {
    if (Region* const region = region_of(gva)) return region;
    if (m_space->regions == ViewSpace::region_limit) return nullptr;
    const auto number = static_cast<unsigned>(gva.value() >> view_region_shift);
    auto memory =
        GuardedMapping::create(view_region_size + 2 * view_margin, {.protection = PROT_NONE});
    if (!memory) return nullptr;
    ++m_space->regions;
    Region& region = m_regions.emplace_back(Region{number, std::move(*memory)});
    m_table[number] = region.delta();
    m_moved = true;
    return &region;
}

/// Gives the piece of `gva` a guess, if there is one left. Code is shared by address spaces: so
/// that one guess serves a place in all of them, what lies at similar addresses gets the same.
void LinearView::guess(Gva gva, const Region& region) {
    constexpr unsigned stack = view_region_count - 1;
    constexpr unsigned mappings = view_region_count / 8 * 7; // and what lies above
    const auto piece = static_cast<u32>(gva.value() >> view_piece_shift);
    const unsigned wanted = region.number == stack ? 0 : region.number >= mappings ? 1 : 2;
    ViewGuesses& guesses = *m_guesses;
    if (std::find(guesses.piece, std::end(guesses.piece), piece) != std::end(guesses.piece)) return;
    for (const unsigned n : {wanted, view_guess_count - 1})
        if (guesses.piece[n] == no_piece) {
            guesses.piece[n] = piece;
            guesses.delta[n] = region.delta();
            return;
        }
}

/// An address that is of no user's may have the upper half that stands for nothing: it leads into
/// the void.
void LinearView::guess_nothing() {
    for (unsigned n = 0; n < view_guess_count; ++n) {
        m_guesses->piece[n] = no_piece;
        m_guesses->delta[n] = m_space->void_address() - (u64{no_piece} << view_piece_shift);
    }
}

bool LinearView::guesses_hold() const {
    for (unsigned n = 0; n < view_guess_count; ++n) {
        const u64 host = (u64{m_guesses->piece[n]} << view_piece_shift) + m_guesses->delta[n];
        const bool shown =
            std::any_of(m_regions.begin(), m_regions.end(), [this, n](const Region& region) {
                return m_guesses->piece[n] >> (view_region_shift - view_piece_shift) ==
                           region.number &&
                       m_guesses->delta[n] == region.delta();
            });
        if (!shown && host != m_space->void_address()) return false;
    }
    return true;
}

bool LinearView::map(Gva gva, unsigned count, Hva host, int ram, u64 offset, bool writable) {
    VERIFY(m_on && gva.page() == gva && gva.value() >> view_region_shift < view_region_count);
    VERIFY((gva.value() & (view_region_size - 1)) + count * page_size <= view_region_size);
    if (m_space->pages + count > ViewSpace::page_limit) return false;
    Region* const region = obtain(gva);
    if (region == nullptr) return false;
    const int rights = PROT_READ | (writable ? PROT_WRITE : 0);
    guess(gva, *region);
    // The pages are the guest's RAM; its owner keeps them as long as the processor may be entered.
    if (::mmap(place(*region, gva), count * page_size, rights,
               MAP_SHARED | MAP_FIXED | MAP_POPULATE, ram,
               static_cast<off_t>(offset)) == MAP_FAILED)
        return false;
    for (unsigned n = 0; n < count; ++n) {
        const u64 at = gva.value() + n * page_size;
        Page& page = m_pages[at];
        if (page.host == nullptr) {
            ++m_space->pages;
            ++region->pages;
        } else if (page.writable) {
            forget_writer(page.host, at);
        }
        page = {host + n * page_size, writable};
        if (writable) m_writers.emplace(page.host, at);
    }
    return true;
}

bool LinearView::shows(Gva gva, bool write) const {
    const auto it = m_pages.find(gva.page().value());
    return it != m_pages.end() && (it->second.writable || !write);
}

void LinearView::forget_writer(Hva host, u64 gva) {
    const auto [first, last] = m_writers.equal_range(host);
    const auto it =
        std::find_if(first, last, [gva](const auto& writer) { return writer.second == gva; });
    VERIFY(it != last);
    m_writers.erase(it);
}

void LinearView::forget_pages(Gva first, u64 count) {
    if (m_pages.empty()) return;
    const u64 begin = first.page().value(), end = begin + count * page_size;
    u64 hidden = begin; // what comes before is hidden
    const auto hide_upto = [this, &hidden](u64 at) {
        Region* const region = region_of(Gva(hidden));
        VERIFY(region != nullptr);
        // A hole in the middle of a mapping makes three of it, for which there may be no room.
        return hide(place(*region, Gva(hidden)), at - hidden);
    };
    bool shown = false; // from `hidden` up to where the loop is
    for (u64 at = begin; at != end; at += page_size) {
        const auto it = m_pages.find(at);
        if (shown && (it == m_pages.end() || at % view_region_size == 0)) {
            if (!hide_upto(at)) return show_nothing();
            shown = false;
        }
        if (it == m_pages.end()) continue;
        if (!std::exchange(shown, true)) hidden = at;
        if (it->second.writable) forget_writer(it->second.host, at);
        m_pages.erase(it);
        Region* const region = region_of(Gva(at));
        VERIFY(region != nullptr);
        --m_space->pages;
        --region->pages;
    }
    if (shown && !hide_upto(end)) show_nothing();
}

void LinearView::revoke_writes(Hva host_page) {
    const auto [first, last] = m_writers.equal_range(host_page);
    for (auto it = first; it != last; ++it) {
        const Gva gva(it->second);
        const Region* const region = region_of(gva);
        VERIFY(region != nullptr);
        if (::mprotect(place(*region, gva), page_size, PROT_READ) != 0) {
            forget_all(); // no room for one more mapping
            return;
        }
        m_pages[gva.value()].writable = false;
    }
    m_writers.erase(first, last);
}

void LinearView::forget_all() {
    if (m_pages.empty()) return;
    show_nothing();
}

void LinearView::show_nothing() {
    for (Region& region : m_regions) {
        VERIFY(hide(region.base(), view_region_size)); // makes mappings fewer
        m_space->pages -= region.pages;
        region.pages = 0;
    }
    m_pages.clear();
    m_writers.clear();
}

void LinearView::turn_off() {
    m_on = false;
    m_moved = true;
    guess_nothing();
    for (const Region& region : m_regions) {
        m_table[region.number] = m_space->void_delta(region.number);
        m_space->pages -= region.pages;
        --m_space->regions;
    }
    m_regions.clear();
    m_pages.clear();
    m_writers.clear();
}

std::optional<Gva> LinearView::address_of(u64 host) const {
    for (const Region& region : m_regions) {
        const u64 offset = host - reinterpret_cast<u64>(region.base());
        if (offset < view_region_size)
            return Gva((u64{region.number} << view_region_shift) + offset);
    }
    return std::nullopt;
}

} // namespace gnomon::processor::soft
