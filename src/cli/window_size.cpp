// SPDX-License-Identifier: Apache-2.0
#include "cli/window_size.h"

#include "base/verify.h"
#include "cli/descriptor.h"

#include <atomic>
#include <cerrno>
#include <sys/ioctl.h>
#include <unistd.h>

namespace gnomon::cli {

namespace {

// A handler has no argument to carry them.
std::atomic<int> watch_event = -1;
std::atomic<bool> size_changed = false;

void on_window_change(int) {
    const int error = errno;
    size_changed.store(true);
    if (const int event = watch_event.load(); event >= 0) raise_event(event);
    errno = error;
}

} // namespace

WindowSize window_size(int fd) {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) return {};
    return {size.ws_row, size.ws_col};
}

WindowSizeWatch::WindowSizeWatch(int fd) : m_fd(fd), m_event(make_event()) {
    VERIFY(watch_event.exchange(m_event.get()) == -1);
    size_changed.store(false);
    struct sigaction action {};
    action.sa_handler = on_window_change;
    action.sa_flags = SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGWINCH, &action, &m_previous);
}

WindowSizeWatch::~WindowSizeWatch() {
    ::sigaction(SIGWINCH, &m_previous, nullptr);
    watch_event.store(-1);
}

std::optional<WindowSize> WindowSizeWatch::changed() {
    if (!size_changed.exchange(false)) return std::nullopt;
    return window_size(m_fd);
}

} // namespace gnomon::cli
