// SPDX-License-Identifier: Apache-2.0
/// @file How two events combine: for a processor that meets an exception while it delivers an
/// event, and for a monitor that injects one then.
#pragma once

#include "processor/control_block.h"

#include <optional>

namespace gnomon::processor {

/// What to deliver when exception `second` came up while `first` was being delivered (SDM vol. 3A
/// table 6-5): `second`, or #DF, or nothing more: the processor shuts down (nullopt).
/// @param first any event; all but the contributory exceptions, #PF and #DF are benign.
/// @param second of kind exception.
[[nodiscard]] std::optional<Injection> combine_exceptions(const Injection& first,
                                                          const Injection& second);

} // namespace gnomon::processor
