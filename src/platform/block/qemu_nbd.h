// SPDX-License-Identifier: Apache-2.0
/// @file A qemu-nbd of our own that serves a local image in a format which Gnomon does not read.
#pragma once

#include "base/file_descriptor.h"
#include "base/result.h"

#include <memory>
#include <string>
#include <sys/types.h>

namespace gnomon::platform {

struct QemuNbdOptions {
    bool read_only = false;
    bool direct = true;   ///< past the host's page cache
    bool io_uring = true; ///< or threads
};

/// The process. It serves one connection, ends with it, and is told to end when the thread that
/// started it does; nothing of it stays in the file system.
class QemuNbd {
public:
    /// How long it may take to write what it holds when the connection has ended.
    static constexpr int patience_ms = 20'000;

    /// Starts it. Needs the rights to run programs and to make sockets, and makes no thread.
    [[nodiscard]] static Result<std::unique_ptr<QemuNbd>> start(const std::string& path,
                                                                const QemuNbdOptions& options);
    QemuNbd(const QemuNbd&) = delete;
    QemuNbd& operator=(const QemuNbd&) = delete;
    /// Waits until it has ended, by poll(2) alone, so that the image is whole and not locked any
    /// more; does not remove it from the process table, which takes our own end. The connection
    /// must be closed before.
    ~QemuNbd();

    /// The connection, once.
    [[nodiscard]] FileDescriptor take_connection() { return std::move(m_connection); }
    /// Ends it at once; for the time before a sandbox.
    void kill();
    /// The last message that it wrote to its stderr so far, without its name; empty if there is
    /// none.
    [[nodiscard]] std::string last_words() const;

private:
    QemuNbd() = default;

    FileDescriptor m_connection;
    FileDescriptor m_process; ///< pidfd
    FileDescriptor m_words;   ///< a memory file
    pid_t m_pid = -1;
};

} // namespace gnomon::platform
