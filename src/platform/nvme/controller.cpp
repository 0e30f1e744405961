// SPDX-License-Identifier: Apache-2.0
#include "platform/nvme/controller.h"

#include "base/verify.h"

#include <poll.h>
#include <utility>

namespace gnomon::platform::nvme {

namespace {

constexpr u64 queue_alignment_mask = page_offset_mask;

constexpr void set_half(u64& whole, bool high, u32 half) {
    whole = high ? (whole & 0xffff'ffff) | u64{half} << 32 : (whole & ~u64{0xffff'ffff}) | half;
}

} // namespace

Controller::Controller(const Parts& parts, Options options, std::string name)
    : m_vectors(parts.vectors), m_dma(parts.dma), m_disk(parts.disk),
      m_completions(parts.completions), m_delays(parts.delays), m_clock(parts.clock),
      m_options(std::move(options)), m_device(m_completions.add_device(std::move(name))),
      m_powered_on_ns(m_clock.now_ns()), m_submission(m_options.queue_pairs + 1),
      m_completion(m_options.queue_pairs + 1),
      m_features(m_options.queue_pairs, m_options.vectors) {
    m_completions.allow_batches(m_device);
    VERIFY(m_options.queue_pairs >= 1 && m_options.queue_pairs <= 64 && m_options.vectors >= 1);
}

Controller::~Controller() {
    m_ending = true;
    abandon(nullptr);
    m_state = State::disabled;
    m_shutdown = Shutdown::none;
    static_cast<void>(m_disk.reap());
    while (m_at_host != 0) {
        pollfd waiting{m_disk.poll_descriptor(), POLLIN, 0};
        static_cast<void>(::poll(&waiting, 1, -1)); // if it fails, reaping says what there is
        static_cast<void>(m_disk.reap());
    }
}

void Request::done(BlockStatus block_status) { m_controller.host_done(*this, block_status); }

void Request::deliver() { m_controller.deliver(*this); }

u64 Controller::read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size && i < 8; ++i) {
        const u64 at = offset + i;
        value |= u64{read_dword(at & ~u64{3}) >> (8 * (at & 3)) & 0xff} << (8 * i);
    }
    return value;
}

u32 Controller::read_dword(u64 offset) const {
    const auto low = [](u64 value) { return static_cast<u32>(value); };
    const auto high = [](u64 value) { return static_cast<u32>(value >> 32); };
    if (offset >= static_cast<u64>(Reg::doorbells)) return 0;
    switch (static_cast<Reg>(offset & ~u64{7})) { // of 64 bits, and pairs
    case Reg::cap: return offset & 4 ? high(Cap::value) : low(Cap::value);
    case Reg::vs: return offset & 4 ? m_interrupt_mask : version;
    case Reg::intmc: return offset & 4 ? m_cc : m_interrupt_mask;
    case Reg::acq: return offset & 4 ? high(m_acq) : low(m_acq);
    case Reg::asq: return offset & 4 ? high(m_asq) : low(m_asq);
    case Reg::nssr: return offset & 4 ? m_aqa : 0;
    default: return static_cast<Reg>(offset) == Reg::csts ? csts() : 0;
    }
}

u32 Controller::csts() const {
    u32 value = m_state == State::disabled ? 0 : Csts::ready;
    if (m_fatal) value |= Csts::fatal;
    if (m_shutdown == Shutdown::occurring) value |= Csts::shutdown_occurring;
    if (m_shutdown == Shutdown::complete) value |= Csts::shutdown_complete;
    if (m_subsystem_was_reset) value |= Csts::subsystem_reset_occurred;
    return value;
}

void Controller::write(u64 offset, unsigned size, u64 value) {
    if ((offset & 3) != 0 || (size != 4 && size != 8)) return;
    if (size == 8 && (offset & 7) != 0) return;
    write_dword(offset, static_cast<u32>(value));
    if (size == 8) write_dword(offset + 4, static_cast<u32>(value >> 32));
}

void Controller::write_dword(u64 offset, u32 value) {
    if (offset >= static_cast<u64>(Reg::doorbells)) {
        write_doorbell(offset - static_cast<u64>(Reg::doorbells), value);
        return;
    }
    switch (static_cast<Reg>(offset)) {
    case Reg::intms:
        m_interrupt_mask |= value;
        update_pin();
        return;
    case Reg::intmc:
        m_interrupt_mask &= ~value;
        update_pin();
        return;
    case Reg::cc: write_cc(value & Cc::writable); return;
    case Reg::csts:
        if ((value & Csts::subsystem_reset_occurred) != 0) m_subsystem_was_reset = false;
        return;
    case Reg::nssr:
        if (value != Nssr::reset) return;
        reset();
        m_subsystem_was_reset = true;
        return;
    case Reg::aqa: m_aqa = value & Aqa::writable; return;
    case Reg::asq: set_half(m_asq, false, value & ~static_cast<u32>(queue_alignment_mask)); return;
    case Reg::acq: set_half(m_acq, false, value & ~static_cast<u32>(queue_alignment_mask)); return;
    default: break;
    }
    if (offset == static_cast<u64>(Reg::asq) + 4) set_half(m_asq, true, value);
    if (offset == static_cast<u64>(Reg::acq) + 4) set_half(m_acq, true, value);
}

