// SPDX-License-Identifier: Apache-2.0
/// @file The keys that are for Gnomon, not for the guest: those that follow Ctrl-A.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace gnomon::cli {

/// Takes what the user types and says what of it is the guest's. Ctrl-A X quits, Ctrl-A H asks for
/// help, Ctrl-A Ctrl-A stands for one Ctrl-A; anything else after Ctrl-A is dropped with it.
/// Letters count in either case, and with Ctrl still held down.
class EscapeFilter {
public:
    enum class Command { none, quit, help };

    /// Consumes bytes from the front of `typed` up to the first command, and appends those for the
    /// guest to `guest`. Call again with what remains.
    [[nodiscard]] Command consume(std::span<const std::byte>& typed, std::vector<std::byte>& guest);

private:
    bool m_escaped = false; ///< the byte before was Ctrl-A
};

} // namespace gnomon::cli
