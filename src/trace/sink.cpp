// SPDX-License-Identifier: Apache-2.0
#include "trace/sink.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace gnomon::trace {

namespace {
constexpr size_t block_bytes = 64 * 1024;
}

Result<std::unique_ptr<FileSink>> FileSink::open(const std::string& path) {
    if (path.empty() || path == "-") {
        FileDescriptor fd(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
        if (!fd)
            return fail("cannot write the trace to standard error: {}; name a file with -o",
                        std::strerror(errno));
        return std::make_unique<FileSink>(std::move(fd), "standard error");
    }
    FileDescriptor fd(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666));
    if (!fd)
        return fail("cannot create the trace file {}: {}; choose another with -o", path,
                    std::strerror(errno));
    return std::make_unique<FileSink>(std::move(fd), path);
}

FileSink::FileSink(FileDescriptor fd, std::string name)
    : m_fd(std::move(fd)), m_name(std::move(name)) {
    m_buffer.reserve(block_bytes + page_size);
}

FileSink::~FileSink() {
    // The owner has flushed and seen any error; what is left here has nobody to report to.
    static_cast<void>(flush());
}

Result<> FileSink::write(std::string_view text) {
    m_buffer.append(text);
    if (m_buffer.size() >= block_bytes) return flush();
    return {};
}

Result<> FileSink::flush() {
    if (m_failed) {
        m_buffer.clear();
        return {};
    }
    size_t done = 0;
    while (done < m_buffer.size()) {
        const ssize_t n = ::write(m_fd.get(), m_buffer.data() + done, m_buffer.size() - done);
        if (n > 0) {
            done += static_cast<size_t>(n);
            continue;
        }
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            // Standard error may have been made non-blocking by whoever shares it.
            pollfd wait{m_fd.get(), POLLOUT, 0};
            static_cast<void>(::poll(&wait, 1, -1));
            continue;
        }
        const int error = n < 0 ? errno : EIO;
        m_failed = true;
        m_reader_gone = error == EPIPE;
        m_buffer.clear();
        return fail(
            "cannot write the trace to {}: {}; the trace ends here, choose another file with -o",
            m_name, std::strerror(error));
    }
    m_buffer.clear();
    return {};
}

} // namespace gnomon::trace
