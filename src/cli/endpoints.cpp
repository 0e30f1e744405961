// SPDX-License-Identifier: Apache-2.0
#include "cli/endpoints.h"

#include "cli/descriptor.h"

#include <algorithm>
#include <cstring>

namespace gnomon::cli {

std::size_t StreamEndpoint::transmitted(std::span<const std::byte> data) {
    return m_output != nullptr ? m_output->push(data) : data.size();
}

std::size_t StreamEndpoint::receive(std::span<std::byte> out) {
    return m_input != nullptr ? m_input->take(out) : 0;
}

int StreamEndpoint::poll_descriptor() const {
    return m_input != nullptr ? m_input->poll_descriptor() : -1;
}

std::size_t ConsoleLog::transmitted(std::span<const std::byte> data) {
    const std::size_t taken = m_output != nullptr ? m_output->push(data) : data.size();
    m_tail.append(reinterpret_cast<const char*>(data.data()), taken);
    if (m_tail.size() > 2 * kept_bytes) m_tail.erase(0, m_tail.size() - kept_bytes);
    return taken;
}

std::string ConsoleLog::last_lines(std::size_t count) const {
    std::vector<std::string> lines(1);
    for (const char c : m_tail) {
        if (c == '\n') {
            if (!lines.back().empty()) lines.emplace_back();
        } else if (c == '\t' || (c >= ' ' && c <= '~')) {
            lines.back() += c;
        } else if (c != '\r') {
            lines.back() += '?';
        }
    }
    if (lines.back().empty()) lines.pop_back();
    std::string text;
    for (std::size_t i = lines.size() - std::min(count, lines.size()); i < lines.size(); i++) {
        text += "  " + lines[i] + "\n";
    }
    return text;
}

ControlEndpoint::ControlEndpoint(InputPump& input, WindowSizeWatch* window)
    : m_input(input), m_window(window), m_own_wake(make_event()),
      m_wake(window != nullptr ? &window->event() : &m_own_wake) {
    m_input.set_limit(0);
}

std::size_t ControlEndpoint::transmitted(std::span<const std::byte> data) {
    for (const guest::ControlMessage& message : m_parser.feed(data))
        handle(message);
    return data.size();
}

void ControlEndpoint::handle(const guest::ControlMessage& message) {
    using Kind = guest::ControlMessage::Kind;
    switch (message.kind) {
    case Kind::ready:
        if (!m_ready) m_input.set_limit(guest::wire::initial_window);
        m_ready = true;
        raise_event(m_wake->get()); // for what waited
        break;
    case Kind::started: break;
    case Kind::window:
        if (m_ready) m_input.set_limit(message.number);
        break;
    case Kind::exited: m_status = static_cast<int>(message.number & 0xff); break;
    case Kind::signalled: m_status = 128 + static_cast<int>(message.number & 0x7f); break;
    case Kind::failed: m_failure = message.text; break;
    }
}

void ControlEndpoint::announce_end_of_input() {
    if (m_end_announced) return;
    m_end_announced = true;
    send(guest::eof_line(m_input.taken()));
}

void ControlEndpoint::send(const std::string& line) {
    m_to_send += line;
    if (m_ready) raise_event(m_wake->get());
}

std::size_t ControlEndpoint::receive(std::span<std::byte> out) {
    // Lowered first: what comes in between is then seen below, or raises it again.
    lower_event(m_wake->get());
    if (!m_ready) return 0; // the guest's init is not there to hear it; "ready" raises the event
    if (m_window != nullptr) {
        if (const auto size = m_window->changed())
            m_to_send += guest::resize_line(size->rows, size->columns);
    }
    const std::size_t size = m_to_send.copy(reinterpret_cast<char*>(out.data()), out.size());
    m_to_send.erase(0, size);
    if (!m_to_send.empty()) raise_event(m_wake->get());
    return size;
}

std::size_t CommandStreamEndpoint::receive(std::span<std::byte> out) {
    const std::size_t size = StreamEndpoint::receive(out);
    if (size == 0 && m_input.ended()) m_control.announce_end_of_input();
    return size;
}

} // namespace gnomon::cli
