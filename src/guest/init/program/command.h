// SPDX-License-Identifier: Apache-2.0
/// @file The command that the init program runs: its description, and its process.
#pragma once

#include "guest/init/program/system.h"

namespace gnomon::guest::init {

/// The command file's contents (guest/init/wire.h). Lives as long as the program.
struct Command {
    bool terminal = false;
    u16 rows = 0, columns = 0;
    const char* working_directory = nullptr;
    const char** arguments = nullptr;   ///< ended by nullptr; at least one
    const char** environment = nullptr; ///< ended by nullptr
};

/// Reads the command file. False, with the reason in `reason`, when it is missing or malformed.
bool read_command(Command& command, Line& reason);

/// The command's process, and init's ends of its standard streams (non-blocking).
struct Process {
    long pid = -1;
    int input = -1;  ///< to its standard input; with a terminal, the terminal's master
    int output = -1; ///< from its standard output; with a terminal, the same as `input`
    int error = -1;  ///< from its standard error; -1 with a terminal
    int go = -1;     ///< the process waits until this is closed, then calls execve
};

/// Makes the process, in a session of its own and with no signal blocked or ignored. It waits for
/// `release`. Changes to the command's directory. False, with the reason in `reason`, on failure.
bool spawn(const Command& command, Process& process, Line& reason);

/// Lets the process call execve.
void release(Process& process);

} // namespace gnomon::guest::init
