// SPDX-License-Identifier: Apache-2.0
/// @file Output to a descriptor that may block, for a thread that must not: the machine's.
#pragma once

#include "base/file_descriptor.h"

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

namespace gnomon::cli {

/// Bytes pushed are written in order by a thread of its own, many at a time. Holds at most
/// `capacity` bytes: a guest that is faster than its reader waits in its transmitter.
class OutputPump {
public:
    static constexpr std::size_t capacity = std::size_t{64} << 10;

    /// @param fd stays the caller's, open until this object is destroyed.
    /// @param on_closed called once, by the pump's thread, with errno when nothing can be written
    /// any more (a closed pipe, a terminal that hung up, a full disk); what comes after is
    /// discarded.
    OutputPump(int fd, std::function<void(int error)> on_closed);
    OutputPump(const OutputPump&) = delete;
    OutputPump& operator=(const OutputPump&) = delete;
    /// As `finish` with no patience, unless `finish` was called.
    ~OutputPump();

    /// @return how many bytes were taken, from the front. Never blocks. Any thread.
    std::size_t push(std::span<const std::byte> data);

    /// Waits until all is written, as long as the reader takes unless `give_up`, which is asked
    /// every 100 ms, says true; then ends the thread. Nothing is to be pushed after it; a second
    /// call does nothing.
    void finish(const std::function<bool()>& give_up);

private:
    void work();
    [[nodiscard]] int write_all(std::span<const std::byte> data);
    [[nodiscard]] int wait_writable() const;

    int m_fd;
    FileDescriptor
        m_reopened;           ///< a terminal's own non-blocking description, where one could be had
    FileDescriptor m_abandon; ///< eventfd: readable once what is not written shall stay so
    bool m_socket = false;
    std::size_t m_chunk; ///< bytes that a writable descriptor takes without blocking
    std::function<void(int error)> m_on_closed;

    std::mutex m_mutex;
    std::condition_variable m_changed;
    std::vector<std::byte> m_pending; ///< under m_mutex
    bool m_writing = false;   ///< under m_mutex: the thread holds bytes that are not yet written
    bool m_closed = false;    ///< under m_mutex
    bool m_finishing = false; ///< under m_mutex
    std::thread m_thread;
};

} // namespace gnomon::cli
