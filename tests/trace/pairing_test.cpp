// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::trace::test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

const TaskId shell = task(57, "sh");
const TaskId list = task(58, "ls");

TEST(Pairing, OneLinePerCall) {
    Bench b;
    const u64 path = b.memory.text("/etc/passwd");
    b.in(shell, "openat", {static_cast<u64>(-100), path, 0});
    b.out(shell, "openat", 3);
    b.in(shell, "getpid");
    b.out(shell, "getpid", 57);
    EXPECT_EQ(b.text(), "[pid 57 sh] openat(AT_FDCWD, \"/etc/passwd\", O_RDONLY) = 3\n"
                        "[pid 57 sh] getpid()                    = 57\n");
}

TEST(Pairing, UnfinishedAndResumed) {
    Bench b;
    const u64 status = b.memory.object(i32{0});
    b.in(shell, "wait4", {~u64{0}, status, 0, 0});
    b.in(list, "getpid");
    b.out(list, "getpid", 58);
    b.in(list, "exit_group", {3});
    b.ended(list, 3 << 8);
    const u32 exited = 3 << 8;
    b.memory.put_at(status, {reinterpret_cast<const char*>(&exited), 4});
    b.out(shell, "wait4", 58);
    EXPECT_EQ(
        b.text(),
        "[pid 57 sh] wait4(-1,  <unfinished ...>\n"
        "[pid 58 ls] getpid()                    = 58\n"
        "[pid 58 ls] exit_group(3)               = ?\n"
        "[pid 58 ls] +++ exited with 3 +++\n"
        "[pid 57 sh] <... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 58\n");
    const CallCounters c = b.tracer.counters();
    EXPECT_EQ(c.entered, 3u);
    EXPECT_EQ(c.returned, 2u);
    EXPECT_EQ(c.never_return, 1u);
    EXPECT_TRUE(c.balanced());
}

TEST(Pairing, KilledInsideACall) {
    Bench b;
    b.in(shell, "read", {0, 0x1000, 1});
    b.in(list, "pause");
    b.ended(shell, 9);
    b.ended(list, 11 | 0x80);
    EXPECT_EQ(b.text(), "[pid 57 sh] read(0,  <unfinished ...>\n"
                        "[pid 58 ls] pause( <unfinished ...>\n"
                        "[pid 57 sh] <... read resumed> <unfinished ...>) = ?\n"
                        "[pid 57 sh] +++ killed by SIGKILL +++\n"
                        "[pid 58 ls] <... pause resumed>)        = ?\n"
                        "[pid 58 ls] +++ killed by SIGSEGV (core dumped) +++\n");
    EXPECT_EQ(b.tracer.counters().never_return, 2u);
    EXPECT_TRUE(b.tracer.counters().balanced());
}

TEST(Pairing, ExitInterruptedByAnother) {
    Bench b;
    b.in(shell, "exit_group", {0});
    b.in(list, "getpid");
    b.out(list, "getpid", 58);
    b.ended(shell, 0);
    EXPECT_THAT(b.text(), HasSubstr("exit_group(0 <unfinished ...>\n"));
    EXPECT_THAT(b.text(), EndsWith("[pid 57 sh] <... exit_group resumed>)   = ?\n"
                                   "[pid 57 sh] +++ exited with 0 +++\n"));
}

TEST(Pairing, ExecveKeepsTheTaskAndChangesTheName) {
    Bench b;
    const u64 path = b.memory.text("/bin/ls");
    const u64 argv = b.memory.words({b.memory.text("ls"), b.memory.text("-l"), 0});
    const u64 envp = b.memory.words({path, path, 0});
    b.in(shell, "execve", {path, argv, envp});
    TaskId renamed = shell;
    renamed.comm = "ls";
    FakeMemory gone; // the new image
    b.tracer.on_exit(leave(renamed, "execve", 0), gone);
    b.in(renamed, "brk", {0});
    b.out(renamed, "brk", 0x555500000000);
    EXPECT_EQ(
        b.text(),
        fmt::format("[pid 57 sh] execve(\"/bin/ls\", [\"ls\", \"-l\"], {:#x} /* 2 vars */) = 0\n"
                    "[pid 57 ls] brk(NULL)                   = 0x555500000000\n",
                    envp));
    EXPECT_TRUE(b.tracer.counters().balanced());
}

