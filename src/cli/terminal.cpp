// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal.h"

#include "base/verify.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <termios.h>
#include <unistd.h>

namespace gnomon::cli {

namespace {

/// Signals that end the process with its memory as it is, for which nobody else may have a handler.
constexpr std::array fatal_signals{SIGABRT, SIGSEGV, SIGBUS,  SIGILL,    SIGFPE,  SIGTRAP,
                                   SIGSYS,  SIGQUIT, SIGXCPU, SIGVTALRM, SIGALRM, SIGPWR};

/// What the handlers need. Written only while no handler of ours is installed or `active` is false.
struct SavedTerminal {
    std::atomic<bool> active = false;
    int fd = -1;
    termios original{};
    termios raw{};
    std::array<bool, fatal_signals.size()> handled{};
    struct sigaction previous_stop {};
    struct sigaction previous_continue {};
};
static_assert(std::atomic<bool>::is_always_lock_free);

SavedTerminal saved;

/// Whether another process group of the session has the terminal now. Then it is not ours to
/// change, and trying would stop us with SIGTTOU. A terminal that does not control us has no such
/// notion.
bool in_background(int fd) {
    const pid_t foreground = ::tcgetpgrp(fd);
    return foreground > 0 && foreground != ::getpgrp();
}

void set_mode(const termios& mode) {
    const int error = errno;
    if (!in_background(saved.fd)) ::tcsetattr(saved.fd, TCSANOW, &mode);
    errno = error;
}

void on_fatal_signal(int signal) {
    restore_terminal();
    // SA_RESETHAND has put the default back; blocked until this handler returns, then the end.
    ::raise(signal);
}

void on_stop_signal(int) {
    if (saved.active.load()) set_mode(saved.original);
    ::raise(SIGSTOP);
}

void on_continue_signal(int signal) {
    if (saved.active.load()) set_mode(saved.raw);
    // The terminal is not the only one that a stop concerns.
    const struct sigaction& other = saved.previous_continue;
    if ((other.sa_flags & SA_SIGINFO) == 0 && other.sa_handler != SIG_DFL &&
        other.sa_handler != SIG_IGN) {
        other.sa_handler(signal);
    }
}

void install(int signal, void (*handler)(int), int flags, struct sigaction* previous) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = flags;
    ::sigfillset(&action.sa_mask);
    ::sigaction(signal, &action, previous);
}

bool at_default(int signal) {
    struct sigaction action {};
    return ::sigaction(signal, nullptr, &action) == 0 && (action.sa_flags & SA_SIGINFO) == 0 &&
           action.sa_handler == SIG_DFL;
}

} // namespace

void restore_terminal() {
    if (saved.active.exchange(false)) set_mode(saved.original);
}

Result<std::unique_ptr<RawTerminal>> RawTerminal::enter(int fd) {
    VERIFY(!saved.active.load());
    if (::tcgetattr(fd, &saved.original) != 0) {
        return fail("cannot read the terminal's mode: {}", std::strerror(errno));
    }
    saved.fd = fd;
    saved.raw = saved.original;
    const tcflag_t output_flags = saved.raw.c_oflag;
    ::cfmakeraw(&saved.raw);
    saved.raw.c_oflag = output_flags;
    saved.raw.c_cc[VMIN] = 1;
    saved.raw.c_cc[VTIME] = 0;

    static const int at_exit_registered = std::atexit(restore_terminal);
    if (at_exit_registered != 0) return fail("cannot register the terminal's restoration at exit");
    saved.active.store(true);
    for (std::size_t i = 0; i < fatal_signals.size(); i++) {
        saved.handled[i] = at_default(fatal_signals[i]);
        if (saved.handled[i]) install(fatal_signals[i], on_fatal_signal, SA_RESETHAND, nullptr);
    }
    install(SIGTSTP, on_stop_signal, SA_RESTART, &saved.previous_stop);
    install(SIGCONT, on_continue_signal, SA_RESTART, &saved.previous_continue);
    std::unique_ptr<RawTerminal> terminal(new RawTerminal);
    // Not set_mode: a start in the background waits here, stopped by SIGTTOU, for its turn.
    if (::tcsetattr(fd, TCSANOW, &saved.raw) != 0) {
        return fail("cannot set the terminal's mode: {}", std::strerror(errno));
    }
    return terminal;
}

RawTerminal::~RawTerminal() {
    restore_terminal();
    ::sigaction(SIGTSTP, &saved.previous_stop, nullptr);
    ::sigaction(SIGCONT, &saved.previous_continue, nullptr);
    for (std::size_t i = 0; i < fatal_signals.size(); i++) {
        struct sigaction current {};
        if (saved.handled[i] && ::sigaction(fatal_signals[i], nullptr, &current) == 0 &&
            (current.sa_flags & SA_SIGINFO) == 0 && current.sa_handler == on_fatal_signal) {
            ::signal(fatal_signals[i], SIG_DFL);
        }
    }
}

} // namespace gnomon::cli
