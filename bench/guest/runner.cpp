// SPDX-License-Identifier: Apache-2.0
// Runs rows of the benchmark and reports them in lines on standard output. The same program does it
// everywhere: as init of a guest, which takes its parameters from the kernel's command line and
// powers off at the end, and in a chroot, which gives them as arguments:
//
//     bench.rows=NAME[,NAME...] [bench.milliseconds=N] [bench.repeat=N]
//
// A row is the script /bench/rows/NAME.sh if there is one, called with "prepare", `repeat` times
// with "run", and with "check" (only "run" is timed); else one of /bench/micro's. The lines; times
// are CLOCK_MONOTONIC in nanoseconds:
//
//     READY
//     BEGIN row time
//     ROW row value unit      the least of the repetitions
//     FAIL row text           or: what went wrong
//     END row time
//     DONE
#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <string>
#include <string_view>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vector>

namespace bench {

namespace {

constexpr const char* micro_program = "/bench/micro";
constexpr const char* shell = "/bin/dash";

struct Parameters {
    std::vector<std::string> rows;
    unsigned milliseconds = 300;
    unsigned repeat = 1;
};

/// What a child wrote to its standard output, and how it ended.
struct ChildResult {
    std::string output;
    int status = 0; ///< as waitpid gives it
    std::uint64_t nanoseconds = 0;
};

std::uint64_t now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(time.tv_nsec);
}

/// One line with one write, so that the kernel's own messages do not come between.
[[gnu::format(printf, 1, 2)]] void say(const char* format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = std::vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    length = std::clamp(length, 0, static_cast<int>(sizeof line) - 2);
    line[length] = '\n';
    // Nobody is left to tell if this fails.
    [[maybe_unused]] const ssize_t written =
        write(STDOUT_FILENO, line, static_cast<std::size_t>(length) + 1);
}

std::vector<std::string> split(std::string_view text, std::string_view separators) {
    std::vector<std::string> parts;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find_first_of(separators), text.size());
        if (end != 0) parts.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
}

std::optional<unsigned> number(std::string_view text) {
    unsigned value = 0;
    if (text.empty() || text.size() > 6) return std::nullopt;
    for (const char c : text) {
        if (c < '0' || c > '9') return std::nullopt;
        value = value * 10 + static_cast<unsigned>(c - '0');
    }
    return value == 0 ? std::nullopt : std::optional(value);
}

/// nullopt, with a line, if a parameter is wrong or there are no rows. Words of others are left
/// alone.
std::optional<Parameters> parse(const std::vector<std::string>& words) {
    Parameters parameters;
    for (const std::string& word : words) {
        const std::size_t equals = word.find('=');
        if (equals == std::string::npos) continue;
        const std::string name = word.substr(0, equals), value = word.substr(equals + 1);
        if (name == "bench.rows") {
            parameters.rows = split(value, ",");
        } else if (name == "bench.milliseconds" || name == "bench.repeat") {
            const auto count = number(value);
            if (!count) {
                say("FAIL - %s is not a number from 1 to 999999", word.c_str());
                return std::nullopt;
            }
            (name == "bench.repeat" ? parameters.repeat : parameters.milliseconds) = *count;
        }
    }
    if (parameters.rows.empty()) {
        say("FAIL - no bench.rows=NAME,... among the parameters");
        return std::nullopt;
    }
    return parameters;
}

ChildResult run(std::vector<std::string> arguments) {
    ChildResult result;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        result.status = 127 << 8;
        return result;
    }
    std::vector<char*> pointers;
    for (std::string& argument : arguments)
        pointers.push_back(argument.data());
    pointers.push_back(nullptr);

    const std::uint64_t start = now();
    const pid_t child = fork();
    if (child == 0) {
        if (dup2(ends[1], STDOUT_FILENO) < 0) _exit(126);
        execv(pointers[0], pointers.data());
        _exit(127);
    }
    close(ends[1]);
    char buffer[4096];
    // The last words are what counts; a program that talks on does not fill the memory.
    constexpr std::size_t kept = 65536;
    for (;;) {
        const ssize_t got = read(ends[0], buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        result.output.append(buffer, static_cast<std::size_t>(got));
        if (result.output.size() > 2 * kept) result.output.erase(0, result.output.size() - kept);
    }
    close(ends[0]);
    if (child < 0 || waitpid(child, &result.status, 0) != child) result.status = 126 << 8;
    result.nanoseconds = now() - start;
    return result;
}