TEST(Pairing, FailedExecve) {
    Bench b;
    const u64 path = b.memory.text("/nope");
    b.in(shell, "execve", {path, 0, 0});
    b.out(shell, "execve", -2);
    EXPECT_EQ(
        b.text(),
        "[pid 57 sh] execve(\"/nope\", NULL, NULL) = -1 ENOENT (No such file or directory)\n");
}

TEST(Pairing, ChildReturnsAreCountedApart) {
    Bench b;
    b.in(shell, "clone", {17, 0, 0, 0, 0});
    SyscallExit child = leave(list, "clone", 0);
    child.child_return = true;
    b.tracer.on_exit(child, b.memory);
    b.tracer.on_exit(leave(task(59), "fork", 0), b.memory); // not flagged, but plain
    b.out(shell, "clone", 58);
    const CallCounters c = b.tracer.counters();
    EXPECT_EQ(c.child_returns, 2u);
    EXPECT_EQ(c.unmatched_returns, 0u);
    EXPECT_EQ(c.returned, 1u);
    EXPECT_TRUE(c.balanced());
    EXPECT_EQ(b.text(), "[pid 57 sh] clone(child_stack=NULL, flags=SIGCHLD) = 58\n");
}

TEST(Pairing, ReturnWithoutEntry) {
    Bench b;
    b.out(shell, "read", 5);
    EXPECT_EQ(b.text(), "");
    EXPECT_EQ(b.tracer.counters().unmatched_returns, 1u);
    EXPECT_TRUE(b.tracer.counters().balanced());
}

TEST(Pairing, LostReturnIsToldAndUnbalances) {
    Bench b;
    b.in(shell, "getpid");
    b.in(shell, "getuid");
    b.out(shell, "getuid", 0);
    EXPECT_EQ(b.text(), "[pid 57 sh] getpid( <unfinished ...>\n"
                        "[pid 57 sh] getuid()                    = 0\n");
    EXPECT_EQ(b.tracer.counters().lost_returns, 1u);
    EXPECT_FALSE(b.tracer.counters().balanced());
    ASSERT_TRUE(b.tracer.finish());
    EXPECT_THAT(b.text(), HasSubstr("1 returns LOST"));
}

TEST(Pairing, ReusedTaskPointerIsAnotherTask) {
    Bench b;
    TaskId reused = shell;
    reused.generation = shell.generation + 1;
    reused.pid = 99;
    b.in(shell, "pause");
    b.out(reused, "pause", -4);
    EXPECT_EQ(b.tracer.counters().unmatched_returns, 1u);
    EXPECT_EQ(b.tracer.counters().in_progress, 1u);
}

TEST(Pairing, WithoutKernelKnowledge) {
    Bench b;
    TaskId unknown;
    unknown.key = 0x1234000;
    // Two threads share the address space.
    b.tracer.on_enter(enter(unknown, "read", {0, 0x1000, 4}), b.memory);
    b.tracer.on_enter(enter(unknown, "getpid"), b.memory);
    b.tracer.on_exit(leave(unknown, "getpid", 5), b.memory);
    b.tracer.on_exit(leave(unknown, "read", -11), b.memory);
    b.tracer.on_enter(enter(unknown, "exit_group", {0}), b.memory);
    EXPECT_EQ(b.text(),
              "[cr3 0x1234000] read(0,  <unfinished ...>\n"
              "[cr3 0x1234000] getpid()                = 5\n"
              "[cr3 0x1234000] <... read resumed>0x1000, 4) = -1 EAGAIN (Resource temporarily "
              "unavailable)\n"
              "[cr3 0x1234000] exit_group(0)           = ?\n");
    const CallCounters c = b.tracer.counters();
    EXPECT_EQ(c.never_return, 1u);
    EXPECT_TRUE(c.balanced());
}

TEST(Pairing, Restarts) {
    Bench b;
    b.in(shell, "pause");
    b.out(shell, "pause", -514);
    b.in(shell, "read", {0, 0x1000, 1});
    b.out(shell, "read", -512);
    b.in(shell, "nanosleep", {0x1000, 0});
    b.out(shell, "nanosleep", -516);
    b.in(shell, "restart_syscall");
    b.out(shell, "restart_syscall", 0);
    b.in(shell, "getpid");
    b.out(shell, "getpid", -513);
    EXPECT_EQ(b.text(),
              "[pid 57 sh] pause()                     = ? ERESTARTNOHAND (To be restarted if no "
              "handler)\n"
              "[pid 57 sh] read(0, 0x1000, 1)          = ? ERESTARTSYS (To be restarted if "
              "SA_RESTART is set)\n"
              "[pid 57 sh] nanosleep(0x1000, NULL)     = ? ERESTART_RESTARTBLOCK (Interrupted by "
              "signal)\n"
              "[pid 57 sh] restart_syscall(<... resuming interrupted nanosleep ...>) = 0\n"
              "[pid 57 sh] getpid()                    = ? ERESTARTNOINTR (To be restarted)\n");
}

