// SPDX-License-Identifier: Apache-2.0
/// @file Accesses of AVX-512 instructions under a mask, where the page of the whole operand is not
/// at hand.
///
/// On plain RAM in one page the instruction runs there, like any other: the host accesses what the
/// mask selects. Elsewhere the elements are read and written one run after the other, and the
/// instruction runs on the bounce line.
#pragma once

#include "processor/soft/decoder.h"
#include "processor/soft/sites.h"

namespace gnomon::processor::soft {

/// What of its memory operand the instruction accesses; all if it has no mask, or one that does not
/// concern the operand.
[[nodiscard]] MaskedElements masked_elements(const DecodedInstruction& d);

/// As resolve_access (slow_access.h), which has set RIP, for a site with a mask, whose content is
/// in Cpu::access_mask.
[[nodiscard]] int resolve_masked(Cpu& cpu, Gva address, AccessSite& site, u32 commit_thunk);
/// As commit_access, after its twin.
[[nodiscard]] int commit_masked(Cpu& cpu, AccessSite& site);

} // namespace gnomon::processor::soft
