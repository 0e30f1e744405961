// SPDX-License-Identifier: Apache-2.0
/// @file The strict walker: the oracle for shadow paging. It walks the guest's tables afresh, by
/// the architecture's rules alone, and compares what the shadow tables say. It shares only format
/// headers with ShadowMmu.
///
/// To be asked at a coherency point: processors stopped, write buffer drained. Reads only; it keeps
/// nothing between calls.
#pragma once

#include "base/guest_memory.h"
#include "processor/registers.h"
#include "processor/shadow_entry.h"

#include <string>
#include <vector>

namespace gnomon::monitor {

/// The registers on which a translation depends (SDM vol. 3A section 4.1).
struct PagingState {
    u64 cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;

    [[nodiscard]] static PagingState of(const processor::RegisterBlock& state) {
        return {state.cr0, state.cr3, state.cr4, state.efer};
    }
};

struct StrictAccess {
    bool write = false, fetch = false;
    bool user = false;                ///< CPL = 3
    bool implicit_supervisor = false; ///< supervisor whatever CPL
    bool ac = false;                  ///< RFLAGS.AC
};

struct StrictTranslation {
    Gpa frame;                                                             ///< of the 4 KiB page
    bool writable = true, user = true, executable = true, accessed = true; ///< over all levels
    bool dirty = false, global = false;                                    ///< of the last level
    unsigned leaf_level = 1;
    unsigned table_count = 0;
    Gpa tables[4]; ///< guest pages that the walk read, root first
};

struct StrictResult {
    bool fault = false;
    u32 error_code = 0; ///< of the #PF, if `fault`
    StrictTranslation translation;
};

/// What a comparison found.
struct StrictReport {
    std::vector<std::string> violations;
    u64 leaves = 0; ///< present shadow leaves compared
    // Leaves by the reason for which the processor may not write to them freely although the guest
    // may.
    u64 withheld_not_dirty = 0, withheld_traced = 0, withheld_mmio = 0;
    bool truncated = false; ///< `max_leaves` was reached

    [[nodiscard]] bool ok() const { return violations.empty(); }
    [[nodiscard]] std::string text() const;
};

class StrictWalker {
public:
    /// `memory` and the arena must outlive this. `arena_size` in bytes.
    StrictWalker(const GuestMemory& memory, Hva arena, u64 arena_size)
        : m_memory(memory), m_arena(arena), m_arena_size(arena_size) {}

    /// The translation of `gva`, whatever the access. A fault's error code holds P and RSVD only.
    [[nodiscard]] static StrictResult translate(const GuestMemory& memory, const PagingState& state,
                                                Gva gva);
    /// Translation or #PF of an access (SDM vol. 3A sections 4.5-4.7).
    [[nodiscard]] static StrictResult walk(const GuestMemory& memory, const PagingState& state,
                                           Gva gva, StrictAccess access);

    /// Compares every present shadow leaf under `root` (offset in the arena). Each must have the
    /// frame of a fresh walk and no right that it lacks; each right that it withholds must have a
    /// reason; each that maps a page which serves as guest table for some leaf must be traced.
    [[nodiscard]] StrictReport check(u64 root, const PagingState& state,
                                     u64 max_leaves = u64{1} << 22) const;
    /// The same for the shadow of one page, without the look for untraced aliases.
    [[nodiscard]] StrictReport check_page(u64 root, const PagingState& state, Gva gva) const;

private:
    struct Leaf;
    void descend(u64 table, unsigned level, const Leaf& above, const PagingState& state,
                 u64 max_leaves, StrictReport& report, std::vector<Leaf>& leaves,
                 std::vector<u64>& tables) const;
    void compare(const Leaf& leaf, const PagingState& state, StrictReport& report,
                 std::vector<u64>& tables) const;
    [[nodiscard]] bool entry(u64 table, unsigned slot, processor::ShadowEntry& out) const;

    const GuestMemory& m_memory;
    Hva m_arena;
    u64 m_arena_size;
};

} // namespace gnomon::monitor
