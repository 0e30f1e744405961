// SPDX-License-Identifier: Apache-2.0
#include "cli/run_command.h"

#include "base/verify.h"
#include "cli/endpoints.h"
#include "cli/guest_files.h"
#include "cli/report.h"
#include "cli/session.h"

#include <cstdio>

namespace gnomon::cli {

namespace {

Result<int> run_on_terminal(monitor::MachineOptions options, TraceObserver* observer,
                            const Reports& reports, const Confinement& confinement,
                            const Factories& factories) {
    confinement.give_up_files(options.kernel);
    RunControl control;
    const TerminationSignals signals(control);
    const ContinueSignal continues(control);
    auto console = UserConsole::open(control, true);
    if (!console) return tl::unexpected(console.error());
    StreamEndpoint port(&(*console)->input(), &(*console)->output());
    options.serial[0] = &port;
    if (observer != nullptr) {
        options.observer = observer->observer();
        observer->when_nobody_reads([&control] { control.request(StopReason::output_closed); });
    }

    const auto after_run = [&]() -> Result<> {
        // The guest's last words come before ours.
        (*console)->close();
        return observer != nullptr ? observer->finish() : Result<>{};
    };
    const auto outcome =
        run_machine(factories, std::move(options), confinement, control, reports, after_run);
    (*console)->close();
    if (!outcome) return tl::unexpected(outcome.error());
    if (const auto status = stopped_status(control)) return *status;
    if (outcome->end == monitor::RunEnd::triple_fault) {
        return tl::unexpected(Error{"the guest's processor shut down by a triple fault; its state:",
                                    false, outcome->processor_state});
    }
    return 0;
}

} // namespace

Result<int> run_command(const MachineSettings& settings, const Confinement& confinement,
                        const Factories& factories) {
    const auto reports = Reports::open(settings);
    if (!reports) return tl::unexpected(reports.error());
    VERIFY(settings.kernel.has_value()); // parse_command_line sees to it
    if (const auto readable = check_readable_file(*settings.kernel, "--kernel"); !readable) {
        return tl::unexpected(readable.error());
    }
    auto options = machine_options(settings, *settings.kernel);
    if (!options) return tl::unexpected(options.error());
    return run_on_terminal(std::move(*options), nullptr, *reports, confinement, factories);
}

Result<int> trace_machine(const MachineSettings& machine, const TraceSettings& trace,
                          const Confinement& confinement, const Factories& factories) {
    const auto reports = Reports::open(machine);
    if (!reports) return tl::unexpected(reports.error());
    auto kernel = find_kernel(machine.kernel, SearchPlaces::of_this_process());
    if (!kernel) return tl::unexpected(kernel.error());
    auto options = machine_options(machine, *kernel);
    if (!options) return tl::unexpected(options.error());
    auto observer = factories.observer({trace.options, trace.filter, *kernel});
    if (!observer) return tl::unexpected(observer.error());
    return run_on_terminal(std::move(*options), observer->get(), *reports, confinement, factories);
}

} // namespace gnomon::cli
