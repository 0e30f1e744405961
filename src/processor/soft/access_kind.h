// SPDX-License-Identifier: Apache-2.0
/// @file What a slow access turned out to be, for statistics.
#pragma once

#include "processor/soft/cpu.h"
#include "processor/soft/sites.h"

namespace gnomon::processor::soft {

/// Right behind resolve_access, which returned `result` for `address`: told from what it left in
/// the Cpu.
[[nodiscard]] AccessKind access_kind(const Cpu& cpu, Gva address, const AccessSite& site,
                                     int result);
/// Likewise behind resolve_group.
[[nodiscard]] AccessKind access_kind(const Cpu& cpu, const GroupSite& site, int result);

} // namespace gnomon::processor::soft