TEST(Pairing, Signals) {
    Bench b;
    SignalDelivered s;
    s.task = shell;
    s.signo = 17;
    s.code = 1;
    s.pid = 58;
    s.status = 3;
    b.tracer.on_signal(s);
    s.code = 2;
    s.status = 9;
    b.tracer.on_signal(s);
    s.signo = 11;
    s.code = 1;
    s.address = 0;
    b.tracer.on_signal(s);
    s.signo = 10;
    s.code = 0;
    s.pid = 5;
    b.tracer.on_signal(s);
    s.signo = 34;
    s.code = -2;
    b.tracer.on_signal(s);
    EXPECT_EQ(
        b.text(),
        "[pid 57 sh] --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=58, si_uid=0, "
        "si_status=3, si_utime=0, si_stime=0} ---\n"
        "[pid 57 sh] --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_KILLED, si_pid=58, si_uid=0, "
        "si_status=SIGKILL, si_utime=0, si_stime=0} ---\n"
        "[pid 57 sh] --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL} ---\n"
        "[pid 57 sh] --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=5, si_uid=0} ---\n"
        "[pid 57 sh] --- SIGRT_2 {si_signo=SIGRT_2, si_code=SI_TIMER, si_timerid=0, si_overrun=0, "
        "si_int=0, si_ptr=NULL} ---\n");
}

TEST(Pairing, SignalInterruptsAnOpenLine) {
    Bench b;
    b.in(shell, "pause");
    SignalDelivered s;
    s.task = list;
    s.signo = 15;
    b.tracer.on_signal(s);
    EXPECT_THAT(b.text(), HasSubstr("pause( <unfinished ...>\n[pid 58 ls] --- SIGTERM"));
}

TEST(Pairing, CommandNamesAreHarmless) {
    Bench b;
    const TaskId evil = task(9, "x] \n[pid 1");
    b.in(evil, "getpid");
    b.out(evil, "getpid", 9);
    EXPECT_EQ(b.text(), "[pid 9 x\\135 \\012[pid 1] getpid()       = 9\n");
}

TEST(Pairing, FilterCountsWhatItHides) {
    Bench b({}, *Filter::parse("trace=getuid"));
    b.in(shell, "getpid");
    b.out(shell, "getpid", 57);
    b.in(shell, "getuid");
    b.out(shell, "getuid", 0);
    b.in(shell, "exit_group", {0});
    b.ended(shell, 0);
    EXPECT_EQ(b.text(), "[pid 57 sh] getuid()                    = 0\n"
                        "[pid 57 sh] +++ exited with 0 +++\n");
    EXPECT_EQ(b.tracer.counters().entered, 3u);
    EXPECT_TRUE(b.tracer.counters().balanced());
}

TEST(Pairing, SummaryLine) {
    Bench b;
    b.in(shell, "getpid");
    b.out(shell, "getpid", 57);
    b.in(shell, "pause");
    ASSERT_TRUE(b.tracer.finish());
    EXPECT_THAT(b.text(),
                EndsWith("pause( <unfinished ...>\n"
                         "gnomon: 2 system calls entered, 1 returned, 0 never return, 1 in "
                         "progress\n"));
}

TEST(Pairing, Timestamps) {
    TraceOptions o;
    o.timestamps = TimestampStyle::microseconds;
    o.utc = true;
    o.duration = true;
    o.relative = true;
    Bench b(o);
    SyscallEnter e = enter(shell, "getpid");
    e.timestamp_ns = 1'700'000'000'123'456'789;
    b.tracer.on_enter(e, b.memory);
    SyscallExit x = leave(shell, "getpid", 57);
    x.timestamp_ns = e.timestamp_ns + 42'000;
    b.tracer.on_exit(x, b.memory);
    e.timestamp_ns += 1'000'000;
    b.tracer.on_enter(e, b.memory);
    EXPECT_EQ(b.text(), "[pid 57 sh] 22:13:20.123456 (+     0.000000) getpid() = 57 <0.000042>\n"
                        "[pid 57 sh] 22:13:20.124456 (+     0.001000) getpid(");

    o = {};
    o.timestamps = TimestampStyle::epoch;
    Bench c(o);
    c.tracer.on_enter(e, c.memory);
    EXPECT_THAT(c.text(), HasSubstr("[pid 57 sh] 1700000000.124456 getpid("));
    o.timestamps = TimestampStyle::seconds;
    o.utc = true;
    Bench d(o);
    d.tracer.on_enter(e, d.memory);
    EXPECT_THAT(d.text(), HasSubstr("[pid 57 sh] 22:13:20 getpid("));
}

