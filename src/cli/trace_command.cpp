// SPDX-License-Identifier: Apache-2.0
#include "cli/trace_command.h"

#include "cli/endpoints.h"
#include "cli/guest_files.h"
#include "cli/report.h"
#include "cli/session.h"
#include "guest/initramfs/root.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace gnomon::cli {

namespace {

constexpr std::size_t shown_console_lines = 20;

/// A kernel that cannot go on restarts at once, which ends the run (no_reboot), instead of hanging.
constexpr const char* kernel_parameters = "console=ttyS0 quiet panic=-1";

/// The file of --console, with the pump that writes it.
class ConsoleOutput {
public:
    [[nodiscard]] static Result<std::unique_ptr<ConsoleOutput>>
    open(const std::optional<std::string>& path) {
        std::unique_ptr<ConsoleOutput> output(new ConsoleOutput);
        if (!path) return output;
        output->m_fd = STDERR_FILENO;
        if (*path != "-") {
            output->m_file = FileDescriptor(
                ::open(path->c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666));
            if (!output->m_file) return fail("--console {}: {}", *path, std::strerror(errno));
            output->m_fd = output->m_file.get();
        }
        return output;
    }
    /// Starts the pump's thread.
    void start() {
        // The command's run does not depend on anyone reading the kernel's messages.
        if (m_fd >= 0) m_pump = std::make_unique<OutputPump>(m_fd, [](int) {});
    }
    /// nullptr if nobody wants the messages, and before `start`.
    [[nodiscard]] OutputPump* pump() { return m_pump.get(); }

private:
    ConsoleOutput() = default;
    FileDescriptor m_file;
    int m_fd = -1; ///< m_file's, stderr's, or none
    std::unique_ptr<OutputPump> m_pump;
};

/// Why there is no exit status, with the kernel's last words if they may tell.
Error no_status_error(const monitor::RunOutcome& outcome, const ControlEndpoint& port,
                      const ConsoleLog& log) {
    std::string text, details;
    if (!port.failure().empty()) {
        text = fmt::format("the guest cannot run the command: {}", port.failure());
    } else if (outcome.end == monitor::RunEnd::triple_fault) {
        text = "the guest's processor shut down by a triple fault; its state:";
        details = outcome.processor_state;
    } else if (port.ready()) {
        text = "the guest ended before the command did";
    } else {
        text = "the guest did not get as far as running the command";
    }
    if (!port.ready() || outcome.end != monitor::RunEnd::power_off) {
        if (const std::string lines = log.last_lines(shown_console_lines); !lines.empty()) {
            if (details.empty())
                text += "; the last lines of its console:";
            else
                details += "\nthe last lines of its console:\n";
            details += lines;
            details.pop_back();
        }
    }
    return Error{std::move(text), false, std::move(details)};
}

guest::CommandSpec command_spec(const TraceSettings& trace) {
    guest::CommandSpec command;
    command.arguments = trace.command;
    if (!trace.terminal) return command;
    command.terminal = true;
    const WindowSize size = window_size(STDIN_FILENO);
    command.rows = size.rows;
    command.columns = size.columns;
    const char* const term = std::getenv("TERM");
    command.environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                           "HOME=/root", fmt::format("TERM={}", term != nullptr ? term : "vt102")};
    return command;
}

Result<std::vector<std::byte>> pack(const TraceSettings& trace, const SearchPlaces& places) {
    if (trace.root) return guest::pack_root(*trace.root, command_spec(trace));
    const auto busybox = find_busybox(trace.busybox, places);
    if (!busybox) return tl::unexpected(busybox.error());
    return guest::make_busybox_root(*busybox, command_spec(trace));
}

} // namespace

Result<int> trace_command(const MachineSettings& machine, const TraceSettings& trace,
                          const Confinement& confinement, const Factories& factories) {
    const auto reports = Reports::open(machine);
    if (!reports) return tl::unexpected(reports.error());
    if (trace.terminal && ::isatty(STDIN_FILENO) == 0) {
        return usage_error("--tty: stdin is no terminal");
    }
    const SearchPlaces places = SearchPlaces::of_this_process();
    auto kernel = find_kernel(machine.kernel, places);
    if (!kernel) return tl::unexpected(kernel.error());
    auto options = machine_options(machine, *kernel);
    if (!options) return tl::unexpected(options.error());
    options->append = fmt::format("{} {}", kernel_parameters, guest::root_kernel_parameters);
    if (machine.append && !machine.append->empty()) options->append += " " + *machine.append;
    options->no_reboot = true;

    // A filter or file that is wrong is found before the long work.
    auto observer = factories.observer({trace.options, trace.filter, *kernel});
    if (!observer) return tl::unexpected(observer.error());
    options->observer = (*observer)->observer();
    auto console_output = ConsoleOutput::open(trace.console);
    if (!console_output) return tl::unexpected(console_output.error());

    {
        const Progress progress("packing the guest's files");
        auto packed = pack(trace, places);
        if (!packed) return tl::unexpected(packed.error());
        options->initrd = std::move(*packed);
    }
    if (options->initrd.size() > options->memory / 2) {
        return fail(
            "the guest's files take {} MiB, too much for a memory of {} MiB: give --memory, at "
            "least three times their size",
            options->initrd.size() >> 20, options->memory >> 20);
    }

    // Every file is open or read, but for the kernel; no thread runs yet.
    confinement.give_up_files(*kernel);
    (*console_output)->start();
    RunControl control;
    const TerminationSignals signals(control);
    const ContinueSignal continues(control);
    auto console = UserConsole::open(control, trace.terminal);
    if (!console) return tl::unexpected(console.error());
    std::optional<WindowSizeWatch> window;
    if (trace.terminal) window.emplace(STDIN_FILENO);
    OutputPump errors(STDERR_FILENO, [&control](int error) { control.request_for_output(error); });
    (*observer)->when_nobody_reads([&control] { control.request(StopReason::output_closed); });

    ConsoleLog kernel_port((*console_output)->pump());
    ControlEndpoint control_port((*console)->input(), window ? &*window : nullptr);
    CommandStreamEndpoint command_port((*console)->input(), (*console)->output(), control_port);
    StreamEndpoint error_port(nullptr, &errors);
    options->serial = {&kernel_port, &command_port, &error_port, &control_port};

    const auto close_streams = [&] {
        (*console)->close();
        drain(errors, control);
        if (OutputPump* const pump = (*console_output)->pump(); pump != nullptr)
            drain(*pump, control);
    };
    const auto after_run = [&]() -> Result<> {
        close_streams(); // the command's last words come before the trace's summary
        return (*observer)->finish();
    };
    const auto outcome =
        run_machine(factories, std::move(*options), confinement, control, *reports, after_run);
    close_streams();
    if (!outcome) return tl::unexpected(outcome.error());
    if (const auto status = stopped_status(control)) return *status;
    if (!control_port.status())
        return tl::unexpected(no_status_error(*outcome, control_port, kernel_port));
    return *control_port.status();
}

} // namespace gnomon::cli
