// SPDX-License-Identifier: Apache-2.0
/// @file The places that a memory operand can have in the data area, by what the guest's shadow
/// tables say of the pages that it touches. Every instruction that accesses memory must have been
/// at each of them.
#pragma once

#include "layout.h"
#include "machine_state.h"
#include "random.h"

#include <optional>
#include <span>

namespace gnomon::test {

/// Within a page of one kind, or across its end into a page of another.
struct Place {
    layout::PageKind first = layout::PageKind::plain, second = layout::PageKind::plain;
    bool across = false;
    friend bool operator==(const Place&, const Place&) = default;

    [[nodiscard]] bool touches(layout::PageKind kind) const {
        return first == kind || (across && second == kind);
    }
    /// Whether some access to it faults.
    [[nodiscard]] bool guarded() const {
        return touches(layout::PageKind::read_only) || touches(layout::PageKind::absent);
    }
    [[nodiscard]] std::string text() const;
};

/// All that the data area has. Places are known by their number in it.
[[nodiscard]] std::span<const Place> places();
/// The place that an operand has; nothing if it lies elsewhere or on more than two pages.
[[nodiscard]] std::optional<unsigned> place_of(const Range& operand);
/// Whether an access to all of it could fault for some page's sake.
[[nodiscard]] bool may_fault(const Range& range);
/// An address where an operand of `size` bytes has this place.
/// @param size at least 2 if the place is across two pages.
[[nodiscard]] u64 address_at(const Place& place, u64 size, Random& random);

} // namespace gnomon::test
