// SPDX-License-Identifier: Apache-2.0
#include "guest/init/program/relay.h"

#include "guest/init/wire.h"

#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <asm/signal.h>
#include <asm/termbits.h>
#include <asm/termios.h>
#include <linux/signalfd.h>
#include <linux/wait.h>

namespace gnomon::guest::init {

namespace {

constexpr size_t buffer_size = 65536;
static_assert(buffer_size > wire::initial_window,
              "a host that keeps to the window never finds the buffer full");
/// How long to wait for the output of processes that do not die of SIGKILL (they hang in the
/// kernel).
constexpr int straggler_timeout_ms = 2000;

// Not members, so that the streams can live on the stack and these in .bss.
u8 input_bytes[buffer_size], output_bytes[buffer_size], error_bytes[buffer_size];

/// Bytes on their way from one descriptor to another.
class Buffer {
public:
    explicit Buffer(u8 (&bytes)[buffer_size]) : m_bytes(bytes) {}
    [[nodiscard]] bool empty() const { return m_begin == m_end; }
    [[nodiscard]] size_t room() const { return buffer_size - (m_end - m_begin); }

    /// Reads once, at most `limit` bytes. @return as read(2).
    long fill(int fd, u64 limit = buffer_size) {
        compact();
        const u64 space = buffer_size - m_end;
        const long count =
            system_call(__NR_read, fd, m_bytes + m_end, space < limit ? space : limit);
        if (count > 0) m_end += static_cast<size_t>(count);
        return count;
    }
    /// Writes once. @return as write(2).
    long flush(int fd) {
        const long count = system_call(__NR_write, fd, m_bytes + m_begin, m_end - m_begin);
        if (count > 0) m_begin += static_cast<size_t>(count);
        return count;
    }
    void append(u8 byte) {
        compact();
        if (m_end < buffer_size) m_bytes[m_end++] = byte;
    }
    [[nodiscard]] u8 last() const { return m_bytes[m_end - 1]; }
    /// @return how many bytes were thrown away.
    size_t clear() {
        const size_t count = m_end - m_begin;
        m_begin = m_end = 0;
        return count;
    }

private:
    void compact() {
        if (m_begin == 0) return;
        __builtin_memmove(m_bytes, m_bytes + m_begin, m_end - m_begin);
        m_end -= m_begin;
        m_begin = 0;
    }
    u8* m_bytes;
    size_t m_begin = 0, m_end = 0;
};

void close(int& fd) {
    if (fd >= 0) system_call(__NR_close, fd);
    fd = -1;
}

bool would_block(long result) { return result == -EAGAIN || result == -EINTR; }

/// Output of the command on its way to a serial port.
class OutputStream {
public:
    OutputStream(int source, int port, u8 (&bytes)[buffer_size])
        : m_source(source), m_port(port), m_buffer(bytes) {}
    [[nodiscard]] bool done() const { return m_source < 0 && m_buffer.empty(); }
    [[nodiscard]] pollfd source_events() const {
        return {m_source >= 0 && m_buffer.room() != 0 ? m_source : -1, POLLIN, 0};
    }
    [[nodiscard]] pollfd port_events() const {
        return {m_buffer.empty() ? -1 : m_port, POLLOUT, 0};
    }
    void on_source() {
        const long count = m_buffer.fill(m_source);
        // End of file; EIO from a terminal whose other side is closed.
        if (count == 0 || (count < 0 && !would_block(count))) m_source = -1;
    }
    void on_port() {
        const long count = m_buffer.flush(m_port);
        if (count < 0 && !would_block(count)) m_buffer.clear();
    }

private:
    int m_source;
    int m_port;
    Buffer m_buffer;
};

/// Standard input of the command: from the port, through the window, to its end.
class InputStream {
public:
    InputStream(const Ports& ports, int sink, bool terminal)
        : m_ports(ports), m_port(ports.data), m_sink(sink), m_terminal(terminal) {}
    [[nodiscard]] pollfd port_events() const {
        return {m_buffer.room() != 0 ? m_port : -1, POLLIN, 0};
    }
    [[nodiscard]] pollfd sink_events() const {
        return {m_buffer.empty() ? -1 : m_sink, POLLOUT, 0};
    }
    void set_end(u64 total) {
        m_end = total > m_received ? total : m_received;
        check_end();
    }
    void on_port() {
        if (m_received == m_end) { // more than the host announced
            u8 excess[wire::line_limit];
            system_call(__NR_read, m_port, excess, sizeof excess);
            return;
        }
        const long count = m_buffer.fill(m_port, m_end - m_received);
        if (count == 0 || (count < 0 && !would_block(count))) m_port = -1;
        if (count <= 0) return;
        m_received += static_cast<u64>(count);
        m_last = m_buffer.last();
        if (m_sink < 0) deliver(m_buffer.clear());
        check_end();
    }
    void on_sink() {
        const long count = m_buffer.flush(m_sink);
        if (count > 0) {
            deliver(static_cast<u64>(count));
        } else if (!would_block(count)) { // the command has closed its standard input
            deliver(m_buffer.clear());
            stop();
        }
        check_end();
    }
    void stop() {
        // A terminal's master is the output's source too, so it stays open.
        if (m_terminal)
            m_sink = -1;
        else
            close(m_sink);
    }

private:
    /// Counts bytes that left the buffer, and widens the window in steps of half of it.
    void deliver(u64 count) {
        m_delivered += count;
        const u64 window = m_delivered + wire::initial_window;
        if (window - m_granted < wire::initial_window / 2) return;
        m_granted = window;
        Line line;
        line << wire::window << " " << window;
        send(m_ports, line);
    }
    void check_end() {
        if (m_received < m_end || m_ended) return;
        if (m_terminal) {
            m_ended = true;
            type_end_of_file();
        } else if (m_buffer.empty()) {
            m_ended = true;
            stop();
        }
    }
    /// What a user would type: the end-of-file character, twice if the line has begun.
    void type_end_of_file() {
        termios settings{};
        if (m_sink < 0 || system_call(__NR_ioctl, m_sink, TCGETS, &settings) < 0 ||
            (settings.c_lflag & ICANON) == 0)
            return;
        m_buffer.append(settings.c_cc[VEOF]);
        if (m_received != 0 && m_last != '\n') m_buffer.append(settings.c_cc[VEOF]);
    }

