// SPDX-License-Identifier: Apache-2.0
#include "rows.h"

#include <cerrno>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace bench {

namespace {

void wait_for(pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) != child) give_up("waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        errno = ECHILD;
        give_up("the child failed");
    }
}

/// The program "nothing", which lies beside this one.
std::string program_that_does_nothing() {
    char path[4096];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    if (length <= 0 || length == sizeof path) give_up("readlink /proc/self/exe");
    const std::string self(path, static_cast<std::size_t>(length));
    std::string program = self.substr(0, self.rfind('/') + 1) + "nothing";
    if (access(program.c_str(), X_OK) != 0) give_up(program.c_str());
    return program;
}

} // namespace

Outcome fork_exit(Budget budget) {
    return least_of_batches(budget, [](std::uint64_t count) {
        for (; count != 0; count--) {
            const pid_t child = fork();
            if (child < 0) give_up("fork");
            if (child == 0) _exit(0);
            wait_for(child);
        }
    });
}

Outcome fork_execute(Budget budget) {
    const std::string program = program_that_does_nothing();
    return least_of_batches(budget, [&program](std::uint64_t count) {
        for (; count != 0; count--) {
            const pid_t child = fork();
            if (child < 0) give_up("fork");
            if (child == 0) {
                const char* const arguments[] = {program.c_str(), nullptr};
                // execve's parameters are not const for the sake of old C; it changes nothing.
                execv(program.c_str(), const_cast<char* const*>(arguments));
                _exit(127);
            }
            wait_for(child);
        }
    });
}

} // namespace bench
