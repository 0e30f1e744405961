// SPDX-License-Identifier: Apache-2.0
/// @file What the guest's serial ports are connected to (monitor::SerialEndpoint). Those for the
/// command of `gnomon trace` follow guest/init/wire.h.
#pragma once

#include "base/file_descriptor.h"
#include "cli/input_pump.h"
#include "cli/output_pump.h"
#include "cli/window_size.h"
#include "guest/init/protocol.h"
#include "monitor/machine.h"

#include <optional>
#include <string>

namespace gnomon::cli {

/// A port whose two directions are streams of ours.
class StreamEndpoint : public monitor::SerialEndpoint {
public:
    /// Either may be nullptr: no input, output discarded. Both outlive the endpoint.
    StreamEndpoint(InputPump* input, OutputPump* output) : m_input(input), m_output(output) {}

    std::size_t transmitted(std::span<const std::byte> data) override;
    std::size_t receive(std::span<std::byte> out) override;
    [[nodiscard]] int poll_descriptor() const override;

private:
    InputPump* m_input;
    OutputPump* m_output;
};

/// The kernel's console when it is not the user's: passed on to a stream, if there is one, and the
/// end of it kept for the case that the guest does not start.
class ConsoleLog final : public monitor::SerialEndpoint {
public:
    /// @param output may be nullptr; outlives the endpoint.
    explicit ConsoleLog(OutputPump* output) : m_output(output) {}

    std::size_t transmitted(std::span<const std::byte> data) override;
    std::size_t receive(std::span<std::byte>) override { return 0; }

    /// The last lines, each indented and ended by "\n", with nothing in them that a terminal would
    /// obey.
    [[nodiscard]] std::string last_lines(std::size_t count) const;

private:
    static constexpr std::size_t kept_bytes = 16384;
    OutputPump* m_output;
    std::string m_tail; ///< at most 2 * kept_bytes
};

/// The control port: hears from the guest's init how the command fares, and tells it about our
/// stdin and terminal. Also holds back stdin as the protocol's flow control asks. Used by the
/// machine's thread.
class ControlEndpoint final : public monitor::SerialEndpoint {
public:
    /// @param input the pump behind ttyS1: nothing is taken from it before the guest is ready.
    /// @param window sizes of the terminal to pass on, or nullptr. Both outlive the endpoint.
    ControlEndpoint(InputPump& input, WindowSizeWatch* window);

    std::size_t transmitted(std::span<const std::byte> data) override;
    std::size_t receive(std::span<std::byte> out) override;
    [[nodiscard]] int poll_descriptor() const override { return m_wake->get(); }

    /// To be called when the input has been seen to end; tells the guest once.
    void announce_end_of_input();

    [[nodiscard]] bool ready() const { return m_ready; }
    /// The command's exit status, or 128 and the number of the signal that ended it. The last word
    /// counts: a command may write to the port itself, but init speaks after it.
    [[nodiscard]] std::optional<int> status() const { return m_status; }
    /// Why init could not run the command, if so.
    [[nodiscard]] const std::string& failure() const { return m_failure; }

private:
    void handle(const guest::ControlMessage& message);
    void send(const std::string& line);

    InputPump& m_input;
    WindowSizeWatch* m_window;
    FileDescriptor m_own_wake;    ///< event: there is something to send
    const FileDescriptor* m_wake; ///< m_own_wake, or the window watch's, which serves both
    guest::ControlParser m_parser;
    std::string m_to_send;
    bool m_ready = false;
    bool m_end_announced = false;
    std::optional<int> m_status;
    std::string m_failure;
};

/// The command's stdin and stdout: a stream whose end is announced on the control port.
class CommandStreamEndpoint final : public StreamEndpoint {
public:
    /// All outlive the endpoint.
    CommandStreamEndpoint(InputPump& input, OutputPump& output, ControlEndpoint& control)
        : StreamEndpoint(&input, &output), m_input(input), m_control(control) {}

    std::size_t receive(std::span<std::byte> out) override;

private:
    InputPump& m_input;
    ControlEndpoint& m_control;
};

} // namespace gnomon::cli
