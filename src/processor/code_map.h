// SPDX-License-Identifier: Apache-2.0
/// @file Who wants to know what host code a processor makes, to tell a profiler.
#pragma once

#include "base/address.h"

namespace gnomon::processor {

/// Called by the thread that calls `enter`, within it. Addresses may be used again for other code
/// later; then the later call counts.
class CodeMap {
public:
    virtual ~CodeMap() = default;
    /// [host, host + size) now stands for guest code at `guest`. Said twice of a translation: its
    /// hot and its cold code lie apart.
    virtual void translated(u64 host, u64 size, Gva guest, bool user) = 0;
    /// [host, host + size) serves all guest code. @param name what it is; one word.
    virtual void routine(u64 host, u64 size, const char* name) = 0;
};

} // namespace gnomon::processor
