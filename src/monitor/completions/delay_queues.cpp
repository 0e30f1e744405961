// SPDX-License-Identifier: Apache-2.0
#include "monitor/completions/delay_queues.h"

#include "base/verify.h"

namespace gnomon::monitor {

using platform::Completion;

void LineQueue::push_back(Completion& completion) {
    completion.notes.previous = m_last;
    completion.notes.next = nullptr;
    (m_last != nullptr ? m_last->notes.next : m_first) = &completion;
    m_last = &completion;
    ++m_size;
}

void LineQueue::remove(Completion& completion) {
    VERIFY(m_size != 0);
    Completion* const before = completion.notes.previous;
    Completion* const behind = completion.notes.next;
    (before != nullptr ? before->notes.next : m_first) = behind;
    (behind != nullptr ? behind->notes.previous : m_last) = before;
    completion.notes.previous = completion.notes.next = nullptr;
    --m_size;
}

void LineQueue::move_behind(Completion* before, Completion& completion) {
    if (completion.notes.previous == before) return;
    remove(completion);
    Completion* const behind = before != nullptr ? before->notes.next : m_first;
    completion.notes.previous = before;
    completion.notes.next = behind;
    (before != nullptr ? before->notes.next : m_first) = &completion;
    (behind != nullptr ? behind->notes.previous : m_last) = &completion;
    ++m_size;
}

void GlobalQueue::push(Completion& completion) {
    m_heap.push_back(&completion);
    completion.notes.heap_index = m_heap.size() - 1;
    sift_up(m_heap.size() - 1);
}

void GlobalQueue::remove(Completion& completion) {
    const std::size_t index = completion.notes.heap_index;
    VERIFY(index < m_heap.size() && m_heap[index] == &completion);
    Completion& last = *m_heap.back();
    m_heap.pop_back();
    if (&last == &completion) return;
    place(index, last);
    sift_up(index);
    sift_down(last.notes.heap_index);
}

void GlobalQueue::set_look(Completion& completion, u64 look_ns) {
    const std::size_t index = completion.notes.heap_index;
    VERIFY(index < m_heap.size() && m_heap[index] == &completion);
    completion.notes.look_ns = look_ns;
    sift_up(index);
    sift_down(completion.notes.heap_index);
}

void GlobalQueue::sift_up(std::size_t index) {
    Completion& moved = *m_heap[index];
    while (index != 0) {
        const std::size_t parent = (index - 1) / 2;
        if (m_heap[parent]->notes.look_ns <= moved.notes.look_ns) break;
        place(index, *m_heap[parent]);
        index = parent;
    }
    place(index, moved);
}

void GlobalQueue::sift_down(std::size_t index) {
    Completion& moved = *m_heap[index];
    for (;;) {
        std::size_t child = 2 * index + 1;
        if (child >= m_heap.size()) break;
        if (child + 1 < m_heap.size() &&
            m_heap[child + 1]->notes.look_ns < m_heap[child]->notes.look_ns)
            ++child;
        if (moved.notes.look_ns <= m_heap[child]->notes.look_ns) break;
        place(index, *m_heap[child]);
        index = child;
    }
    place(index, moved);
}

} // namespace gnomon::monitor
