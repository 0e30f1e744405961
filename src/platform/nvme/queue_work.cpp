// SPDX-License-Identifier: Apache-2.0
// Rings, completions and interrupts.
#include "platform/nvme/controller.h"

#include "base/verify.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace gnomon::platform::nvme {

Request* Controller::RequestPool::take() {
    if (!m_free.empty()) {
        Request* const request = m_free.back();
        m_free.pop_back();
        return request;
    }
    if (m_all.size() == m_most) return nullptr;
    m_all.push_back(std::make_unique<Request>(m_controller, m_admin));
    return m_all.back().get();
}

void Controller::RequestPool::give_back(Request& request) {
    VERIFY(request.state != Request::State::free && !request.at_host);
    request.clear();
    m_free.push_back(&request);
}

void Controller::release(Request& request) {
    (request.admin ? m_admin_requests : m_io_requests).give_back(request);
}

/// Every queue gives a burst of commands in its turn, until there are no more or they have to wait.
/// Completions that are delivered from within do not come back here.
void Controller::run_queues() {
    if (m_running || !working()) return;
    m_running = true;
    m_starved = false;
    bool progress = true;
    while (progress) {
        progress = false;
        for (std::size_t id = 0; id < m_submission.size() && working(); ++id)
            if (m_submission[id] != nullptr && run_queue(*m_submission[id])) progress = true;
        progress = progress && working();
    }
    m_running = false;
    if (m_submitted) {
        m_submitted = false;
        m_disk.commit();
    }
}

/// One burst. Whether there was any command.
bool Controller::run_queue(SubmissionQueue& queue) {
    const u16 id = queue.id;
    const unsigned burst = m_features.burst();
    for (unsigned i = 0; i < burst; ++i) {
        if (queue.empty() || queue.deletion != nullptr) return i != 0;
        // Where completions wait for room no more are made.
        Request* const request = m_completion[queue.completion_queue]->held.empty()
                                     ? (id == 0 ? m_admin_requests : m_io_requests).take()
                                     : nullptr;
        if (request == nullptr) {
            m_starved = true;
            return i != 0;
        }
        request->state = Request::State::active;
        request->queue = &queue;
        if (!m_dma.read_object(queue.head_address(), request->command)) {
            m_fatal = true;
            release(*request);
            return false;
        }
        queue.pop();
        execute(*request);
        if (!working() || m_submission[id].get() != &queue) return true;
    }
    return true;
}

void Controller::deliver(Request& request) {
    end_delays(request);
    post(request);
    if (m_starved) run_queues();
}

/// The guest learns of it, or will as soon as there is room.
void Controller::post(Request& request) {
    CompletionQueue& queue = *m_completion[request.queue->completion_queue];
    if (!queue.held.empty() || queue.full()) {
        request.state = Request::State::held;
        queue.held.push_back(&request);
        return;
    }
    const bool written = !m_fatal && write_completion(queue, request);
    release(request);
    if (written) interrupt(queue);
}

bool Controller::write_completion(CompletionQueue& queue, const Request& request) {
    const Gpa gpa = queue.tail_address();
    const Hva host = m_dma.map(gpa, sizeof(CompletionEntry));
    if (host == nullptr) {
        m_fatal = true;
        return false;
    }
    CompletionEntry entry;
    entry.result = request.result;
    entry.submission_head = static_cast<u16>(request.queue->head);
    entry.submission_queue = request.queue->id;
    entry.command_id = request.command.command_id;
    entry.status = static_cast<u16>(static_cast<u16>(request.status) << 1 | (queue.phase ? 1 : 0));
    // The phase tag tells another processor that the rest is there: it comes last.
    constexpr std::size_t last = offsetof(CompletionEntry, command_id);
    u32 tagged;
    std::memcpy(&tagged, &entry.command_id, sizeof tagged);
    std::memcpy(host, &entry, last);
    std::atomic_ref(*reinterpret_cast<u32*>(host + last)).store(tagged, std::memory_order_release);
    m_dma.written(gpa, sizeof entry);
    queue.push();
    return true;
}

void Controller::post_held(CompletionQueue& queue) {
    while (!queue.held.empty() && !queue.full() && !m_fatal) {
        Request* const request = queue.held.front();
        queue.held.pop_front();
        const bool written = write_completion(queue, *request);
        release(*request);
        if (!written) return;
    }
}

void Controller::interrupt(const CompletionQueue& queue) {
    if (queue.interrupts && m_vectors.messages_enabled()) m_vectors.send(queue.vector);
    update_pin();
}

/// INTx: asserted while an unmasked completion queue holds what the guest has not consumed.
void Controller::update_pin() {
    const bool asserted = std::ranges::any_of(m_completion, [this](const auto& queue) {
        return queue != nullptr && queue->interrupts && !queue->empty() && queue->vector < 32 &&
               (m_interrupt_mask >> queue->vector & 1) == 0;
    });
    if (asserted == m_pin) return;
    m_pin = asserted;
    m_vectors.set_pin(asserted);
}

bool Controller::abandon(const SubmissionQueue* queue) {
    bool io_under_way = false;
    for (RequestPool* pool : {&m_io_requests, &m_admin_requests})
        for (const auto& entry : pool->all()) {
            Request& request = *entry;
            if (request.state == Request::State::free) continue;
            if (queue != nullptr && request.queue != queue) continue;
            io_under_way = io_under_way || (!request.admin && request.queue != nullptr);
            if (request.state == Request::State::active) m_completions.cancel(request);
            end_delays(request);
            if (request.state == Request::State::held)
                std::erase(m_completion[request.queue->completion_queue]->held, &request);
            if (request.at_host) {
                request.state = Request::State::abandoned;
                if (queue == nullptr) request.queue = nullptr;
            } else {
                release(request);
            }
        }
    return io_under_way;
}

void Controller::raise(const Event& event) {
    m_events.raise(event);
    tell_events();
}

/// Events for which the guest has left a request.
void Controller::tell_events() {
    while (!m_events.requests.empty()) {
        const auto event = m_events.take();
        if (!event) return;
        Request* const request = m_events.requests.front();
        m_events.requests.pop_front();
        request->state = Request::State::active;
        request->result = event->result();
        post(*request);
    }
}

} // namespace gnomon::platform::nvme
