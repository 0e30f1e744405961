// SPDX-License-Identifier: Apache-2.0
#include "cli/output_pump.h"

#include "base/types.h"
#include "cli/descriptor.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace gnomon::cli {

namespace {

/// A terminal says that it is writable when less than this is waiting in it (WAKEUP_CHARS of
/// Linux).
constexpr std::size_t terminal_chunk = 256;

} // namespace

OutputPump::OutputPump(int fd, std::function<void(int error)> on_closed)
    : m_fd(fd), m_abandon(make_event()), m_chunk(PIPE_BUF), m_on_closed(std::move(on_closed)) {
    struct stat status {};
    if (::fstat(fd, &status) == 0) {
        m_socket = S_ISSOCK(status.st_mode);
        // A regular file never makes us wait, and is fastest in large pieces.
        if (S_ISREG(status.st_mode)) m_chunk = capacity;
    }
    if (::isatty(fd) != 0) {
        // A terminal can block in the middle of a write (Ctrl-S, a window that does not read). The
        // descriptor we were given is shared with other processes, which must not find it
        // non-blocking.
        m_chunk = terminal_chunk;
        m_reopened = FileDescriptor(::open(fmt::format("/proc/self/fd/{}", fd).c_str(),
                                           O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
        if (m_reopened) m_fd = m_reopened.get();
    }
    m_pending.reserve(capacity);
    m_thread = thread_without_signals([this] { work(); });
}

OutputPump::~OutputPump() {
    finish([] { return true; });
}

std::size_t OutputPump::push(std::span<const std::byte> data) {
    const std::lock_guard lock(m_mutex);
    if (m_closed) return data.size();
    const std::size_t taken = std::min(data.size(), capacity - m_pending.size());
    const bool was_empty = m_pending.empty();
    m_pending.insert(m_pending.end(), data.begin(),
                     data.begin() + static_cast<std::ptrdiff_t>(taken));
    if (was_empty && taken > 0) m_changed.notify_all();
    return taken;
}

void OutputPump::finish(const std::function<bool()>& give_up) {
    if (!m_thread.joinable()) return;
    {
        std::unique_lock lock(m_mutex);
        m_finishing = true;
        m_changed.notify_all();
        const auto written = [this] { return m_closed || (m_pending.empty() && !m_writing); };
        while (!written() && !give_up())
            m_changed.wait_for(lock, std::chrono::milliseconds(100), written);
    }
    raise_event(m_abandon.get());
    m_thread.join();
}

void OutputPump::work() {
    std::vector<std::byte> block;
    block.reserve(capacity);
    std::unique_lock lock(m_mutex);
    for (;;) {
        m_changed.wait(lock, [this] { return !m_pending.empty() || m_finishing; });
        if (m_pending.empty()) return;
        block.clear();
        block.swap(m_pending);
        m_writing = true;
        lock.unlock();
        const int error = write_all(block);
        lock.lock();
        m_writing = false;
        m_changed.notify_all();
        if (error == 0) continue;
        m_closed = true;
        m_pending.clear();
        lock.unlock();
        if (!event_raised(m_abandon.get())) m_on_closed(error);
        return;
    }
}

/// @return 0, or errno
int OutputPump::write_all(std::span<const std::byte> data) {
    while (!data.empty()) {
        if (const int error = wait_writable(); error != 0) return error;
        const std::size_t size = std::min(data.size(), m_chunk);
        const ssize_t done = m_socket ? ::send(m_fd, data.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL)
                                      : ::write(m_fd, data.data(), size);
        if (done < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (done < 0) return errno;
        data = data.subspan(static_cast<std::size_t>(done));
    }
    return 0;
}

/// @return 0, or errno when the wait is of no use; ECANCELED when the rest is to be abandoned
int OutputPump::wait_writable() const {
    pollfd wanted[] = {{m_fd, POLLOUT, 0}, {m_abandon.get(), POLLIN, 0}};
    while (::poll(wanted, 2, -1) < 0) {
        if (errno != EINTR) return errno;
    }
    return (wanted[1].revents & POLLIN) == 0 ? 0 : ECANCELED;
}

} // namespace gnomon::cli
