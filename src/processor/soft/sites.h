// SPDX-License-Identifier: Apache-2.0
/// @file Sites: what translated code hands to C++ when an instruction needs more than its fast
/// path. They live in the code cache's arena, as long as the code that names them.
#pragma once

#include "processor/soft/helpers.h"
#include "processor/soft/masked_elements.h"

namespace gnomon::processor::soft {

struct PageCode;

/// Why translated code was left, or what has become of a call from it: what Thunks::run returns,
/// and any ThunkTarget that does not return 0.
enum class Leave : int {
    dispatch = 1, ///< go on at Cpu::resume_rip
    link,         ///< link Cpu::site (a LinkSite) and go on at Cpu::resume_rip
    branch,       ///< go on at Cpu::resume_rip if Cpu::site (a BranchSite) may branch there
    state,        ///< go on at cb.state.rip, in whatever mode
    fault,        ///< Cpu::pending tells
    exit,         ///< Cpu::exit tells
    host_fault,   ///< Cpu::fault_host_pc and fault_signal tell
};

/// One memory access of one guest instruction.
struct AccessSite {
    u32 cont = 0; ///< host address at which R13 = page offset and R14 = host page are expected
    u32 after =
        0; ///< host address after the access and what belongs to it (write-back of registers)
    u32 twin = 0;        ///< host address of the cold twin, 0 until first needed
    u16 page_offset = 0; ///< of the instruction
    u8 length = 0;       ///< of the instruction
    u8 size = 0;         ///< bytes accessed, 1 to 64
    bool read = false, write = false;
    u8 segment = seg_ds;  ///< SS: #SS rather than #GP
    bool checked = false; ///< by check_access; the access always comes this way
    bool completes =
        true; ///< `after` is the next instruction (false: the branch of a CALL is still to come)
    bool indirect_call = false; ///< the push of a CALL to Cpu::branch_target
    u8 alignment = 1;           ///< #GP(0) unless the address is a multiple
    TlbSet set = TlbSet::user;
    bool code64 = true;
    MaskedElements masked; ///< AVX-512: of `size` bytes only what the mask selects
};

struct PageCode;

/// The look-up of one access group.
struct GroupSite {
    u32 cont = 0; ///< host address at which R13 = page offset and R14 = host page are expected
    u32 jump = 0; ///< executable address of the rel32 that leads to the translation without groups
    PageCode* page = nullptr;
    u16 page_offset = 0; ///< of the instruction before which it is
    u8 length = 0;       ///< of that instruction
    u16 size = 0;
    bool write = false;
    /// The first access, if it comes at once and nothing but paging can forbid it; else size 0.
    u16 first_displacement = 0;
    u8 first_size = 0;
    bool first_write = false;
    u32 singly = 0; ///< executable address of the translation without groups, once there is one
};

/// A place that counts on one piece of the linear view (linear_view.h).
struct GuessSite {
    u32 cont = 0; ///< host address at which R13 = address and R14 = its region's delta are expected
    /// Executable addresses behind what names the guess: the displacements (8 bits) of the
    /// comparison and of the load. And behind the rel32 of the jump that is taken if it was wrong.
    u32 piece = 0, delta = 0, jump = 0;
    u32 general = 0; ///< executable address of the way that counts on nothing
    u8 changes = 0;  ///< how often it has been led elsewhere
};

/// A taken near branch whose target may be one that the processor refuses: what C++ must undo then.
struct BranchSite {
    u16 page_offset = 0; ///< of the instruction
    i32 stack_delta = 0; ///< what it has added to rSP
    u8 pushed_size = 0;  ///< CALL: bytes of the return address, which replaced Cpu::overwritten
    u8 counter_size = 0; ///< LOOP: bytes of the counter that it has decremented
};

/// A direct branch to another page that is not linked yet. Lives until the cache is flushed.
struct FarLinkSite {
    u32 jump = 0; ///< executable address of the rel32 to patch: its target is entered as blocks are
    const BranchSite* branch = nullptr;
};

/// The beginning of a block whose one instruction goes on in the page behind its own.
struct StraddleSite {
    u32 cont = 0;        ///< host address behind the check
    u16 page_offset = 0; ///< of the instruction
    PageCode* page = nullptr;
    const PageCode* second = nullptr; ///< what the next page has to be
};

/// One call of a helper.
struct HelperSite {
    Helper helper = nullptr;
    Instruction instruction;
    u32 continuation = 0; ///< host address of what follows
    bool chains = false;  ///< translated code may go on elsewhere without the dispatch loop
    u8 kind = 0;          ///< helper_kind(helper), for statistics
};

} // namespace gnomon::processor::soft
