// SPDX-License-Identifier: Apache-2.0
/// @file Carries bytes between the serial ports and the command's standard streams, obeys the
/// control port, and reaps processes, until the command has ended and all its output has left.
#pragma once

#include "guest/init/program/command.h"
#include "guest/init/program/ports.h"

namespace gnomon::guest::init {

/// Blocks until the command has ended. `child_events` is a signalfd for SIGCHLD (non-blocking).
/// Afterwards every other process is gone and the data ports are drained.
/// @return the command's wait status.
int relay(const Ports& ports, const Process& process, const Command& command, int child_events);

} // namespace gnomon::guest::init
