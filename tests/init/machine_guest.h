// SPDX-License-Identifier: Apache-2.0
/// @file A machine whose four serial ports end in the test: what the init program says and does,
/// byte for byte, with a real kernel below it.
#pragma once

#include "base/result.h"
#include "guest/init/protocol.h"

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace gnomon::test {

/// What a run of the guest gave.
struct Outcome {
    std::string console, output, error;
    std::vector<guest::ControlMessage> control; ///< without `window`
    u64 malformed = 0;
    bool powered_off = false;

    [[nodiscard]] std::optional<guest::ControlMessage> last() const {
        return control.empty() ? std::nullopt : std::optional(control.back());
    }
};

/// What the host sends: standard input through the window, then its end, and extra control lines.
struct Inputs {
    std::string standard_input{};
    bool end_input = true;
    std::string control_after_started{};
};

/// Boots `kernel` with `initrd` and serves the ports until it powers off or `limit` has passed.
[[nodiscard]] Result<Outcome> boot(const std::string& kernel, std::vector<std::byte> initrd,
                                   const Inputs& inputs, std::chrono::seconds limit);

} // namespace gnomon::test
