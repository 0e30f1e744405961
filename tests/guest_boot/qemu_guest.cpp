// SPDX-License-Identifier: Apache-2.0
#include "qemu_guest.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace gnomon::guest::test {

namespace {

constexpr std::size_t port_count = 4;

struct Port {
    FileDescriptor host;
    std::string pending; ///< bytes for the guest
};

/// Reads what is there. False at the end.
bool receive(int fd, std::string& out) {
    std::array<char, 65536> piece{};
    const ssize_t count = ::read(fd, piece.data(), piece.size());
    if (count > 0) out.append(piece.data(), static_cast<std::size_t>(count));
    return count > 0 || (count < 0 && (errno == EINTR || errno == EAGAIN));
}

} // namespace

Outcome run_qemu(std::vector<std::string> arguments, const Inputs& inputs,
                 std::chrono::seconds timeout) {
    Outcome outcome;
    std::array<Port, port_count> ports;
    std::array<FileDescriptor, port_count> theirs;
    arguments.insert(arguments.begin(),
                     {"qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-vga", "none",
                      "-nodefaults", "-no-user-config", "-no-reboot", "-monitor", "none"});
    for (std::size_t i = 0; i < port_count; ++i) {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) {
            ADD_FAILURE() << "socketpair failed";
            return outcome;
        }
        ports[i].host = FileDescriptor(ends[0]);
        theirs[i] = FileDescriptor(ends[1]);
        ::fcntl(ends[0], F_SETFD, FD_CLOEXEC);
        ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
        arguments.insert(arguments.end(),
                         {"-chardev", fmt::format("socket,id=port{},fd={}", i, ends[1]), "-serial",
                          fmt::format("chardev:port{}", i)});
    }
    std::vector<char*> argv;
    for (std::string& argument : arguments)
        argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_t pid = -1;
    if (::posix_spawnp(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) {
        ADD_FAILURE() << "cannot run qemu-system-x86_64";
        return outcome;
    }
    for (FileDescriptor& fd : theirs)
        fd.reset();

    const auto deadline = std::chrono::steady_clock::now() + timeout;
    ControlParser parser;
    std::array<std::string, port_count> received;
    std::size_t sent = 0, parsed = 0;
    u64 window = 0;
    bool open = true;
    while (open && std::chrono::steady_clock::now() < deadline) {
        std::array<pollfd, port_count> events{};
        for (std::size_t i = 0; i < port_count; ++i)
            events[i] = {ports[i].host.get(),
                         static_cast<short>(POLLIN | (ports[i].pending.empty() ? 0 : POLLOUT)), 0};
        ::poll(events.data(), events.size(), 100);
        for (std::size_t i = 0; i < port_count; ++i) {
            if ((events[i].revents & POLLOUT) != 0) {
                const ssize_t count = ::send(ports[i].host.get(), ports[i].pending.data(),
                                             ports[i].pending.size(), MSG_NOSIGNAL);
                if (count > 0) ports[i].pending.erase(0, static_cast<std::size_t>(count));
            }
            if ((events[i].revents & (POLLIN | POLLHUP)) != 0)
                open = receive(ports[i].host.get(), received[i]) && open;
        }
        const auto fresh = std::as_bytes(std::span(received[3])).subspan(parsed);
        parsed = received[3].size();
        for (const ControlMessage& message : parser.feed(fresh)) {
            if (message.kind == ControlMessage::Kind::ready) {
                window = wire::initial_window;
                if (inputs.end_input) ports[3].pending += eof_line(inputs.standard_input.size());
            }
            if (message.kind == ControlMessage::Kind::window) window = message.number;
            if (message.kind == ControlMessage::Kind::started)
                ports[3].pending += inputs.control_after_started;
            outcome.control.push_back(message);
        }
        const std::size_t allowed = std::min<u64>(inputs.standard_input.size(), window);
        if (sent < allowed) {
            ports[1].pending += inputs.standard_input.substr(sent, allowed - sent);
            sent = allowed;
        }
    }
    // The ports close when QEMU ends; whatever hangs is killed.
    int status = 0;
    for (int i = 0; i < 50 && ::waitpid(pid, &status, WNOHANG) == 0; ++i) {
        if (open || i == 40) ::kill(pid, SIGKILL);
        ::usleep(100'000);
    }
    outcome.powered_off = !open && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    outcome.console = std::move(received[0]);
    outcome.output = std::move(received[1]);
    outcome.error = std::move(received[2]);
    outcome.malformed = parser.malformed_lines();
    std::erase_if(outcome.control,
                  [](const ControlMessage& m) { return m.kind == ControlMessage::Kind::window; });
    return outcome;
}

TemporaryFile::TemporaryFile(std::span<const std::byte> contents)
    : m_path(::testing::TempDir() + "gnomon-test-XXXXXX") {
    const FileDescriptor fd(::mkstemp(m_path.data()));
    std::size_t done = 0;
    while (done < contents.size()) {
        const ssize_t count = ::write(fd.get(), contents.data() + done, contents.size() - done);
        if (count <= 0) break;
        done += static_cast<std::size_t>(count);
    }
    EXPECT_EQ(done, contents.size()) << m_path;
}

TemporaryFile::~TemporaryFile() { ::unlink(m_path.c_str()); }

} // namespace gnomon::guest::test
