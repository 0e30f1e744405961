// SPDX-License-Identifier: Apache-2.0
/// @file The fixed routines of translated code: entry, leaving, and calls from translated code into
/// C++.
#pragma once

#include "processor/soft/assembler.h"

namespace gnomon::processor::soft {

/// C++ called from a thunk. Returns 0 to go on at Cpu::next_host with R13 and R14 from
/// Cpu::next_r13 and next_r14, or a Leave value.
using ThunkTarget = int (*)(Cpu*, u64 r13, void* site);

struct ThunkTargets {
    ThunkTarget slow_access, commit, helper, branch, far_link, straddle, group,
        guess;                   ///< of calls.h
    ThunkTarget extended_helper; ///< finds the guest's vector registers in Cpu::vector_spill
};

struct ThunkOptions {
    bool avx = false;          ///< the host has it
    bool avx512 = false;       ///< likewise
    bool bmi2 = false;         ///< likewise
    bool keep_vectors = false; ///< targets other than extended_helper use general registers only
};

/// Assembles the thunks at the start of the cache and seals them.
[[nodiscard]] Thunks make_thunks(CodeCache& cache, const ThunkTargets& targets,
                                 const ThunkOptions& options);

} // namespace gnomon::processor::soft
