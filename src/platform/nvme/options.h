// SPDX-License-Identifier: Apache-2.0
/// @file What whoever builds the machine decides of an NVMe controller.
#pragma once

#include "base/types.h"

#include <string>

namespace gnomon::platform::nvme {

struct Options {
    /// Printable ASCII, at most 20 characters. Two controllers of one machine need different ones:
    /// the subsystem's and the namespace's unique names follow from it, and from the model.
    std::string serial = "GNOMON0001";
    std::string model = "Gnomon NVMe disk"; ///< printable ASCII, at most 40 characters
    std::string firmware = "1";             ///< printable ASCII, at most 8 characters
    bool read_only = false;                 ///< even if the back end may be written
    /// Pairs of I/O queues, 1 to 64.
    unsigned queue_pairs = 16;
    /// Interrupt vectors that the function offers, at least 1; one more than queue pairs gives each
    /// its own.
    unsigned vectors = 17;
    u16 vendor_id = 0, subsystem_vendor_id = 0; ///< as the PCI function shows them
};

} // namespace gnomon::platform::nvme
