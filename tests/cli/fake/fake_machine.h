// SPDX-License-Identifier: Apache-2.0
/// @file A machine that plays a guest's part by a script, so that the command line is tested by
/// itself.
#pragma once

#include "monitor/machine.h"

namespace gnomon::cli::test {

/// Its "kernel" is a text file whose first word is the part to play:
///     poweroff        says "hello" on the console and powers off
///     reset, triple   end with that outcome; `triple` after 40 lines on the console
///     echo            returns console input in upper case; powers off after "q"
///     spin            does nothing until it is stopped
///     deaf            the same, and never takes input
///     flood           writes to the console until it is stopped
///     abort, exit     ends the process from within
///     options         tells its options on the console
///     command N       init of `gnomon trace`: returns stdin in upper case, says "err" on stderr,
///     ends
///                     with exit status N
///     killed N        the same, ended by signal N; "failing": init cannot run the command
[[nodiscard]] Result<std::unique_ptr<monitor::Machine>>
create_fake_machine(monitor::MachineOptions options);

} // namespace gnomon::cli::test
