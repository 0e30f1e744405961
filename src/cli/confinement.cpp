// SPDX-License-Identifier: Apache-2.0
#include "cli/confinement.h"

#include "cli/descriptor.h"
#include "cli/terminal.h"
#include "sandbox/sandbox.h"

#include <ctime>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace gnomon::cli {

Confinement::Confinement(bool seccomp)
    : m_seccomp(seccomp), m_inherited(descriptors_beyond_the_standard_ones()) {}

void Confinement::give_up_files(const std::string& kernel) const {
    ::tzset(); // reads the time zone, for the trace's times of day
    std::vector<sandbox::OpenableFile> kept{{kernel, false}};
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
        if (::isatty(fd) != 0) kept.push_back({fmt::format("/proc/self/fd/{}", fd), true});
    }
    const sandbox::FileRestriction restriction = sandbox::restrict_files(kept);
    if (restriction.active) {
        spdlog::info("sandbox: no files by path (Landlock, ABI {})", restriction.abi);
    } else {
        spdlog::info("sandbox: no Landlock ({})", restriction.reason);
    }
}

Result<> Confinement::give_up_system_calls(const sandbox::SystemCallNeeds& needs) const {
    // What was named as /dev/fd/N has a descriptor of our own by now.
    for (const int fd : m_inherited)
        ::close(fd);
    if (!m_seccomp) {
        spdlog::info("sandbox: no seccomp filter (--no-seccomp)");
        return {};
    }
    if (!sandbox::supported()) {
        spdlog::info("sandbox: no seccomp filter (this build is instrumented)");
        return {};
    }
    if (auto restricted = sandbox::restrict_system_calls(restore_terminal, needs); !restricted)
        return restricted;
    spdlog::info("sandbox: seccomp filter in force");
    return {};
}

} // namespace gnomon::cli
