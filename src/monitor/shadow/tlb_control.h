// SPDX-License-Identifier: Apache-2.0
/// @file What shadow paging asks of the processors whose translations it feeds or changes. The
/// calls match those of processor::Processor; with several virtual processors an implementation
/// reaches all of them before it returns.
#pragma once

#include "base/address.h"

namespace gnomon::monitor {

class TlbControl {
public:
    virtual ~TlbControl() = default;

    /// Forgets every cached translation, global ones and those of other roots too.
    virtual void invalidate_all() = 0;
    /// Forgets the cached translations of the page at `gva`, under every root.
    virtual void invalidate(Gva gva) = 0;
    /// Forgets those of `pages` pages from that at `first` on under `root` alone, an offset in the
    /// arena.
    virtual void invalidate(Gva first, u64 pages, u64 root) = 0;
    /// Forgets every cached translation under `root`. Its page may be another root's next.
    virtual void forget_root(u64 root) = 0;
    /// Forgets the right to write that cached translations to the frame at `gpa` carry. On return
    /// no write to it can complete without a fresh look at the shadow tables.
    virtual void revoke_writes(Gpa gpa) = 0;
    /// The monitor has changed [gpa, gpa + size), within one page, itself: forgets what was
    /// translated from there.
    virtual void invalidate_code(Gpa gpa, u64 size) = 0;
};

} // namespace gnomon::monitor
