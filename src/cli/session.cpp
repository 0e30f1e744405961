// SPDX-License-Identifier: Apache-2.0
#include "cli/session.h"

#include "cli/memory_size.h"
#include "guest/boot/host_file.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <string_view>
#include <unistd.h>

namespace gnomon::cli {

namespace {

constexpr std::string_view keys_help = "\r\n"
                                       "Ctrl-A X       end Gnomon\r\n"
                                       "Ctrl-A H       this help\r\n"
                                       "Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

} // namespace

Result<monitor::MachineOptions> machine_options(const MachineSettings& settings,
                                                std::string kernel) {
    monitor::MachineOptions options;
    options.kernel = std::move(kernel);
    options.append = settings.append.value_or("");
    options.memory = settings.memory.value_or(default_memory);
    if (auto there = check_host_memory(options.memory); !there)
        return tl::unexpected(there.error());
    options.no_reboot = settings.no_reboot.value_or(false);
    options.check_shadow = settings.check_shadow.value_or(0);
    options.linear_views = settings.linear_views.value_or(options.linear_views);
    options.completions = settings.completions.value_or(options.completions);
    if (settings.initrd) {
        // What does not fit into the guest's memory is of no use to it.
        auto contents = guest::read_host_file(*settings.initrd, "--initrd", options.memory);
        if (!contents) return tl::unexpected(contents.error());
        options.initrd = std::move(*contents);
    }
    if (settings.disks) {
        auto disks = open_disks(*settings.disks);
        if (!disks) return tl::unexpected(disks.error());
        options.disks = std::move(*disks);
    }
    return options;
}

Result<Reports> Reports::open(const MachineSettings& settings) {
    Reports reports{StatisticsReport(settings.stats), nullptr};
    if (!settings.perf_map) return reports;
    auto map = PerfMap::create(*settings.perf_map);
    if (!map) return tl::unexpected(map.error());
    reports.perf_map = std::move(*map);
    return reports;
}

Result<monitor::RunOutcome> run_machine(const Factories& factories, monitor::MachineOptions options,
                                        const Confinement& confinement, RunControl& control,
                                        const Reports& reports,
                                        const std::function<Result<>()>& after_run) {
    options.measure_time = reports.statistics.wanted();
    options.code_map = reports.perf_map.get();
    const u64 memory = options.memory;
    const sandbox::SystemCallNeeds needs{
        .disks = !options.disks.empty(),
        .disk_servers =
            std::any_of(options.disks.begin(), options.disks.end(),
                        [](const monitor::Disk& disk) { return disk.back_end->is_served(); })};
    auto machine = factories.machine(std::move(options));
    if (!machine) return tl::unexpected(machine.error());
    // Its threads run, its files are read, and the guest has not run an instruction yet.
    if (auto confined = confinement.give_up_system_calls(needs); !confined)
        return tl::unexpected(confined.error());
    control.attach(machine->get());
    Result<monitor::RunOutcome> outcome = monitor::RunOutcome{};
    if (control.reason() == StopReason::none) outcome = (*machine)->run();
    // A signal or a pump's thread may ask for the end at any time, but no longer of this machine.
    control.detach();
    Result<> after;
    if (after_run) after = after_run();
    if (reports.statistics.wanted()) reports.statistics.print(**machine, memory);
    Result<> mapped;
    if (reports.perf_map) mapped = reports.perf_map->finish();
    // A trace that nobody reads any more has ended the run; there is nobody to complain to.
    const bool unread = control.reason() == StopReason::output_closed;
    if (outcome && !after && !unread) return tl::unexpected(after.error());
    if (outcome && !mapped) return tl::unexpected(mapped.error());
    return outcome;
}

std::optional<Result<int>> stopped_status(const RunControl& control) {
    switch (control.reason()) {
    case StopReason::none: break;
    case StopReason::key: return 0;
    case StopReason::output_closed: return 128 + SIGPIPE;
    case StopReason::output_failed: return fail("stdout: {}", std::strerror(control.detail()));
    case StopReason::signal: return 128 + control.detail();
    }
    return std::nullopt;
}

Result<std::unique_ptr<UserConsole>> UserConsole::open(RunControl& control, bool raw) {
    std::unique_ptr<UserConsole> console(new UserConsole(control));
    if (raw && ::isatty(STDIN_FILENO) != 0) {
        auto terminal = RawTerminal::enter(STDIN_FILENO);
        if (!terminal) return tl::unexpected(terminal.error());
        console->m_terminal = std::move(*terminal);
    }
    console->m_output = std::make_unique<OutputPump>(
        STDOUT_FILENO, [&control](int error) { control.request_for_output(error); });
    std::function<void(EscapeFilter::Command)> on_command;
    if (console->m_terminal) {
        on_command = [&control](EscapeFilter::Command command) {
            if (command == EscapeFilter::Command::quit) control.request(StopReason::key);
            if (command == EscapeFilter::Command::help) fmt::print(stderr, "{}", keys_help);
        };
    }
    console->m_input = std::make_unique<InputPump>(STDIN_FILENO, std::move(on_command));
    return console;
}

void UserConsole::close() {
    if (m_input) m_input->stop();
    if (m_output) drain(*m_output, m_control);
    m_terminal.reset();
}

void drain(OutputPump& pump, const RunControl& control) {
    std::optional<std::chrono::steady_clock::time_point> asked;
    pump.finish([&] {
        if (control.reason() == StopReason::none) return false;
        const auto now = std::chrono::steady_clock::now();
        if (!asked) asked = now;
        return now - *asked >= std::chrono::seconds(1);
    });
}

} // namespace gnomon::cli
