// SPDX-License-Identifier: Apache-2.0
#include "platform/block/qemu_nbd.h"

#include "base/signal_mask.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <string_view>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace gnomon::platform {

namespace {

/// sd_listen_fds(3): the listening socket is descriptor 3.
constexpr int activated_descriptor = 3;
constexpr std::string_view pid_variable = "LISTEN_PID=";
constexpr std::size_t pid_digits = 10;

/// A listening socket and a connection to it, by a name that only this user can reach and that is
/// gone again when this returns.
Result<> make_sockets(FileDescriptor& listening, FileDescriptor& connection) {
    const char* const base = std::getenv("XDG_RUNTIME_DIR");
    std::string folder;
    for (const char* const place : {base, "/tmp"}) {
        if (place == nullptr || *place != '/') continue;
        folder = std::string(place) + "/gnomon.XXXXXX";
        if (::mkdtemp(folder.data()) != nullptr) break;
        folder.clear();
    }
    if (folder.empty()) return fail("cannot make a folder in /tmp: {}", std::strerror(errno));
    const std::string path = folder + "/nbd";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto connected = [&] {
        if (path.size() >= sizeof address.sun_path) {
            errno = ENAMETOOLONG;
            return false;
        }
        std::memcpy(address.sun_path, path.c_str(), path.size());
        const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
        listening = FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        connection = FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        return listening && connection && ::bind(listening.get(), generic, sizeof address) == 0 &&
               ::listen(listening.get(), 1) == 0 &&
               ::connect(connection.get(), generic, sizeof address) == 0;
    }();
    const int error = errno;
    ::unlink(path.c_str());
    ::rmdir(folder.c_str());
    if (!connected) return fail("cannot make a socket: {}", std::strerror(error));
    return {};
}

/// What the child needs, made before there is one: nothing may be allocated in it.
struct Command {
    std::vector<std::string> arguments, environment;
    std::vector<char*> argv, envp;
    std::string pid; ///< the variable, whose digits the child fills in

    void finish() {
        for (std::string& one : arguments)
            argv.push_back(one.data());
        argv.push_back(nullptr);
        for (std::string& one : environment)
            envp.push_back(one.data());
        envp.push_back(pid.data());
        envp.push_back(nullptr);
    }
};

Command command_for(const std::string& path, const QemuNbdOptions& options) {
    Command command;
    command.arguments = {"qemu-nbd",
                         "--format=qcow2",
                         options.direct ? "--cache=none" : "--cache=writeback",
                         options.io_uring ? "--aio=io_uring" : "--aio=threads",
                         "--discard=unmap",
                         "--detect-zeroes=off",
                         "--shared=1"};
    if (options.read_only) command.arguments.emplace_back("--read-only");
    command.arguments.emplace_back("--");
    // QEMU takes NAME:REST for a protocol, unless a slash comes before the colon.
    command.arguments.push_back(path.starts_with('/') ? path : "./" + path);
    for (char** one = environ; *one != nullptr; ++one) {
        if (!std::string_view(*one).starts_with("LISTEN_")) command.environment.emplace_back(*one);
    }
    command.environment.emplace_back("LISTEN_FDS=1");
    command.pid = std::string(pid_variable) + std::string(pid_digits, '\0');
    command.finish();
    return command;
}

void write_number(char* place, unsigned number) {
    std::array<char, pid_digits> digits{};
    std::size_t count = 0;
    do {
        digits[count++] = static_cast<char>('0' + number % 10);
        number /= 10;
    } while (number != 0);
    while (count != 0)
        *place++ = digits[--count];
}

/// In the child: only what is safe after a fork of a process that may have threads.
[[noreturn]] void become(Command& command, pid_t parent, int listening, int words, int failure) {
    const auto give_up = [&] {
        const int error = errno;
        [[maybe_unused]] const auto written = ::write(failure, &error, sizeof error);
        ::_exit(127);
    };
    // The terminal's signals are for the machine, which then closes the connection.
    ::setsid();
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(127);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    const int nothing = ::open("/dev/null", O_RDWR);
    if (nothing < 0 || ::dup2(nothing, STDIN_FILENO) < 0 || ::dup2(words, STDOUT_FILENO) < 0 ||
        ::dup2(words, STDERR_FILENO) < 0)
        give_up();
    // `failure` is closed by a successful exec; the socket must not be in its place, nor closed.
    if (failure == activated_descriptor) failure = ::fcntl(failure, F_DUPFD_CLOEXEC, 10);
    if (listening == activated_descriptor) {
        ::fcntl(listening, F_SETFD, 0);
    } else if (::dup2(listening, activated_descriptor) < 0) {
        give_up();
    }
    write_number(command.pid.data() + pid_variable.size(), static_cast<unsigned>(::getpid()));
    ::execvpe(command.argv[0], command.argv.data(), command.envp.data());
    give_up();
    ::_exit(127);
}

} // namespace

