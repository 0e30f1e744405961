// SPDX-License-Identifier: Apache-2.0
/// @file Input from a descriptor that may block, for a thread that must not: the machine's.
#pragma once

#include "base/file_descriptor.h"
#include "base/types.h"
#include "cli/escape_filter.h"

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

namespace gnomon::cli {

/// A thread of its own reads ahead, at most `capacity` bytes, so that Gnomon's own keys work even
/// when the guest has stopped reading.
class InputPump {
public:
    static constexpr std::size_t capacity = std::size_t{64} << 10;

    /// @param fd stays the caller's, open until this object is destroyed.
    /// @param on_command called by the pump's thread for Ctrl-A X and Ctrl-A H; empty: all bytes
    /// are the guest's and Ctrl-A means nothing.
    InputPump(int fd, std::function<void(EscapeFilter::Command)> on_command);
    InputPump(const InputPump&) = delete;
    InputPump& operator=(const InputPump&) = delete;
    ~InputPump() { stop(); }

    /// Ends the thread, whatever it waits for: no more input. A second call does nothing.
    void stop();

    /// Takes what is there, 0 if nothing is now. Never blocks. Any thread.
    std::size_t take(std::span<std::byte> out);
    /// True from the moment when all input has ended and been taken.
    [[nodiscard]] bool ended();
    /// Bytes taken so far.
    [[nodiscard]] u64 taken();
    /// `take` gives no more than this many bytes in all from now on; at first there is no limit.
    void set_limit(u64 bytes);
    /// Readable while `take` has something, and from the end of the input until a `take` has
    /// returned 0.
    [[nodiscard]] int poll_descriptor() const { return m_ready.get(); }

private:
    void work();
    /// @return false when the thread is to end
    [[nodiscard]] bool deliver(std::span<const std::byte> data);
    void handle(std::span<const std::byte> data, std::vector<std::byte>& guest);
    [[nodiscard]] std::size_t available() const;
    void update_ready();

    int m_fd;
    FileDescriptor m_stop;  ///< event: the thread shall end
    FileDescriptor m_ready; ///< event: see poll_descriptor
    std::function<void(EscapeFilter::Command)> m_on_command;
    EscapeFilter m_filter; ///< the thread's

    std::mutex m_mutex;
    std::condition_variable m_room;
    std::vector<std::byte> m_pending; ///< under m_mutex
    std::size_t m_begin = 0;          ///< under m_mutex: the first byte of m_pending not yet taken
    u64 m_taken = 0;                  ///< under m_mutex: in all
    u64 m_limit = ~u64{0};            ///< under m_mutex: of m_taken
    bool m_stopping = false;          ///< under m_mutex
    bool m_end_of_input = false;      ///< under m_mutex
    bool m_end_seen = false;          ///< under m_mutex: the taker knows
    std::thread m_thread;
};

} // namespace gnomon::cli
