// SPDX-License-Identifier: Apache-2.0
/// @file When completions of virtual disks are delivered: what the user may choose.
#pragma once

#include "base/result.h"
#include "base/types.h"

#include <string_view>

namespace gnomon::monitor {

struct CompletionPolicy {
    enum class Kind : u8 {
        adaptive,  ///< at a safepoint if one comes before the nominal delay has passed (M3.5)
        nominal,   ///< when the nominal delay has passed
        immediate, ///< as soon as the host is done
        fixed,     ///< `fixed_ns` of the virtual clock after it was submitted, on every disk; when
                   ///< the host is done, if that is later
    };
    Kind kind = Kind::adaptive;
    u64 fixed_ns = 0;
    friend bool operator==(const CompletionPolicy&, const CompletionPolicy&) = default;
};

/// The longest time that `fixed` may have: guests give up after some seconds.
inline constexpr u64 longest_fixed_ns = 5'000'000'000;

/// "adaptive", "nominal", "immediate" or "fixed=TIME", where TIME is a whole number with the unit
/// ns, us, ms or s, at most longest_fixed_ns. @param where it was given, for the complaint.
[[nodiscard]] Result<CompletionPolicy> parse_completion_policy(std::string_view text,
                                                               std::string_view where);

} // namespace gnomon::monitor
