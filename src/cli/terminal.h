// SPDX-License-Identifier: Apache-2.0
/// @file The user's terminal in raw mode, given back on every way out.
#pragma once

#include "base/result.h"

#include <memory>

namespace gnomon::cli {

/// While it lives, the terminal hands over each key as it is pressed: no echo, no line editing, no
/// signals from keys. Output processing stays on, so that our own lines keep their shape.
///
/// The terminal is restored by the destructor, at exit(), and before the process dies of SIGABRT,
/// SIGQUIT or a fault of its own, as far as those signals were at their default when it was made.
/// SIGTSTP restores it and stops; SIGCONT enters raw mode again, if in the foreground, and goes on
/// to the handler that was there before. One object at a time (VERIFYed), made and destroyed by the
/// main thread; the handlers make signal dispositions and the saved mode necessarily state of the
/// process.
class RawTerminal {
public:
    /// @param fd a terminal, open for as long as the object lives.
    [[nodiscard]] static Result<std::unique_ptr<RawTerminal>> enter(int fd);
    RawTerminal(const RawTerminal&) = delete;
    RawTerminal& operator=(const RawTerminal&) = delete;
    ~RawTerminal();

private:
    RawTerminal() = default;
};

/// Restores the terminal at once if a RawTerminal lives. Async-signal-safe; for whoever calls
/// _exit.
void restore_terminal();

} // namespace gnomon::cli
