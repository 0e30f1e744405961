// SPDX-License-Identifier: Apache-2.0
#include "cli/input_pump.h"

#include "cli/descriptor.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <unistd.h>

namespace gnomon::cli {

InputPump::InputPump(int fd, std::function<void(EscapeFilter::Command)> on_command)
    : m_fd(fd), m_stop(make_event()), m_ready(make_event()), m_on_command(std::move(on_command)) {
    m_thread = thread_without_signals([this] { work(); });
}

void InputPump::stop() {
    if (!m_thread.joinable()) return;
    {
        const std::lock_guard lock(m_mutex);
        m_stopping = true;
    }
    m_room.notify_all();
    raise_event(m_stop.get());
    m_thread.join();
}

std::size_t InputPump::take(std::span<std::byte> out) {
    const std::lock_guard lock(m_mutex);
    const std::size_t size = std::min(out.size(), available());
    if (size > 0) std::memcpy(out.data(), m_pending.data() + m_begin, size);
    m_begin += size;
    m_taken += size;
    if (m_begin == m_pending.size()) {
        m_pending.clear();
        m_begin = 0;
        m_room.notify_all();
        if (m_end_of_input && size == 0) m_end_seen = true;
    }
    update_ready();
    return size;
}

bool InputPump::ended() {
    const std::lock_guard lock(m_mutex);
    return m_end_of_input && m_begin == m_pending.size();
}

u64 InputPump::taken() {
    const std::lock_guard lock(m_mutex);
    return m_taken;
}

void InputPump::set_limit(u64 bytes) {
    const std::lock_guard lock(m_mutex);
    m_limit = bytes;
    update_ready();
}

/// How many bytes `take` may give now. Under m_mutex.
std::size_t InputPump::available() const {
    const u64 allowed = m_limit > m_taken ? m_limit - m_taken : 0;
    return static_cast<std::size_t>(std::min(allowed, u64{m_pending.size() - m_begin}));
}

/// Makes the poll descriptor say what is so. Under m_mutex.
void InputPump::update_ready() {
    const bool end_to_see = m_end_of_input && !m_end_seen && m_begin == m_pending.size();
    if (available() > 0 || end_to_see) {
        raise_event(m_ready.get());
    } else {
        lower_event(m_ready.get());
    }
}

void InputPump::work() {
    std::array<std::byte, 4096> block{};
    std::vector<std::byte> guest;
    for (;;) {
        pollfd wanted[] = {{m_fd, POLLIN, 0}, {m_stop.get(), POLLIN, 0}};
        const int ready = ::poll(wanted, 2, -1);
        if (ready < 0 && errno == EINTR) continue;
        if ((wanted[1].revents & POLLIN) != 0) return;
        const ssize_t got = ready < 0 ? -1 : ::read(m_fd, block.data(), block.size());
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got <= 0) break; // a terminal that hung up and a closed descriptor end the input too
        guest.clear();
        handle(std::span(block).first(static_cast<std::size_t>(got)), guest);
        if (!deliver(guest)) return;
    }
    const std::lock_guard lock(m_mutex);
    m_end_of_input = true;
    update_ready();
}

void InputPump::handle(std::span<const std::byte> data, std::vector<std::byte>& guest) {
    if (!m_on_command) {
        guest.assign(data.begin(), data.end());
        return;
    }
    while (!data.empty()) {
        const EscapeFilter::Command command = m_filter.consume(data, guest);
        if (command != EscapeFilter::Command::none) m_on_command(command);
    }
}

bool InputPump::deliver(std::span<const std::byte> data) {
    std::unique_lock lock(m_mutex);
    if (data.empty()) return !m_stopping;
    m_room.wait(lock, [&] { return m_stopping || m_pending.size() + data.size() <= capacity; });
    if (m_stopping) return false;
    m_pending.insert(m_pending.end(), data.begin(), data.end());
    update_ready();
    return true;
}

} // namespace gnomon::cli
