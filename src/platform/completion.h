// SPDX-License-Identifier: Apache-2.0
/// @file When the guest sees that a request of a virtual device is done (M3.1-M3.5): what devices
/// say, and what the scheduler answers.
///
/// A device holds back all of a completion that the guest can see - status, queue entry, interrupt
/// - until it is told to deliver it; the data of a read may arrive before. The scheduler knows
/// requests, not devices. Threads: the machine's.
#pragma once

#include "base/types.h"

#include <atomic>
#include <string>

namespace gnomon::platform {

/// One request's completion, a part of the device's own request. Between `submitted` and its end
/// (delivered or cancelled) it must neither move nor die.
class Completion {
public:
    enum class State : u8 {
        idle,      ///< not known to the scheduler
        submitted, ///< the host works on it
        waiting,   ///< the host is done; held back
    };

    Completion() = default;
    Completion(const Completion&) = delete;
    Completion& operator=(const Completion&) = delete;
    virtual ~Completion() = default;
    /// The guest learns of it now. The scheduler has forgotten it before it calls, once for each
    /// `submitted`; the device may submit anew from within.
    virtual void deliver() = 0;

    /// Which of the device's interrupt lines - queue, vector, channel - tells of it. Set by the
    /// device before `submitted`; small numbers.
    unsigned line = 0;

    /// The scheduler's own notes; devices leave them alone.
    struct Notes {
        std::atomic<State> state = State::idle;
        unsigned device = 0;
        unsigned cpu = 0;             ///< the virtual CPU that submitted it
        u64 nominal_ns = 0;           ///< what the physical counterpart would take
        u64 submitted_ns = 0;         ///< virtual clock
        u64 submitted_run_ns = 0;     ///< guest-run time of `cpu` then
        u64 submitted_seen_ns = 0;    ///< and of its stretches
        u64 submitted_watched_ns = 0; ///< and of the time that counts for the longest wait
        u64 look_ns = 0;              ///< virtual clock: before that it cannot mature
        u64 order = 0;                ///< of its arrival in the queues
        bool counted = false;         ///< among those that the scheduler watches
        bool going = false;           ///< chosen for the delivery that is under way
        std::size_t heap_index = 0;
        Completion *previous = nullptr, *next = nullptr; ///< in its line's queue
    } notes;

    /// Takes what waits: true for one caller only, whoever comes first.
    [[nodiscard]] bool claim() {
        State expected = State::waiting;
        return notes.state.compare_exchange_strong(expected, State::idle);
    }
};

/// What a device has seen that shows a guest in trouble.
enum class GuestTrouble : u8 {
    reset, ///< of the device, with requests under way
    abort, ///< of a request, as after a time-out
};

class CompletionScheduler {
public:
    CompletionScheduler() = default;
    CompletionScheduler(const CompletionScheduler&) = delete;
    CompletionScheduler& operator=(const CompletionScheduler&) = delete;
    virtual ~CompletionScheduler() = default;

    /// @return the number by which the device calls. @param name for reports: "nvme0".
    [[nodiscard]] virtual unsigned add_device(std::string name) = 0;
    /// One interrupt of this device may tell of several completions. Without this, never.
    virtual void allow_batches(unsigned /*device*/) {}
    /// The guest has made a request whose physical counterpart would take `nominal_ns`
    /// (0: there is none). Opens the guard window of its line.
    virtual void submitted(unsigned device, Completion& completion, u64 nominal_ns) = 0;
    /// The host is done with it. `deliver` follows, perhaps from within.
    virtual void host_done(Completion& completion) = 0;
    /// It will not be delivered: reset, abort, removal. Nothing if the scheduler does not know it.
    virtual void cancel(Completion& completion) = 0;
    /// The guest wrote a command or rang a doorbell whose answer comes by `line`: it may not be
    /// ready for that yet.
    virtual void command_written(unsigned device, unsigned line) = 0;
    void command_written(unsigned device) { command_written(device, 0); }
    /// The guest is about to read a status that a completion changes. `deliver` may follow from
    /// within, so that it is what the guest reads.
    virtual void status_polled(unsigned device) = 0;
    virtual void trouble(unsigned device, GuestTrouble sign) = 0;
};

/// Delivers at once: for tests and fuzzers of devices. Machines have monitor/completions.
class ImmediateCompletions final : public CompletionScheduler {
public:
    [[nodiscard]] unsigned add_device(std::string) override { return m_devices++; }
    void submitted(unsigned device, Completion& completion, u64) override {
        completion.notes.device = device;
        completion.notes.state = Completion::State::submitted;
    }
    void host_done(Completion& completion) override {
        completion.notes.state = Completion::State::idle;
        completion.deliver();
    }
    void cancel(Completion& completion) override {
        completion.notes.state = Completion::State::idle;
    }
    using CompletionScheduler::command_written;
    void command_written(unsigned, unsigned) override {}
    void status_polled(unsigned) override {}
    void trouble(unsigned, GuestTrouble) override {}

private:
    unsigned m_devices = 0;
};

} // namespace gnomon::platform
