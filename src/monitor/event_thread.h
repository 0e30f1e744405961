// SPDX-License-Identifier: Apache-2.0
/// @file The thread that interrupts a running processor: at a deadline, or when a descriptor
/// becomes readable. It also beats time, so that a stop of the process is noticed.
///
/// Completions are watched by their edges: seen once, and nothing has to be told to the thread for
/// the next. It only kicks; all work is done by the thread that runs the machine. A later deadline
/// costs that thread nothing, an earlier one a write to an eventfd; so whoever has set a near one
/// is expected to set more, and for a while the thread sleeps no longer than that one was away.
#pragma once

#include "base/file_descriptor.h"
#include "base/result.h"
#include "base/types.h"
#include "monitor/heartbeat.h"

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace gnomon::monitor {

class EventThread {
public:
    static constexpr u64 never = ~u64{0};

    /// @param kick called from the thread; must be safe there. @param descriptors watched for
    /// input. @param completions watched for completions; kicks each time that one of them becomes
    /// readable anew. @param heartbeat beats in the thread; outlives it.
    [[nodiscard]] static Result<std::unique_ptr<EventThread>> create(std::function<void()> kick,
                                                                     std::vector<int> descriptors,
                                                                     std::vector<int> completions,
                                                                     Heartbeat& heartbeat);
    EventThread(const EventThread&) = delete;
    EventThread& operator=(const EventThread&) = delete;
    ~EventThread();

    /// Kick at this time of CLOCK_MONOTONIC, in ns (or `never`).
    void set_deadline(u64 monotonic_ns);
    /// Whether input was seen. Descriptors are watched again after `clear_input`.
    [[nodiscard]] bool input_seen() const { return m_input.load(std::memory_order_acquire); }
    void clear_input();
    /// False while the caller waits for completions itself: no kicks for them. What was seen
    /// meanwhile is not told later.
    void watch_completions(bool watch) { m_watch_completions.store(watch); }

private:
    explicit EventThread(Heartbeat& heartbeat) : m_heartbeat(heartbeat) {}
    void loop();
    void wake();
    [[nodiscard]] Result<> add_completions(const std::vector<int>& descriptors);
    [[nodiscard]] bool take_completions();
    static constexpr u64 shortest_linger_ns = 50'000, longest_linger_ns = 4'000'000;

    Heartbeat& m_heartbeat;
    std::function<void()> m_kick;
    std::vector<int> m_descriptors;
    FileDescriptor m_event;
    FileDescriptor m_completions; ///< an epoll instance; none: there is nothing to watch
    std::atomic<u64> m_deadline = never;
    std::atomic<u64> m_sleeping_until = never;
    std::atomic<bool> m_input = false, m_stop = false, m_watch_completions = true;
    std::thread m_thread;
};

} // namespace gnomon::monitor
