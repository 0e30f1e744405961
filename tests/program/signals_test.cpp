// SPDX-License-Identifier: Apache-2.0
/// @file Signals at any moment of a run on a terminal: the end is as asked for, the terminal as
/// before, the trace complete as far as it goes; and a stop is a stop for the guest's clocks too.
#include "program/program.h"
#include "program/seed.h"

#include <csignal>
#include <cstring>
#include <thread>

namespace gnomon::test {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

void expect_mode_given_back(const TerminalProcess& process) {
    const termios& before = process.mode_at_start();
    const termios after = process.mode();
    EXPECT_EQ(before.c_iflag, after.c_iflag);
    EXPECT_EQ(before.c_oflag, after.c_oflag);
    EXPECT_EQ(before.c_cflag, after.c_cflag);
    EXPECT_EQ(before.c_lflag, after.c_lflag);
    EXPECT_EQ(std::memcmp(before.c_cc, after.c_cc, sizeof before.c_cc), 0);
}

class Signals : public testing::Test {
protected:
    void SetUp() override {
        if (!have_guest_files()) GTEST_SKIP() << "no guest files: run scripts/fetch.sh";
    }
    [[nodiscard]] std::string trace_file() const { return (m_folder.path() / "trace").string(); }
    [[nodiscard]] Words command(const std::string& script, bool terminal) const {
        Words options{"-o", trace_file()};
        if (terminal) options.emplace_back("--tty");
        return traced(options, {"sh", "-c", script});
    }
    /// What there is of the trace is whole lines, and ends with the account. Nothing at all if the
    /// machine did not come to run.
    void expect_whole_trace(bool must_exist) const {
        std::ifstream file(trace_file());
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        if (text.empty()) {
            EXPECT_FALSE(must_exist);
            return;
        }
        EXPECT_EQ(text.back(), '\n');
        const std::size_t last = text.rfind('\n', text.size() - 2) + 1;
        EXPECT_THAT(text.substr(last),
                    AllOf(testing::StartsWith("gnomon: "), HasSubstr("system calls entered")));
        EXPECT_THAT(text.substr(last), Not(HasSubstr("lost")));
    }
    TemporaryFolder m_folder;
};

constexpr const char* endless = "echo begun; while :; do echo on; done";

TEST_F(Signals, ThatEndTheRunAtAnyMoment) {
    for_each_case(9, [&](Random& random) {
        static constexpr std::array numbers{SIGINT, SIGTERM, SIGHUP};
        const int number = numbers[pick(random, 0, 2)];
        const bool terminal = pick(random, 0, 1) == 1;
        const auto moment =
            milliseconds(pick(random, 0, 3) == 0 ? pick(random, 0, 100) : pick(random, 0, 4000));
        SCOPED_TRACE(fmt::format("signal {} after {} ms", number, moment.count()));
        TerminalProcess process(command(endless, terminal));
        process.read_for(moment);
        process.signal(number);
        EXPECT_EQ(process.wait(), 128 + number) << process.shown();
        expect_mode_given_back(process);
        expect_whole_trace(process.shown().find("begun") != std::string::npos);
        EXPECT_THAT(process.shown(), Not(HasSubstr("error")));
    });
}

TEST_F(Signals, ThatEndAMachineOnATerminal) {
    for_each_case(3, [&](Random& random) {
        static constexpr std::array numbers{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
        const int number = numbers[pick(random, 0, 3)];
        const auto moment = milliseconds(pick(random, 0, 2500));
        SCOPED_TRACE(fmt::format("signal {} after {} ms", number, moment.count()));
        TerminalProcess process(
            gnomon({"run", "--kernel", guest_kernel, "--append", "console=ttyS0"}));
        process.read_for(moment);
        process.signal(number);
        EXPECT_EQ(process.wait(), 128 + number) << process.shown();
        expect_mode_given_back(process);
        EXPECT_THAT(process.shown(), Not(HasSubstr("internal error")));
    });
}

TEST_F(Signals, AroundTheEndOfTheRun) {
    for_each_case(4, [&](Random& random) {
        const auto moment = milliseconds(pick(random, 0, 300));
        SCOPED_TRACE(fmt::format("{} ms after the last word", moment.count()));
        TerminalProcess process(command("echo last; exit 3", false));
        ASSERT_TRUE(process.shows("last"));
        process.read_for(moment);
        process.signal(SIGTERM);
        EXPECT_THAT(process.wait(), testing::AnyOf(3, 128 + SIGTERM)) << process.shown();
        expect_mode_given_back(process);
        expect_whole_trace(true);
    });
}

TEST_F(Signals, TwoInARowEndAtOnce) {
    TerminalProcess process(command(endless, true));
    ASSERT_TRUE(process.shows("begun"));
    process.signal(SIGTERM);
    process.signal(SIGINT);
    EXPECT_THAT(process.wait(), testing::AnyOf(128 + SIGTERM, 128 + SIGINT)) << process.shown();
    expect_mode_given_back(process);
}

TEST_F(Signals, QuitLeavesTheTerminalAsItWas) {
    TerminalProcess process(command(endless, true));
    ASSERT_TRUE(process.shows("begun"));
    EXPECT_TRUE(process.raw());
    process.signal(SIGQUIT);
    EXPECT_EQ(process.wait(), 128 + SIGQUIT);
    expect_mode_given_back(process);
}

TEST_F(Signals, StopsAndContinuesAtAnyMoment) {
    for_each_case(3, [&](Random& random) {
        const bool terminal = pick(random, 0, 1) == 1;
        TerminalProcess process(
            command("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; exit 3", terminal));
        for (int i = 0; i < 4 && !process.has_ended(); i++) {
            process.read_for(milliseconds(pick(random, 0, 900)));
            process.signal(pick(random, 0, 1) == 0 ? SIGSTOP : SIGTSTP);
            std::this_thread::sleep_for(milliseconds(pick(random, 0, 300)));
            process.signal(SIGCONT);
            process.signal(SIGWINCH);
        }
        EXPECT_EQ(process.wait(), 3) << process.shown();
        EXPECT_THAT(process.shown(), testing::ContainsRegex("1\r*\n2\r*\n3\r*\n4\r*\n5\r*\n"));
        expect_mode_given_back(process);
        expect_whole_trace(true);
    });
}

TEST_F(Signals, ThoseOfNoConcernChangeNothing) {
    TerminalProcess process(command("echo begun; read line; echo got $line; exit 3", true));
    ASSERT_TRUE(process.shows("begun"));
    for (int i = 0; i < 5; i++) {
        for (const int number : {SIGPIPE, SIGCONT, SIGWINCH, SIGCHLD, SIGURG})
            process.signal(number);
    }
    process.type("word\r");
    EXPECT_TRUE(process.shows("got word")) << process.shown();
    EXPECT_EQ(process.wait(), 3) << process.shown();
}

TEST_F(Signals, TheWindowsSizeReachesTheGuest) {
    TerminalProcess process(command("echo begun; read line; stty size; exit 3", true));
    ASSERT_TRUE(process.shows("begun"));
    process.resize(41, 123); // the terminal sends SIGWINCH
    std::this_thread::sleep_for(milliseconds(500));
    process.type("\r");
    EXPECT_TRUE(process.shows("41 123")) << process.shown();
    EXPECT_EQ(process.wait(), 3) << process.shown();
}

/// Seconds that the guest's monotonic clock showed, in the order shown, behind "up ".
std::vector<double> uptimes(const std::string& text) {
    std::vector<double> all;
    for (std::size_t at = 0; (at = text.find("up ", at)) != std::string::npos; at += 3)
        all.push_back(std::strtod(text.c_str() + at + 3, nullptr));
    return all;
}

TEST_F(Signals, AStopIsAStopForTheGuestsClocksToo) {
    using Clock = std::chrono::steady_clock;
    constexpr auto stop = milliseconds(4000);
    // Asleep: timers. Busy: the time-stamp counter, read all the time.
    for (const char* script :
         {"up() { read a b </proc/uptime; echo up $a; }; up; sleep 1.5; up",
          "up() { read a b </proc/uptime; echo up $a; }; up; i=0; end=$((${a%.*}+3)); while [ "
          "${a%.*} -lt $end ]; do i=$((i+1)); read a b </proc/uptime; "
          "[ $((i%200)) = 0 ] && echo up $a; done; up"}) {
        TerminalProcess process(command(script, false));
        ASSERT_TRUE(process.shows("up "));
        const auto begin = Clock::now();
        process.read_for(milliseconds(300));
        process.signal(SIGSTOP);
        ASSERT_TRUE(process.stops());
        std::this_thread::sleep_for(stop);
        process.signal(SIGCONT);
        EXPECT_EQ(process.wait(), 0) << process.shown();
        const double outside = std::chrono::duration<double>(Clock::now() - begin).count();
        const std::vector<double> shown = uptimes(process.shown());
        ASSERT_GE(shown.size(), 2U) << process.shown();
        EXPECT_TRUE(std::is_sorted(shown.begin(), shown.end())) << process.shown();
        // The guest may be slow; but it has not seen the stop.
        EXPECT_LE(shown.back() - shown.front(), outside - 3.5) << process.shown();
        EXPECT_GE(outside, 4);
        double largest = 0;
        for (std::size_t i = 1; i < shown.size(); i++)
            largest = std::max(largest, shown[i] - shown[i - 1]);
        EXPECT_LT(largest, 3.5) << "a jump: " << process.shown();
    }
}

} // namespace
} // namespace gnomon::test
