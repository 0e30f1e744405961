// SPDX-License-Identifier: Apache-2.0
/// @file What the NVMe controller is tested with: a disk in memory whose host answers when it is
/// told to, and a scheduler that holds completions back until it is told not to.
#pragma once

#include "platform/block/block_back_end.h"
#include "platform/completion.h"
#include "platform/interrupt_vectors.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <vector>

namespace gnomon::platform::nvme::test {

/// Its data move when `reap` is called, at the earliest: until then guest memory is in use.
class MemoryDisk final : public BlockBackEnd {
public:
    /// What it was asked for, in order.
    struct Seen {
        BlockOperation operation;
        bool fua;
        u64 offset, size;
        friend bool operator==(const Seen&, const Seen&) = default;
    };

    explicit MemoryDisk(u64 bytes) : contents(bytes) {}

    [[nodiscard]] u64 size() const override { return contents.size(); }
    [[nodiscard]] bool read_only() const override { return write_protected; }
    void submit(BlockRequest& request) override {
        seen.push_back({request.operation, request.fua, request.offset, request.size});
        m_waiting.push_back(&request);
        ++uncommitted;
    }
    void commit() override { uncommitted = 0; }
    unsigned reap() override {
        unsigned count = 0;
        for (std::size_t left = std::min(m_waiting.size(), at_most); left != 0; --left, ++count)
            finish(0);
        return count;
    }
    [[nodiscard]] int poll_descriptor() const override { return -1; }
    [[nodiscard]] unsigned under_way() const override {
        return static_cast<unsigned>(m_waiting.size());
    }

    /// Ends the request at `index`, in whatever order.
    void finish(std::size_t index) {
        BlockRequest& request = *m_waiting[index];
        m_waiting.erase(m_waiting.begin() + static_cast<std::ptrdiff_t>(index));
        request.done(perform(request));
    }

    std::vector<u8> contents;
    std::vector<Seen> seen;
    bool write_protected = false;
    std::optional<BlockStatus> failure; ///< of whatever comes
    std::size_t at_most = ~std::size_t{0};
    std::size_t uncommitted = 0; ///< submitted since the last commit

private:
    BlockStatus perform(const BlockRequest& request) {
        if (failure) return *failure;
        if (request.operation == BlockOperation::flush) return BlockStatus::ok;
        if (request.offset > size() || request.size > size() - request.offset)
            return BlockStatus::out_of_range;
        u8* at = contents.data() + request.offset;
        if (request.operation == BlockOperation::write_zeroes) std::fill_n(at, request.size, u8{0});
        if (request.operation == BlockOperation::discard) std::fill_n(at, request.size, u8{0xdd});
        if (request.operation == BlockOperation::read)
            for (const iovec& piece : request.memory) {
                std::memcpy(piece.iov_base, at, piece.iov_len);
                at += piece.iov_len;
            }
        if (request.operation == BlockOperation::write)
            for (const iovec& piece : request.memory) {
                std::memcpy(at, piece.iov_base, piece.iov_len);
                at += piece.iov_len;
            }
        return BlockStatus::ok;
    }

    std::deque<BlockRequest*> m_waiting;
};

/// Delivers when it is told to, or at once.
class HeldCompletions final : public CompletionScheduler {
public:
    [[nodiscard]] unsigned add_device(std::string name) override {
        names.push_back(std::move(name));
        return static_cast<unsigned>(names.size() - 1);
    }
    void submitted(unsigned device, Completion& completion, u64 nominal_ns) override {
        completion.notes.device = device;
        completion.notes.state = Completion::State::submitted;
        nominal.push_back(nominal_ns);
        ++known;
    }
    void host_done(Completion& completion) override {
        completion.notes.state = Completion::State::waiting;
        m_waiting.push_back(&completion);
        if (!hold) deliver_all();
    }
    void cancel(Completion& completion) override {
        if (completion.notes.state == Completion::State::idle) return;
        std::erase(m_waiting, &completion);
        completion.notes.state = Completion::State::idle;
        --known;
    }
    using CompletionScheduler::command_written;
    void command_written(unsigned, unsigned) override { ++commands; }
    void status_polled(unsigned) override { ++polls; }
    void trouble(unsigned, GuestTrouble sign) override { troubles.push_back(sign); }

    void deliver(std::size_t index) {
        Completion& completion = *m_waiting[index];
        m_waiting.erase(m_waiting.begin() + static_cast<std::ptrdiff_t>(index));
        completion.notes.state = Completion::State::idle;
        --known;
        completion.deliver();
    }
    void deliver_all() {
        while (!m_waiting.empty())
            deliver(0);
    }
    [[nodiscard]] std::size_t waiting() const { return m_waiting.size(); }

    bool hold = false;
    unsigned known = 0; ///< submitted, not delivered or cancelled
    unsigned commands = 0, polls = 0;
    std::vector<std::string> names;
    std::vector<u64> nominal; ///< of each that was submitted
    std::vector<GuestTrouble> troubles;

private:
    std::deque<Completion*> m_waiting;
};

class RecordingVectors final : public InterruptVectors {
public:
    [[nodiscard]] bool messages_enabled() const override { return messages; }
    void send(unsigned vector) override { ++sent[vector]; }
    void set_pin(bool asserted) override { pin = asserted; }

    bool messages = true, pin = false;
    std::map<unsigned, unsigned> sent;
};

} // namespace gnomon::platform::nvme::test