void Controller::write_cc(u32 value) {
    const u32 before = std::exchange(m_cc, value);
    const bool enabled = (value & Cc::enable) != 0, was_enabled = (before & Cc::enable) != 0;
    if (was_enabled && !enabled) begin_reset();
    // While it resets the guest should wait; if it does not, `finish_reset` enables.
    if (enabled && !was_enabled && m_state == State::disabled) enable();
    if (Cc::shutdown(value) != 0 && Cc::shutdown(before) == 0) begin_shutdown();
}

void Controller::enable() {
    m_enabled_cc = m_cc;
    const u32 submission_entries = Aqa::submission_entries(m_aqa),
              completion_entries = Aqa::completion_entries(m_aqa);
    const bool sound =
        Cc::command_set(m_cc) == 0 && Cc::page_shift(m_cc) <= Cap::max_page_shift &&
        Cc::arbitration(m_cc) == 0 && submission_entries >= 2 && completion_entries >= 2 &&
        ((m_asq | m_acq) & (page_bytes() - 1)) == 0 &&
        m_dma.map(Gpa(m_asq), submission_entries * sizeof(SubmissionEntry)) != nullptr &&
        m_dma.map(Gpa(m_acq), completion_entries * sizeof(CompletionEntry)) != nullptr;
    if (!sound) {
        m_fatal = true;
        return;
    }
    m_completion[0] =
        std::make_unique<CompletionQueue>(Gpa(m_acq), completion_entries, u16{0}, true);
    m_completion[0]->submission_queues = 1;
    m_submission[0] =
        std::make_unique<SubmissionQueue>(u16{0}, u16{0}, Gpa(m_asq), submission_entries);
    m_state = State::ready;
}

void Controller::begin_reset() {
    if (abandon(nullptr)) m_completions.trouble(m_device, GuestTrouble::reset);
    for (auto& queue : m_submission)
        queue.reset();
    for (auto& queue : m_completion)
        queue.reset();
    m_events.reset();
    m_features.reset();
    m_interrupt_mask = 0;
    m_fatal = false;
    m_starved = false;
    m_shutdown = Shutdown::none;
    m_shutdown_flush.of_this_shutdown = false;
    update_pin();
    // A controller that has the back end write to the guest's memory is not idle.
    if (m_state == State::ready) m_state = State::resetting;
    finish_reset();
}

void Controller::finish_reset() {
    if (m_state != State::resetting || m_at_host != 0) return;
    m_state = State::disabled;
    if ((m_cc & Cc::enable) != 0) enable();
}

void Controller::reset() {
    m_cc = 0;
    begin_reset();
    m_aqa = 0;
    m_asq = m_acq = 0;
    m_subsystem_was_reset = false;
}

void Controller::begin_shutdown() {
    if (m_shutdown != Shutdown::none) return;
    m_shutdown = Shutdown::occurring;
    advance_shutdown();
}

/// What was submitted comes to its end; then the disk's cache is flushed.
void Controller::advance_shutdown() {
    if (m_shutdown != Shutdown::occurring || m_at_host != 0) return;
    if (read_only()) {
        m_shutdown = Shutdown::complete;
        return;
    }
    m_shutdown_flush.of_this_shutdown = true;
    ++m_at_host;
    m_disk.submit(m_shutdown_flush);
    m_disk.commit();
}

void Controller::shutdown_flushed(BlockStatus status) {
    --m_at_host;
    if (status != BlockStatus::ok) ++m_health.media_errors;
    if (m_shutdown_flush.of_this_shutdown) m_shutdown = Shutdown::complete;
    host_let_go();
}

void Controller::host_let_go() {
    finish_reset();
    advance_shutdown();
}

void Controller::write_doorbell(u64 offset, u32 value) {
    if (m_state != State::ready || m_fatal) return;
    const u64 number = offset / 4, id = number / 2;
    const u32 index = value & 0xffff;
    if (number % 2 == 0) {
        SubmissionQueue* queue = id < m_submission.size() ? m_submission[id].get() : nullptr;
        if (queue == nullptr || queue->deletion != nullptr) {
            raise({EventType::error, Event::invalid_doorbell_register, LogPage::errors});
        } else if (!queue->set_tail(index)) {
            raise({EventType::error, Event::invalid_doorbell_value, LogPage::errors});
        } else {
            m_completions.command_written(m_device, queue->completion_queue);
            run_queues();
        }
        return;
    }
    CompletionQueue* queue = id < m_completion.size() ? m_completion[id].get() : nullptr;
    if (queue == nullptr) {
        raise({EventType::error, Event::invalid_doorbell_register, LogPage::errors});
    } else if (!queue->set_head(index)) {
        raise({EventType::error, Event::invalid_doorbell_value, LogPage::errors});
    } else {
        post_held(*queue);
        // What the guest has left unread asks again.
        if (!queue->empty())
            interrupt(*queue);
        else
            update_pin();
        if (m_starved) run_queues();
    }
}

} // namespace gnomon::platform::nvme
