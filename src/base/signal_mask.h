// SPDX-License-Identifier: Apache-2.0
/// @file Threads that leave the process's signals to the main thread.
#pragma once

#include <csignal>
#include <pthread.h>

namespace gnomon {

/// While it lives, the calling thread takes no signal, and the threads that it makes never do:
/// their handlers run in the thread that expects them. Left open are what a thread brings upon
/// itself (faults, abort, a refused system call) and the terminal's stops (SIGTTIN, SIGTTOU).
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t blocked;
        ::sigfillset(&blocked);
        for (const int signal :
             {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU}) {
            ::sigdelset(&blocked, signal);
        }
        ::pthread_sigmask(SIG_SETMASK, &blocked, &m_before);
    }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;
    ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &m_before, nullptr); }

private:
    sigset_t m_before{};
};

} // namespace gnomon
