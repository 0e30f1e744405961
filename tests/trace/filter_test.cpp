// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gnomon::trace::test {
namespace {

Filter parsed(std::string_view text) {
    Result<Filter> filter = Filter::parse(text);
    EXPECT_TRUE(filter) << text << ": " << (filter ? "" : filter.error().message);
    return filter ? *filter : Filter{};
}

bool wants(std::string_view list, std::string_view name, Abi abi = Abi::x86_64) {
    return parsed(list).wants(abi, number_of(abi, name));
}

TEST(Filter, DefaultTakesEverything) {
    const Filter all;
    EXPECT_TRUE(all.wants(Abi::x86_64, 0));
    EXPECT_TRUE(all.wants(Abi::i386, 511));
    EXPECT_TRUE(all.wants(Abi::x86_64, 100000));
    EXPECT_TRUE(all.x86_64_numbers().all());
}

TEST(Filter, Names) {
    EXPECT_TRUE(wants("trace=openat,close", "openat"));
    EXPECT_TRUE(wants("trace=openat,close", "close"));
    EXPECT_FALSE(wants("trace=openat,close", "read"));
    EXPECT_TRUE(wants("openat", "openat"));
    EXPECT_TRUE(wants("t=openat", "openat", Abi::i386));
    EXPECT_EQ(parsed("trace=openat").x86_64_numbers().count(), 1u);
    EXPECT_FALSE(parsed("trace=openat").wants(Abi::x86_64, 99999));
}

TEST(Filter, NumbersOfTheTwoAbisAreApart) {
    EXPECT_TRUE(parsed("trace=read").wants(Abi::x86_64, 0));
    EXPECT_FALSE(parsed("trace=read").wants(Abi::i386, 0));
    EXPECT_TRUE(parsed("trace=read").wants(Abi::i386, 3));
    EXPECT_TRUE(parsed("trace=read@64").wants(Abi::x86_64, 0));
    EXPECT_FALSE(parsed("trace=read@64").wants(Abi::i386, 3));
    EXPECT_FALSE(parsed("trace=read@32").wants(Abi::x86_64, 0));
    EXPECT_TRUE(parsed("trace=0").wants(Abi::x86_64, 0));
    EXPECT_TRUE(parsed("trace=read").wants(Abi::x32, 0 | x32_syscall_bit));
}

TEST(Filter, Negation) {
    EXPECT_FALSE(wants("trace=!openat", "openat"));
    EXPECT_TRUE(wants("trace=!openat", "read"));
    EXPECT_FALSE(wants("!openat,read", "read"));
    EXPECT_TRUE(parsed("trace=!openat").wants(Abi::x86_64, 99999));
    EXPECT_TRUE(parsed("trace=none").x86_64_numbers().none());
    EXPECT_TRUE(parsed("trace=!none").x86_64_numbers().all());
    EXPECT_TRUE(parsed("trace=!all").x86_64_numbers().none());
}

TEST(Filter, Classes) {
    EXPECT_TRUE(wants("trace=%file", "openat"));
    EXPECT_TRUE(wants("trace=file", "openat")) << "strace takes the old form";
    EXPECT_FALSE(wants("trace=%file", "read"));
    EXPECT_TRUE(wants("trace=%desc", "read"));
    EXPECT_TRUE(wants("trace=%process", "execve"));
    EXPECT_TRUE(wants("trace=%net", "connect"));
    EXPECT_TRUE(wants("trace=%network", "connect"));
    EXPECT_TRUE(wants("trace=%signal", "kill"));
    EXPECT_TRUE(wants("trace=%ipc", "shmget"));
    EXPECT_TRUE(wants("trace=%memory", "mmap"));
    EXPECT_TRUE(wants("trace=%stat", "stat"));
    EXPECT_FALSE(wants("trace=%stat", "lstat"));
    EXPECT_TRUE(wants("trace=%%stat", "lstat"));
    EXPECT_TRUE(wants("trace=%statfs", "statfs"));
    EXPECT_TRUE(wants("trace=%%statfs", "ustat"));
    EXPECT_TRUE(wants("trace=%creds", "setuid"));
    EXPECT_TRUE(wants("trace=%clock", "gettimeofday"));
    EXPECT_TRUE(wants("trace=%pure", "getpid"));
    EXPECT_TRUE(wants("trace=%file,read", "read"));
}

TEST(Filter, EveryNameOfAClassExists) {
    // A misspelt name in the classes would never match.
    for (const std::string_view name :
         {"%file", "%desc", "%process", "%network", "%signal", "%ipc", "%memory", "%stat", "%lstat",
          "%fstat", "%%stat", "%statfs", "%fstatfs", "%%statfs", "%creds", "%clock", "%pure"})
        EXPECT_TRUE(parsed(name).x86_64_numbers().any()) << name;
}

TEST(Filter, Regex) {
    EXPECT_TRUE(wants("trace=/^open", "openat"));
    EXPECT_TRUE(wants("trace=/^open", "open_tree"));
    EXPECT_FALSE(wants("trace=/^open", "mq_open"));
    EXPECT_TRUE(wants("trace=/(64|at)$", "pread64"));
    EXPECT_FALSE(parsed("trace=/^syscall_0x|^read$").wants(Abi::x86_64, 500)) << "unknown numbers";
}

TEST(Filter, CallsBehindSocketcall) {
    const TaskId id = task(1, "t");
    Bench b({}, parsed("trace=connect"));
    const u64 args = b.memory.words32({3, 0, 0});
    b.in(id, "socketcall", {3, args}, Abi::i386);
    b.out(id, "socketcall", -9, Abi::i386);
    b.in(id, "socketcall", {4, args}, Abi::i386); // listen
    b.out(id, "socketcall", 0, Abi::i386);
    EXPECT_EQ(b.text(),
              "[pid 1 t] connect(3, NULL, 0)           = -1 EBADF (Bad file descriptor)\n");
    EXPECT_FALSE(wants("trace=read", "socketcall", Abi::i386));
    EXPECT_TRUE(wants("trace=semop", "ipc", Abi::i386));
    EXPECT_TRUE(parsed("trace=socketcall").wants_multiplexed("connect"));
    EXPECT_FALSE(parsed("trace=!connect").wants_multiplexed("connect"));
    EXPECT_TRUE(parsed("trace=%network").wants_multiplexed("recv"));
}

TEST(Filter, UsageErrors) {
    for (const std::string_view bad :
         {"trace=bogus", "trace=%bogus", "trace=", "trace=open,", "trace=,open", "trace=/(",
          "trace=/^zzz", "trace=read@16", "trace=512", "inject=open:error=1", "trace=!"}) {
        const Result<Filter> filter = Filter::parse(bad);
        ASSERT_FALSE(filter) << bad;
        EXPECT_TRUE(filter.error().usage) << bad;
        EXPECT_FALSE(filter.error().message.empty());
    }
    EXPECT_TRUE(Filter::parse("trace=?bogus,read"));
    EXPECT_TRUE(Filter::parse("trace=?%bogus,read"));
}

TEST(Filter, AbsurdExpressionsAreUsageErrors) {
    // regcomp calls itself for each bracket and copies what is repeated: these would exhaust the
    // stack or the memory.
    const std::string brackets(30'000, '(');
    const std::string closed = brackets + "a" + std::string(brackets.size(), ')');
    for (const std::string& bad :
         {brackets, closed, std::string(513, 'a'), std::string("((((a{99}){99}){99}){99})"),
          std::string("a{1001}"), std::string("a{99999999999999999999}"), std::string(64, '+'),
          std::string("(((((((((((a+)+)+)+)+)+)+)+)+)+)+)+")}) {
        const Result<Filter> filter = Filter::parse("trace=/" + bad);
        ASSERT_FALSE(filter) << bad.substr(0, 40);
        EXPECT_TRUE(filter.error().usage);
        EXPECT_LT(filter.error().message.size(), 300U);
    }
    EXPECT_TRUE(wants("trace=/^o{1}pe{1}n$", "open"));
    EXPECT_TRUE(wants("trace=/^(open|close)(at){0}$", "close"));
}

} // namespace
} // namespace gnomon::trace::test
