// SPDX-License-Identifier: Apache-2.0
/// @file The packed root and its init program, booted with the kernel that scripts/fetch.sh
/// got; skipped where that is missing.

#include "guest/initramfs/root.h"
#include "machine_guest.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace gnomon::test {
namespace {

using guest::CommandSpec;
using guest::ControlMessage;
using guest::kill_line;
using guest::resize_line;
using Kind = ControlMessage::Kind;

constexpr std::chrono::seconds limit{60};

class InitTest : public ::testing::Test {
protected:
    void SetUp() override {
        if (::access(m_kernel.c_str(), R_OK) != 0 || ::access(m_busybox.c_str(), X_OK) != 0)
            GTEST_SKIP() << "no " << m_kernel << " or " << m_busybox << ": run scripts/fetch.sh";
    }

    Outcome run(const CommandSpec& command, const Inputs& inputs = {}) {
        auto root = guest::make_busybox_root(m_busybox, command);
        if (!root) {
            ADD_FAILURE() << root.error().message;
            return {};
        }
        return boot_root(std::move(*root), inputs);
    }
    Outcome boot_root(std::vector<std::byte> root, const Inputs& inputs = {}) {
        auto outcome = boot(m_kernel, std::move(root), inputs, limit);
        if (!outcome) {
            ADD_FAILURE() << outcome.error().message;
            return {};
        }
        EXPECT_TRUE(outcome->powered_off) << outcome->console;
        EXPECT_EQ(outcome->malformed, 0u);
        return std::move(*outcome);
    }

    /// A run of a shell script in the default root.
    Outcome shell(const std::string& script, const Inputs& inputs = {}) {
        return run({.arguments = {"sh", "-c", script}}, inputs);
    }

