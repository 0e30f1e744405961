// SPDX-License-Identifier: Apache-2.0
/// @file From the arguments of the process to what the user asked for.
#pragma once

#include "base/result.h"
#include "cli/settings.h"

#include <span>
#include <string>

namespace gnomon::cli {

struct Invocation {
    enum class Action {
        print, ///< `text`, on stdout: help or the version
        run,
        trace,
    };
    Action action = Action::print;
    std::string text;
    MachineSettings machine; ///< the configuration file's settings included
    TraceSettings trace;
};

/// @param arguments without the program's name. The first "--" ends the options; what follows it is
/// the command and is not looked at.
/// @return a usage error (one line) for what cannot be understood. Reads the file of --config.
[[nodiscard]] Result<Invocation> parse_command_line(std::span<const std::string> arguments);

} // namespace gnomon::cli
