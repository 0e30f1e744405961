// SPDX-License-Identifier: Apache-2.0
/// @file What translated code calls, by way of the thunks: ThunkTarget functions.
///
/// They, and everything that they call, are compiled for general registers only (CMakeLists.txt of
/// this layer), so that the thunks leave the guest's vector and x87 registers where they are. What
/// needs more - the C library, the assembler, containers that allocate - goes through
/// `call_outside`. tests/processor/general_registers.sh looks at the linked program.
#pragma once

#include "processor/soft/sites.h"

#include <type_traits>

namespace gnomon::processor::soft {

int on_slow_access(Cpu* cpu, u64 r13, void* site); ///< R13 = address, `site`: AccessSite
int on_commit(Cpu* cpu, u64 r13, void* site);
int on_helper(Cpu* cpu, u64 r13, void* site); ///< `site`: HelperSite
/// R13 = RIP; goes on there if nothing waits. `place`: the BranchSite; or the return pad of a CALL,
/// which has it; or nullptr.
int on_branch(Cpu* cpu, u64 r13, void* place);
int on_far_link(Cpu* cpu, u64 r13, void* site); ///< likewise; `site`: FarLinkSite
int on_straddle(Cpu* cpu, u64 r13, void* site); ///< `site`: StraddleSite
int on_group(Cpu* cpu, u64 r13, void* site);    ///< R13 = address, `site`: GroupSite
int on_guess(Cpu* cpu, u64 r13, void* site);    ///< R13 = address, `site`: GuessSite

/// Whether they are: sanitizers' builds, for one, are not.
[[nodiscard]] bool calls_keep_vectors();

/// Before and after a helper: RIP, flags and the books of the instruction. `finish_helper` returns
/// what a ThunkTarget does.
void begin_helper(Cpu& cpu, const HelperSite& site);
/// The helper itself, counted.
[[nodiscard]] HelperResult run_helper(Cpu& cpu, const HelperSite& site);
[[nodiscard]] int finish_helper(Cpu& cpu, const HelperSite& site, HelperResult result);

/// Calls `function(argument)`, which may use any register: saves the guest's around it if they are
/// live.
template <class Function>
void call_outside(Cpu& cpu, Function&& function) {
    using Plain = std::remove_reference_t<Function>;
    void (*const call)(void*) = [](void* f) { (*static_cast<Plain*>(f))(); };
    if (cpu.vectors_live)
        cpu.outside_thunk(call, &function);
    else
        call(&function);
}

} // namespace gnomon::processor::soft
