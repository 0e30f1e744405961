// SPDX-License-Identifier: Apache-2.0
#include "cli/run_control.h"

#include "base/verify.h"
#include "cli/terminal.h"

#include <cerrno>
#include <thread>
#include <unistd.h>

namespace gnomon::cli {

namespace {

/// A handler has no argument to carry it.
std::atomic<RunControl*> signalled_control = nullptr;

void on_termination_signal(int signal) {
    const int error = errno;
    RunControl* const control = signalled_control.load();
    if (control != nullptr) {
        if (control->reason() != StopReason::none) {
            restore_terminal();
            ::_exit(128 + signal);
        }
        control->request(StopReason::signal, signal);
    }
    errno = error;
}

/// As signalled_control, for SIGCONT.
std::atomic<RunControl*> continued_control = nullptr;

void on_continue_signal(int) {
    const int error = errno;
    if (RunControl* const control = continued_control.load(); control != nullptr)
        control->process_continued();
    errno = error;
}

} // namespace

void RunControl::attach(monitor::Machine* machine) {
    // Sequentially consistent, as in request: one of the two sees the other's store.
    m_machine.store(machine);
    if (machine != nullptr && reason() != StopReason::none) machine->stop();
}

void RunControl::detach() {
    m_machine.store(nullptr);
    // Not a lock: a signal handler takes part. One that interrupts this very loop has come to its
    // end when the loop goes on, and other threads' requests are a few instructions long.
    while (m_stopping.load() != 0)
        std::this_thread::yield();
}

void RunControl::request(StopReason reason, int detail) {
    Request none;
    m_request.compare_exchange_strong(none, Request{reason, detail});
    m_stopping.fetch_add(1);
    if (monitor::Machine* const machine = m_machine.load(); machine != nullptr) machine->stop();
    m_stopping.fetch_sub(1);
}

void RunControl::request_for_output(int error) {
    // EIO: a terminal that hung up.
    const bool closed = error == EPIPE || error == ECONNRESET || error == EIO;
    request(closed ? StopReason::output_closed : StopReason::output_failed, error);
}

void RunControl::process_continued() {
    // attach and detach are this thread's too, so that the machine stays while it is used.
    if (monitor::Machine* const machine = m_machine.load(); machine != nullptr)
        machine->process_continued();
}

TerminationSignals::TerminationSignals(RunControl& control) {
    VERIFY(signalled_control.exchange(&control) == nullptr);
    for (std::size_t i = 0; i < signals.size(); i++) {
        ::sigaction(signals[i], nullptr, &m_previous[i]);
        if ((m_previous[i].sa_flags & SA_SIGINFO) == 0 && m_previous[i].sa_handler == SIG_IGN)
            continue;
        struct sigaction action {};
        action.sa_handler = signals[i] == SIGPIPE ? SIG_IGN : on_termination_signal;
        ::sigemptyset(&action.sa_mask);
        // No SA_RESTART: a write that blocks is to return.
        ::sigaction(signals[i], &action, nullptr);
    }
}

TerminationSignals::~TerminationSignals() {
    for (std::size_t i = 0; i < signals.size(); i++)
        ::sigaction(signals[i], &m_previous[i], nullptr);
    signalled_control.store(nullptr);
}

ContinueSignal::ContinueSignal(RunControl& control) {
    VERIFY(continued_control.exchange(&control) == nullptr);
    struct sigaction action {};
    action.sa_handler = on_continue_signal;
    action.sa_flags = SA_RESTART;
    ::sigfillset(&action.sa_mask);
    ::sigaction(SIGCONT, &action, &m_previous);
}

ContinueSignal::~ContinueSignal() {
    ::sigaction(SIGCONT, &m_previous, nullptr);
    continued_control.store(nullptr);
}

} // namespace gnomon::cli
