// SPDX-License-Identifier: Apache-2.0
#include "support/child_process.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace gnomon::test {

namespace {

using Clock = std::chrono::steady_clock;

/// For what shall happen; only a failure takes that long.
constexpr std::chrono::seconds patience(100);

int shell_status(int status) {
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// In the child: becomes the program.
[[noreturn]] void execute(const std::vector<std::string>& arguments) {
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (const std::string& argument : arguments)
        argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::signal(SIGPIPE, SIG_DFL); // run_program ignores it, and that would be inherited
    ::execv(argv[0], argv.data());
    ::_exit(127);
}

struct Pipe {
    FileDescriptor read_end, write_end;
    Pipe() {
        std::array<int, 2> ends{-1, -1};
        EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
        read_end = FileDescriptor(ends[0]);
        write_end = FileDescriptor(ends[1]);
    }
};

/// Moves what is there from a pipe into `text`; closes the end when the pipe has ended.
void drain(FileDescriptor& fd, std::string& text) {
    std::array<char, 65536> block{};
    const ssize_t got = ::read(fd.get(), block.data(), block.size());
    if (got <= 0)
        fd.reset();
    else
        text.append(block.data(), static_cast<std::size_t>(got));
}

} // namespace

bool eventually(const std::function<bool()>& condition) {
    const auto deadline = Clock::now() + patience;
    while (!condition()) {
        if (Clock::now() > deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
}

Finished run_program(const std::vector<std::string>& arguments, const std::string& input) {
    Pipe in, out, err;
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::dup2(in.read_end.get(), 0);
        ::dup2(out.write_end.get(), 1);
        ::dup2(err.write_end.get(), 2);
        execute(arguments);
    }
    in.read_end.reset();
    out.write_end.reset();
    err.write_end.reset();
    // The program may end without reading all of its input.
    ::signal(SIGPIPE, SIG_IGN);
    ::fcntl(in.write_end.get(), F_SETFL, O_NONBLOCK);
    std::size_t sent = 0;
    Finished finished;
    const auto deadline = Clock::now() + patience;
    while (out.read_end || err.read_end) {
        if (sent == input.size()) in.write_end.reset();
        std::array<pollfd, 3> wanted{{{out.read_end.get(), POLLIN, 0},
                                      {err.read_end.get(), POLLIN, 0},
                                      {in.write_end.get(), POLLOUT, 0}}};
        ::poll(wanted.data(), wanted.size(), 100);
        if (wanted[0].revents != 0) drain(out.read_end, finished.out);
        if (wanted[1].revents != 0) drain(err.read_end, finished.err);
        if (wanted[2].revents != 0) {
            const ssize_t done =
                ::write(in.write_end.get(), input.data() + sent, input.size() - sent);
            if (done > 0)
                sent += static_cast<std::size_t>(done);
            else if (errno != EAGAIN)
                sent = input.size();
        }
        if (Clock::now() > deadline) ::kill(pid, SIGKILL);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    finished.status = shell_status(status);
    return finished;
}

TerminalProcess::TerminalProcess(const std::vector<std::string>& arguments) {
    int master = -1;
    int slave = -1;
    winsize size{};
    size.ws_row = 30;
    size.ws_col = 100;
    if (::openpty(&master, &slave, nullptr, nullptr, &size) != 0) {
        ADD_FAILURE() << "openpty: errno " << errno;
        return;
    }
    m_master = FileDescriptor(master);
    m_slave = FileDescriptor(slave);
    ::fcntl(master, F_SETFD, FD_CLOEXEC);
    ::fcntl(slave, F_SETFD, FD_CLOEXEC);
    m_mode_at_start = mode();
    m_pid = ::fork();
    if (m_pid == 0) {
        ::setsid();
        ::ioctl(slave, TIOCSCTTY, 0);
        for (int fd = 0; fd < 3; fd++)
            ::dup2(slave, fd);
        execute(arguments);
    }
}

TerminalProcess::~TerminalProcess() {
    if (m_pid <= 0) return;
    ::kill(m_pid, SIGKILL);
    ::waitpid(m_pid, nullptr, 0);
}

void TerminalProcess::type(const std::string& keys) const {
    EXPECT_EQ(::write(m_master.get(), keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
}

bool TerminalProcess::read_some() {
    pollfd wanted{m_master.get(), POLLIN, 0};
    if (::poll(&wanted, 1, 20) <= 0) return false;
    std::array<char, 4096> block{};
    const ssize_t got = ::read(m_master.get(), block.data(), block.size());
    if (got <= 0) return false;
    m_shown.append(block.data(), static_cast<std::size_t>(got));
    return true;
}

bool TerminalProcess::shows(const std::string& text) {
    return eventually([&] {
        static_cast<void>(read_some());
        return m_shown.find(text) != std::string::npos;
    });
}

void TerminalProcess::read_for(std::chrono::milliseconds duration) {
    const auto end = Clock::now() + duration;
    while (Clock::now() < end)
        static_cast<void>(read_some());
}

bool TerminalProcess::has_ended() const {
    siginfo_t info{}; // left as it is while the child runs
    return ::waitid(P_PID, static_cast<id_t>(m_pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid == m_pid;
}

void TerminalProcess::resize(unsigned short rows, unsigned short columns) const {
    winsize size{};
    size.ws_row = rows;
    size.ws_col = columns;
    EXPECT_EQ(::ioctl(m_master.get(), TIOCSWINSZ, &size), 0);
}

termios TerminalProcess::mode() const {
    termios mode{};
    EXPECT_EQ(::tcgetattr(m_slave.get(), &mode), 0);
    return mode;
}

bool TerminalProcess::raw() const { return (mode().c_lflag & (ECHO | ICANON | ISIG)) == 0; }

void TerminalProcess::set_mode_cooked() const {
    termios cooked = mode();
    cooked.c_lflag |= ECHO | ICANON | ISIG;
    EXPECT_EQ(::tcsetattr(m_slave.get(), TCSANOW, &cooked), 0);
}

bool TerminalProcess::becomes_raw(bool wanted) const {
    return eventually([&] { return raw() == wanted; });
}

bool TerminalProcess::stops() const {
    return eventually([&] {
        int status = 0;
        return ::waitpid(m_pid, &status, WNOHANG | WUNTRACED) == m_pid && WIFSTOPPED(status);
    });
}

int TerminalProcess::wait() {
    int status = 0;
    const bool ended = eventually([&] {
        while (m_master && read_some()) {
        }
        return ::waitpid(m_pid, &status, WNOHANG) == m_pid;
    });
    if (!ended) return -1;
    m_pid = -1;
    while (m_master && read_some()) {
    }
    return shell_status(status);
}

} // namespace gnomon::test
