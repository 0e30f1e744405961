// SPDX-License-Identifier: Apache-2.0
/// The same program, traced by the host's strace and by ours: the same lines.
#include "fixture.h"
#include "native_source.h"

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <regex>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

namespace gnomon::trace::test {
namespace {

constexpr const char* strace_path = "/usr/bin/strace";

/// Runs strace without address randomisation and without an environment. @return false if it
/// failed.
bool run_strace(const std::vector<std::string>& command, const std::string& output) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        std::vector<std::string> words{strace_path, "-f", "-o", output};
        words.insert(words.end(), command.begin(), command.end());
        std::vector<char*> argv;
        for (std::string& word : words)
            argv.push_back(word.data());
        argv.push_back(nullptr);
        char* empty[] = {nullptr};
        ::personality(ADDR_NO_RANDOMIZE);
        const int null = ::open("/dev/null", O_RDWR);
        ::dup2(null, STDERR_FILENO);
        ::execve(strace_path, argv.data(), empty);
        ::_exit(127);
    }
    int status = 0;
    return pid > 0 && ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) != 127;
}

bool strace_is_6_1() {
    FILE* pipe = ::popen("/usr/bin/strace -V 2>/dev/null", "r");
    if (pipe == nullptr) return false;
    char text[64] = "";
    const bool read = std::fgets(text, sizeof text, pipe) != nullptr;
    ::pclose(pipe);
    return read && std::string_view(text).find("version 6.1") != std::string_view::npos;
}

/// The probe's own lines: between its marker calls, without pids, columns and process numbers.
std::vector<std::string> body(std::istream& in, const std::regex& prefix) {
    static const std::regex padding(" += ");
    std::vector<std::string> lines;
    bool inside = false;
    for (std::string text; std::getline(in, text);) {
        text = std::regex_replace(text, prefix, "", std::regex_constants::format_first_only);
        text = std::regex_replace(text, padding, " = ", std::regex_constants::format_first_only);
        if (text.starts_with("close(1000001)")) inside = true;
        if (inside) lines.push_back(text);
        if (text.starts_with("close(1000002)")) break;
    }
    return lines;
}

TEST(Native, SameAsStrace) {
    if (::access(strace_path, X_OK) != 0 || !strace_is_6_1())
        GTEST_SKIP() << "strace 6.1 is not installed";
    if (!can_trace()) GTEST_SKIP() << "ptrace is not permitted here";
    const std::string output =
        std::filesystem::temp_directory_path() / fmt::format("gnomon-trace-{}", ::getpid());
    ASSERT_TRUE(run_strace({TRACE_PROBE}, output));
    std::ifstream theirs(output);
    const auto expected = body(theirs, std::regex("^[0-9]+ +"));
    std::filesystem::remove(output);

    StringSink sink;
    Tracer tracer({}, Filter{}, sink);
    ASSERT_TRUE(run_traced({TRACE_PROBE}, tracer));
    ASSERT_TRUE(tracer.finish());
    std::istringstream ours(sink.text());
    const auto actual = body(ours, std::regex("^\\[pid [^\\]]*\\] "));

    ASSERT_GT(expected.size(), 200u) << "strace traced nothing";
    for (size_t i = 0; i < std::min(expected.size(), actual.size()); ++i)
        EXPECT_EQ(actual[i], expected[i]) << "line " << i;
    EXPECT_EQ(actual.size(), expected.size());
    EXPECT_TRUE(tracer.counters().balanced());
    EXPECT_EQ(tracer.counters().in_progress, 0u);
}

TEST(Native, ForksAndSignalsBalance) {
    if (!can_trace()) GTEST_SKIP() << "ptrace is not permitted here";
    StringSink sink;
    Tracer tracer({}, Filter{}, sink);
    ASSERT_TRUE(run_traced({"/bin/sh", "-c",
                            "(sleep 9 & kill -9 $!; wait); for i in 1 2 3; do (:) & done; "
                            "wait; true | cat; exit 5"},
                           tracer));
    ASSERT_TRUE(tracer.finish());
    const CallCounters c = tracer.counters();
    EXPECT_GT(c.entered, 50u);
    EXPECT_GT(c.never_return, 3u);
    EXPECT_EQ(c.lost_returns, 0u);
    EXPECT_EQ(c.in_progress, 0u);
    EXPECT_TRUE(c.balanced()) << sink.text();
    EXPECT_NE(sink.text().find("+++ exited with 5 +++"), std::string::npos);
    EXPECT_NE(sink.text().find("+++ killed by SIGKILL +++"), std::string::npos);
}

} // namespace
} // namespace gnomon::trace::test
