// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/task.h"

#include "fake_memory.h"
#include "image_builder.h"
#include "mutation.h"

#include <gtest/gtest.h>

namespace gnomon::guest::linux_::test {
namespace {

constexpr Gva task(0xffff'8880'0400'0000);
constexpr Gva parent(0xffff'8880'0410'0000);
constexpr Gva pid(0xffff'8880'0420'0000);
constexpr Gva gs_base(0xffff'8880'3fc0'0000);

class TaskReaderTest : public testing::Test {
protected:
    void SetUp() override {
        auto learnt = KernelInfo::from_vmlinux(small_kernel());
        ASSERT_TRUE(learnt);
        info = std::move(*learnt);
        memory.map(task);
        memory.map(parent);
        memory.map(pid);
        put_task(task, 1234, 1230, "a name");
        put_task(parent, 7, 6, "parent");
        memory.write(task + *info.task.real_parent, parent.value());
        memory.write(task + *info.task.group_leader, parent.value());
        memory.write(task + *info.task.start_time, u64{123456789});
        memory.write(task + *info.task.mm, u64{0xffff'8880'0500'0000});
        memory.write(gs_base + info.current_task->value, task.value());
    }
    void put_task(Gva at, i32 thread, i32 process, std::string_view comm) {
        memory.write(at + *info.task.pid, thread);
        memory.write(at + *info.task.tgid, process);
        memory.write(at + *info.task.comm, std::array<char, 16>{});
        memory.write_text(at + *info.task.comm, comm);
    }
    [[nodiscard]] TaskReader reader() const { return *TaskReader::create(info, 0); }

    KernelInfo info;
    FakeMemory memory;
};

TEST_F(TaskReaderTest, IdentifiesTheCurrentTask) {
    const auto current = reader().current(memory, gs_base);
    ASSERT_EQ(current, task);
    const auto identity = reader().identify(memory, *current);
    ASSERT_TRUE(identity);
    EXPECT_EQ(identity->task, task);
    EXPECT_EQ(identity->pid, 1234);
    EXPECT_EQ(identity->tgid, 1230);
    EXPECT_EQ(identity->ppid, 6) << "the parent's process, not its thread";
    EXPECT_EQ(identity->comm, "a name");
    EXPECT_EQ(identity->start_time, 123456789u);
    EXPECT_FALSE(identity->namespace_pid);
    EXPECT_FALSE(identity->kernel_thread);
}

TEST_F(TaskReaderTest, SeesANewNameAtOnce) {
    memory.write_text(task + *info.task.comm, std::string_view("sh\0", 3));
    EXPECT_EQ(reader().identify(memory, task)->comm, "sh");
    memory.write_text(task + *info.task.comm, "0123456789abcdefgh");
    EXPECT_EQ(reader().identify(memory, task)->comm, "0123456789abcde")
        << "never more than 15 bytes";
}

TEST_F(TaskReaderTest, NumbersInsideAPidNamespace) {
    memory.write(task + *info.task.thread_pid, pid.value());
    memory.write(parent + *info.task.thread_pid, pid.value());
    memory.write(pid + *info.pid.level, u32{0});
    EXPECT_FALSE(reader().identify(memory, task)->namespace_pid) << "the initial namespace";
    memory.write(pid + *info.pid.level, u32{2});
    memory.write(pid + (*info.pid.numbers + 2 * *info.pid.upid_bytes), i32{42});
    EXPECT_EQ(reader().identify(memory, task)->namespace_pid, 42);
    EXPECT_EQ(reader().identify(memory, task)->namespace_tgid, 42);
    memory.write(pid + *info.pid.level, u32{0xffffffff});
    EXPECT_FALSE(reader().identify(memory, task)->namespace_pid);
}

TEST_F(TaskReaderTest, ATaskWithoutAUserAddressSpaceIsAKernelThread) {
    memory.write(task + *info.task.mm, u64{0});
    EXPECT_TRUE(reader().identify(memory, task)->kernel_thread);
}

TEST_F(TaskReaderTest, WhatCannotBeATaskIsNone) {
    EXPECT_FALSE(reader().identify(memory, Gva(0)));
    EXPECT_FALSE(reader().identify(memory, Gva(0x40'0000))) << "a user address";
    EXPECT_FALSE(reader().identify(memory, task + 4)) << "not aligned";
    EXPECT_FALSE(reader().identify(memory, Gva(0xffff'8880'7777'7000))) << "not mapped";
    EXPECT_FALSE(reader().identify(memory, Gva(~u64{7})));
    memory.write(task + *info.task.pid, i32{-1});
    EXPECT_FALSE(reader().identify(memory, task));
    memory.write(task + *info.task.pid, i32{1} << 22);
    EXPECT_FALSE(reader().identify(memory, task));
    EXPECT_FALSE(reader().current(memory, Gva(0))) << "no per-CPU area there";
    memory.write(gs_base + info.current_task->value, u64{0x1234});
    EXPECT_FALSE(reader().current(memory, gs_base)) << "a pointer to nowhere";
}

TEST_F(TaskReaderTest, AnUnreadableParentIsZero) {
    memory.write(task + *info.task.real_parent, u64{0xffff'8880'7777'7000});
    const auto identity = reader().identify(memory, task);
    ASSERT_TRUE(identity);
    EXPECT_EQ(identity->ppid, 0);
}

TEST_F(TaskReaderTest, NeedsToKnowWhereThePidIs) {
    info.task.comm.reset();
    EXPECT_FALSE(TaskReader::create(info, 0));
}

TEST_F(TaskReaderTest, AnyContentsAreTolerated) {
    Mutator random(4);
    const TaskReader tasks = reader();
    unsigned identified = 0;
    for (unsigned i = 0; i < 20'000; ++i) {
        // Garbage of which pointers now and then lead somewhere.
        const u64 choices[] = {task.value(), pid.value(), parent.value(),
                               ~u64{0},      0,           u64{random.below(~std::size_t{0})}};
        memory.write(task + random.below(400) / 8 * 8, choices[random.below(6)]);
        memory.write(pid + random.below(64) / 8 * 8, choices[random.below(6)]);
        if (const auto identity = tasks.identify(memory, task)) {
            ++identified;
            ASSERT_GE(identity->pid, 0);
            ASSERT_LT(identity->comm.size(), 16u);
        } else {
            put_task(task, 1, 1, "again");
        }
    }
    EXPECT_GT(identified, 1000u);
}

TEST(ReadString, StopsAtTheTerminatorBeforeAnUnmappedPage) {
    FakeMemory memory;
    memory.write_text(Gva(0x1ffc), std::string_view("abc\0", 4));
    const auto text = memory.read_string(Gva(0x1ffc), 4096);
    ASSERT_TRUE(text);
    EXPECT_EQ(text->text, "abc");
    EXPECT_TRUE(text->terminated);
    memory.write_text(Gva(0x1ffc), "abcd");
    EXPECT_FALSE(memory.read_string(Gva(0x1ffc), 4096)) << "continues on an unmapped page";
    const auto cut = memory.read_string(Gva(0x1ffc), 2);
    ASSERT_TRUE(cut);
    EXPECT_EQ(cut->text, "ab");
    EXPECT_FALSE(cut->terminated);
    memory.write_text(Gva(0x2000), std::string(300, 'x') + '\0');
    EXPECT_EQ(memory.read_string(Gva(0x1ffc), 4096)->text, "abcd" + std::string(300, 'x'));
}

TEST(ReadString, EndsAtTheTopOfTheAddressSpace) {
    FakeMemory memory;
    memory.write_text(Gva(~u64{0} - 3), "abcd");
    memory.write_text(Gva(0), std::string_view("wrapped\0", 8));
    EXPECT_FALSE(memory.read_string(Gva(~u64{0} - 3), 100));
    EXPECT_EQ(memory.read_string(Gva(~u64{0} - 3), 0)->text, "");
}

} // namespace
} // namespace gnomon::guest::linux_::test
