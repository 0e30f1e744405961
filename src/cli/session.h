// SPDX-License-Identifier: Apache-2.0
/// @file One run of a machine, from its creation to the exit status: what `run` and `trace` have in
/// common.
#pragma once

#include "cli/confinement.h"
#include "cli/factories.h"
#include "cli/input_pump.h"
#include "cli/output_pump.h"
#include "cli/perf_map.h"
#include "cli/run_control.h"
#include "cli/settings.h"
#include "cli/statistics_report.h"
#include "cli/terminal.h"

#include <optional>

namespace gnomon::cli {

/// MachineOptions from the settings: the defaults filled in, the initrd read, the disks opened.
/// `kernel` is a path that was found already. Serial ports and observer are left to the caller.
[[nodiscard]] Result<monitor::MachineOptions> machine_options(const MachineSettings& settings,
                                                              std::string kernel);

/// What developers can have told of a run: --stats and --perf-map.
struct Reports {
    /// When the command begins: later neither the files of the process nor a new one can be opened.
    [[nodiscard]] static Result<Reports> open(const MachineSettings& settings);

    StatisticsReport statistics;
    std::unique_ptr<PerfMap> perf_map; ///< nullptr: not wanted
};

/// Creates the machine, takes the rest of `confinement`, runs the machine under `control`, and lets
/// `after_run` (which may be empty) look at what it leaves while the machine still exists.
/// The reports that are asked for are written at the end.
[[nodiscard]] Result<monitor::RunOutcome> run_machine(const Factories& factories,
                                                      monitor::MachineOptions options,
                                                      const Confinement& confinement,
                                                      RunControl& control, const Reports& reports,
                                                      const std::function<Result<>()>& after_run);

/// The exit status of a run that was ended from our side: 128 + n for a signal, 128 + SIGPIPE when
/// our output was closed, 0 for Ctrl-A X; an error if our output could not be written. Empty if it
/// was not.
[[nodiscard]] std::optional<Result<int>> stopped_status(const RunControl& control);

/// This process's stdin, stdout and terminal as a machine's console: raw with escape keys on a
/// terminal, plain otherwise. Restored and drained by `close`.
class UserConsole {
public:
    /// Enters raw mode if stdin is a terminal. `control` outlives the object.
    /// @param raw false: leave the terminal as it is, and Ctrl-A to the guest.
    [[nodiscard]] static Result<std::unique_ptr<UserConsole>> open(RunControl& control, bool raw);
    UserConsole(const UserConsole&) = delete;
    UserConsole& operator=(const UserConsole&) = delete;
    ~UserConsole() { close(); }

    [[nodiscard]] InputPump& input() { return *m_input; }
    [[nodiscard]] OutputPump& output() { return *m_output; }

    /// Ends the input, waits for the output to be written (not longer than a second once a signal
    /// has asked for the end), and gives the terminal back. A second call does
    /// nothing.
    void close();

private:
    explicit UserConsole(RunControl& control) : m_control(control) {}

    RunControl& m_control;
    std::unique_ptr<RawTerminal> m_terminal;
    std::unique_ptr<OutputPump> m_output;
    std::unique_ptr<InputPump> m_input;
};

/// Waits until the pump has written all; not longer than a second once the run was ended from our
/// side.
void drain(OutputPump& pump, const RunControl& control);

} // namespace gnomon::cli
