// SPDX-License-Identifier: Apache-2.0
#include "cli/application.h"

#include "cli/command_line.h"
#include "cli/confinement.h"
#include "cli/descriptor.h"
#include "cli/report.h"
#include "cli/run_command.h"
#include "cli/trace_command.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace gnomon::cli {

namespace {

Result<int> print(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
        std::fflush(stdout) != 0) {
        if (errno == EPIPE) return 128 + SIGPIPE;
        return fail("stdout: {}", std::strerror(errno));
    }
    return 0;
}

Result<int> act(const Invocation& invocation, const Factories& factories) {
    set_up_log(invocation.machine.log_level.value_or("warn"));
    const Confinement confinement(!invocation.machine.no_seccomp.value_or(false));
    switch (invocation.action) {
    case Invocation::Action::print: return print(invocation.text);
    case Invocation::Action::run: return run_command(invocation.machine, confinement, factories);
    case Invocation::Action::trace: break;
    }
    if (invocation.trace.command.empty()) {
        return trace_machine(invocation.machine, invocation.trace, confinement, factories);
    }
    return trace_command(invocation.machine, invocation.trace, confinement, factories);
}

} // namespace

int run_application(std::span<const std::string> arguments, const Factories& factories) {
    ensure_standard_descriptors();
    const auto invocation = parse_command_line(arguments);
    if (!invocation) return report_error(invocation.error());
    const auto status = act(*invocation, factories);
    return status ? *status : report_error(status.error());
}

} // namespace gnomon::cli
