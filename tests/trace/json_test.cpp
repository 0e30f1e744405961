// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include "trace/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::trace::test {
namespace {

using ::testing::HasSubstr;

TraceOptions json() {
    TraceOptions o;
    o.json = true;
    return o;
}

TEST(Json, Call) {
    Bench b(json());
    const u64 path = b.memory.text("/etc/\xff\"x");
    SyscallEnter e = enter(task(57), "openat", {static_cast<u64>(-100), path, 0x80000});
    e.timestamp_ns = 1000;
    b.tracer.on_enter(e, b.memory);
    SyscallExit x = leave(task(57), "openat", 3);
    x.timestamp_ns = 1500;
    x.cpu = 2;
    b.tracer.on_exit(x, b.memory);
    EXPECT_EQ(
        b.text(),
        R"({"timestamp":1000,"processId":57,"threadId":57,"parentProcessId":1,"processName":"sh",)"
        R"("cpu":2,"eventName":"openat","args":[{"name":"dirfd","type":"int","value":"AT_FDCWD"},)"
        R"({"name":"pathname","type":"const char*","value":"/etc/\u00ff\"x"},)"
        R"({"name":"flags","type":"int","value":"O_RDONLY|O_CLOEXEC"}],)"
        R"("returnValue":3,"abi":"x86_64","durationNs":500})"
        "\n");
}

TEST(Json, ArgumentsOfBothPhases) {
    Bench b(json());
    b.in(task(57), "read", {3, b.memory.put("abc"), 10});
    b.out(task(57), "read", 3);
    EXPECT_THAT(
        b.text(),
        HasSubstr(R"("args":[{"name":"fd","type":"int","value":3},)"
                  R"({"name":"buf","type":"void*","value":"abc"},)"
                  R"({"name":"count","type":"unsigned long","value":10}],"returnValue":3)"));
    Bench c(json());
    c.in(task(57), "clone", {0x1200011, 0, 0, 0x1a10, 0});
    c.out(task(57), "clone", 58);
    EXPECT_THAT(c.text(), HasSubstr(R"("value":"child_stack=NULL"})"));
    EXPECT_THAT(c.text(),
                HasSubstr(R"("value":"flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"})"));
    EXPECT_THAT(c.text(), HasSubstr(R"("value":"child_tidptr=0x1a10"}])"));
    Bench d(json());
    d.in(task(57), "fcntl", {4, 3});
    d.out(task(57), "fcntl", 2);
    EXPECT_THAT(d.text(),
                HasSubstr(R"({"name":"cmd","type":"int","value":"F_GETFL"}],"returnValue":2)"));
}

TEST(Json, Errors) {
    Bench b(json());
    b.in(task(57), "close", {9});
    b.out(task(57), "close", -9);
    EXPECT_THAT(b.text(), HasSubstr(R"("returnValue":-9,"errno":"EBADF","abi":"x86_64")"));
}

TEST(Json, EventsThatAreNoCalls) {
    Bench b(json());
    b.in(task(57), "exit_group", {3});
    b.ended(task(57), 3 << 8);
    SignalDelivered s;
    s.task = task(58);
    s.signo = 15;
    b.tracer.on_signal(s);
    ASSERT_TRUE(b.tracer.finish());
    EXPECT_THAT(b.text(),
                HasSubstr(R"("eventName":"exit_group","args":[{"name":"status","type":"int",)"
                          R"("value":3}],"returnValue":null)"));
    EXPECT_THAT(b.text(),
                HasSubstr(R"("eventName":"task_exited","args":[{"name":"exit_code","type":"int",)"
                          R"("value":3}]})"));
    EXPECT_THAT(b.text(),
                HasSubstr(R"("eventName":"signal_delivered","args":[{"name":"sig","type":"int",)"
                          R"("value":"SIGTERM"})"));
    EXPECT_THAT(
        b.text(),
        HasSubstr(R"({"eventName":"trace_ended","entered":1,"returned":0,"neverReturn":1,)"));
    EXPECT_THAT(b.text(), HasSubstr(R"("balanced":true})"));
}

// Text has their lines when they are entered; an object comes with the return, or when there will
// be none.
TEST(Json, CallsWithoutAReturnAreReportedTooOnce) {
    Bench b(json());
    b.tracer.on_enter(enter(task(1), "getpid"), b.memory); // its return is lost
    b.tracer.on_enter(enter(task(1), "getppid"), b.memory);
    b.tracer.on_enter(enter(task(2), "pause"), b.memory);
    b.tracer.on_exit(leave(task(1), "getppid", 7), b.memory);
    b.tracer.on_enter(enter(task(3), "gettid"), b.memory);
    ASSERT_TRUE(b.tracer.finish());
    const std::string text = b.text();
    std::vector<std::string> seen;
    for (size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
        const std::string line = text.substr(at, end - at);
        for (const char* name : {"getpid", "getppid", "pause", "gettid", "trace_ended"})
            if (line.find(fmt::format(R"("eventName":"{}")", name)) != std::string::npos)
                seen.emplace_back(name);
        if (line.find(R"("returnValue":null)") != std::string::npos) seen.back() += '?';
    }
    EXPECT_EQ(seen,
              (std::vector<std::string>{"getpid?", "getppid", "pause?", "gettid?", "trace_ended"}));
}

TEST(Json, WithoutKernelKnowledge) {
    Bench b(json());
    TaskId unknown;
    unknown.key = 0x1234000;
    b.tracer.on_enter(enter(unknown, "getpid"), b.memory);
    b.tracer.on_exit(leave(unknown, "getpid", 5), b.memory);
    EXPECT_THAT(b.text(), HasSubstr(R"("addressSpace":"0x1234000")"));
}

} // namespace
} // namespace gnomon::trace::test
