// SPDX-License-Identifier: Apache-2.0
// The monitor's smaller parts: the event thread, the model-specific registers, the CPUID table.
#include "base/host_time.h"
#include "monitor/cpuid.h"
#include "monitor/event_thread.h"
#include "monitor/guest_msrs.h"
#include "processor/soft/instruction_table.h"

#include <chrono>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <set>
#include <sys/eventfd.h>
#include <unistd.h>

namespace gnomon::monitor {
namespace {

template <class Condition>
bool within(std::chrono::milliseconds limit, Condition condition) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (std::chrono::steady_clock::now() < end) {
        if (condition()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return condition();
}
constexpr std::chrono::milliseconds soon(2000), quiet(60);
constexpr u64 millisecond = 1'000'000;

class EventThreadTest : public testing::Test {
protected:
    void start(std::vector<int> descriptors = {}, std::vector<int> completions = {}) {
        auto made = EventThread::create([this] { ++kicks; }, std::move(descriptors),
                                        std::move(completions), heartbeat);
        ASSERT_TRUE(made) << made.error().message;
        events = std::move(*made);
    }
    Heartbeat heartbeat{1'000'000'000};
    std::atomic<unsigned> kicks = 0;
    std::unique_ptr<EventThread> events;
};

TEST_F(EventThreadTest, KicksOnceAtTheDeadlineAndNotBefore) {
    start();
    const u64 begin = monotonic_ns();
    events->set_deadline(begin + 30 * millisecond);
    ASSERT_TRUE(within(soon, [&] { return kicks > 0; }));
    EXPECT_GE(monotonic_ns() - begin, 30 * millisecond);
    std::this_thread::sleep_for(quiet);
    EXPECT_EQ(kicks, 1U) << "once a deadline";
}

TEST_F(EventThreadTest, ADeadlineInThePastKicksAtOnce) {
    start();
    events->set_deadline(1);
    EXPECT_TRUE(within(soon, [&] { return kicks == 1; }));
}

TEST_F(EventThreadTest, AnEarlierDeadlineReplacesALaterOneAndNeverCancels) {
    start();
    events->set_deadline(monotonic_ns() + 60'000 * millisecond);
    events->set_deadline(monotonic_ns() + 20 * millisecond);
    ASSERT_TRUE(within(soon, [&] { return kicks == 1; }));
    events->set_deadline(monotonic_ns() + 20 * millisecond);
    events->set_deadline(EventThread::never);
    std::this_thread::sleep_for(quiet);
    EXPECT_EQ(kicks, 1U);
    events->set_deadline(monotonic_ns() + 10 * millisecond);
    EXPECT_TRUE(within(soon, [&] { return kicks == 2; }));
}

TEST_F(EventThreadTest, ManyDeadlinesNoneLost) {
    start();
    for (unsigned n = 1; n <= 500; ++n) {
        events->set_deadline(monotonic_ns() + (n % 7) * 20'000);
        ASSERT_TRUE(within(soon, [&] { return kicks >= n; })) << n;
    }
}

TEST_F(EventThreadTest, InputKicksUntilItIsCleared) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const FileDescriptor in(ends[0]), out(ends[1]);
    start({in.get()});
    EXPECT_FALSE(events->input_seen());
    char byte = 'x';
    ASSERT_EQ(::write(out.get(), &byte, 1), 1);
    ASSERT_TRUE(within(soon, [&] { return events->input_seen(); }));
    EXPECT_TRUE(within(soon, [&] { return kicks >= 1; }));
    const unsigned so_far = kicks;
    std::this_thread::sleep_for(quiet);
    EXPECT_EQ(kicks, so_far) << "not watched until cleared";
    ASSERT_EQ(::read(in.get(), &byte, 1), 1);
    events->clear_input();
    std::this_thread::sleep_for(quiet);
    EXPECT_FALSE(events->input_seen());
    ASSERT_EQ(::write(out.get(), &byte, 1), 1);
    EXPECT_TRUE(within(soon, [&] { return events->input_seen() && kicks > so_far; }));
}

TEST_F(EventThreadTest, CompletionsKickOnceEachUnlessTheyAreAwaited) {
    const FileDescriptor completions(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    const auto complete = [&] {
        const u64 one = 1;
        ASSERT_EQ(::write(completions.get(), &one, sizeof one), 8);
    };
    start({}, {completions.get()});
    for (unsigned n = 1; n <= 20; ++n) { // nobody reads it in between
        complete();
        ASSERT_TRUE(within(soon, [&] { return kicks == n; })) << n;
    }
    std::this_thread::sleep_for(quiet);
    EXPECT_EQ(kicks, 20U) << "once each";
    EXPECT_FALSE(events->input_seen());
    events->watch_completions(false);
    complete();
    std::this_thread::sleep_for(quiet);
    EXPECT_EQ(kicks, 20U) << "the machine waits itself";
    events->watch_completions(true);
    std::this_thread::sleep_for(quiet);
    EXPECT_EQ(kicks, 20U) << "and has seen this one";
    complete();
    EXPECT_TRUE(within(soon, [&] { return kicks == 21; }));
}

TEST_F(EventThreadTest, EndsWhileItSleeps) {
    start();
    events->set_deadline(monotonic_ns() + 3'600'000 * millisecond);
    const u64 begin = monotonic_ns();
    events.reset();
    EXPECT_LT(monotonic_ns() - begin, 1000 * millisecond);
    EXPECT_EQ(kicks, 0U);
}

// ---------------------------------------------------------------- MSRs

TEST(GuestMsrsTest, UnknownRegistersFault) {
    GuestMsrs msrs;
    for (const u32 index : {0x1b2U, 0xc0010015U, 0x480U, 0xffffffffU, 0x210U, 0x251U, 0x26f1U}) {
        EXPECT_FALSE(msrs.read(index)) << index;
        EXPECT_FALSE(msrs.write(index, 0)) << index;
    }
}

TEST(GuestMsrsTest, ReadOnlyRegistersRefuseWrites) {
    GuestMsrs msrs;
    for (const u32 index : {0x17U, 0xfeU, 0x10aU, 0xceU, 0x179U}) {
        EXPECT_TRUE(msrs.read(index)) << index;
        EXPECT_FALSE(msrs.write(index, 0)) << index;
    }
}

TEST(GuestMsrsTest, MemoryTypeRangesAreStored) {
    GuestMsrs msrs;
    EXPECT_EQ(msrs.read(0xfe).value_or(0) & 0xff, 8U);
    for (u32 index = 0x200; index < 0x210; ++index) {
        ASSERT_TRUE(msrs.write(index, index * 0x1000));
        EXPECT_EQ(msrs.read(index), u64{index} * 0x1000);
    }
    for (const u32 index : {0x250U, 0x258U, 0x259U, 0x268U, 0x26fU}) {
        ASSERT_TRUE(msrs.write(index, 0x0606060606060600));
        EXPECT_EQ(msrs.read(index), 0x0606060606060600U);
        EXPECT_FALSE(msrs.write(index, 0x0202020202020202)) << "a reserved memory type";
        EXPECT_EQ(msrs.read(index), 0x0606060606060600U);
    }
    EXPECT_TRUE(msrs.write(0x2ff, 0xc00));
    EXPECT_FALSE(msrs.write(0x2ff, 0xc07));
}

TEST(GuestMsrsTest, SpeculationControlTakesItsOwnBitsOnly) {
    GuestMsrs msrs;
    EXPECT_TRUE(msrs.write(0x48, 1));
    EXPECT_EQ(msrs.read(0x48), 1U);
    EXPECT_FALSE(msrs.write(0x48, 8));
    EXPECT_TRUE(msrs.write(0x49, 1));
    EXPECT_FALSE(msrs.write(0x49, 2));
    EXPECT_FALSE(msrs.read(0x49)) << "IA32_PRED_CMD is write-only";
}

// ---------------------------------------------------------------- CPUID

const processor::CpuidLeaf* find(const std::vector<processor::CpuidLeaf>& table, u32 leaf,
                                 u32 sub = 0) {
    for (const auto& l : table)
        if (l.leaf == leaf && (!l.has_subleaf || l.subleaf == sub)) return &l;
    return nullptr;
}

TEST(GuestCpuid, LeavesAreUniqueAndWithinTheirMaxima) {
    const auto table = guest_cpuid(2'000'000'000, 3);
    std::set<std::pair<u32, u32>> seen;
    const u32 basic = find(table, 0)->eax, extended = find(table, 0x80000000)->eax,
              hypervisor = find(table, 0x40000000)->eax;
    for (const auto& l : table) {
        EXPECT_TRUE(seen.emplace(l.leaf, l.subleaf).second) << l.leaf;
        const u32 maximum = l.leaf >= 0x80000000   ? extended
                            : l.leaf >= 0x40000000 ? hypervisor
                                                   : basic;
        EXPECT_LE(l.leaf, maximum);
    }
}

TEST(GuestCpuid, ShowsOnlyWhatIsThere) {
    const auto table = guest_cpuid(2'000'000'000, 3);
    const auto& one = *find(table, 1);
    EXPECT_EQ(one.ebx >> 24, 3U) << "APIC ID";
    EXPECT_NE(one.ecx >> 31, 0U) << "hypervisor";
    EXPECT_EQ(one.ecx & (1U << 5), 0U) << "no VMX";
    EXPECT_EQ(one.ecx & (1U << 27), 0U) << "OSXSAVE follows CR4";
    const auto& seven = *find(table, 7);
    // F DQ CD BW VL together, or nothing of AVX-512.
    constexpr u32 avx512_base = 1U << 16 | 1U << 17 | 1U << 28 | 1U << 30 | 1U << 31;
    const bool avx512 = (seven.ebx & avx512_base) == avx512_base;
    EXPECT_EQ(avx512, processor::soft::FeatureSet::of_host().has(processor::soft::Feature::avx512));
    if (!avx512) {
        EXPECT_EQ(seven.ebx & (avx512_base | 1U << 21), 0U);
        EXPECT_EQ(seven.ecx & (1U << 1 | 1U << 6 | 1U << 11 | 1U << 12 | 1U << 14), 0U);
        EXPECT_EQ(find(table, 7, 1)->eax, 0U);
    }
    EXPECT_EQ(seven.ebx & (1U << 4 | 1U << 11), 0U) << "no TSX";
    EXPECT_EQ(find(table, 0x80000008)->eax & 0xff, guest_physical_bits);
    const bool avx = (one.ecx & 1U << 28) != 0;
    EXPECT_EQ(find(table, 0xd, 0)->eax, avx512 ? 0xe7U : avx ? 7U : 3U);
    EXPECT_EQ(find(table, 0xd, 0)->ecx, avx512 ? 2432U : avx ? 832U : 576U);
    EXPECT_EQ(find(table, 0xd, 2) != nullptr, avx);
    // What is shown lies side by side, in the order of the components.
    u32 end = 576;
    for (const u32 component : {2U, 5U, 6U, 7U}) {
        const auto* leaf = find(table, 0xd, component);
        ASSERT_EQ(leaf != nullptr, component == 2 ? avx : avx512);
        if (leaf == nullptr) continue;
        EXPECT_EQ(leaf->ebx, end);
        EXPECT_EQ(leaf->ecx, 0U);
        end += leaf->eax;
    }
    EXPECT_EQ(find(table, 0xd, 0)->ecx, end);
}

TEST(GuestCpuid, TellsTheTscFrequency) {
    for (const u64 hz : {u64{2'000'000'000}, u64{3'399'123'456}}) {
        const auto table = guest_cpuid(hz, 0);
        const auto& crystal = *find(table, 0x15);
        EXPECT_NEAR(static_cast<double>(u64{crystal.ecx} * crystal.ebx / crystal.eax),
                    static_cast<double>(hz), 2.0);
        EXPECT_EQ(find(table, 0x40000010)->eax, hz / 1000);
    }
}

} // namespace
} // namespace gnomon::monitor
