// SPDX-License-Identifier: Apache-2.0
#include "fake_machine.h"

#include "guest/init/wire.h"

#include <atomic>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <poll.h>
#include <sstream>
#include <vector>

namespace gnomon::cli::test {

namespace {

using monitor::RunEnd;
using monitor::RunOutcome;

std::string upper(std::string text) {
    for (char& c : text)
        c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return text;
}

class FakeMachine final : public monitor::Machine {
public:
    FakeMachine(monitor::MachineOptions options, const std::string& script)
        : m_options(std::move(options)) {
        std::istringstream(script) >> m_part >> m_argument;
    }

    Result<RunOutcome> run() override {
        if (m_part == "poweroff") {
            transmit(0, "hello\n");
            return RunOutcome{RunEnd::power_off, ""};
        }
        if (m_part == "reset") return RunOutcome{RunEnd::reset, ""};
        if (m_part == "triple") {
            for (int i = 1; i <= 40; i++)
                transmit(0, fmt::format("line {}\033[31m\r\n", i));
            return RunOutcome{RunEnd::triple_fault, "RIP=0xfff0\nRSP=0x7c00"};
        }
        if (m_part == "echo") return echo();
        if (m_part == "spin" || m_part == "deaf") {
            transmit(0, "spinning\n");
            while (!m_stopped.load()) {
                if (m_part == "spin")
                    static_cast<void>(received(0, 20));
                else
                    ::poll(nullptr, 0, 20);
            }
            return RunOutcome{RunEnd::stopped, ""};
        }
        if (m_part == "flood") {
            while (!m_stopped.load())
                transmit(0, "flood flood flood flood\n");
            return RunOutcome{RunEnd::stopped, ""};
        }
        if (m_part == "abort" || m_part == "exit") {
            transmit(0, "last words\n");
            ::poll(nullptr, 0, 1000); // for the pump to write them
            if (m_part == "abort") std::abort();
            std::exit(5); // NOLINT: leaving without unwinding is what is tested
        }
        if (m_part == "options") {
            transmit(0, fmt::format("memory={} append='{}' initrd={} no_reboot={} observer={}\n",
                                    m_options.memory, m_options.append, m_options.initrd.size(),
                                    m_options.no_reboot, m_options.observer != nullptr));
            return RunOutcome{RunEnd::power_off, ""};
        }
        if (m_part == "command" || m_part == "killed") return command();
        if (m_part == "failing") {
            transmit(3, "ready\nerror no such place\n");
            return RunOutcome{RunEnd::power_off, ""};
        }
        return fail("fake machine: no part '{}'", m_part);
    }

    void stop() override { m_stopped.store(true); }
    void process_continued() override { m_continued.store(true); }
    Statistics statistics() const override {
        return {{"machine", {{"exits", 12}, {"code", 2048, Statistic::Unit::bytes}}}};
    }
    u64 guest_start_ns() const override { return 0; }

private:
    /// Offers until all is taken, as a guest's transmitter does.
    void transmit(std::size_t port, std::string_view text) {
        auto data = std::as_bytes(std::span(text));
        while (!data.empty() && !m_stopped.load() && m_options.serial[port] != nullptr) {
            const std::size_t taken = m_options.serial[port]->transmitted(data);
            data = data.subspan(taken);
            if (taken == 0) ::poll(nullptr, 0, 1);
        }
    }

    /// Waits as the machine's loop does, then takes what fits into a UART's FIFO.
    std::string received(std::size_t port, int milliseconds) {
        monitor::SerialEndpoint* const endpoint = m_options.serial[port];
        if (endpoint == nullptr) return "";
        pollfd wanted{endpoint->poll_descriptor(), POLLIN, 0};
        ::poll(&wanted, 1, milliseconds);
        if ((wanted.revents & POLLIN) == 0) return "";
        std::string text(16, '\0');
        text.resize(endpoint->receive(std::as_writable_bytes(std::span(text))));
        return text;
    }

    Result<RunOutcome> echo() {
        transmit(0, "echo\n");
        while (!m_stopped.load()) {
            const std::string text = received(0, 20);
            if (m_continued.exchange(false)) transmit(0, "continued\n");
            transmit(0, upper(text));
            if (text.find('q') != std::string::npos) return RunOutcome{RunEnd::power_off, ""};
        }
        return RunOutcome{RunEnd::stopped, ""};
    }

    Result<RunOutcome> command() {
        transmit(0, "Linux version 0\n");
        // Nothing may come before "ready".
        for (int i = 0; i < 5; i++) {
            if (!received(1, 10).empty() || !received(3, 10).empty())
                return fail("input before ready");
        }
        transmit(3, "ready\nstarted 42\n");
        std::string control;
        u64 got = 0;
        u64 window = guest::wire::initial_window;
        std::optional<u64> end;
        while (!m_stopped.load() && end != got) {
            const std::string text = received(1, 5);
            got += text.size();
            if (got > window) return fail("{} bytes came, beyond the window of {}", got, window);
            transmit(1, upper(text));
            if (got == window) {
                window += guest::wire::initial_window;
                transmit(3, fmt::format("window {}\n", window));
            }
            if (!text.empty() && got < window) continue;
            control += received(3, 5);
            if (control.ends_with('\n') && control.starts_with("eof ")) {
                end = std::strtoull(control.c_str() + 4, nullptr, 10);
            }
        }
        transmit(2, "err\n");
        transmit(3, fmt::format("{} {}\n", m_part == "command" ? "exit" : "signal", m_argument));
        return RunOutcome{m_stopped.load() ? RunEnd::stopped : RunEnd::power_off, ""};
    }

    monitor::MachineOptions m_options;
    std::string m_part;
    int m_argument = 0;
    std::atomic<bool> m_stopped = false;
    std::atomic<bool> m_continued = false;
};

} // namespace

Result<std::unique_ptr<monitor::Machine>> create_fake_machine(monitor::MachineOptions options) {
    std::ifstream file(options.kernel);
    std::string script;
    std::getline(file, script);
    return std::make_unique<FakeMachine>(std::move(options), script);
}

} // namespace gnomon::cli::test
