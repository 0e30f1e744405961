// SPDX-License-Identifier: Apache-2.0
/// @file The configuration file of --config: TOML with the names of the machine options.
///
///     kernel = "vmlinuz"      # paths mean what they mean on the command line: relative to where
///     gnomon runs initrd = "initrd.img" append = "console=ttyS0" memory = "512M"         # or a
///     number of bytes stats = "json"          # or "text", true, false log-level = "info"
///     no-reboot = true
#pragma once

#include "base/result.h"
#include "cli/settings.h"

#include <string>

namespace gnomon::cli {

/// @return a usage error that names file and line for what is not TOML, not an option or not its
/// type; a host failure if the file cannot be read.
[[nodiscard]] Result<MachineSettings> read_config_file(const std::string& path);

} // namespace gnomon::cli