    const std::string m_kernel = GNOMON_GUEST_FILES "/cloud/vmlinuz";
    const std::string m_busybox = GNOMON_GUEST_FILES "/busybox/bin/busybox";
};

void expect_exit(const Outcome& outcome, u64 status) {
    ASSERT_EQ(outcome.control.size(), 3u) << outcome.console << outcome.error;
    EXPECT_EQ(outcome.control[0].kind, Kind::ready);
    EXPECT_EQ(outcome.control[1].kind, Kind::started);
    EXPECT_GT(outcome.control[1].number, 1u);
    EXPECT_EQ(outcome.control[2], (ControlMessage{Kind::exited, status, {}})) << outcome.error;
}

std::string all_bytes(std::size_t size) {
    std::string bytes(size, '\0');
    u32 state = 12345;
    for (std::size_t i = 0; i < size; ++i) {
        state = state * 1664525 + 1013904223;
        bytes[i] = static_cast<char>(i < 256 ? i : state >> 24);
    }
    return bytes;
}

TEST_F(InitTest, RunsTheCommandAndReportsItsStatusAndStreams) {
    const Outcome outcome = shell("echo out; echo err >&2; exit 42");
    expect_exit(outcome, 42);
    EXPECT_EQ(outcome.output, "out\n");
    EXPECT_EQ(outcome.error, "err\n");
}

TEST_F(InitTest, GivesTheCommandACleanStart) {
    const Outcome outcome =
        shell("grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; ls -a / | grep -c gnomon; "
              "ls /proc/self/fd | wc -l; cat /proc/self/stat | cut -d' ' -f6; echo $$; pwd; "
              "hostname; mount | cut -d' ' -f3 | sort; test -w /dev/null && test -w /dev/ptmx && "
              "test -r /dev/stdin && echo nodes; ping -c1 127.0.0.1 >/dev/null && echo loopback; "
              "ls -ld /tmp | cut -d' ' -f1; id -u");
    expect_exit(outcome, 0);
    std::vector<std::string> lines;
    for (std::size_t begin = 0; begin < outcome.output.size();) {
        const std::size_t end = outcome.output.find('\n', begin);
        lines.push_back(outcome.output.substr(begin, end - begin));
        begin = end + 1;
    }
    ASSERT_GE(lines.size(), 8u) << outcome.output;
    EXPECT_EQ(lines[0], "SigBlk:\t0000000000000000");
    EXPECT_EQ(lines[1], "SigIgn:\t0000000000000000");
    EXPECT_EQ(lines[2], "SigCgt:\t0000000000000000");
    EXPECT_EQ(lines[3], "0");      // /.gnomon is gone
    EXPECT_EQ(lines[4], "4");      // 0, 1, 2 and the directory that ls has open
    EXPECT_EQ(lines[5], lines[6]); // the command leads its session
    EXPECT_EQ(lines[7], "/");
    EXPECT_THAT(outcome.output,
                ::testing::HasSubstr("gnomon\n/\n/dev\n/dev/pts\n/dev/shm\n/proc\n"
                                     "/run\n/sys\nnodes\nloopback\ndrwxrwxrwt\n0\n"))
        << outcome.error;
}

TEST_F(InitTest, IsBinaryCleanBothWaysAndEndsStandardInput) {
    Inputs inputs{.standard_input = all_bytes(300'000)};
    const Outcome outcome = run({.arguments = {"cat"}}, inputs);
    expect_exit(outcome, 0);
    EXPECT_TRUE(outcome.output == inputs.standard_input) << outcome.output.size();
    EXPECT_EQ(outcome.error, "");
}

TEST_F(InitTest, KeepsInputForASlowReader) {
    Inputs inputs{.standard_input = all_bytes(200'000)};
    const Outcome outcome = shell("sleep 2; head -c 100000 | md5sum >&2; cat", inputs);
    expect_exit(outcome, 0);
    EXPECT_LE(outcome.output.size(), 100'000u); // head may read ahead
    EXPECT_TRUE(inputs.standard_input.ends_with(outcome.output));
    EXPECT_GT(outcome.output.size(), 90'000u);
}

TEST_F(InitTest, GoesOnWhenTheCommandDoesNotRead) {
    Inputs inputs{.standard_input = all_bytes(100'000)};
    expect_exit(shell("exec <&-; sleep 1; exit 3", inputs), 3);
}

TEST_F(InitTest, DeliversAllOutputBeforeTheExit) {
    const Outcome outcome = shell("seq 1 60000; seq 1 20000 >&2");
    expect_exit(outcome, 0);
    EXPECT_EQ(outcome.output.size(), 348'894u);
    EXPECT_TRUE(outcome.output.ends_with("\n59999\n60000\n"));
    EXPECT_TRUE(outcome.error.ends_with("\n19999\n20000\n"));
}

TEST_F(InitTest, ReportsASignal) {
    const Outcome outcome = shell("kill -SEGV $$");
    ASSERT_TRUE(outcome.last());
    EXPECT_EQ(*outcome.last(), (ControlMessage{Kind::signalled, 11, {}}));
}

TEST_F(InitTest, ObeysKill) {
    Inputs inputs{.end_input = false, .control_after_started = kill_line(15)};
    const Outcome outcome = run({.arguments = {"sleep", "1000"}}, inputs);
    ASSERT_TRUE(outcome.last());
    EXPECT_EQ(*outcome.last(), (ControlMessage{Kind::signalled, 15, {}}));
}

TEST_F(InitTest, AnswersAsAShellDoesForWhatCannotBeRun) {
    const Outcome missing = run({.arguments = {"no-such-program"}});
    expect_exit(missing, 127);
    EXPECT_EQ(missing.error, "gnomon: no-such-program: command not found\n");
    const Outcome denied = run({.arguments = {"/etc/passwd"}});
    expect_exit(denied, 126);
    EXPECT_EQ(denied.error, "gnomon: /etc/passwd: Permission denied\n");
}

TEST_F(InitTest, SaysThatTheDirectoryIsMissing) {
    const Outcome outcome = run({.arguments = {"true"}, .working_directory = "/no/such"});
    ASSERT_TRUE(outcome.last());
    EXPECT_EQ(outcome.last()->kind, Kind::failed);
    EXPECT_EQ(outcome.last()->text,
              "cannot enter the directory /no/such: No such file or directory");
}

TEST_F(InitTest, DoesNotWaitForWhatTheCommandLeavesBehind) {
    const Outcome outcome =
        shell("(while :; do echo noise; done) & (sleep 1000) & sleep 1; exit 5");
    expect_exit(outcome, 5);
}

TEST_F(InitTest, PassesArgumentsEnvironmentAndDirectory) {
    const Outcome outcome = run({.arguments = {"sh", "-c", "printf '%s|' \"$@\" \"$COLOUR\"; pwd",
                                               "x", "a b", "", "\n\xff"},
                                 .environment = {"PATH=/nowhere:/bin", "COLOUR=gr\xc3\xbcn = ja"},
                                 .working_directory = "/var/log"});
    expect_exit(outcome, 0);
    EXPECT_EQ(outcome.output, "a b||\n\xff|gr\xc3\xbcn = ja|/var/log\n");
}

TEST_F(InitTest, GivesATerminal) {
    Inputs inputs{.standard_input = "typed\nrest", .control_after_started = resize_line(50, 132)};
    const Outcome outcome =
        run({.arguments =
                 {"sh", "-c",
                  "stty size; read line; echo \"got $line\"; cat; test -t 0 && test -t 1 && "
                  "test -t 2 && tty; echo to-stderr >&2; sleep 1; stty size; ps -o tty | tail -n1"},
             .terminal = true,
             .rows = 33,
             .columns = 99},
            inputs);
    expect_exit(outcome, 0);
    EXPECT_THAT(outcome.output, ::testing::HasSubstr("got typed\r\n"));
    EXPECT_THAT(outcome.output, ::testing::HasSubstr("rest"));
    EXPECT_THAT(outcome.output, ::testing::HasSubstr("/dev/pts/0\r\n"));
    EXPECT_THAT(outcome.output, ::testing::HasSubstr("to-stderr\r\n50 132\r\n136,0"));
    EXPECT_EQ(outcome.error, "");
}

TEST_F(InitTest, RunsInADirectoryThatNeedsNothingSpecial) {
    namespace fs = std::filesystem;
    const fs::path root =
        fs::path(::testing::TempDir()) / fmt::format("gnomon-root-{}", ::getpid());
    fs::create_directories(root / "bin");
    fs::copy_file(m_busybox, root / "bin/sh");
    std::ofstream(root / "bin/script") << "echo from a script without an interpreter line: $1\n";
    fs::permissions(root / "bin/script", fs::perms::owner_all);
    std::ofstream(root / "init") << "not run";
    auto packed = guest::pack_root(root, {.arguments = {"script", "word"}});
    fs::remove_all(root);
    ASSERT_TRUE(packed) << packed.error().message;
    const Outcome outcome = boot_root(std::move(*packed));
    expect_exit(outcome, 0);
    EXPECT_EQ(outcome.output, "from a script without an interpreter line: word\n");
}

} // namespace
} // namespace gnomon::test
