// SPDX-License-Identifier: Apache-2.0
/// @file One command under way.
#pragma once

#include "platform/block/block_back_end.h"
#include "platform/completion.h"
#include "platform/nvme/prp.h"
#include "platform/nvme/queues.h"

namespace gnomon::platform::nvme {

class Controller;

/// Part of what the back end is to do; a command may take several, one after the other.
struct Step {
    BlockOperation operation = BlockOperation::read;
    bool fua = false;
    u64 offset = 0, size = 0; ///< in bytes
};

class Request final : public BlockRequest, public Completion {
public:
    enum class State : u8 {
        free,
        active,    ///< with the scheduler, and the back end perhaps
        held,      ///< its completion queue is full
        event,     ///< an asynchronous event request that waits for an event
        abandoned, ///< reset or deleted: nobody is told, but the back end has not let go of it
    };

    Request(Controller& controller, bool of_admin_queue)
        : admin(of_admin_queue), m_controller(controller) {}

    void done(BlockStatus block_status) override;
    void deliver() override;

    /// Makes the next step the one that the back end reads.
    void load_step(std::size_t index) {
        const Step& step = steps[index];
        next_step = index + 1;
        operation = step.operation;
        fua = step.fua;
        offset = step.offset;
        BlockRequest::size = step.size;
    }
    void clear() {
        state = State::free;
        queue = nullptr;
        at_host = false;
        timed = false;
        status = Status::success;
        result = 0;
        memory.clear();
        segments.clear();
        steps.clear();
        next_step = 0;
        private_buffer.clear();
    }

    const bool admin;
    State state = State::free;
    bool at_host = false;
    bool timed = false;               ///< the delay model has been asked of each step
    SubmissionQueue* queue = nullptr; ///< null once that is gone
    SubmissionEntry command;
    Status status = Status::success;
    u32 result = 0;
    std::vector<Segment> segments;
    std::vector<Step> steps;
    std::size_t next_step = 0;
    std::vector<std::byte> private_buffer; ///< what a compare reads, in place of guest memory

private:
    Controller& m_controller;
};

} // namespace gnomon::platform::nvme
