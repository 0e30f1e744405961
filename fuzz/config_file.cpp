// SPDX-License-Identifier: Apache-2.0
/// @file The configuration file: TOML from anybody.
#include "cli/config_file.h"
#include "cli/memory_size.h"
#include "fuzz/support/memory_file.h"

using namespace gnomon;
using namespace gnomon::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    const MemoryFile file(std::span(data, size));
    const auto settings = cli::read_config_file(file.path());
    if (!settings) {
        require(settings.error().usage, "what is wrong in the file is a usage error");
        require(settings.error().message.starts_with(file.path() + ":"),
                "the complaint does not name file and line");
        return 0;
    }
    if (settings->memory)
        require(*settings->memory >= cli::smallest_memory &&
                    *settings->memory <= cli::largest_memory && *settings->memory % page_size == 0,
                "a size of memory that no machine has");
    require(!settings->log_level || cli::is_log_level(*settings->log_level), "no such log level");
    return 0;
}
