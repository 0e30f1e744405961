// SPDX-License-Identifier: Apache-2.0
/// @file `gnomon run`: a machine on the user's terminal. Also a whole machine's part of `gnomon
/// trace`.
#pragma once

#include "cli/confinement.h"
#include "cli/factories.h"
#include "cli/settings.h"

namespace gnomon::cli {

/// Runs the machine to its end. @return the exit status (help.cpp, run_help); an error for what
/// kept it from running.
[[nodiscard]] Result<int> run_command(const MachineSettings& settings,
                                      const Confinement& confinement, const Factories& factories);

/// The same with every system call traced. The kernel is searched for if none is named.
[[nodiscard]] Result<int> trace_machine(const MachineSettings& machine, const TraceSettings& trace,
                                        const Confinement& confinement, const Factories& factories);

} // namespace gnomon::cli
