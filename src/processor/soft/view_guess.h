// SPDX-License-Identifier: Apache-2.0
/// @file What becomes of a place that counted on the wrong region of the linear view
/// (linear_view.h).
#pragma once

#include "processor/soft/cpu.h"
#include "processor/soft/sites.h"

namespace gnomon::processor::soft {

/// Has translated code go on at `site` with the delta for `address`, and count on the region of
/// that from now on; or, if it has changed its mind too often, on none.
void resolve_guess(Cpu& cpu, Gva address, GuessSite& site);

} // namespace gnomon::processor::soft
