// SPDX-License-Identifier: Apache-2.0
/// Memory that is absent when a call is made, and tasks that become others: found by comparing
/// whole traces with strace's inside the guest (tests/traces).
#include "fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::trace::test {
namespace {

using ::testing::HasSubstr;

constexpr u64 path_at = 0x700000;
const TaskId shell = task(57, "sh");
const TaskId list = task(58, "ls");

TraceOptions unaligned() {
    TraceOptions options;
    options.align_column = 0;
    return options;
}
TraceOptions as_json() {
    TraceOptions options;
    options.json = true;
    return options;
}

TEST(Absent, IsReadWhenTheCallReturns) {
    Bench b(unaligned());
    b.in(shell, "openat", {static_cast<u64>(-100), path_at, 0});
    b.memory.put_at(path_at, std::string("/etc/passwd\0", 12));
    b.out(shell, "openat", 3);
    EXPECT_EQ(b.text(), "[pid 57 sh] openat(AT_FDCWD, \"/etc/passwd\", O_RDONLY) = 3\n");
}

TEST(Absent, IsReadWhenAnInterruptedCallReturns) {
    Bench b(unaligned());
    const u64 request = 0x700000, left = 0x800000;
    b.in(shell, "nanosleep", {request, left});
    b.in(list, "getpid");
    b.out(list, "getpid", 58);
    b.memory.put_at(request, std::string(16, '\0'));
    b.memory.put_at(left, std::string(16, '\0'));
    b.out(shell, "nanosleep", 0);
    EXPECT_EQ(b.text(),
              "[pid 57 sh] nanosleep( <unfinished ...>\n"
              "[pid 58 ls] getpid() = 58\n"
              "[pid 57 sh] <... nanosleep resumed>{tv_sec=0, tv_nsec=0}, 0x800000) = 0\n");
}

TEST(Absent, StaysAnAddressIfItNeverComes) {
    Bench b(unaligned());
    b.in(shell, "openat", {static_cast<u64>(-100), path_at, 0});
    b.out(shell, "openat", -14);
    b.in(list, "openat", {static_cast<u64>(-100), path_at, 0});
    b.ended(list, 9);
    EXPECT_EQ(b.text(),
              "[pid 57 sh] openat(AT_FDCWD, 0x700000, O_RDONLY) = -1 EFAULT (Bad address)\n"
              "[pid 58 ls] openat(AT_FDCWD, 0x700000, O_RDONLY) = ?\n"
              "[pid 58 ls] +++ killed by SIGKILL +++\n");
    EXPECT_TRUE(b.tracer.counters().balanced());
}

TEST(Absent, OfExecveIsReadBeforeTheProgramIsReplaced) {
    Bench b(unaligned());
    const u64 argv = b.memory.words({path_at, 0}), envp = b.memory.words({0});
    b.in(shell, "execve", {path_at, argv, envp});
    b.memory.put_at(path_at, std::string("/bin/ls\0", 8));
    b.tracer.on_exec(shell, b.memory);
    FakeMemory after;
    b.tracer.on_exit(leave(shell, "execve", 0), after);
    EXPECT_EQ(
        b.text(),
        fmt::format("[pid 57 sh] execve(\"/bin/ls\", [\"/bin/ls\"], {:#x} /* 0 vars */) = 0\n",
                    envp));
}

TEST(Absent, InJson) {
    Bench b(as_json());
    b.in(shell, "openat", {static_cast<u64>(-100), path_at, 0});
    b.memory.put_at(path_at, std::string("/etc/passwd\0", 12));
    b.out(shell, "openat", 3);
    EXPECT_THAT(b.text(),
                HasSubstr(R"({"name":"pathname","type":"const char*","value":"/etc/passwd"},)"
                          R"({"name":"flags","type":"int","value":"O_RDONLY"})"));
    EXPECT_EQ(b.text().find("0x700000"), std::string::npos);
}

// --- execve outside the first thread ---

/// A thread of process 57, and what it is once its execve has put it in the first one's place.
TaskId thread_of_57() {
    TaskId id = task(60, "worker");
    id.tgid = 57;
    id.generation = 9;
    return id;
}
TaskId thread_as_57() {
    TaskId id = thread_of_57();
    id.pid = 57;
    id.generation = shell.generation;
    return id;
}

void exec_in_thread(Bench& b) {
    const u64 path = b.memory.text("/bin/ls"), argv = b.memory.words({path, 0});
    b.in(shell, "pause");
    b.in(thread_of_57(), "execve", {path, argv, 0});
    b.tracer.on_exec(thread_of_57(), b.memory);
    b.out(shell, "pause", -514);
    b.ended(shell, 0);
}

TEST(Superseded, ByAThreadsExecve) {
    Bench b(unaligned());
    exec_in_thread(b);
    b.out(thread_as_57(), "execve", 0);
    EXPECT_EQ(
        b.text(),
        "[pid 57 sh] pause( <unfinished ...>\n"
        "[pid 60 worker] execve(\"/bin/ls\", [\"/bin/ls\"], NULL <unfinished ...>\n"
        "[pid 57 sh] <... pause resumed>) = ? ERESTARTNOHAND (To be restarted if no handler)\n"
        "[pid 57 worker] +++ superseded by execve in pid 60 +++\n"
        "[pid 57 worker] <... execve resumed>) = 0\n");
    const CallCounters c = b.tracer.counters();
    EXPECT_EQ(c.in_progress, 0u);
    EXPECT_EQ(c.unmatched_returns, 0u);
    EXPECT_TRUE(c.balanced());
}

TEST(Superseded, AndKilledBeforeTheExecveReturns) {
    Bench b;
    exec_in_thread(b);
    b.ended(thread_as_57(), 9);
    EXPECT_THAT(b.text(), HasSubstr("[pid 57 worker] +++ killed by SIGKILL +++"));
    const CallCounters c = b.tracer.counters();
    EXPECT_EQ(c.never_return, 1u);
    EXPECT_EQ(c.in_progress, 0u);
    EXPECT_TRUE(c.balanced());
}

TEST(Superseded, NotByAnExecveThatFails) {
    Bench b;
    const u64 path = b.memory.text("/bin/ls");
    b.in(thread_of_57(), "execve", {path, 0, 0});
    b.tracer.on_exec(thread_of_57(), b.memory);
    b.out(thread_of_57(), "execve", -8);
    b.ended(shell, 0);
    EXPECT_THAT(b.text(), HasSubstr("[pid 57 sh] +++ exited with 0 +++"));
    EXPECT_TRUE(b.tracer.counters().balanced());
}

// --- numbers that mean another call elsewhere ---

TEST(ChildReturn, IsNoneIfTheTaskIsInACall) {
    // i386's setpgid has the number of x86-64's fork, and INT 0x80 may come from 64-bit code.
    Bench b(unaligned());
    b.in(shell, "setpgid", {0, 0}, Abi::i386);
    SyscallExit event = leave(shell, "setpgid", 0, Abi::i386);
    event.abi = Abi::x86_64;
    event.child_return = true;
    b.tracer.on_exit(event, b.memory);
    EXPECT_EQ(b.text(), "[pid 57 sh] setpgid(0, 0) = 0\n");
    EXPECT_EQ(b.tracer.counters().child_returns, 0u);
    EXPECT_EQ(b.tracer.counters().returned, 1u);
}

TEST(Numbers, AreSigned) {
    Bench b(unaligned());
    SyscallEnter event = enter(shell, "getpid", {}, Abi::i386);
    event.number = ~u64{0};
    b.tracer.on_enter(event, b.memory);
    EXPECT_THAT(b.text(), HasSubstr("syscall_0xffffffffffffffff("));
}

// --- forms ---

TEST(Forms, ProcessorTimeOfSigchld) {
    Bench b;
    SignalDelivered event;
    event.task = shell;
    event.signo = 17;
    event.code = 1;
    event.pid = 58;
    event.utime = 0;
    event.stime = 123;
    b.tracer.on_signal(event);
    EXPECT_THAT(b.text(), HasSubstr("si_utime=0, si_stime=123 /* 1.23 s */}"));
}

TEST(Forms, CallOfSigsys) {
    Bench b;
    SignalDelivered event;
    event.task = shell;
    event.signo = 31;
    event.code = 1;
    event.syscall = 110;
    event.arch = 0xc000003e;
    b.tracer.on_signal(event);
    EXPECT_THAT(b.text(), HasSubstr("si_syscall=__NR_getppid, si_arch=AUDIT_ARCH_X86_64"));
}

TEST(Forms, Ptrace) {
    FakeMemory m;
    const u64 word = m.object(u64{0x6e});
    EXPECT_EQ(line(m, "ptrace", {3, 58, 120, word}, 0),
              "ptrace(PTRACE_PEEKUSER, 58, 8*ORIG_RAX, [0x6e]) = 0");
    EXPECT_EQ(line(m, "ptrace", {6, 58, 4, 1}, -3),
              "ptrace(PTRACE_POKEUSER, 58, 8*R15+4, 0x1) = -1 ESRCH (No such process)");
    EXPECT_EQ(line(m, "ptrace", {6, 58, ~u64{7}, 1}, -3),
              "ptrace(PTRACE_POKEUSER, 58, 0xfffffffffffffff8, 0x1) = -1 ESRCH (No such process)");
    EXPECT_EQ(line(m, "ptrace", {0x4200, 58, 0, 0x100001}, 0),
              "ptrace(PTRACE_SETOPTIONS, 58, NULL, PTRACE_O_TRACESYSGOOD|PTRACE_O_EXITKILL) = 0");
    EXPECT_EQ(line(m, "ptrace", {12, 58, 1, 2}, 0), "ptrace(PTRACE_GETREGS, 58, 0x2) = 0");
}

TEST(Forms, MessagesAreShownAsLongAsTheirBuffer) {
    FakeMemory m;
    const u64 message = m.put(std::string("\7\0\0\0\0\0\0\0ab\0\0", 12));
    EXPECT_EQ(line(m, "msgrcv", {0, message, 4, 0, 0}, 2),
              "msgrcv(0, {mtype=7, mtext=\"ab\\0\\0\"}, 4, 0, 0) = 2");
}

} // namespace
} // namespace gnomon::trace::test
