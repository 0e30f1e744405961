// SPDX-License-Identifier: Apache-2.0
/// @file The nominal delays against what the data sheets say of the disks.
#include "platform/block/disk_profile.h"

#include <deque>
#include <gtest/gtest.h>
#include <random>

namespace gnomon::platform {
namespace {

using Block = BlockOperation;

class Request final : public BlockRequest {
public:
    Request(Block what, u64 where, u64 bytes, bool through = false) {
        operation = what;
        offset = where;
        size = bytes;
        fua = through;
    }
    void done(BlockStatus) override {}
};

class Profile : public testing::TestWithParam<DiskProfile> {};

class DiskDelay : public testing::Test {
protected:
    static constexpr u64 disk_bytes = u64{1} << 40;

    void use(DiskProfile profile) { model = make_delay_model(profile, disk_bytes, clock); }
    u64 ask(const Request& request) { return model->nominal_ns(request); }
    /// Asks and waits for it.
    u64 run(const Request& request) {
        const u64 ns = ask(request);
        clock.advance(ns);
        return ns;
    }
    u64 random_place(u64 bytes) { return random() % (disk_bytes / bytes) * bytes; }
    /// Requests a second with `depth` under way.
    double rate(Block what, unsigned depth, u64 bytes, bool sequential = false) {
        std::deque<u64> ends;
        constexpr unsigned count = 4000;
        const u64 begin = clock.now_ns();
        u64 place = 0;
        for (unsigned i = 0; i < count; ++i) {
            if (ends.size() == depth) {
                const auto first = std::min_element(ends.begin(), ends.end());
                clock.advance_to(*first);
                ends.erase(first);
            }
            ends.push_back(clock.now_ns() +
                           ask(Request(what, sequential ? place : random_place(bytes), bytes)));
            place += bytes;
        }
        clock.advance_to(*std::max_element(ends.begin(), ends.end()));
        return count / (static_cast<double>(clock.now_ns() - begin) * 1e-9);
    }

