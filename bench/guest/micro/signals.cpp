// SPDX-License-Identifier: Apache-2.0
#include "rows.h"

#include <csignal>
#include <unistd.h>

namespace bench {

namespace {

// What a signal handler writes has to be of this type and at namespace scope.
volatile std::sig_atomic_t caught = 0;

void catch_signal(int) { caught = caught + 1; }

void install(void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGUSR1, &action, nullptr) != 0) give_up("sigaction");
}

} // namespace

Outcome signal_install(Budget budget) {
    return least_of_batches(budget, [](std::uint64_t count) {
        for (; count != 0; count--)
            install(catch_signal);
    });
}

Outcome signal_catch(Budget budget) {
    install(catch_signal);
    const pid_t self = getpid();
    return least_of_batches(budget, [self](std::uint64_t count) {
        for (; count != 0; count--) {
            const auto before = caught;
            if (kill(self, SIGUSR1) != 0 || caught == before) give_up("kill");
        }
    });
}

} // namespace bench