    const Ports& m_ports;
    int m_port;
    int m_sink;
    bool m_terminal;
    bool m_ended = false; ///< the end has been passed on
    u8 m_last = 0;
    u64 m_received = 0, m_delivered = 0, m_granted = wire::initial_window;
    u64 m_end = ~u64{0};
    Buffer m_buffer{input_bytes};
};

/// Lines from the host.
class ControlInput {
public:
    /// Reads what is there and calls `obey(line)` for each line.
    template <class Obey>
    void on_port(int port, Obey obey) {
        char bytes[wire::line_limit];
        const long count = system_call(__NR_read, port, bytes, sizeof bytes);
        for (long i = 0; i < count; ++i) {
            if (bytes[i] != wire::line_end) {
                if (m_size + 1 < sizeof m_line)
                    m_line[m_size++] = bytes[i];
                else
                    m_overlong = true;
                continue;
            }
            m_line[m_size] = '\0';
            if (!m_overlong) obey(m_line);
            m_size = 0;
            m_overlong = false;
        }
    }

private:
    char m_line[wire::line_limit];
    size_t m_size = 0;
    bool m_overlong = false;
};

/// `line` behind `word` and a space, or nullptr.
const char* operands(const char* line, const char* word) {
    const char* rest = after_prefix(line, word);
    return rest != nullptr && *rest == ' ' ? rest + 1 : nullptr;
}

class Relay {
public:
    Relay(const Ports& ports, const Process& process, const Command& command, int child_events)
        : m_ports(ports), m_pid(process.pid), m_child_events(child_events),
          m_terminal(command.terminal ? process.input : -1),
          m_input(ports, process.input, command.terminal),
          m_output(process.output, ports.data, output_bytes),
          m_error(process.error, ports.error, error_bytes) {}

