// SPDX-License-Identifier: Apache-2.0
#include "cli/descriptor.h"

#include "base/signal_mask.h"
#include "base/types.h"
#include "base/verify.h"

#include <cerrno>
#include <charconv>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <poll.h>
#include <string_view>
#include <sys/eventfd.h>
#include <unistd.h>

namespace gnomon::cli {

FileDescriptor make_event() {
    FileDescriptor event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    VERIFY(
        event); // as with memory: a process that has no descriptor left at its start cannot go on
    return event;
}

void raise_event(int event) {
    const u64 one = 1;
    // Fails only when the counter is full, and then it is raised.
    if (::write(event, &one, sizeof one) < 0) VERIFY(errno == EAGAIN);
}

void lower_event(int event) {
    u64 count = 0;
    if (::read(event, &count, sizeof count) < 0) VERIFY(errno == EAGAIN);
}

bool event_raised(int event) {
    pollfd wanted{event, POLLIN, 0};
    return ::poll(&wanted, 1, 0) > 0 && (wanted.revents & POLLIN) != 0;
}

std::thread thread_without_signals(std::function<void()> body) {
    const SignalsBlocked blocked;
    return std::thread(std::move(body));
}

void ensure_standard_descriptors() {
    for (int fd = 0; fd <= 2; fd++) {
        if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
        // The lowest free number is taken, which is fd. Without /dev/null there is nothing to do.
        [[maybe_unused]] const int opened = ::open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY);
    }
}

std::vector<int> descriptors_beyond_the_standard_ones() {
    std::vector<int> open;
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/fd"), ::closedir);
    if (folder == nullptr) return open;
    while (const dirent* const entry = ::readdir(folder.get())) {
        const std::string_view name = entry->d_name;
        int fd = -1;
        const auto [rest, error] = std::from_chars(name.data(), name.data() + name.size(), fd);
        if (error != std::errc{} || rest != name.data() + name.size()) continue; // . and ..
        if (fd > STDERR_FILENO && fd != ::dirfd(folder.get())) open.push_back(fd);
    }
    return open;
}

} // namespace gnomon::cli
