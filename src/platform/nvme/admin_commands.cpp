// SPDX-License-Identifier: Apache-2.0
// The admin command set (NVMe 1.4, section 5).
#include "platform/nvme/controller.h"

#include "platform/nvme/identify.h"

#include <algorithm>

namespace gnomon::platform::nvme {

namespace {

/// What creates a queue.
struct QueueFields {
    explicit QueueFields(const SubmissionEntry& command)
        : id(command.cdw10 & 0xffff), entries((command.cdw10 >> 16) + 1),
          contiguous((command.cdw11 & 1) != 0), high(static_cast<u16>(command.cdw11 >> 16)) {}
    u32 id, entries;
    bool contiguous;
    u16 high; ///< completion queue: interrupt vector; submission queue: completion queue
};

constexpr u32 completion_interrupts_enabled = 1 << 1;

} // namespace

std::optional<Status> Controller::execute_admin(Request& request) {
    switch (static_cast<AdminOpcode>(request.command.opcode)) {
    case AdminOpcode::delete_submission_queue: return delete_submission_queue(request);
    case AdminOpcode::create_submission_queue: return create_submission_queue(request.command);
    case AdminOpcode::get_log_page: return get_log_page(request);
    case AdminOpcode::delete_completion_queue: return delete_completion_queue(request.command);
    case AdminOpcode::create_completion_queue: return create_completion_queue(request.command);
    case AdminOpcode::identify: return identify(request);
    case AdminOpcode::abort: return abort(request);
    case AdminOpcode::set_features: return set_features(request);
    case AdminOpcode::get_features: return get_features(request);
    case AdminOpcode::asynchronous_event_request: return await_event(request);
    }
    return Status::invalid_opcode;
}

Status Controller::create_completion_queue(const SubmissionEntry& command) {
    const QueueFields fields(command);
    if (fields.id == 0 || fields.id >= m_completion.size() || m_completion[fields.id] != nullptr)
        return Status::invalid_queue_identifier;
    if (fields.entries < 2 || fields.entries > Cap::max_queue_entries ||
        Cc::completion_entry_shift(m_cc) != completion_entry_shift)
        return Status::invalid_queue_size;
    if (!fields.contiguous) return Status::invalid_field;
    // Without MSI-X there is one vector.
    if (fields.high >= (m_vectors.messages_enabled() ? m_options.vectors : 1))
        return Status::invalid_interrupt_vector;
    if ((command.prp1 & (page_bytes() - 1)) != 0) return Status::prp_offset_invalid;
    if (m_dma.map(Gpa(command.prp1), fields.entries * sizeof(CompletionEntry)) == nullptr)
        return Status::data_transfer_error;
    m_completion[fields.id] =
        std::make_unique<CompletionQueue>(Gpa(command.prp1), fields.entries, fields.high,
                                          (command.cdw11 & completion_interrupts_enabled) != 0);
    return Status::success;
}

Status Controller::create_submission_queue(const SubmissionEntry& command) {
    const QueueFields fields(command);
    if (fields.id == 0 || fields.id >= m_submission.size() || m_submission[fields.id] != nullptr)
        return Status::invalid_queue_identifier;
    if (fields.high == 0 || fields.high >= m_completion.size())
        return Status::invalid_queue_identifier;
    if (m_completion[fields.high] == nullptr) return Status::completion_queue_invalid;
    if (fields.entries < 2 || fields.entries > Cap::max_queue_entries ||
        Cc::submission_entry_shift(m_cc) != submission_entry_shift)
        return Status::invalid_queue_size;
    if (!fields.contiguous) return Status::invalid_field;
    if ((command.prp1 & (page_bytes() - 1)) != 0) return Status::prp_offset_invalid;
    if (m_dma.map(Gpa(command.prp1), fields.entries * sizeof(SubmissionEntry)) == nullptr)
        return Status::data_transfer_error;
    m_submission[fields.id] = std::make_unique<SubmissionQueue>(
        static_cast<u16>(fields.id), fields.high, Gpa(command.prp1), fields.entries);
    ++m_completion[fields.high]->submission_queues;
    return Status::success;
}

Status Controller::delete_completion_queue(const SubmissionEntry& command) {
    const u32 id = command.cdw10 & 0xffff;
    if (id == 0 || id >= m_completion.size() || m_completion[id] == nullptr)
        return Status::invalid_queue_identifier;
    if (m_completion[id]->submission_queues != 0) return Status::invalid_queue_deletion;
    m_completion[id].reset();
    update_pin();
    return Status::success;
}

/// The commands in it end without a completion of their own, as the specification allows; the
/// deletion's comes when the last of them no longer reaches guest memory.
std::optional<Status> Controller::delete_submission_queue(Request& request) {
    const u32 id = request.command.cdw10 & 0xffff;
    if (id == 0 || id >= m_submission.size() || m_submission[id] == nullptr ||
        m_submission[id]->deletion != nullptr)
        return Status::invalid_queue_identifier;
    SubmissionQueue& queue = *m_submission[id];
    abandon(&queue);
    if (queue.at_host != 0) {
        queue.deletion = &request;
        return std::nullopt;
    }
    --m_completion[queue.completion_queue]->submission_queues;
    m_submission[id].reset();
    return Status::success;
}

Status Controller::identify(Request& request) {
    const SubmissionEntry& command = request.command;
    const u32 structure = command.cdw10 & 0xff, name_space = command.namespace_id;
    const auto send = [&](const DataPage& page) {
        return send_data(request, page.bytes(), identify_bytes);
    };
    switch (static_cast<IdentifyStructure>(structure)) {
    case IdentifyStructure::name_space:
        if (name_space != the_namespace) return Status::invalid_namespace;
        return send(identify_namespace(m_disk.size(), read_only()));
    case IdentifyStructure::controller: return send(identify_controller(m_options, m_disk.size()));
    case IdentifyStructure::active_namespaces:
        if (name_space >= all_namespaces - 1) return Status::invalid_namespace;
        return send(identify_active_namespaces(name_space));
    case IdentifyStructure::namespace_descriptors:
        if (name_space != the_namespace) return Status::invalid_namespace;
        return send(identify_namespace_descriptors(m_options));
    }
    return Status::invalid_field;
}

u8 Controller::critical_warning() const {
    u8 warning = 0;
    if (m_features.temperature_critical()) warning |= Health::temperature;
    return warning;
}

Status Controller::get_log_page(Request& request) {
    const SubmissionEntry& command = request.command;
    const u64 length = ((u64{command.cdw11 & 0xffff} << 16 | command.cdw10 >> 16) + 1) * 4;
    const u64 offset = command.cdw12 | u64{command.cdw13} << 32;
    const bool retain_event = (command.cdw10 & 1 << 15) != 0;
    const auto log = static_cast<LogPage>(command.cdw10 & 0xff);
    const auto page = [&]() -> std::optional<DataPage> {
        switch (log) {
        case LogPage::errors: return m_errors.page();
        case LogPage::health:
            return health_page(m_health, critical_warning(), m_clock.now_ns() - m_powered_on_ns,
                               m_errors.total());
        case LogPage::firmware_slots: return firmware_slots_page(m_options);
        case LogPage::changed_namespaces: return changed_namespaces_page();
        case LogPage::commands_supported: return commands_supported_page();
        }
        return std::nullopt;
    }();
    if (!page) return Status::invalid_log_page;
    // Health is told of the controller, not of a namespace.
    if (log == LogPage::health && command.namespace_id != 0 &&
        command.namespace_id != all_namespaces)
        return Status::invalid_field;
    const auto bytes = page->bytes();
    if ((offset & 3) != 0 || offset > bytes.size()) return Status::invalid_field;
    const Status status = send_data(request, bytes.subspan(offset), length);
    if (status == Status::success && !retain_event) {
        m_events.log_was_read(log);
        tell_events();
    }
    return status;
}

Status Controller::set_features(Request& request) {
    const SubmissionEntry& command = request.command;
    const auto id = static_cast<FeatureId>(command.cdw10 & 0xff);
    if (u32 ignored = 0;
        m_features.get(id, FeatureSelect::capabilities, 0, ignored) != Status::success)
        return Status::invalid_field;
    if ((command.cdw10 & u32{1} << 31) != 0) return Status::feature_not_saveable;
    const u32 name_space = command.namespace_id;
    if (name_space != 0 && name_space != all_namespaces) {
        if (name_space != the_namespace) return Status::invalid_namespace;
        if (!Features::of_namespace(id)) return Status::feature_not_namespace_specific;
    }
    if (id == FeatureId::host_identifier) {
        // EXHID, as CTRATT demands: 128 bits.
        if ((command.cdw11 & 1) == 0) return Status::invalid_field;
        return receive_data(request, std::as_writable_bytes(std::span(m_features.host_identifier)));
    }
    if (id == FeatureId::number_of_queues &&
        std::any_of(m_completion.begin() + 1, m_completion.end(),
                    [](const auto& queue) { return queue != nullptr; }))
        return Status::command_sequence_error;
    const bool was_critical = m_features.temperature_critical();
    const Status status = m_features.set(id, command.cdw11, request.result);
    if (!was_critical && m_features.temperature_critical() &&
        m_features.announces(Health::temperature))
        raise({EventType::health, Event::temperature_threshold, LogPage::health});
    return status;
}

Status Controller::get_features(Request& request) {
    const SubmissionEntry& command = request.command;
    const auto id = static_cast<FeatureId>(command.cdw10 & 0xff);
    const auto select = static_cast<FeatureSelect>(command.cdw10 >> 8 & 7);
    const u32 name_space = command.namespace_id;
    if (name_space != 0 && name_space != all_namespaces && name_space != the_namespace)
        return Status::invalid_namespace;
    if (id == FeatureId::host_identifier && select != FeatureSelect::capabilities) {
        if ((command.cdw11 & 1) == 0) return Status::invalid_field;
        const std::array<u8, 16> initial{};
        const auto& value = select == FeatureSelect::current ? m_features.host_identifier : initial;
        return send_data(request, std::as_bytes(std::span(value)), value.size());
    }
    return m_features.get(id, select, command.cdw11, request.result);
}

/// What the back end has begun cannot be taken back, and what is held back comes by itself: only
/// requests for events are aborted.
Status Controller::abort(Request& request) {
    constexpr u32 not_aborted = 1;
    const u32 queue_id = request.command.cdw10 & 0xffff, command_id = request.command.cdw10 >> 16;
    request.result = not_aborted;
    const auto is_meant = [&](const Request& other) {
        return other.queue != nullptr && other.queue->id == queue_id &&
               other.command.command_id == command_id;
    };
    if (queue_id == 0) {
        auto& events = m_events.requests;
        const auto found =
            std::ranges::find_if(events, [&](const Request* event) { return is_meant(*event); });
        if (found == events.end()) return Status::success;
        Request* const event = *found;
        events.erase(found);
        event->state = Request::State::active;
        event->status = Status::abort_requested;
        post(*event);
        request.result = 0;
    } else if (std::ranges::any_of(m_io_requests.all(), [&](const auto& other) {
                   return other->state == Request::State::active && is_meant(*other);
               })) {
        m_completions.trouble(m_device, GuestTrouble::abort);
    }
    return Status::success;
}

std::optional<Status> Controller::await_event(Request& request) {
    if (m_events.requests.size() > event_request_limit) return Status::event_request_limit_exceeded;
    request.state = Request::State::event;
    m_events.requests.push_back(&request);
    tell_events();
    return std::nullopt;
}

} // namespace gnomon::platform::nvme
