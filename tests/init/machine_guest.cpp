// SPDX-License-Identifier: Apache-2.0
#include "machine_guest.h"

#include "base/file_descriptor.h"
#include "guest/initramfs/root.h"
#include "monitor/machine.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <gtest/gtest.h>
#include <mutex>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>

namespace gnomon::test {

namespace {

using guest::ControlMessage;

/// Keeps what the guest sends, and sends what is pending.
class Port : public monitor::SerialEndpoint {
public:
    std::size_t transmitted(std::span<const std::byte> data) override {
        m_received.append(reinterpret_cast<const char*>(data.data()), data.size());
        return data.size();
    }
    std::size_t receive(std::span<std::byte> out) override {
        const std::size_t count = std::min(out.size(), m_pending.size());
        std::memcpy(out.data(), m_pending.data(), count);
        m_pending.erase(0, count);
        if (count != 0 && m_pending.empty()) {
            u64 ignored = 0;
            EXPECT_EQ(::read(m_waiting.get(), &ignored, sizeof ignored), 8);
        }
        return count;
    }
    [[nodiscard]] int poll_descriptor() const override { return m_waiting.get(); }
    void send(std::string_view text) {
        if (text.empty()) return;
        m_pending += text;
        const u64 one = 1;
        EXPECT_EQ(::write(m_waiting.get(), &one, sizeof one), 8);
    }
    [[nodiscard]] std::string& received() { return m_received; }

private:
    std::string m_received, m_pending;
    FileDescriptor m_waiting{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)}; ///< readable: something is
};

/// The control port: opens the window of the command's standard input as init asks for it.
class ControlPort : public Port {
public:
    ControlPort(const Inputs& inputs, Port& command, Outcome& outcome)
        : m_inputs(inputs), m_command(command), m_outcome(outcome) {}

    std::size_t transmitted(std::span<const std::byte> data) override {
        for (ControlMessage& message : m_parser.feed(data))
            take(std::move(message));
        m_outcome.malformed = m_parser.malformed_lines();
        return data.size();
    }

private:
    void take(ControlMessage message) {
        using Kind = ControlMessage::Kind;
        if (message.kind == Kind::ready) {
            open_window(guest::wire::initial_window);
            if (m_inputs.end_input) send(guest::eof_line(m_inputs.standard_input.size()));
        }
        if (message.kind == Kind::started) send(m_inputs.control_after_started);
        if (message.kind == Kind::window) {
            open_window(message.number);
            return;
        }
        m_outcome.control.push_back(std::move(message));
    }
    void open_window(u64 end) {
        const std::string& input = m_inputs.standard_input;
        const std::size_t allowed = std::min<u64>(input.size(), end);
        if (allowed <= m_sent) return;
        m_command.send(std::string_view(input).substr(m_sent, allowed - m_sent));
        m_sent = allowed;
    }

    const Inputs& m_inputs;
    Port& m_command;
    Outcome& m_outcome;
    guest::ControlParser m_parser;
    std::size_t m_sent = 0;
};

/// Stops a machine that goes on for too long.
class Watchdog {
public:
    Watchdog(monitor::Machine& machine, std::chrono::seconds limit)
        : m_thread([this, &machine, limit] {
              std::unique_lock lock(m_mutex);
              if (!m_condition.wait_for(lock, limit, [this] { return m_done; })) machine.stop();
          }) {}
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;
    ~Watchdog() {
        {
            const std::lock_guard lock(m_mutex);
            m_done = true;
        }
        m_condition.notify_one();
        m_thread.join();
    }

private:
    std::mutex m_mutex;
    std::condition_variable m_condition;
    bool m_done = false;
    std::thread m_thread; ///< last: it uses the others
};

} // namespace

Result<Outcome> boot(const std::string& kernel, std::vector<std::byte> initrd, const Inputs& inputs,
                     std::chrono::seconds limit) {
    Outcome outcome;
    Port console, command, error;
    ControlPort control(inputs, command, outcome);
    monitor::MachineOptions options;
    options.kernel = kernel;
    options.initrd = std::move(initrd);
    options.append = fmt::format("console=ttyS0 panic=-1 quiet {}", guest::root_kernel_parameters);
    options.no_reboot = true;
    options.serial = {&console, &command, &error, &control};
    auto machine = monitor::Machine::create(std::move(options));
    if (!machine) return tl::unexpected(machine.error());
    const Watchdog watchdog(**machine, limit);
    const auto end = (*machine)->run();
    if (!end) return tl::unexpected(end.error());
    outcome.powered_off = end->end == monitor::RunEnd::power_off;
    outcome.console = std::move(console.received());
    outcome.output = std::move(command.received());
    outcome.error = std::move(error.received());
    return outcome;
}

} // namespace gnomon::test
