// SPDX-License-Identifier: Apache-2.0
/// @file The delay queues (M3.3): where completions wait that the host is done with.
///
/// Each waits in two: in its line's, which is local to the virtual CPU that takes the line's
/// interrupts and is served at that CPU's safepoints, and in the global one, which is served when
/// time has passed. Whoever takes it claims it (Completion::claim) and removes it from both.
#pragma once

#include "platform/completion.h"

#include <vector>

namespace gnomon::monitor {

/// First in, first out; links are the completions' own. One line of one device.
class LineQueue {
public:
    [[nodiscard]] bool empty() const { return m_first == nullptr; }
    [[nodiscard]] std::size_t size() const { return m_size; }
    [[nodiscard]] platform::Completion* front() const { return m_first; }
    void push_back(platform::Completion& completion);
    /// It must be in this queue.
    void remove(platform::Completion& completion);
    /// Puts one of this queue behind another of it; null: to the front.
    void move_behind(platform::Completion* before, platform::Completion& completion);

private:
    platform::Completion *m_first = nullptr, *m_last = nullptr;
    std::size_t m_size = 0;
};

/// The global queue: a heap by Notes::look_ns. Everything but `top` costs the logarithm of what
/// waits, and allocates only when more wait than ever before.
class GlobalQueue {
public:
    [[nodiscard]] bool empty() const { return m_heap.empty(); }
    [[nodiscard]] platform::Completion& top() const { return *m_heap.front(); }
    void push(platform::Completion& completion);
    /// It must be in the queue.
    void remove(platform::Completion& completion);
    /// Gives one that is in the queue another time.
    void set_look(platform::Completion& completion, u64 look_ns);

private:
    void place(std::size_t index, platform::Completion& completion) {
        m_heap[index] = &completion;
        completion.notes.heap_index = index;
    }
    void sift_up(std::size_t index);
    void sift_down(std::size_t index);

    std::vector<platform::Completion*> m_heap;
};

} // namespace gnomon::monitor
