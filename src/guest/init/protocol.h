// SPDX-License-Identifier: Apache-2.0
/// @file The host's side of the protocol with the guest's init program (guest/init/wire.h): the
/// command file, the control port's parser, and the lines to send.
#pragma once

#include "base/result.h"
#include "base/types.h"
#include "guest/init/wire.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace gnomon::guest {

/// The command to run in the guest.
struct CommandSpec {
    /// The program, looked up in PATH of `environment` unless it has a slash, and its arguments.
    std::vector<std::string> arguments{};
    /// NAME=VALUE. Empty: PATH and HOME only.
    std::vector<std::string> environment{};
    std::string working_directory = "/";
    /// Whether it gets a terminal of its own (standard error joins standard output) or pipes.
    bool terminal = false;
    u16 rows = 24, columns = 80; ///< of the terminal
};

/// The contents of the command file. An error when there is no command or a string contains a NUL.
[[nodiscard]] Result<std::vector<std::byte>> encode_command(const CommandSpec& command);

/// One line from the guest's control port.
struct ControlMessage {
    enum class Kind : u8 { ready, started, window, exited, signalled, failed };
    Kind kind = Kind::ready;
    /// started: process id, 1 to 2^22; window: byte count; exited: 0 to 255; signalled: 1 to 64.
    u64 number = 0;
    /// failed: what init said, printable ASCII only, so that it is safe on the user's terminal.
    std::string text{};

    friend bool operator==(const ControlMessage&, const ControlMessage&) = default;
};

/// Splits what the guest writes to its control port into messages. Accepts any bytes in any pieces
/// and keeps at most one line of them; what is not a message is counted and dropped. Not
/// thread-safe.
class ControlParser {
public:
    /// The messages completed by `bytes`, in order.
    [[nodiscard]] std::vector<ControlMessage> feed(std::span<const std::byte> bytes);
    /// Lines dropped so far: unknown, out of range or too long.
    [[nodiscard]] u64 malformed_lines() const { return m_malformed; }

private:
    std::string m_line;
    bool m_overlong = false;
    u64 m_malformed = 0;
};

// The lines for the other direction, ended by a newline.
[[nodiscard]] std::string eof_line(u64 bytes_in_all);
[[nodiscard]] std::string resize_line(u16 rows, u16 columns);
[[nodiscard]] std::string kill_line(int signal);

/// The init program: a static x86-64 ELF executable.
[[nodiscard]] std::span<const std::byte> init_program();

} // namespace gnomon::guest