TEST(Summary, Table) {
    TraceOptions o;
    o.summary = true;
    Bench b(o);
    const auto call = [&](std::string_view name, i64 result, u64 spent) {
        SyscallEnter e = enter(shell, name);
        e.timestamp_ns = 1000;
        b.tracer.on_enter(e, b.memory);
        SyscallExit x = leave(shell, name, result);
        x.timestamp_ns = 1000 + spent;
        b.tracer.on_exit(x, b.memory);
    };
    call("getpid", 5, 1'000'000);
    call("getpid", 5, 2'000'000);
    call("open", -2, 9'000'000);
    ASSERT_TRUE(b.tracer.finish());
    EXPECT_EQ(b.text(), "% time     seconds  usecs/call     calls    errors syscall\n"
                        "------ ----------- ----------- --------- --------- ----------------\n"
                        " 75.00    0.009000        9000         1         1 open\n"
                        " 25.00    0.003000        1500         2           getpid\n"
                        "------ ----------- ----------- --------- --------- ----------------\n"
                        "100.00    0.012000        4000         3         1 total\n"
                        "gnomon: 3 system calls entered, 3 returned, 0 never return\n");
}

// Calls told as sums and calls told one by one are one table.
TEST(Summary, TakesSums) {
    TraceOptions o;
    o.summary = true;
    Bench b(o);
    SyscallEnter e = enter(shell, "getpid");
    e.timestamp_ns = 1000;
    b.tracer.on_enter(e, b.memory);
    SyscallExit x = leave(shell, "getpid", 5);
    x.timestamp_ns = 1'001'000;
    b.tracer.on_exit(x, b.memory);
    b.tracer.on_summed({e.number, 3, 1, 5'000'000});
    b.tracer.on_summed({0x1ff, 1, 0, 3'000'000});
    ASSERT_TRUE(b.tracer.finish());
    EXPECT_EQ(b.text(), "% time     seconds  usecs/call     calls    errors syscall\n"
                        "------ ----------- ----------- --------- --------- ----------------\n"
                        " 66.67    0.006000        1500         4         1 getpid\n"
                        " 33.33    0.003000        3000         1           syscall_0x1ff\n"
                        "------ ----------- ----------- --------- --------- ----------------\n"
                        "100.00    0.009000        1800         5         1 total\n"
                        "gnomon: 5 system calls entered, 5 returned, 0 never return\n");
    EXPECT_TRUE(b.tracer.counters().balanced());
}

class FailingSink final : public Sink {
public:
    Result<> write(std::string_view) override {
        ++writes;
        return fail("cannot write the trace: disk full");
    }
    Result<> flush() override { return {}; }
    int writes = 0;
};

TEST(Sinks, ErrorIsReportedOnce) {
    FailingSink sink;
    FakeMemory memory;
    Tracer tracer({}, {}, sink);
    for (int i = 0; i < 10; ++i) {
        tracer.on_enter(enter(shell, "getpid"), memory);
        tracer.on_exit(leave(shell, "getpid", 1), memory);
    }
    EXPECT_EQ(sink.writes, 1);
    ASSERT_TRUE(tracer.error());
    const Result<> end = tracer.finish();
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().message, "cannot write the trace: disk full");
    EXPECT_TRUE(tracer.counters().balanced()) << "counting goes on";
}

TEST(Sinks, FullDiskAndMissingFolder) {
    Result<std::unique_ptr<FileSink>> full = FileSink::open("/dev/full");
    ASSERT_TRUE(full);
    ASSERT_TRUE((*full)->write("x"));
    const Result<> flushed = (*full)->flush();
    ASSERT_FALSE(flushed);
    EXPECT_THAT(flushed.error().message, HasSubstr("/dev/full"));
    EXPECT_TRUE((*full)->flush()) << "told once";
    const auto missing = FileSink::open("/nonexistent/x");
    ASSERT_FALSE(missing);
    EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent/x"));
}

} // namespace
} // namespace gnomon::trace::test
