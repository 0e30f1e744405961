// SPDX-License-Identifier: Apache-2.0
#include "places.h"

#include <algorithm>
#include <bit>

namespace gnomon::test {

using layout::PageKind;

namespace {

/// Kind of a page by number; the guard pages before and after the area are `absent`.
PageKind kind_of_page(u64 page) {
    return page < layout::data_pages ? layout::data_kinds[page] : PageKind::absent;
}

Place across_end_of(u64 page) { return {kind_of_page(page), kind_of_page(page + 1), true}; }

std::vector<Place> make_places() {
    std::vector<Place> out;
    const auto add = [&out](const Place& p) {
        if (std::ranges::find(out, p) == out.end()) out.push_back(p);
    };
    for (const PageKind kind : layout::data_kinds)
        add({kind, kind, false});
    for (u64 page = 0; page <= layout::data_pages; ++page)
        add(across_end_of(page - 1)); // from the guard page before to the one after
    return out;
}

const char* name_of(PageKind kind) {
    switch (kind) {
    case PageKind::plain: return "plain";
    case PageKind::traced: return "traced";
    case PageKind::mmio: return "mmio";
    case PageKind::lazy: return "lazy";
    case PageKind::code: return "code";
    case PageKind::read_only: return "read-only";
    case PageKind::absent: return "absent";
    case PageKind::count: break;
    }
    return "";
}

} // namespace

std::string Place::text() const {
    return across ? std::string(name_of(first)) + "|" + name_of(second) : name_of(first);
}

std::span<const Place> places() {
    static const std::vector<Place> all = make_places();
    return all;
}

std::optional<unsigned> place_of(const Range& operand) {
    if (operand.size == 0) return std::nullopt;
    const u64 begin = operand.address - layout::data_begin + page_size;
    const u64 end = begin + operand.size - 1; // pages counted from the guard page before
    if (begin / page_size > layout::data_pages + 1 || end / page_size > layout::data_pages + 1)
        return std::nullopt;
    const u64 first = begin / page_size - 1, last = end / page_size - 1;
    if (last - first > 1) return std::nullopt;
    const Place place = first == last ? Place{kind_of_page(first), kind_of_page(first), false}
                                      : across_end_of(first);
    const auto at = std::ranges::find(places(), place);
    if (at == places().end()) return std::nullopt;
    return static_cast<unsigned>(at - places().begin());
}

bool may_fault(const Range& range) {
    const auto place = place_of(range);
    return !place || places()[*place].guarded();
}

u64 address_at(const Place& place, u64 size, Random& random) {
    std::vector<u64> pages;
    if (place.across) {
        for (u64 page = 0; page <= layout::data_pages; ++page)
            if (across_end_of(page - 1) == place) pages.push_back(page - 1);
    } else {
        for (u64 page = 0; page < layout::data_pages; ++page)
            if (layout::data_kinds[page] == place.first) pages.push_back(page);
    }
    const u64 begin = layout::data_begin + pages[random.below(pages.size())] * page_size;
    const u64 inside = std::min(size, page_size);
    if (place.across) return begin + page_size - 1 - random.below(inside - 1);
    u64 offset = random.below(page_size - inside + 1);
    if (random.percent(60)) offset &= ~(std::bit_ceil(std::clamp<u64>(size, 1, 64)) - 1);
    return begin + offset;
}

} // namespace gnomon::test
