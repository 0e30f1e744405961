// SPDX-License-Identifier: Apache-2.0
#include "base/file_descriptor.h"
#include "guest/initramfs/root.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <poll.h>
#include <set>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace gnomon::guest {

namespace {

constexpr std::size_t list_limit = std::size_t{1} << 20;
constexpr std::size_t name_limit = 64;
constexpr std::chrono::seconds list_timeout{5};

/// What every build of busybox for a root file system has.
constexpr std::array<std::string_view, 84> common_applets{
    "[",      "ash",      "awk",   "basename", "cat",     "chmod",    "chown",   "chroot",
    "clear",  "cmp",      "cp",    "cpio",     "cut",     "date",     "dd",      "df",
    "diff",   "dirname",  "dmesg", "du",       "echo",    "env",      "expr",    "false",
    "find",   "free",     "grep",  "gunzip",   "gzip",    "head",     "hexdump", "hostname",
    "id",     "ifconfig", "ip",    "kill",     "killall", "less",     "ln",      "ls",
    "lsmod",  "md5sum",   "mkdir", "mkfifo",   "mknod",   "modprobe", "more",    "mount",
    "mv",     "nc",       "od",    "ping",     "printf",  "ps",       "pwd",     "readlink",
    "reboot", "rm",       "rmdir", "route",    "sed",     "seq",      "sh",      "sha256sum",
    "sleep",  "sort",     "stat",  "stty",     "sync",    "tail",     "tar",     "tee",
    "test",   "time",     "top",   "touch",    "tr",      "true",     "umount",  "uname",
    "uniq",   "vi",       "wc",    "xargs"};

bool is_plain_name(std::string_view name) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-' || c == '+' || c == '.' || c == '[';
    };
    return !name.empty() && name.size() <= name_limit && name != "." && name != ".." &&
           std::ranges::all_of(name, allowed);
}

/// What the child writes until it closes its standard output, or nothing when it takes too long.
std::string read_output(int fd) {
    const auto deadline = std::chrono::steady_clock::now() + list_timeout;
    std::string output;
    std::array<char, 4096> piece{};
    while (output.size() < list_limit) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        pollfd waiting{fd, POLLIN, 0};
        if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) == 0)
            return {};
        const ssize_t count = ::read(fd, piece.data(), piece.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;
        output.append(piece.data(), static_cast<std::size_t>(count));
    }
    return output;
}

/// The output of `PATH --list`, empty on any failure.
std::string run_list(const std::string& path) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {};
    const FileDescriptor reader(ends[0]);
    FileDescriptor writer(ends[1]);
    posix_spawn_file_actions_t actions;
    if (::posix_spawn_file_actions_init(&actions) != 0) return {};
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, writer.get(), 1);
    ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    // busybox goes by the name it is called by.
    std::string name = "busybox", option = "--list";
    std::array<char*, 3> arguments{name.data(), option.data(), nullptr};
    std::array<char*, 1> environment{nullptr};
    pid_t pid = -1;
    const int spawned =
        ::posix_spawn(&pid, path.c_str(), &actions, nullptr, arguments.data(), environment.data());
    ::posix_spawn_file_actions_destroy(&actions);
    writer.reset();
    if (spawned != 0) return {};
    std::string output = read_output(reader.get());
    if (output.empty()) ::kill(pid, SIGKILL);
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? output : std::string();
}

} // namespace

std::vector<std::string> busybox_applets(const std::string& busybox_path) {
    const std::string output = run_list(busybox_path);
    std::set<std::string> applets;
    std::size_t begin = 0;
    while (begin < output.size()) {
        const std::size_t end = std::min(output.find('\n', begin), output.size());
        const std::string_view name = std::string_view(output).substr(begin, end - begin);
        if (is_plain_name(name)) applets.emplace(name);
        begin = end + 1;
    }
    if (applets.empty()) applets.insert(common_applets.begin(), common_applets.end());
    return {applets.begin(), applets.end()};
}

} // namespace gnomon::guest
