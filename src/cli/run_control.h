// SPDX-License-Identifier: Apache-2.0
/// @file Why a machine's run is to end before the guest ends it, and the signals that ask for it.
#pragma once

#include "monitor/machine.h"

#include <array>
#include <atomic>
#include <csignal>

namespace gnomon::cli {

enum class StopReason : int {
    none = 0,
    key,           ///< Ctrl-A X
    output_closed, ///< nobody reads our output any more
    output_failed, ///< our output cannot be written
    signal,        ///< SIGINT, SIGTERM or SIGHUP
};

/// Lets any thread, or a signal handler, stop the machine; the first reason stays. Outlives the
/// threads and handlers that use it.
class RunControl {
public:
    /// From now on requests stop `machine`, one made already included.
    void attach(monitor::Machine* machine);
    /// From now on they do not, and none is doing so any more: the machine may be destroyed.
    void detach();
    /// Async-signal-safe. @param detail the signal of StopReason::signal, errno of output_failed
    void request(StopReason reason, int detail = 0);
    /// The request after a write to stdout, stderr or the trace's file has failed.
    void request_for_output(int error);
    /// The process was stopped and goes on: Machine::process_continued, if a machine is attached.
    /// For the handler of SIGCONT on the machine's thread.
    void process_continued();
    [[nodiscard]] StopReason reason() const { return m_request.load().reason; }
    /// As given with the request.
    [[nodiscard]] int detail() const { return m_request.load().detail; }

private:
    struct Request {
        StopReason reason = StopReason::none;
        int detail = 0;
    };
    std::atomic<monitor::Machine*> m_machine = nullptr;
    std::atomic<int> m_stopping = 0; ///< callers of `request` that may hold m_machine
    std::atomic<Request> m_request = Request{};
    static_assert(std::atomic<monitor::Machine*>::is_always_lock_free &&
                  std::atomic<Request>::is_always_lock_free);
};

/// While it lives, SIGINT, SIGTERM and SIGHUP make a request; one that comes
/// when the end has been asked for already ends the process at once (_exit 128 + n, terminal
/// restored). SIGPIPE is ignored, so that a closed pipe is an error of write. A signal that was
/// ignored when Gnomon started (nohup) stays ignored. One object at a time.
class TerminationSignals {
public:
    explicit TerminationSignals(RunControl& control);
    TerminationSignals(const TerminationSignals&) = delete;
    TerminationSignals& operator=(const TerminationSignals&) = delete;
    ~TerminationSignals();

private:
    static constexpr std::array signals{SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    std::array<struct sigaction, signals.size()> m_previous{};
};

/// While it lives, SIGCONT tells the machine that the process was stopped. One object at a time.
class ContinueSignal {
public:
    explicit ContinueSignal(RunControl& control);
    ContinueSignal(const ContinueSignal&) = delete;
    ContinueSignal& operator=(const ContinueSignal&) = delete;
    ~ContinueSignal();

private:
    struct sigaction m_previous {};
};

} // namespace gnomon::cli
