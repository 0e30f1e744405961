// SPDX-License-Identifier: Apache-2.0
/// @file What whoever builds the machine decides of an IDE disk.
#pragma once

#include "base/types.h"

#include <string>

namespace gnomon::platform::ide {

struct DriveOptions {
    std::string serial = "GNOMON0001";     ///< printable ASCII, at most 20 characters
    std::string model = "Gnomon IDE disk"; ///< printable ASCII, at most 40 characters
    std::string firmware = "1";            ///< printable ASCII, at most 8 characters
    bool read_only = false;                ///< even if the back end may be written
    /// Turns a minute, as IDENTIFY DEVICE shows it: 0 is not said, 1 is none, a solid state device.
    u16 rotation = 0;
};

} // namespace gnomon::platform::ide