    ManualClock clock;
    std::unique_ptr<DelayModel> model;
    std::mt19937_64 random{1};
};

TEST_F(DiskDelay, Names) {
    for (const DiskProfile profile :
         {DiskProfile::none, DiskProfile::hdd_7200, DiskProfile::sata_ssd, DiskProfile::nvme_ssd})
        EXPECT_EQ(disk_profile_named(name_of(profile)), profile);
    EXPECT_EQ(name_of(DiskProfile::hdd_7200), "hdd-7200");
    EXPECT_FALSE(disk_profile_named("floppy"));
    EXPECT_FALSE(disk_profile_named(""));
    EXPECT_EQ(disk_profile_names(), "none, hdd-7200, sata-ssd, nvme-ssd");
}

TEST_F(DiskDelay, NoneIsNone) {
    use(DiskProfile::none);
    EXPECT_EQ(ask(Request(Block::read, 0, 4096)), 0U);
    EXPECT_EQ(model->command_ns(), 0U);
}

TEST_F(DiskDelay, RotatingDiskSeeksAndTurns) {
    use(DiskProfile::hdd_7200);
    const double reads = rate(Block::read, 1, 4096);
    // 8.5 ms seek, 4.2 ms latency, some overhead.
    EXPECT_NEAR(1000 / reads, 12.9, 0.5) << "ms a random read";
    const double megabytes = rate(Block::read, 1, 1 << 20, true);
    EXPECT_NEAR(megabytes * 1.048576, 190, 12) << "MB/s in sequence";
    run(Request(Block::read, 0, 4096));
    u64 near = 0, far = 0;
    for (unsigned i = 0; i < 200; ++i) {
        run(Request(Block::read, random() % 1000 * 4096, 4096));
        near += run(Request(Block::read, (u64{10} << 20) + random() % 1000 * 4096, 4096));
        far += run(Request(Block::read, disk_bytes - 4096 - random() % 1000 * 4096, 4096));
    }
    EXPECT_NEAR(static_cast<double>(far - near) / 200e6, 14.4, 1.5) << "ms, across the disk";
}

TEST_F(DiskDelay, RotatingDiskHasNoCache) {
    use(DiskProfile::hdd_7200);
    run(Request(Block::write, 0, 4096));
    clock.advance(100'000);
    const u64 next = run(Request(Block::write, 4096, 4096));
    EXPECT_GT(next, 5'000'000U) << "its place has gone by";
    EXPECT_LE(next, 9'000'000U);
    EXPECT_EQ(run(Request(Block::flush, 0, 0)), 200'000U);
    EXPECT_EQ(model->command_ns(), 200'000U);
}

TEST_F(DiskDelay, RotatingDiskIsSerial) {
    use(DiskProfile::hdd_7200);
    u64 last = 0;
    for (unsigned i = 0; i < 2000; ++i) {
        const Block what = std::array{Block::read, Block::write, Block::flush, Block::discard,
                                      Block::write_zeroes}[random() % 5];
        const u64 matures = clock.now_ns() + ask(Request(what, random_place(4096), 4096));
        EXPECT_GE(matures, last);
        EXPECT_LE(matures - clock.now_ns(), longest_nominal_ns);
        last = matures;
        if (random() % 3 == 0) clock.advance(random() % 20'000'000);
    }
}

TEST_F(DiskDelay, SataSsd) {
    use(DiskProfile::sata_ssd);
    EXPECT_NEAR(rate(Block::read, 1, 4096), 10'000, 500);
    EXPECT_NEAR(rate(Block::write, 1, 4096), 42'000, 2'000);
    EXPECT_NEAR(rate(Block::read, 32, 4096), 98'000, 10'000);
    EXPECT_NEAR(rate(Block::read, 32, 131072, true) * 0.131072, 550, 40);
    EXPECT_NEAR(rate(Block::write, 32, 131072, true) * 0.131072, 525, 40);
}

TEST_F(DiskDelay, NvmeSsd) {
    use(DiskProfile::nvme_ssd);
    EXPECT_NEAR(rate(Block::read, 1, 4096), 15'000, 500);
    EXPECT_NEAR(rate(Block::write, 1, 4096), 50'000, 3'000);
    EXPECT_NEAR(rate(Block::read, 32, 4096), 370'000, 40'000);
    EXPECT_NEAR(rate(Block::read, 32, 131072, true) * 0.131072, 3'300, 300);
}

TEST_F(DiskDelay, SustainedWritesGoAtTheMediumsRate) {
    use(DiskProfile::nvme_ssd);
    static_cast<void>(rate(Block::write, 32, 1 << 20, true)); // fills the cache
    EXPECT_NEAR(rate(Block::write, 32, 1 << 20, true) * 1.048576, 2'300, 200);
}

TEST_F(DiskDelay, FlushesCostWhatWasWritten) {
    use(DiskProfile::nvme_ssd);
    EXPECT_EQ(run(Request(Block::flush, 0, 0)), 10'000U) << "nothing was";
    run(Request(Block::write, 0, 4096));
    EXPECT_NEAR(static_cast<double>(run(Request(Block::flush, 0, 0))), 710'000, 20'000);
    EXPECT_EQ(run(Request(Block::flush, 0, 0)), 10'000U);
    EXPECT_GT(run(Request(Block::write, 0, 4096, true)), 700'000U) << "forced through";
    EXPECT_LT(run(Request(Block::discard, 0, disk_bytes)), 30'000U);
    EXPECT_LT(run(Request(Block::write_zeroes, 0, u64{1} << 25)), 30'000U);
}

TEST_P(Profile, AnythingIsSafeAndBounded) {
    ManualClock clock;
    std::mt19937_64 random(7);
    for (const u64 disk_bytes : {u64{0}, u64{512}, u64{1} << 30, ~u64{511}}) {
        const auto model = make_delay_model(GetParam(), disk_bytes, clock);
        for (unsigned i = 0; i < 3000; ++i) {
            const u64 shift = random() % 64;
            const Request request(static_cast<Block>(random() % 5), random() >> random() % 64 << 9,
                                  std::min(random() >> shift, u64{1} << 41), random() % 2 == 0);
            EXPECT_LE(model->nominal_ns(request), longest_nominal_ns);
            clock.advance(random() % 1000);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, Profile,
                         testing::Values(DiskProfile::none, DiskProfile::hdd_7200,
                                         DiskProfile::sata_ssd, DiskProfile::nvme_ssd),
                         [](const auto& parameter) {
                             std::string name(name_of(parameter.param));
                             std::erase(name, '-');
                             return name;
                         });

TEST_F(DiskDelay, WhatEndsBeforeItsTimeIsNotQueuedBehind) {
    for (const DiskProfile profile : {DiskProfile::hdd_7200, DiskProfile::nvme_ssd}) {
        use(profile);
        const Request request(Block::read, 0, 4096);
        static_cast<void>(ask(request));
        model->ended();
        u64 longest = 0;
        for (int i = 0; i < 1000; ++i) { // 1 us each, where the disk would take much longer
            longest = std::max(longest, ask(Request(Block::read, random_place(4096), 4096)));
            clock.advance(1'000);
            model->ended();
        }
        EXPECT_LT(longest, 30'000'000U) << "that of one request";
        // Two under way: the second is behind the first, but not behind those before.
        static_cast<void>(ask(Request(Block::read, 0, 4096)));
        EXPECT_LT(ask(Request(Block::read, 0, 4096)), 60'000'000U);
    }
}

TEST_F(DiskDelay, EndsThatNobodyTellsOfAreBounded) {
    use(DiskProfile::hdd_7200);
    for (int i = 0; i < 10'000; ++i)
        EXPECT_LE(ask(Request(Block::read, random_place(4096), 4096)), longest_nominal_ns);
    for (int i = 0; i < 10'000; ++i)
        model->ended();
    EXPECT_LT(ask(Request(Block::read, 0, 4096)), 2 * longest_nominal_ns);
}

} // namespace
} // namespace gnomon::platform
