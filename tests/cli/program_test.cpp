// SPDX-License-Identifier: Apache-2.0
/// @file The program as users run it, its machine played by fake/fake_machine.h.
#include "support/child_process.h"
#include "support/temporary_folder.h"

#include <algorithm>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>
#include <unistd.h>

namespace gnomon::cli {
namespace {

using test::Finished;
using test::run_program;
using test::TerminalProcess;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Program : public testing::Test {
protected:
    [[nodiscard]] std::vector<std::string> command(std::vector<std::string> arguments) const {
        arguments.insert(arguments.begin(), GNOMON_FAKE);
        return arguments;
    }
    [[nodiscard]] Finished run(const std::vector<std::string>& arguments,
                               const std::string& input = "") const {
        return run_program(command(arguments), input);
    }
    [[nodiscard]] std::string kernel(const std::string& part) const {
        return m_folder.file("kernel", part);
    }
    [[nodiscard]] std::string root() const {
        m_folder.file("root/etc/motd", "hello");
        return (m_folder.path() / "root").string();
    }
    /// The command line that traces `part`.
    [[nodiscard]] std::vector<std::string>
    trace(const std::string& part, std::vector<std::string> options = {},
          const std::vector<std::string>& traced = {"sh"}) const {
        options.insert(options.begin(), {"trace", "--kernel", kernel(part), "--root", root()});
        options.emplace_back("--");
        options.insert(options.end(), traced.begin(), traced.end());
        return options;
    }
    test::TemporaryFolder m_folder;
};

int lines(const std::string& text) {
    return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

TEST_F(Program, UsageErrorsAreOneLineAndStatusTwo) {
    const std::vector<std::vector<std::string>> wrong = {
        {},
        {"run"},
        {"walk"},
        {"run", "--kernel", kernel("poweroff"), "--memory", "0"},
        {"trace", "ls"},
        {"run", "--nonsense"},
        {"trace", "-s", "x", "--", "ls"},
        {"run", "--config", m_folder.file("c", "x = 1\n")},
        trace("command 0", {"-e", "nonsense"}),
        trace("command 0", {"--tty"})};
    for (const auto& arguments : wrong) {
        const Finished finished = run(arguments);
        EXPECT_EQ(finished.status, 2) << finished.err;
        EXPECT_EQ(lines(finished.err), 1) << finished.err;
        EXPECT_THAT(finished.err, testing::StartsWith("gnomon: "));
        EXPECT_EQ(finished.out, "");
    }
}

TEST_F(Program, OtherErrorsAreOneLineAndStatusOne) {
    const std::vector<std::vector<std::string>> wrong = {
        {"run", "--kernel", "/nonexistent"},
        {"run", "--kernel", m_folder.path()},
        {"run", "--kernel", kernel("poweroff"), "--initrd", "/nonexistent"},
        {"run", "--config", "/nonexistent"},
        {"trace", "--kernel", kernel("command 0"), "--root", "/nonexistent", "--", "sh"},
        trace("command 0", {"--console", "/nonexistent/file"})};
    for (const auto& arguments : wrong) {
        const Finished finished = run(arguments);
        EXPECT_EQ(finished.status, 1) << finished.err;
        EXPECT_EQ(lines(finished.err), 1) << finished.err;
        EXPECT_THAT(finished.err, AllOf(testing::StartsWith("gnomon: "), HasSubstr("/")));
    }
}

TEST_F(Program, HelpAndVersionGoToStdout) {
    for (const char* option : {"--help", "--version"}) {
        const Finished finished = run({option});
        EXPECT_EQ(finished.status, 0);
        EXPECT_EQ(finished.err, "");
        EXPECT_THAT(finished.out, HasSubstr("nomon"));
    }
}

TEST_F(Program, RunPassesPipesThroughAndEndsWithTheGuest) {
    const Finished finished = run({"run", "--kernel", kernel("echo")}, "one\001x two q");
    EXPECT_EQ(finished.status, 0) << finished.err;
    EXPECT_EQ(finished.out, "echo\nONE\001X TWO Q"); // Ctrl-A is a key of terminals only
    EXPECT_EQ(finished.err, "");
    EXPECT_EQ(run({"run", "--kernel", kernel("reset"), "--no-reboot"}).status, 0);
}

TEST_F(Program, RunHandsItsOptionsToTheMachine) {
    const Finished finished =
        run({"run", "--kernel", kernel("options"), "--append", "a=b c", "--memory", "64M",
             "--initrd", m_folder.file("initrd", "12345"), "--no-reboot"});
    EXPECT_EQ(finished.out,
              "memory=67108864 append='a=b c' initrd=5 no_reboot=true observer=false\n");
    const Finished defaults = run({"run", "--kernel", kernel("options")});
    EXPECT_EQ(defaults.out, "memory=536870912 append='' initrd=0 no_reboot=false observer=false\n");
}

TEST_F(Program, ATripleFaultShowsTheProcessorAndFails) {
    const Finished finished = run({"run", "--kernel", kernel("triple")});
    EXPECT_EQ(finished.status, 1);
    EXPECT_THAT(finished.err,
                AllOf(HasSubstr("triple fault"), HasSubstr("RIP=0xfff0\nRSP=0x7c00")));
    EXPECT_THAT(finished.out, HasSubstr("line 40"));
}

TEST_F(Program, StatisticsInBothForms) {
    const std::string json = run({"run", "--kernel", kernel("poweroff"), "--stats=json"}).err;
    EXPECT_THAT(json, testing::StartsWith("{\"version\":1,\"process\":{\"wall_ns\":"));
    EXPECT_THAT(json, testing::EndsWith(",\"machine\":{\"exits\":12,\"code_bytes\":2048}}\n"));
    const std::string text = run({"run", "--kernel", kernel("poweroff"), "--stats"}).err;
    EXPECT_THAT(text, testing::StartsWith("process "));
    EXPECT_THAT(text, HasSubstr("\nmachine\n  code                           2.00 KiB\n"));
    EXPECT_EQ(run({"run", "--kernel", kernel("poweroff")}).err, "");
}

TEST_F(Program, TraceConnectsTheStreamsAndReturnsTheStatus) {
    std::string input;
    for (int i = 0; i < 20000; i++)
        input += fmt::format("line {}\n", i); // beyond several windows
    const Finished finished =
        run(trace("command 7", {"-e", "trace=read", "-tt", "-s", "5"}), input);
    EXPECT_EQ(finished.status, 7) << finished.err;
    std::string upper = input;
    for (char& c : upper)
        c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    EXPECT_TRUE(finished.out == upper) << finished.out.size() << " of " << upper.size();
    EXPECT_EQ(finished.err,
              "err\ntraced filter=read limit=5 style=2 summary=false json=false output=''\n");
}

TEST_F(Program, TraceReportsSignalsAndFailures) {
    EXPECT_EQ(run(trace("killed 9")).status, 137);
    const Finished failing = run(trace("failing"));
    EXPECT_EQ(failing.status, 1);
    EXPECT_THAT(failing.err, HasSubstr("no such place"));
}

TEST_F(Program, TheConsoleIsHiddenUnlessAskedForOrNeeded) {
    EXPECT_THAT(run(trace("command 0")).err, Not(HasSubstr("Linux version")));
    EXPECT_THAT(run(trace("command 0", {"--console", "-"})).err, HasSubstr("Linux version"));
    const std::string file = (m_folder.path() / "console").string();
    EXPECT_EQ(run(trace("command 0", {"--console", file})).status, 0);
    std::ifstream stream(file);
    std::string line;
    std::getline(stream, line);
    EXPECT_EQ(line, "Linux version 0");

    const Finished crashed = run(trace("triple"));
    EXPECT_EQ(crashed.status, 1);
    EXPECT_THAT(crashed.err, AllOf(HasSubstr("RIP=0xfff0"), HasSubstr("  line 40?[31m\n"),
                                   HasSubstr("  line 21"), Not(HasSubstr("line 20"))));
}

TEST_F(Program, TraceOfAWholeMachine) {
    const Finished finished = run({"trace", "-c", "--kernel", kernel("echo")}, "abc q");
    EXPECT_EQ(finished.status, 0);
    EXPECT_EQ(finished.out, "echo\nABC Q");
    EXPECT_THAT(finished.err, HasSubstr("summary=true"));
}

TEST_F(Program, TraceBuildsTheGuestsCommandLine) {
    const std::string console = (m_folder.path() / "console").string();
    const Finished finished =
        run(trace("options", {"--append", "pti=off", "--console", console, "--memory", "64M"}));
    EXPECT_EQ(finished.status, 1); // it powers off without a word about the command
    std::ifstream stream(console);
    std::string line;
    std::getline(stream, line);
    EXPECT_THAT(line, AllOf(HasSubstr("memory=67108864"), HasSubstr("append='console=ttyS0 quiet"),
                            HasSubstr("rdinit=/"), HasSubstr(" pti=off'"),
                            HasSubstr("no_reboot=true"), Not(HasSubstr("initrd=0"))));
}

TEST_F(Program, AClosedOutputIsAQuietEnd) {
    const Finished finished = run_program(
        {"/bin/sh", "-c", "{ \"$1\" run --kernel \"$2\"; echo $? >&2; } | head -c 10 >/dev/null",
         "sh", GNOMON_FAKE, kernel("flood")});
    EXPECT_EQ(finished.err, "141\n");
}

TEST_F(Program, MissingStandardDescriptorsDoNoHarm) {
    const Finished finished = run_program({"/bin/sh", "-c", "\"$1\" run --kernel \"$2\" <&- 2>&-",
                                           "sh", GNOMON_FAKE, kernel("poweroff")});
    EXPECT_EQ(finished.status, 0);
    EXPECT_EQ(finished.out, "hello\n");
}

TEST_F(Program, SignalsStopTheMachineWithTheirStatus) {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        for (const char* part : {"spin", "flood"}) {
            TerminalProcess process(command({"run", "--kernel", kernel(part)}));
            ASSERT_TRUE(process.becomes_raw(true));
            process.signal(signal);
            EXPECT_EQ(process.wait(), 128 + signal) << process.shown();
            EXPECT_FALSE(process.raw());
        }
    }
}

TEST_F(Program, TheFilterIsInForceUnlessItIsRefused) {
    for (const bool refused : {false, true}) {
        std::vector<std::string> arguments{"run", "--kernel", kernel("spin")};
        if (refused) arguments.emplace_back("--no-seccomp");
        TerminalProcess process(command(arguments));
        ASSERT_TRUE(process.shows("spinning"));
        std::ifstream status(fmt::format("/proc/{}/status", process.pid()));
        const std::string text{std::istreambuf_iterator<char>(status), {}};
        EXPECT_THAT(text, HasSubstr(refused ? "Seccomp:\t0\n" : "Seccomp:\t2\n"));
        process.type("\001x");
        EXPECT_EQ(process.wait(), 0);
    }
}

class Terminal : public Program {};

TEST_F(Terminal, KeysReachTheGuestRawAndTheTerminalIsGivenBack) {
    TerminalProcess process(command({"run", "--kernel", kernel("echo")}));
    ASSERT_TRUE(process.shows("echo"));
    ASSERT_TRUE(process.becomes_raw(true));
    const termios& before = process.mode_at_start();
    EXPECT_NE(before.c_lflag & ECHO, 0U);
    EXPECT_NE(process.mode().c_oflag & OPOST, 0U);
    process.type("a\003b\032c\001\001d"); // Ctrl-C and Ctrl-Z are the guest's
    EXPECT_TRUE(process.shows("A\003B\032C\001D")) << process.shown();
    process.type("q");
    EXPECT_EQ(process.wait(), 0);
    const termios after = process.mode();
    EXPECT_EQ(after.c_lflag, before.c_lflag);
    EXPECT_EQ(after.c_iflag, before.c_iflag);
    EXPECT_EQ(after.c_oflag, before.c_oflag);
    EXPECT_EQ(after.c_cflag, before.c_cflag);
}

TEST_F(Terminal, CtrlAHHelpsAndCtrlAXEnds) {
    for (const char* part : {"spin", "deaf", "flood"}) {
        TerminalProcess process(command({"run", "--kernel", kernel(part)}));
        ASSERT_TRUE(process.becomes_raw(true));
        process.type("\001h");
        EXPECT_TRUE(process.shows("Ctrl-A Ctrl-A")) << part;
        process.type("\001x");
        EXPECT_EQ(process.wait(), 0) << part;
        EXPECT_FALSE(process.raw()) << part;
    }
}

TEST_F(Terminal, RestoredAfterAbortExitAndCrashes) {
    for (const auto& [part, status] : {std::pair{"abort", 128 + SIGABRT}, std::pair{"exit", 5}}) {
        TerminalProcess process(command({"run", "--kernel", kernel(part)}));
        ASSERT_TRUE(process.shows("last words"));
        EXPECT_EQ(process.wait(), status);
        EXPECT_FALSE(process.raw());
    }
    for (const int signal : {SIGQUIT, SIGALRM, SIGABRT}) {
        TerminalProcess process(command({"run", "--kernel", kernel("spin")}));
        ASSERT_TRUE(process.becomes_raw(true));
        process.signal(signal);
        EXPECT_EQ(process.wait(), 128 + signal);
        EXPECT_FALSE(process.raw());
    }
}

TEST_F(Terminal, RestoredWhileStoppedAndRawAgainAfterwards) {
    TerminalProcess process(command({"run", "--kernel", kernel("echo")}));
    ASSERT_TRUE(process.shows("echo")); // the machine is there to hear of it
    ASSERT_TRUE(process.becomes_raw(true));
    process.signal(SIGTSTP);
    ASSERT_TRUE(process.stops());
    EXPECT_FALSE(process.raw());
    process.signal(SIGCONT);
    EXPECT_TRUE(process.becomes_raw(true));
    EXPECT_TRUE(process.shows("continued")) << "the machine has heard of it";

    // SIGSTOP leaves no chance to restore; a shell sets its own mode then, which SIGCONT undoes.
    process.signal(SIGSTOP);
    ASSERT_TRUE(process.stops());
    process.set_mode_cooked();
    process.signal(SIGCONT);
    EXPECT_TRUE(process.becomes_raw(true));
    process.type("q");
    EXPECT_EQ(process.wait(), 0);
    EXPECT_FALSE(process.raw());
}

TEST_F(Terminal, AHangUpEndsTheProgram) {
    TerminalProcess process(command({"run", "--kernel", kernel("spin")}));
    ASSERT_TRUE(process.becomes_raw(true));
    process.hang_up();
    EXPECT_EQ(process.wait(), 128 + SIGHUP);
}

TEST_F(Terminal, ATracedCommandLeavesTheTerminalAlone) {
    TerminalProcess process(command(trace("command 3")));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_FALSE(process.raw());
    process.type("abc\n\004");
    EXPECT_TRUE(process.shows("ABC")) << process.shown();
    EXPECT_EQ(process.wait(), 3) << process.shown();
}

TEST_F(Terminal, InterruptingATracedCommand) {
    TerminalProcess process(command(trace("command 3")));
    process.type("abc\n");
    EXPECT_TRUE(process.shows("ABC")) << process.shown();
    process.type("\003");
    EXPECT_EQ(process.wait(), 130) << process.shown();
}

TEST_F(Terminal, ATracedCommandMayHaveTheTerminal) {
    TerminalProcess process(command(trace("command 3", {"--tty"})));
    ASSERT_TRUE(process.becomes_raw(true));
    process.type("abc\003");
    EXPECT_TRUE(process.shows("ABC\003")) << process.shown();
    process.type("\001x");
    EXPECT_EQ(process.wait(), 0);
    EXPECT_FALSE(process.raw());
}

TEST_F(Terminal, ColourOnlyOnATerminalThatWantsIt) {
    ASSERT_EQ(::setenv("TERM", "xterm", 1), 0);
    ASSERT_EQ(::unsetenv("NO_COLOR"), 0);
    {
        TerminalProcess process(command({"run"}));
        EXPECT_EQ(process.wait(), 2);
        EXPECT_THAT(process.shown(), HasSubstr("\033["));
    }
    ASSERT_EQ(::setenv("NO_COLOR", "1", 1), 0);
    TerminalProcess process(command({"run"}));
    EXPECT_EQ(process.wait(), 2);
    EXPECT_THAT(process.shown(), Not(HasSubstr("\033[")));
    ASSERT_EQ(::unsetenv("NO_COLOR"), 0);
    EXPECT_THAT(run({"run"}).err, Not(HasSubstr("\033[")));
}

TEST(Scripts, AreValidBash) {
    int scripts = 0;
    for (const char* folder : {"/scripts", "/.ci"}) {
        for (const auto& entry :
             std::filesystem::directory_iterator(std::string(GNOMON_SOURCE_DIR) + folder)) {
            const Finished checked = run_program({"/bin/bash", "-n", entry.path().string()});
            EXPECT_EQ(checked.status, 0) << entry.path() << checked.err;
            scripts++;
        }
    }
    EXPECT_GE(scripts, 7);
}

TEST(Scripts, RefuseWhatTheyDoNotKnow) {
    for (const char* script : {"setup", "fetch", "build", "demo", "test", "style"}) {
        const Finished finished = run_program(
            {std::string(GNOMON_SOURCE_DIR) + "/scripts/" + script + ".sh", "--nonsense"});
        EXPECT_EQ(finished.status, 1) << script;
        EXPECT_EQ(lines(finished.err), 1) << script << ": " << finished.err;
        EXPECT_THAT(finished.err, testing::StartsWith(std::string("scripts/") + script + ".sh: "));
    }
}

} // namespace
} // namespace gnomon::cli
