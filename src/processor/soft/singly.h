// SPDX-License-Identifier: Apache-2.0
/// @file What goes on where an access group cannot (ARCHITECTURE.md, "Access groups").
#pragma once

#include "processor/soft/cpu.h"
#include "processor/soft/sites.h"

namespace gnomon::processor::soft {

/// Translates the rest of the group's block, from the instruction of its look-up on, without
/// groups. Such a block is not found by its offset.
/// @return its plain entry; 0: the cache has no room.
[[nodiscard]] u32 translate_singly(Cpu& cpu, const GroupSite& site);

} // namespace gnomon::processor::soft