struct Value {
    double value;
    std::string unit;
};

/// The last line "VALUE number unit" of a child's output.
std::optional<Value> stated_value(const std::string& output) {
    std::optional<Value> found;
    for (const std::string& line : split(output, "\n")) {
        const auto words = split(line, " ");
        if (words.size() != 3 || words[0] != "VALUE") continue;
        char* end = nullptr;
        const double value = std::strtod(words[1].c_str(), &end);
        if (*end == '\0') found = Value{value, words[2]};
    }
    return found;
}

/// The value of a child that ended well: what it stated, else its time. A FAIL line otherwise.
std::optional<Value> judge(const std::string& row, const char* step, const ChildResult& result,
                           bool must_state) {
    if (!WIFEXITED(result.status) || WEXITSTATUS(result.status) != 0) {
        say("FAIL %s %s: %s %d", row.c_str(), step,
            WIFEXITED(result.status) ? "exit status" : "signal",
            WIFEXITED(result.status) ? WEXITSTATUS(result.status) : WTERMSIG(result.status));
        return std::nullopt;
    }
    if (auto stated = stated_value(result.output)) return stated;
    if (must_state) {
        say("FAIL %s %s: no VALUE line", row.c_str(), step);
        return std::nullopt;
    }
    return Value{static_cast<double>(result.nanoseconds), "ns"};
}

std::optional<Value> run_row(const std::string& row, const Parameters& parameters) {
    const std::string script = "/bench/rows/" + row + ".sh";
    if (access(script.c_str(), R_OK) != 0)
        return judge(row, "run", run({micro_program, row, std::to_string(parameters.milliseconds)}),
                     true);
    if (!judge(row, "prepare", run({shell, script, "prepare"}), false)) return std::nullopt;
    std::optional<Value> least;
    for (unsigned i = 0; i < parameters.repeat; i++) {
        const auto value = judge(row, "run", run({shell, script, "run"}), false);
        if (!value) return std::nullopt;
        if (!least || value->value < least->value) least = value;
    }
    if (!judge(row, "check", run({shell, script, "check"}), false)) return std::nullopt;
    return least;
}

void run_rows(const Parameters& parameters) {
    say("READY");
    for (const std::string& row : parameters.rows) {
        say("BEGIN %s %llu", row.c_str(), static_cast<unsigned long long>(now()));
        if (const auto value = run_row(row, parameters))
            say("ROW %s %.3f %s", row.c_str(), value->value, value->unit.c_str());
        say("END %s %llu", row.c_str(), static_cast<unsigned long long>(now()));
    }
    say("DONE");
}

std::vector<std::string> kernel_command_line() {
    std::string text;
    const int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    char buffer[4096];
    for (ssize_t got = 0; file >= 0 && (got = read(file, buffer, sizeof buffer)) > 0;)
        text.append(buffer, static_cast<std::size_t>(got));
    if (file >= 0) close(file);
    return split(text, " \n");
}

void mount_on(const char* type, const char* directory) {
    mkdir(directory, 0755);
    if (mount(type, directory, type, 0, nullptr) != 0)
        say("FAIL - mounting %s: %s", directory, std::strerror(errno));
}

/// The life of a guest's first process; the kernel has opened its console.
[[noreturn]] void be_init() {
    mount_on("proc", "/proc");
    mount_on("sysfs", "/sys");
    mount_on("devtmpfs", "/dev");
    mount_on("tmpfs", "/tmp");
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", "/root", 1);
    setenv("LC_ALL", "C", 1);
    if (const auto parameters = parse(kernel_command_line())) run_rows(*parameters);
    reboot(RB_POWER_OFF);
    _exit(1);
}

} // namespace
} // namespace bench

int main(int count, char** arguments) {
    if (getpid() == 1 && count >= 1 && std::strcmp(arguments[0], "/init") == 0) bench::be_init();
    const auto parameters = bench::parse({arguments + 1, arguments + count});
    if (!parameters) return 2;
    bench::run_rows(*parameters);
    return 0;
}
