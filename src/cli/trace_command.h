// SPDX-License-Identifier: Apache-2.0
/// @file `gnomon trace -- COMMAND`: a command in a guest of its own, and its trace.
#pragma once

#include "cli/confinement.h"
#include "cli/factories.h"
#include "cli/settings.h"

namespace gnomon::cli {

/// Packs the root, boots, runs the command, and traces. @return the command's exit status, or 128
/// and the number of the signal that ended it; an error if there was none.
[[nodiscard]] Result<int> trace_command(const MachineSettings& machine, const TraceSettings& trace,
                                        const Confinement& confinement, const Factories& factories);

} // namespace gnomon::cli