    int run() {
        while (!m_ended || !m_output.done() || !m_error.done())
            if (!step()) break;
        drain(m_ports.data);
        drain(m_ports.error);
        return m_status;
    }

private:
    /// Waits for something to do and does it. False when nothing more is to be expected.
    bool step() {
        enum {
            children,
            control,
            input_port,
            input_sink,
            output,
            output_port,
            error,
            error_port,
            count
        };
        pollfd events[count];
        events[children] = {m_child_events, POLLIN, 0};
        events[control] = {m_ports.control, POLLIN, 0};
        events[input_port] = m_input.port_events();
        events[input_sink] = m_input.sink_events();
        events[output] = m_output.source_events();
        events[output_port] = m_output.port_events();
        events[error] = m_error.source_events();
        events[error_port] = m_error.port_events();
        // Once the command has ended only its output counts: a port that the host does not read may
        // take as long as it likes, but a process that will not die may not.
        const bool sending = events[output_port].fd >= 0 || events[error_port].fd >= 0;
        const int timeout = m_ended && !sending ? straggler_timeout_ms : -1;
        const long ready = system_call(__NR_poll, events, static_cast<int>(count), timeout);
        if (ready == 0) return false;
        if (ready < 0) return ready == -EINTR;
        if (events[output].revents != 0) m_output.on_source();
        if (events[error].revents != 0) m_error.on_source();
        if (events[output_port].revents != 0) m_output.on_port();
        if (events[error_port].revents != 0) m_error.on_port();
        if (events[control].revents != 0)
            m_control.on_port(m_ports.control, [this](const char* line) { obey(line); });
        if (events[input_port].revents != 0) m_input.on_port();
        if (events[input_sink].revents != 0) m_input.on_sink();
        if (events[children].revents != 0) reap();
        return true;
    }

    void reap() {
        signalfd_siginfo information;
        while (system_call(__NR_read, m_child_events, &information, sizeof information) > 0) {
        }
        for (;;) {
            int status = 0;
            const long pid = system_call(__NR_wait4, -1, &status, WNOHANG, nullptr);
            if (pid <= 0) return;
            if (pid != m_pid || m_ended) continue;
            m_ended = true;
            m_status = status;
            m_input.stop();
            // What it left behind would be cut off by the power-off anyway. Gone now, it can
            // neither keep the pipes open nor write for ever.
            system_call(__NR_kill, -1, SIGKILL);
        }
    }

    void obey(const char* line) {
        u64 a = 0, b = 0;
        if (const char* rest = operands(line, wire::eof)) {
            if (parse_number(rest, a) && *rest == '\0' && !m_ended) m_input.set_end(a);
        } else if ((rest = operands(line, wire::resize)) != nullptr) {
            if (m_terminal < 0 || !parse_number(rest, a) || *rest++ != ' ' ||
                !parse_number(rest, b))
                return;
            const winsize size{static_cast<u16>(a), static_cast<u16>(b), 0, 0};
            system_call(__NR_ioctl, m_terminal, TIOCSWINSZ, &size);
        } else if ((rest = operands(line, wire::kill)) != nullptr) {
            if (!parse_number(rest, a) || *rest != '\0' || a < 1 || a > 64 || m_ended) return;
            // Until the child has made its session there is no such group, only the child.
            if (system_call(__NR_kill, -m_pid, a) == -ESRCH) system_call(__NR_kill, m_pid, a);
        }
    }

    const Ports& m_ports;
    long m_pid;
    int m_child_events;
    int m_terminal; ///< the master, or -1
    bool m_ended = false;
    int m_status = 0;
    InputStream m_input;
    OutputStream m_output, m_error;
    ControlInput m_control;
};

} // namespace

int relay(const Ports& ports, const Process& process, const Command& command, int child_events) {
    return Relay(ports, process, command, child_events).run();
}

} // namespace gnomon::guest::init
