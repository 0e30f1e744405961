// SPDX-License-Identifier: Apache-2.0
/// @file Programs run as users run them: with pipes, or on a terminal.
#pragma once

#include "base/file_descriptor.h"

#include <chrono>
#include <csignal>
#include <functional>
#include <string>
#include <sys/types.h>
#include <termios.h>
#include <vector>

namespace gnomon::test {

/// What a child left. `status` is as the shell's $?: 128 and the signal's number if one killed it.
struct Finished {
    int status = -1;
    std::string out;
    std::string err;
};

/// Runs a program with `input` on its stdin and collects its output. Kills it when it takes far too
/// long.
[[nodiscard]] Finished run_program(const std::vector<std::string>& arguments,
                                   const std::string& input = "");

/// A program on a pseudo-terminal of its own, as the leader of a session.
class TerminalProcess {
public:
    explicit TerminalProcess(const std::vector<std::string>& arguments);
    TerminalProcess(const TerminalProcess&) = delete;
    TerminalProcess& operator=(const TerminalProcess&) = delete;
    /// Kills it if it still runs.
    ~TerminalProcess();

    void type(const std::string& keys) const;
    [[nodiscard]] pid_t pid() const { return m_pid; }
    void signal(int number) const { ::kill(m_pid, number); }
    /// Reads what the program shows until `text` has come. @return false when that takes far too
    /// long
    [[nodiscard]] bool shows(const std::string& text);
    /// Reads what the program shows for as long as that.
    void read_for(std::chrono::milliseconds duration);
    /// All that was shown so far.
    [[nodiscard]] const std::string& shown() const { return m_shown; }
    /// Whether the terminal is in raw mode now: neither echo nor lines nor signals.
    [[nodiscard]] bool raw() const;
    [[nodiscard]] termios mode() const;
    /// The terminal's mode as the program found it. `mode` may show what the program has made of it
    /// by then, however soon it is asked.
    [[nodiscard]] const termios& mode_at_start() const { return m_mode_at_start; }
    /// Sets echo, lines and signals, as a shell does that has the terminal back.
    void set_mode_cooked() const;
    /// Waits for the terminal to become raw, or not. @return false when that takes far too long
    [[nodiscard]] bool becomes_raw(bool wanted) const;
    /// Waits until job control has stopped the program. @return false when that takes far too long
    [[nodiscard]] bool stops() const;
    /// Whether there is nothing left to signal.
    [[nodiscard]] bool has_ended() const;
    /// Gives the terminal another size.
    void resize(unsigned short rows, unsigned short columns) const;
    /// Waits for the end. @return the status as in Finished; -1 when that takes far too long
    [[nodiscard]] int wait();
    void hang_up() { m_master.reset(); }

private:
    [[nodiscard]] bool read_some();

    FileDescriptor m_master;
    FileDescriptor m_slave; ///< keeps the terminal's mode readable after the program's end
    termios m_mode_at_start{};
    pid_t m_pid = -1;
    std::string m_shown;
};

/// Asks again and again until it is so. @return false when that takes far too long
[[nodiscard]] bool eventually(const std::function<bool()>& condition);

} // namespace gnomon::test
