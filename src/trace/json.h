// SPDX-License-Identifier: Apache-2.0
/// @file One line of JSON per event, in Tracee's shape.
#pragma once

#include "trace/escape.h"
#include "trace/event.h"

#include <string_view>

namespace gnomon::trace {

/// Writes one JSON object without building it: names are literals of ours, values are escaped.
class JsonWriter {
public:
    explicit JsonWriter(Text& out) : m_out(out) {}

    void begin_object() { open('{'); }
    void begin_object(std::string_view name) {
        key(name);
        open('{');
    }
    void end_object() { close('}'); }
    void begin_array(std::string_view name) {
        key(name);
        open('[');
    }
    void end_array() { close(']'); }
    /// An object as an element of an array.
    void begin_element() {
        separate();
        open('{');
    }

    void string(std::string_view name, std::string_view value) {
        key(name);
        append_json(m_out, value);
        m_separate = true;
    }
    void number(std::string_view name, i64 value);
    void unsigned_number(std::string_view name, u64 value);
    void boolean(std::string_view name, bool value) { literal(name, value ? "true" : "false"); }
    void null(std::string_view name) { literal(name, "null"); }

private:
    void separate() {
        if (m_separate) m_out.push_back(',');
        m_separate = false;
    }
    void open(char c) {
        m_out.push_back(c);
        m_separate = false;
    }
    void close(char c) {
        m_out.push_back(c);
        m_separate = true;
    }
    void key(std::string_view name) {
        separate();
        append_json(m_out, name);
        m_out.push_back(':');
    }
    void literal(std::string_view name, std::string_view value) {
        key(name);
        append(m_out, value);
        m_separate = true;
    }

    Text& m_out;
    bool m_separate = false;
};

/// The fields that every event begins with: timestamp, processId, threadId, ...
void write_event_head(JsonWriter& json, const TaskId& task, u64 timestamp_ns, unsigned cpu,
                      std::string_view event);

} // namespace gnomon::trace
