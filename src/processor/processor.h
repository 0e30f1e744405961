// SPDX-License-Identifier: Apache-2.0
/// @file The contract of a processor that natively supports host and guest modes: one control block
/// and one call.
#pragma once

#include "base/result.h"
#include "base/statistics.h"
#include "base/time_account.h"
#include "processor/activity.h"
#include "processor/code_map.h"
#include "processor/control_block.h"
#include "processor/exit.h"

#include <memory>
#include <string>

namespace gnomon::processor {

class Processor {
public:
    Processor() = default;
    Processor(const Processor&) = delete;
    Processor& operator=(const Processor&) = delete;
    virtual ~Processor() = default;

    [[nodiscard]] virtual ControlBlock& control_block() = 0;

    /// Goes from host to guest mode and comes back with an exit (M1.3). One thread at a time; not
    /// reentrant.
    [[nodiscard]] virtual Exit enter() = 0;

    /// Makes a running or the next `enter` return soon (ExitReason::kicked). Any thread, also a
    /// signal handler.
    virtual void kick() = 0;

    // The rest: only from the thread that calls `enter`, and outside it.

    // Cached translations belong to the root that they were made from (ControlBlock::shadow_root,
    // monitor_root), and are used under that root only. A change of shadow_root forgets none: they
    // are there when the root comes back. A root is its offset, so a monitor that uses the page of
    // a root for something else says so first.

    /// Forgets every cached translation under every root (also those marked global).
    virtual void invalidate_tlb() = 0;
    /// Forgets the cached translations of the page at `gva` under every root.
    virtual void invalidate_tlb(Gva gva) = 0;
    /// Forgets the cached translations of `pages` pages from that at `first` on under `root`, a
    /// shadow_root. Perhaps more under that root, if the pages are many.
    virtual void invalidate_tlb(Gva first, u64 pages, u64 root) = 0;
    /// Forgets every cached translation under `root`, a shadow_root.
    virtual void forget_root(u64 root) = 0;
    /// Forgets the right to write that any cached translation to the frame at `gpa` carries, under
    /// every root.
    virtual void revoke_writes(Gpa gpa) = 0;
    /// For tests: compares every cached translation with the tables under its root, which must be
    /// reconciled. @return what one of them allows that the tables do not, or "".
    [[nodiscard]] virtual std::string check_translations() = 0;
    /// From now on the activities of processor/activity.h are booked to `account`, which outlives
    /// the processor or the next call (nullptr: none), and what is too short to be booked is
    /// sampled.
    virtual void book_time(TimeAccount* account) { static_cast<void>(account); }
    /// From now on `map` is told of host code that is made, if any is. It outlives the processor.
    virtual void map_code(CodeMap* map) { static_cast<void>(map); }
    /// What the implementation has counted since its creation.
    [[nodiscard]] virtual Statistics report() const = 0;

    /// Memory in [gpa, gpa + size) was changed by the monitor or a device: forget code translated
    /// from it.
    virtual void invalidate_code(Gpa gpa, u64 size) = 0;
};

/// Whose user code reaches its pages by the host's MMU (soft/linear_view.h): nobody's, that of
/// address spaces which keep the processor busy, or everyone's. It needs BMI2 and
/// ControlBlock::ram_file; the guest cannot tell.
enum class LinearViews : u8 { none, busy, all };

/// The implementation by re-emission, which every x86-64 Linux host can run.
[[nodiscard]] Result<std::unique_ptr<Processor>>
create_software_processor(LinearViews views = LinearViews::busy);

} // namespace gnomon::processor
