// SPDX-License-Identifier: Apache-2.0
/// @file The serial ports of the init program (guest/init/wire.h).
#pragma once

#include "guest/init/program/system.h"

namespace gnomon::guest::init {

struct Ports {
    int data = -1;    ///< ttyS1
    int error = -1;   ///< ttyS2
    int control = -1; ///< ttyS3
};

/// Opens the ports raw and non-blocking, making their device nodes where /dev has none. False, with
/// the reason in `reason`, when a port does not exist.
bool open_ports(Ports& ports, Line& reason);

/// Waits until all bytes written to the port have left it (tcdrain).
void drain(int port);

/// Sends one line, and waits until it has left.
void send(const Ports& ports, Line& line);

} // namespace gnomon::guest::init
