// SPDX-License-Identifier: Apache-2.0
/// The comparison itself: that it finds what is dropped, changed or moved, and lets pass only what
/// its rules name.
#include "comparison.h"

#include <gtest/gtest.h>
#include <sstream>

namespace gnomon::traces {
namespace {

constexpr std::string_view inside = R"(80    execve("/bin/w", ["w"], 0x7ffc /* 1 var */) = 0
80    clone(child_stack=NULL, flags=SIGCHLD) = 81
80    wait4(81,  <unfinished ...>
81    write(1, "a) = 5", 6) = 6
81    kill(80, SIGUSR1) = 0
80    <... wait4 resumed>0x7ff0, 0, NULL) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
80    --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=81, si_uid=0} ---
80    rt_sigreturn({mask=[]}) = 61
81    exit_group(3) = ?
81    +++ exited with 3 +++
80    wait4(81, [{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 81
80    exit_group(0) = ?
80    +++ exited with 0 +++
)";

/// The same as Gnomon prints it: more tasks, other interruptions.
constexpr std::string_view outside = R"([pid 1 init] wait4(-1,  <unfinished ...>
[pid 80 strace] kill(80, SIGSTOP) = 0
[pid 80 strace] execve("/bin/w", ["w"], 0x7ffc /* 1 var */) = 0
[pid 79 strace] ptrace(PTRACE_SYSCALL, 80, NULL, 0) = 0
[pid 80 w] clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>
[pid 79 strace] wait4(-1, 0x7f, 0, NULL) = 80
[pid 80 w] <... clone resumed>) = 81
[pid 80 w] wait4(81,  <unfinished ...>
[pid 81 w] write(1, "a) = 5", 6) = 6
[pid 81 w] kill(80, SIGUSR1 <unfinished ...>
[pid 80 w] <... wait4 resumed>0x7ff0, 0, NULL) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
[pid 80 w] --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=81, si_uid=0} ---
[pid 81 w] <... kill resumed>) = 0
[pid 80 w] rt_sigreturn({mask=[]}) = 61
[pid 81 w] exit_group(3) = ?
[pid 81 w] +++ exited with 3 +++
[pid 80 w] wait4(81, [{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 81
[pid 80 w] exit_group(0) = ?
[pid 80 w] +++ exited with 0 +++
[pid 1 init] <... wait4 resumed>NULL, 0, NULL) = 80
gnomon: 13 system calls entered, 11 returned, 2 never return
)";

TraceFile parse(std::string_view text) {
    std::istringstream in{std::string(text)};
    return read_trace(in);
}

/// `text` with the first `from` made `to`.
std::string changed(std::string_view text, std::string_view from, std::string_view to) {
    std::string result(text);
    const size_t at = result.find(from);
    EXPECT_NE(at, result.npos) << from;
    if (at != result.npos) result.replace(at, from.size(), to);
    return result;
}

Comparison compare_texts(std::string_view theirs, std::string_view ours) {
    return compare(parse(theirs), parse(ours));
}

size_t kinds(const Comparison& c, const std::string& kind) {
    const auto at = c.differences_by_kind.find(kind);
    return at == c.differences_by_kind.end() ? 0 : at->second;
}

TEST(Comparison, TheSame) {
    const TraceFile theirs = parse(inside), ours = parse(outside);
    EXPECT_TRUE(theirs.problems.empty());
    EXPECT_TRUE(ours.problems.empty());
    const Comparison c = compare(theirs, ours);
    EXPECT_TRUE(c.same());
    EXPECT_EQ(c.tasks, 2u);
    EXPECT_EQ(c.calls, 9u);
    EXPECT_EQ(c.signals, 1u);
    EXPECT_TRUE(ours.balance.balanced());
    EXPECT_EQ(ours.balance.entered, 13u);
}

TEST(Comparison, FindsADroppedLine) {
    for (const std::string_view line :
         {"[pid 81 w] write(1, \"a) = 5\", 6) = 6\n", "[pid 80 w] rt_sigreturn({mask=[]}) = 61\n",
          "[pid 81 w] exit_group(3) = ?\n",
          "[pid 80 w] --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=81, si_uid=0} ---\n",
          "[pid 81 w] +++ exited with 3 +++\n"}) {
        const Comparison c = compare_texts(inside, changed(outside, line, ""));
        EXPECT_EQ(c.differences, 1u) << line;
        EXPECT_FALSE(c.same());
    }
    EXPECT_EQ(kinds(compare_texts(inside,
                                  changed(outside, "[pid 81 w] write(1, \"a) = 5\", 6) = 6\n", "")),
                    "missing: write"),
              1u);
}

TEST(Comparison, FindsADroppedTask) {
    std::string without;
    std::istringstream in{std::string(outside)};
    for (std::string line; std::getline(in, line);)
        if (!line.starts_with("[pid 81 ")) without += line + "\n";
    EXPECT_EQ(compare_texts(inside, without).differences, 4u);
}

TEST(Comparison, FindsAnInventedLine) {
    const Comparison c =
        compare_texts(inside, changed(outside, "[pid 81 w] exit_group",
                                      "[pid 81 w] getpid() = 81\n[pid 81 w] exit_group"));
    EXPECT_EQ(c.differences, 1u);
    EXPECT_EQ(kinds(c, "surplus: getpid"), 1u);
}

TEST(Comparison, FindsADoubledLine) {
    const Comparison c = compare_texts(
        inside, changed(outside, "[pid 80 w] exit_group(0) = ?\n",
                        "[pid 80 w] exit_group(0) = ?\n[pid 80 w] exit_group(0) = ?\n"));
    EXPECT_EQ(c.differences, 1u);
}

TEST(Comparison, FindsAChangedArgument) {
    const Comparison c = compare_texts(inside, changed(outside, "write(1, ", "write(2, "));
    EXPECT_EQ(c.differences, 1u);
    EXPECT_EQ(kinds(c, "write: arguments"), 1u);
}

TEST(Comparison, FindsAChangedArgumentThatIsPrintedAtTheReturn) {
    const Comparison c =
        compare_texts(inside, changed(outside, "WEXITSTATUS(s) == 3", "WEXITSTATUS(s) == 4"));
    EXPECT_EQ(kinds(c, "wait4: arguments"), 1u);
}

TEST(Comparison, FindsAChangedResult) {
    const Comparison c =
        compare_texts(inside, changed(outside, "{mask=[]}) = 61", "{mask=[]}) = 0"));
    EXPECT_EQ(c.differences, 1u);
    EXPECT_EQ(kinds(c, "rt_sigreturn: result"), 1u);
}

TEST(Comparison, FindsAChangedName) {
    EXPECT_EQ(
        kinds(compare_texts(inside, changed(outside, "write(1, ", "pwrite(1, ")), "write: name"),
        1u);
}

TEST(Comparison, FindsACallUnderAnotherTask) {
    EXPECT_EQ(
        compare_texts(inside, changed(outside, "[pid 81 w] exit_group", "[pid 80 w] exit_group"))
            .differences,
        2u);
}

TEST(Comparison, FindsCallsOutOfOrder) {
    const std::string ours = changed(
        changed(outside, "[pid 80 w] rt_sigreturn({mask=[]}) = 61\n", ""), "[pid 80 w] --- SIGUSR1",
        "[pid 80 w] rt_sigreturn({mask=[]}) = 61\n[pid 80 w] --- SIGUSR1");
    EXPECT_EQ(compare_texts(inside, ours).differences, 2u);
}

TEST(Comparison, NothingIsNotTheSame) { EXPECT_FALSE(compare_texts("", outside).same()); }

TEST(Comparison, LinesThatCannotBeUnderstoodAreProblems) {
    EXPECT_EQ(parse("garbage\n").problems.size(), 1u);
    EXPECT_EQ(parse("[pid 7 a] <... read resumed>) = 1\n").problems.size(), 1u);
    EXPECT_EQ(parse("[pid 7 a] read( <unfinished ...>\n[pid 7 a] close(1) = 0\n").problems.size(),
              1u);
    EXPECT_EQ(parse("[pid 7 a] read( <unfinished ...>\n[pid 7 a] <... close resumed>) = 0\n")
                  .problems.size(),
              1u);
}

TEST(Comparison, ImbalanceIsSeen) {
    EXPECT_FALSE(
        parse("gnomon: 9 system calls entered, 7 returned, 1 never return\n").balance.balanced());
    EXPECT_FALSE(
        parse("gnomon: 9 system calls entered, 7 returned, 1 never return, 1 returns LOST\n")
            .balance.balanced());
    EXPECT_FALSE(parse("").balance.balanced());
    const Balance b =
        parse("gnomon: 9 system calls entered, 7 returned, 1 never return, 1 in progress; 3 "
              "returns without an entry\n")
            .balance;
    EXPECT_TRUE(b.balanced());
    EXPECT_EQ(b.unmatched, 3u);
}

// --- the rules, each with what it must not let pass ---

Comparison compare_one(std::string_view theirs, std::string_view ours) {
    const std::string head = "5 getpid() = 5\n", our_head = "[pid 5 x] getpid() = 5\n";
    return compare_texts("4 execve() = 0\n" + head + std::string(theirs),
                         "[pid 4 x] execve() = 0\n" + our_head + std::string(ours));
}

TEST(Rules, LastCallOfADyingTask) {
    EXPECT_TRUE(compare_one("5 read(3,  <unfinished ...>\n5 +++ killed by SIGKILL +++\n",
                            "[pid 5 x] read(3, 0x10, 8) = ?\n[pid 5 x] +++ killed by SIGKILL +++\n")
                    .same());
    EXPECT_TRUE(compare_one("5 read(3,  <unfinished ...>) = ?\n5 +++ killed by SIGKILL +++\n",
                            "[pid 5 x] read(3, 0x10, 8) = ? ERESTARTSYS (To be)\n[pid 5 x] +++ "
                            "killed by SIGKILL +++\n")
                    .same());
    EXPECT_FALSE(
        compare_one("5 read(3,  <unfinished ...>) = ?\n5 +++ killed by SIGKILL +++\n",
                    "[pid 5 x] read(4, 0x10, 8) = 8\n[pid 5 x] +++ killed by SIGKILL +++\n")
            .same());
    EXPECT_FALSE(compare_one("5 pause() = ?\n5 +++ killed by SIGKILL +++\n",
                             "[pid 5 x] getuid() = 0\n[pid 5 x] +++ killed by SIGKILL +++\n")
                     .same());
    EXPECT_FALSE(compare_one("5 pause() = ?\n5 getuid() = 0\n",
                             "[pid 5 x] pause() = 0\n[pid 5 x] getuid() = 0\n")
                     .same());
}

TEST(Rules, CallEnteredWhileDying) {
    EXPECT_TRUE(
        compare_one("5 +++ exited with 1 +++\n",
                    "[pid 5 x] getuid() = -1 ENOSYS (Function)\n[pid 5 x] +++ exited with 1 +++\n")
            .same());
    EXPECT_FALSE(compare_one("5 +++ exited with 1 +++\n",
                             "[pid 5 x] getuid() = 0\n[pid 5 x] +++ exited with 1 +++\n")
                     .same());
}

TEST(Rules, SignalWithoutAHandler) {
    EXPECT_TRUE(compare_one("5 --- SIGCHLD {si_signo=SIGCHLD} ---\n5 getuid() = 0\n",
                            "[pid 5 x] getuid() = 0\n")
                    .same());
    EXPECT_TRUE(compare_one("5 --- SIGSEGV {si_signo=SIGSEGV} ---\n5 +++ killed by SIGSEGV +++\n",
                            "[pid 5 x] +++ killed by SIGSEGV +++\n")
                    .same());
    EXPECT_FALSE(compare_one("5 --- SIGTERM {si_signo=SIGTERM} ---\n5 +++ killed by SIGSEGV +++\n",
                             "[pid 5 x] +++ killed by SIGSEGV +++\n")
                     .same());
    EXPECT_FALSE(compare_one("5 --- SIGUSR1 {si_signo=SIGUSR1} ---\n5 getuid() = 0\n",
                             "[pid 5 x] getuid() = 0\n")
                     .same());
}

TEST(Rules, StraceAsksLate) {
    const std::string ours =
        "[pid 5 x] exit(0) = -1 ENOSYS (Function)\n[pid 5 x] +++ exited with 7 +++\n";
    EXPECT_TRUE(
        compare_one("5 exit_group(7 <unfinished ...>\n5 +++ exited with 7 +++\n", ours).same());
    EXPECT_FALSE(compare_one("5 exit_group(7) = ?\n5 +++ exited with 7 +++\n", ours).same());
    EXPECT_FALSE(compare_one("5 getuid( <unfinished ...>\n5 +++ exited with 7 +++\n",
                             "[pid 5 x] getgid() = 0\n[pid 5 x] +++ exited with 7 +++\n")
                     .same());
    EXPECT_TRUE(
        compare_one("5 getuid() = -1 (errno 18446744073709551557)\n5 +++ exited with 7 +++\n",
                    "[pid 5 x] getuid() = 0\n[pid 5 x] +++ exited with 7 +++\n")
            .same());
    EXPECT_FALSE(compare_one("5 getuid() = -1 (errno 18446744073709551557)\n5 getuid() = 0\n",
                             "[pid 5 x] getuid() = 0\n[pid 5 x] getuid() = 0\n")
                     .same());
}

TEST(Rules, ThreadBeforeItsProcess) {
    EXPECT_TRUE(compare_one("5 exit(4) = ?\n5 +++ killed by SIGKILL +++\n",
                            "[pid 5 x] exit(4) = ?\n[pid 5 x] +++ exited with 4 +++\n")
                    .same());
    EXPECT_TRUE(compare_one("5 exit(4) = ?\n5 +++ exited with 9 +++\n",
                            "[pid 5 x] exit(4) = ?\n[pid 5 x] +++ exited with 4 +++\n")
                    .same());
    EXPECT_FALSE(compare_one("5 exit(4) = ?\n5 +++ exited with 4 +++\n",
                             "[pid 5 x] exit(4) = ?\n[pid 5 x] +++ exited with 9 +++\n")
                     .same());
    EXPECT_FALSE(compare_one("5 exit_group(4) = ?\n5 +++ exited with 9 +++\n",
                             "[pid 5 x] exit_group(4) = ?\n[pid 5 x] +++ exited with 4 +++\n")
                     .same());
}

TEST(Rules, ExecveOfAThreadGoesOnUnderTheFirstThreadsNumber) {
    const TraceFile trace =
        parse("7 execve(\"/a\", [], 0x1 <unfinished ...>\n5 pause( <unfinished ...>\n"
              "5 <... pause resumed>) = ?\n5 +++ superseded by execve in pid 7 +++\n"
              "5 <... execve resumed>) = 0\n");
    ASSERT_TRUE(trace.problems.empty());
    EXPECT_TRUE(trace.tasks.at(7).empty());
    ASSERT_EQ(trace.tasks.at(5).size(), 3u);
    EXPECT_EQ(trace.tasks.at(5)[2].text, "execve(\"/a\", [], 0x1) = 0");
}

// --- tracees ---

TEST(Tracees, AreCompared) {
    const TraceFile trace =
        parse("[pid 9 x] ptrace(PTRACE_TRACEME) = 0\n[pid 9 x] kill(9, SIGSTOP) = 0\n"
              "[pid 9 x] close(1000) = -1 EBADF (Bad file descriptor)\n"
              "[pid 9 x] exit_group(2) = ?\n[pid 9 x] +++ exited with 2 +++\n");
    const auto differences = [&](std::string_view seen) {
        std::istringstream in{std::string(seen)};
        size_t calls = 0;
        return compare_tracees(in, trace, calls).size();
    };
    EXPECT_EQ(differences("9 kill 0\n9 close -1 EBADF\n9 exit_group ?\n"), 0u);
    EXPECT_EQ(differences("9 kill 0\n9 close -1 EIO\n9 exit_group ?\n"), 1u);
    EXPECT_EQ(differences("9 kill 0\n9 exit_group ?\n"), 1u);
    EXPECT_EQ(differences("9 kill 0\n9 close -1 EBADF\n"), 1u);
    EXPECT_EQ(differences("8 kill 0\n"), 1u);
}

} // namespace
} // namespace gnomon::traces
