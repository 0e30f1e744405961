// SPDX-License-Identifier: Apache-2.0
/// @file The rings between guest and controller (NVMe 1.4, section 4.1), as the controller sees
/// them.
#pragma once

#include "base/address.h"
#include "platform/nvme/command.h"

#include <deque>

namespace gnomon::platform::nvme {

class Request;

/// Indices are below `entries`, which is at least 2; one place always stays empty.
struct SubmissionQueue {
    SubmissionQueue(u16 queue_id, u16 completion_queue_id, Gpa base_address, u32 entry_count)
        : id(queue_id), completion_queue(completion_queue_id), base(base_address),
          entries(entry_count) {}

    [[nodiscard]] bool empty() const { return head == tail; }
    [[nodiscard]] Gpa head_address() const { return base + u64{head} * sizeof(SubmissionEntry); }
    void pop() { head = head + 1 == entries ? 0 : head + 1; }
    /// The guest's doorbell. False if the ring cannot hold as much.
    [[nodiscard]] bool set_tail(u32 value) {
        if (value >= entries) return false;
        const u32 added = (value + entries - tail) % entries;
        const u32 used = (tail + entries - head) % entries;
        if (used + added >= entries) return false;
        tail = value;
        return true;
    }

    u16 id, completion_queue;
    Gpa base;
    u32 entries;
    u32 head = 0, tail = 0;
    unsigned at_host = 0;        ///< its commands that the back end works on
    Request* deletion = nullptr; ///< the command that deletes it, waiting for those
};

struct CompletionQueue {
    CompletionQueue(Gpa base_address, u32 entry_count, u16 interrupt_vector,
                    bool interrupts_enabled)
        : base(base_address), entries(entry_count), vector(interrupt_vector),
          interrupts(interrupts_enabled) {}

    [[nodiscard]] bool empty() const { return head == tail; }
    [[nodiscard]] bool full() const { return (tail + 1) % entries == head; }
    [[nodiscard]] Gpa tail_address() const { return base + u64{tail} * sizeof(CompletionEntry); }
    void push() {
        if (++tail != entries) return;
        tail = 0;
        phase = !phase;
    }
    /// The guest's doorbell. False if it would consume what is not there.
    [[nodiscard]] bool set_head(u32 value) {
        if (value >= entries) return false;
        const u32 consumed = (value + entries - head) % entries;
        const u32 used = (tail + entries - head) % entries;
        if (consumed > used) return false;
        head = value;
        return true;
    }

    Gpa base;
    u32 entries;
    u16 vector;
    bool interrupts;
    u32 head = 0, tail = 0;
    bool phase = true;
    unsigned submission_queues = 0; ///< that complete here
    std::deque<Request*> held;      ///< completed while it was full, in order
};

} // namespace gnomon::platform::nvme
