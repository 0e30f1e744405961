// SPDX-License-Identifier: Apache-2.0
/// @file The slow path of a memory access: resolve, the same instruction on the resolved place,
/// commit.
#pragma once

#include "processor/soft/sites.h"

namespace gnomon::processor::soft {

/// Finds out what `address` needs. Returns 0 to go on in translated code (inline, or in the cold
/// twin), or a Leave value. Every fault of the access is found here, before any side effect.
[[nodiscard]] int resolve_access(Cpu& cpu, Gva address, AccessSite& site, u32 commit_thunk);

/// For an access group that the TLB does not hold: returns 0 to go on in translated code, with the
/// group if all its accesses can be done at one host address, else without groups; or a Leave
/// value.
[[nodiscard]] int resolve_group(Cpu& cpu, Gva address, GroupSite& site);

/// What lets translated code go on at `host` with these in R13 and R14: the value that a
/// ThunkTarget returns then.
[[nodiscard]] inline int go_on(Cpu& cpu, u32 host, u64 r13, const void* r14) {
    cpu.next_host = host;
    cpu.next_r13 = r13;
    cpu.next_r14 = reinterpret_cast<u64>(r14);
    return 0;
}

/// After the cold twin: lets the write take effect where it belongs.
[[nodiscard]] int commit_access(Cpu& cpu, AccessSite& site);

} // namespace gnomon::processor::soft
