// SPDX-License-Identifier: Apache-2.0
#include "trace/json.h"

namespace gnomon::trace {

void JsonWriter::number(std::string_view name, i64 value) {
    key(name);
    const fmt::format_int text(value);
    append(m_out, std::string_view(text.data(), text.size()));
    m_separate = true;
}

void JsonWriter::unsigned_number(std::string_view name, u64 value) {
    key(name);
    const fmt::format_int text(value);
    append(m_out, std::string_view(text.data(), text.size()));
    m_separate = true;
}

void write_event_head(JsonWriter& json, const TaskId& task, u64 timestamp_ns, unsigned cpu,
                      std::string_view event) {
    json.unsigned_number("timestamp", timestamp_ns);
    if (task.known) {
        json.number("processId", task.tgid);
        json.number("threadId", task.pid);
        json.number("parentProcessId", task.ppid);
        json.string("processName", task.comm);
    } else {
        json.string("addressSpace", fmt::format("{:#x}", task.key));
    }
    json.unsigned_number("cpu", cpu);
    json.string("eventName", event);
}

} // namespace gnomon::trace
