// SPDX-License-Identifier: Apache-2.0
#include "batches.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <memory>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace gnomon::test::hostile {

namespace {

/// CPU time that the process has used, in ns.
u64 cpu_time(pid_t pid) {
    clockid_t clock = 0;
    timespec t{};
    if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &t) != 0) return 0;
    return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
}

enum class Ending { finished, failed, died, hung };

/// Waits for a child; watches that it goes from case to case.
Ending wait_for(pid_t pid, const Progress& progress, unsigned hang_seconds, int& status) {
    u64 beats = progress.beats, since = 0;
    unsigned quiet_ms = 0;
    for (;;) {
        const pid_t done = ::waitpid(pid, &status, WNOHANG);
        if (done == pid) break;
        ::usleep(20'000);
        const u64 used = cpu_time(pid);
        if (progress.beats != beats) {
            beats = progress.beats;
            since = used;
            quiet_ms = 0;
            continue;
        }
        quiet_ms += 20;
        // By CPU time, since the host may be busy; or by the clock, should it sleep for ever.
        if (used - since > u64{hang_seconds} * 1'000'000'000 || quiet_ms > 120'000) {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, &status, 0);
            return Ending::hung;
        }
    }
    if (WIFSIGNALED(status)) return Ending::died;
    return WEXITSTATUS(status) == 0 ? Ending::finished : Ending::failed;
}

} // namespace

std::vector<CaseFailure> run_in_processes(u64 first, u64 end, u64 per_process,
                                          unsigned hang_seconds, unsigned failure_limit,
                                          const CaseRunner& runner, GuestStatistics& statistics) {
    std::vector<CaseFailure> failures;
    void* const shared = ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return {{first, "no memory to share with a child"}};
    auto* const progress = new (shared) Progress;
    for (u64 next = first; next < end && failures.size() < failure_limit;) {
        const u64 stop = std::min(end, (next / per_process + 1) * per_process);
        progress->message[0] = 0;
        std::fflush(nullptr);
        const pid_t pid = ::fork();
        if (pid < 0) {
            failures.push_back({next, std::string("fork: ") + std::strerror(errno)});
            break;
        }
        if (pid == 0) {
            for (u64 n = next; n < stop; ++n) {
                progress->current = n;
                ++progress->beats;
                const std::string what = runner(n, n == next, progress->statistics);
                if (what.empty()) continue;
                std::strncpy(progress->message, what.c_str(), sizeof progress->message - 1);
                ::_exit(1);
            }
            ::_exit(0);
        }
        int status = 0;
        const Ending ending = wait_for(pid, *progress, hang_seconds, status);
        const u64 at = progress->current;
        switch (ending) {
        case Ending::finished: next = stop; continue;
        case Ending::failed:
            failures.push_back({at, progress->message[0] != 0
                                        ? progress->message
                                        : fmt::format("exit status {}", WEXITSTATUS(status))});
            break;
        case Ending::died:
            failures.push_back({at, fmt::format("the process died of signal {} ({})",
                                                WTERMSIG(status), ::strsignal(WTERMSIG(status)))});
            break;
        case Ending::hung:
            failures.push_back({at, fmt::format("no end after {} s of CPU time", hang_seconds)});
            break;
        }
        next = at + 1;
    }
    statistics = progress->statistics;
    ::munmap(shared, sizeof(Progress));
    return failures;
}

} // namespace gnomon::test::hostile