Result<std::unique_ptr<QemuNbd>> QemuNbd::start(const std::string& path,
                                                const QemuNbdOptions& options) {
    std::unique_ptr<QemuNbd> server(new QemuNbd);
    FileDescriptor listening;
    if (auto good = make_sockets(listening, server->m_connection); !good)
        return fail("disk {}: {}", path, good.error().message);
    server->m_words = FileDescriptor(::memfd_create("qemu-nbd", MFD_CLOEXEC));
    std::array<int, 2> ends{-1, -1};
    if (!server->m_words || ::fcntl(server->m_words.get(), F_SETFL, O_APPEND) != 0 ||
        ::pipe2(ends.data(), O_CLOEXEC) != 0)
        return fail("disk {}: cannot start qemu-nbd: {}", path, std::strerror(errno));
    const FileDescriptor outcome(ends[0]);
    FileDescriptor failure(ends[1]);

    Command command = command_for(path, options);
    const pid_t parent = ::getpid();
    {
        const SignalsBlocked blocked; // no handler of ours may run in the child
        server->m_pid = ::fork();
        if (server->m_pid == 0)
            become(command, parent, listening.get(), server->m_words.get(), failure.get());
    }
    if (server->m_pid < 0)
        return fail("disk {}: cannot start qemu-nbd: {}", path, std::strerror(errno));
    failure.reset();
    server->m_process =
        FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, server->m_pid, 0)));
    int error = 0;
    if (::read(outcome.get(), &error, sizeof error) == sizeof error) {
        server->kill();
        if (error == ENOENT)
            return fail("disk {}: a qcow2 image takes qemu-nbd, which is not installed; install "
                        "qemu-utils, or convert the image (qemu-img convert -O raw)",
                        path);
        return fail("disk {}: cannot start qemu-nbd: {}", path, std::strerror(error));
    }
    return server;
}

QemuNbd::~QemuNbd() {
    m_connection.reset();
    if (m_pid < 0 || !m_process) return;
    pollfd process{m_process.get(), POLLIN, 0};
    while (::poll(&process, 1, patience_ms) < 0 && errno == EINTR) {
    }
}

void QemuNbd::kill() {
    if (m_pid < 0) return;
    ::kill(m_pid, SIGKILL);
    while (::waitpid(m_pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    m_pid = -1;
}

std::string QemuNbd::last_words() const {
    constexpr off_t most = 4096;
    std::string text(most, '\0');
    const off_t end = ::lseek(m_words.get(), 0, SEEK_END);
    // Not pread, which a confined process may not call; the child only appends.
    if (end <= 0 || ::lseek(m_words.get(), std::max<off_t>(end - most, 0), SEEK_SET) < 0) return {};
    const ssize_t got = ::read(m_words.get(), text.data(), text.size());
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    // Hints may follow the message in lines of their own.
    constexpr std::string_view prefix = "qemu-nbd: ";
    const std::size_t found = text.rfind(prefix);
    const std::size_t start = found == std::string::npos ? 0 : found + prefix.size();
    return text.substr(start, text.find('\n', start) - start);
}

} // namespace gnomon::platform
