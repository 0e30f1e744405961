// SPDX-License-Identifier: Apache-2.0
/// @file The size of the user's terminal, and when it changes.
#pragma once

#include "base/file_descriptor.h"
#include "base/types.h"

#include <csignal>
#include <optional>

namespace gnomon::cli {

struct WindowSize {
    u16 rows = 24;
    u16 columns = 80;
};

/// The terminal's size, or 24 by 80 if it does not say.
[[nodiscard]] WindowSize window_size(int fd);

/// While it lives, SIGWINCH raises an event. One object at a time (VERIFYed).
class WindowSizeWatch {
public:
    explicit WindowSizeWatch(int fd);
    WindowSizeWatch(const WindowSizeWatch&) = delete;
    WindowSizeWatch& operator=(const WindowSizeWatch&) = delete;
    ~WindowSizeWatch();

    /// The event: readable after a change, until the user of this class lowers it.
    [[nodiscard]] const FileDescriptor& event() const { return m_event; }
    /// The new size, once for each change (or for several).
    [[nodiscard]] std::optional<WindowSize> changed();

private:
    int m_fd;
    FileDescriptor m_event;
    struct sigaction m_previous {};
};

} // namespace gnomon::cli
