// SPDX-License-Identifier: Apache-2.0
/// @file Cold twins (ARCHITECTURE.md, "Sites, slow accesses and cold twins").
#pragma once

#include "processor/soft/code_cache.h"
#include "processor/soft/sites.h"

namespace gnomon::processor::soft {

/// The cold twin: a copy of the operation, which is position-independent, followed by the commit.
/// @return its address, or 0 if the cache has no room.
[[nodiscard]] u32 make_twin(CodeCache& cache, const AccessSite& site, u32 commit_thunk);

} // namespace gnomon::processor::soft
