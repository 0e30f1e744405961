// SPDX-License-Identifier: Apache-2.0
#include "trace/names/signals.h"

#include "trace/names/define.h"

#include <csignal>

namespace gnomon::trace {

namespace {

constexpr std::string_view classic[] = {
    "",     "HUP",  "INT",  "QUIT", "ILL",    "TRAP",   "ABRT",  "BUS",  "FPE",  "KILL", "USR1",
    "SEGV", "USR2", "PIPE", "ALRM", "TERM",   "STKFLT", "CHLD",  "CONT", "STOP", "TSTP", "TTIN",
    "TTOU", "URG",  "XCPU", "XFSZ", "VTALRM", "PROF",   "WINCH", "IO",   "PWR",  "SYS"};
static_assert(std::size(classic) == 32);

struct Code {
    i32 code;
    std::string_view name;
};

constexpr Code any_signal[] = {{0, "SI_USER"},     {0x80, "SI_KERNEL"}, {-1, "SI_QUEUE"},
                               {-2, "SI_TIMER"},   {-3, "SI_MESGQ"},    {-4, "SI_ASYNCIO"},
                               {-5, "SI_SIGIO"},   {-6, "SI_TKILL"},    {-7, "SI_DETHREAD"},
                               {-60, "SI_ASYNCNL"}};
constexpr std::string_view ill[] = {"ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR",
                                    "ILL_ILLTRP", "ILL_PRVOPC", "ILL_PRVREG",
                                    "ILL_COPROC", "ILL_BADSTK", "ILL_BADIADDR"};
constexpr std::string_view fpe[] = {"FPE_INTDIV", "FPE_INTOVF", "FPE_FLTDIV",  "FPE_FLTOVF",
                                    "FPE_FLTUND", "FPE_FLTRES", "FPE_FLTINV",  "FPE_FLTSUB",
                                    "FPE_DECOVF", "FPE_DECDIV", "FPE_DECERR",  "FPE_INVASC",
                                    "FPE_INVDEC", "FPE_FLTUNK", "FPE_CONDTRAP"};
constexpr std::string_view segv[] = {"SEGV_MAPERR",  "SEGV_ACCERR",  "SEGV_BNDERR",
                                     "SEGV_PKUERR",  "SEGV_ACCADI",  "SEGV_ADIDERR",
                                     "SEGV_ADIPERR", "SEGV_MTEAERR", "SEGV_MTESERR"};
constexpr std::string_view bus[] = {"BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR",
                                    "BUS_MCEERR_AO"};
constexpr std::string_view trap[] = {"TRAP_BRKPT",  "TRAP_TRACE", "TRAP_BRANCH",
                                     "TRAP_HWBKPT", "TRAP_UNK",   "TRAP_PERF"};
constexpr std::string_view child[] = {"CLD_EXITED",  "CLD_KILLED",  "CLD_DUMPED",
                                      "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"};
constexpr std::string_view poll[] = {"POLL_IN",  "POLL_OUT", "POLL_MSG",
                                     "POLL_ERR", "POLL_PRI", "POLL_HUP"};
constexpr std::string_view sys[] = {"SYS_SECCOMP", "SYS_USER_DISPATCH"};

/// Codes of a signal count from 1.
std::string_view nth(std::span<const std::string_view> names, i32 code) {
    return code >= 1 && static_cast<size_t>(code) <= names.size()
               ? names[static_cast<size_t>(code) - 1]
               : std::string_view();
}

} // namespace

std::string_view signal_name(u32 number) {
    return number < std::size(classic) ? classic[number] : std::string_view();
}

std::string_view signal_code_name(i32 signo, i32 code) {
    for (const Code& known : any_signal)
        if (known.code == code) return known.name;
    switch (signo) {
    case SIGILL: return nth(ill, code);
    case SIGFPE: return nth(fpe, code);
    case SIGSEGV: return nth(segv, code);
    case SIGBUS: return nth(bus, code);
    case SIGTRAP: return nth(trap, code);
    case SIGCHLD: return nth(child, code);
    case SIGPOLL: return nth(poll, code);
    case SIGSYS: return nth(sys, code);
    default: return {};
    }
}

} // namespace gnomon::trace
