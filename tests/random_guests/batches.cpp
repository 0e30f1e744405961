// SPDX-License-Identifier: Apache-2.0
#include "batches.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <execinfo.h>
#include <memory>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

extern "C" const char __executable_start; // by the linker

namespace gnomon::test::hostile {

namespace {

// What a signal handler can reach: where a child says how it died.
Progress* shared_progress = nullptr;

/// For signals that are not the guest's doing (the processor's own handler comes first): says
/// where.
void on_crash(int number, siginfo_t* info, void* context) {
    const auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    char text[1024];
    // Not async-signal-safe; the process is lost in any case.
    int used =
        std::snprintf(text, sizeof text,
                      "signal %d code %d at RIP %#llx, address %p, RAX %#llx R13 %#llx R14 %#llx",
                      number, info->si_code, registers[REG_RIP], info->si_addr, registers[REG_RAX],
                      registers[REG_R13], registers[REG_R14]);
    void* frames[24];
    const int count = ::backtrace(frames, 24);
    for (int n = 0; n < count && used + 32 < static_cast<int>(sizeof text); ++n)
        used += std::snprintf(text + used, sizeof text - static_cast<std::size_t>(used), " +%#lx",
                              reinterpret_cast<u64>(frames[n]) -
                                  reinterpret_cast<u64>(&__executable_start));
    if (shared_progress != nullptr) std::strcpy(shared_progress->message, text);
    std::fprintf(stderr, "%s\n", text);
    ::signal(number, SIG_DFL);
    ::raise(number);
}

/// Before anything else in the process has handlers: those then pass on to these.
[[maybe_unused]] const bool reporter_installed = [] {
    struct sigaction action {};
    action.sa_sigaction = on_crash;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    for (const int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT})
        ::sigaction(number, &action, nullptr);
    return true;
}();

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
    shared_progress = progress;
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
            failures.push_back(
                {at, fmt::format("the process died of signal {} ({}) {}", WTERMSIG(status),
                                 ::strsignal(WTERMSIG(status)), progress->message)});
            break;
        case Ending::hung:
            failures.push_back({at, fmt::format("no end after {} s of CPU time", hang_seconds)});
            break;
        }
        next = at + 1;
    }
    statistics = progress->statistics;
    shared_progress = nullptr;
    ::munmap(shared, sizeof(Progress));
    return failures;
}

} // namespace gnomon::test::hostile
