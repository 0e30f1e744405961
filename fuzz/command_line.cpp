// SPDX-License-Identifier: Apache-2.0
/// @file The command line as a whole: arguments separated by NUL in the input. Behind an argument
/// `@config` the rest is the contents of a configuration file.
#include "cli/command_line.h"
#include "cli/memory_size.h"
#include "fuzz/support/memory_file.h"

#include <optional>

using namespace gnomon;
using namespace gnomon::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    std::string_view rest(reinterpret_cast<const char*>(data), size);
    std::vector<std::string> arguments;
    std::optional<MemoryFile> config;
    std::string config_path = "/nowhere";
    while (!rest.empty() && arguments.size() < 64) {
        const std::size_t end = std::min(rest.find('\0'), rest.size());
        std::string argument(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
        if (argument == "@config") {
            config.emplace(std::span(reinterpret_cast<const u8*>(rest.data()), rest.size()));
            config_path = config->path();
            arguments.push_back("--config=" + config_path);
            break;
        }
        // No file but ours is opened: the others are not this target's, and some never end.
        if (argument.find("--config") != std::string::npos) argument = "--config=" + config_path;
        arguments.push_back(std::move(argument));
    }
    for (std::size_t i = 0; i + 1 < arguments.size(); ++i)
        if (arguments[i] == "--config") arguments[i + 1] = config_path;

    const auto invocation = cli::parse_command_line(arguments);
    const auto again = cli::parse_command_line(arguments);
    require(invocation.has_value() == again.has_value(), "the same arguments mean another thing");
    if (!invocation) {
        require(!invocation.error().message.empty(), "a complaint without words");
        require(invocation.error().message == again.error().message, "another complaint");
        return 0;
    }
    const cli::MachineSettings& machine = invocation->machine;
    if (machine.memory)
        require(*machine.memory >= cli::smallest_memory && *machine.memory <= cli::largest_memory &&
                    *machine.memory % page_size == 0,
                "a size of memory that no machine has");
    require(!machine.log_level || cli::is_log_level(*machine.log_level), "no such log level");
    const bool prints = invocation->action == cli::Invocation::Action::print;
    require(prints == !invocation->text.empty(), "there is text exactly where there is to print");
    // What follows the first -- is the command, as it is.
    if (invocation->action == cli::Invocation::Action::trace) {
        const auto dashes = std::ranges::find(arguments, "--");
        if (dashes != arguments.end())
            require(std::ranges::equal(invocation->trace.command,
                                       std::span(dashes + 1, arguments.end())),
                    "the command is not what follows --");
    }
    return 0;
}
