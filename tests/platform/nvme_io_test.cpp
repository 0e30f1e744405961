// SPDX-License-Identifier: Apache-2.0
/// @file The NVM command set, completions and interrupts, and what a reset does to requests under
/// way.
#include "nvme_driver.h"

#include <set>

namespace gnomon::platform::nvme {
namespace {

using namespace test;

class NvmeIo : public testing::Test {
protected:
    static constexpr u64 data = Driver::data;
    using Op = IoOpcode;
    using Block = BlockOperation;

    NvmeIo() {
        for (std::size_t i = 0; i < bench.disk.contents.size(); ++i)
            bench.disk.contents[i] = static_cast<u8>(i / 512 * 7 + i % 512);
        driver.enable();
        driver.create_queues(1);
    }
    [[nodiscard]] std::string on_disk(u64 offset, u64 size) const {
        const auto at = bench.disk.contents.begin() + static_cast<std::ptrdiff_t>(offset);
        return {at, at + static_cast<std::ptrdiff_t>(size)};
    }
    Status io(Op op, u64 block, u32 blocks) { return driver.run(1, Driver::io(op, block, blocks)); }

    Bench bench;
    Driver driver{bench};
};

TEST_F(NvmeIo, ReadsAndWrites) {
    ASSERT_EQ(io(Op::read, 5, 3), Status::success);
    EXPECT_EQ(driver.text(data, 1536), on_disk(2560, 1536));
    EXPECT_EQ(bench.written.last, Gpa(Driver::completion_base(1))) << "the completion comes last";
    driver.fill(data, 512, 0x77);
    ASSERT_EQ(io(Op::write, Bench::disk_bytes / 512 - 1, 1), Status::success);
    EXPECT_EQ(on_disk(Bench::disk_bytes - 512, 512), std::string(512, '\x77'));
    const std::vector<MemoryDisk::Seen> seen = {
        {Block::read, false, 2560, 1536}, {Block::write, false, Bench::disk_bytes - 512, 512}};
    EXPECT_EQ(bench.disk.seen, seen);
    EXPECT_EQ(bench.disk.uncommitted, 0U) << "handed over";
}

TEST_F(NvmeIo, LongTransfersByLists) {
    // 512 KiB at an odd place: 129 pages, of which the list's first page names few.
    constexpr u64 list = 0x2000 + 4096 - 16, second_list = 0x4000;
    const auto page_at = [](u64 i) {
        return 0x30'0000 - (i + 1) * 0x2000;
    }; // backwards, with holes
    driver.poke(list, page_at(1));
    driver.poke(list + 8, second_list);
    for (u64 i = 2; i <= 128; ++i)
        driver.poke(second_list + (i - 2) * 8, page_at(i));
    ASSERT_EQ(driver.run(1, Driver::io(Op::read, 0, 1024, page_at(0) + 0xa00, list)),
              Status::success);
    std::string got = driver.text(page_at(0) + 0xa00, 0x600);
    for (u64 i = 1; i <= 128; ++i)
        got += driver.text(page_at(i), i == 128 ? 0xa00 : 0x1000);
    EXPECT_TRUE(got == on_disk(0, 512 * 1024));
    EXPECT_EQ(driver.run(1, Driver::io(Op::read, 0, 1025, page_at(0), list)), Status::invalid_field)
        << "MDTS";
}

TEST_F(NvmeIo, WhatCannotBe) {
    const u64 blocks = Bench::disk_bytes / 512;
    for (const Op op : {Op::read, Op::write, Op::compare, Op::write_zeroes}) {
        EXPECT_EQ(io(op, blocks, 1), Status::lba_out_of_range);
        EXPECT_EQ(io(op, blocks - 1, 2), Status::lba_out_of_range);
        EXPECT_EQ(io(op, ~u64{0}, 1), Status::lba_out_of_range);
        EXPECT_EQ(io(op, ~u64{0} - 1, 8), Status::lba_out_of_range);
        for (const u32 name_space : {0U, 2U, all_namespaces}) {
            SubmissionEntry command = Driver::io(op, 0, 1);
            command.namespace_id = name_space;
            EXPECT_EQ(driver.run(1, command), Status::invalid_namespace);
        }
        if (op == Op::write_zeroes) continue;
        EXPECT_EQ(driver.run(1, Driver::io(op, 0, 1, data + 2)), Status::prp_offset_invalid);
        EXPECT_EQ(driver.run(1, Driver::io(op, 0, 1, 0xfee00000)), Status::data_transfer_error);
        EXPECT_EQ(driver.run(1, Driver::io(op, 0, 9, data + 0xe00, data + 8)),
                  Status::prp_offset_invalid);
        EXPECT_EQ(driver.run(1, Driver::io(op, 0, 24, data, data + 4)), Status::prp_offset_invalid);
        EXPECT_EQ(driver.run(1, Driver::io(op, 0, 24, data, 0xfee00000)),
                  Status::data_transfer_error);
    }
    unsigned refused = 0;
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
        if (opcode <= 2 || opcode == 5 || opcode == 8 || opcode == 9) continue;
        EXPECT_EQ(io(static_cast<Op>(opcode), 0, 1), Status::invalid_opcode) << opcode;
        ++refused;
    }
    EXPECT_EQ(refused, 250U);
    EXPECT_TRUE(bench.disk.seen.empty()) << "none of it reached the disk";
}

TEST_F(NvmeIo, StableStorage) {
    ASSERT_EQ(io(Op::flush, 0, 1), Status::success);
    SubmissionEntry command = Driver::io(Op::flush, 0, 1);
    command.namespace_id = all_namespaces;
    ASSERT_EQ(driver.run(1, command), Status::success);
    command = Driver::io(Op::write, 8, 1);
    command.cdw12 |= 1 << 30;
    ASSERT_EQ(driver.run(1, command), Status::success);
    command = Driver::io(Op::read, 8, 1);
    command.cdw12 |= 1 << 30;
    ASSERT_EQ(driver.run(1, command), Status::success);
    EXPECT_EQ(driver.text(data, 512), on_disk(4096, 512));
    ASSERT_EQ(driver.run(0, Driver::admin(AdminOpcode::set_features, 6, 0)), Status::success);
    ASSERT_EQ(io(Op::write, 9, 1), Status::success);
    ASSERT_EQ(io(Op::write_zeroes, 9, 1), Status::success);
    const std::vector<MemoryDisk::Seen> seen = {
        {Block::flush, false, 0, 0},           {Block::flush, false, 0, 0},
        {Block::write, true, 4096, 512},       {Block::flush, false, 0, 0},
        {Block::read, false, 4096, 512},       {Block::write, true, 4608, 512},
        {Block::write_zeroes, true, 4608, 512}};
    EXPECT_EQ(bench.disk.seen, seen) << "without a write cache all writes go through";
}

TEST_F(NvmeIo, WriteZeroesAndDeallocate) {
    ASSERT_EQ(io(Op::write_zeroes, 16, 8192 - 16), Status::success);
    EXPECT_EQ(on_disk(8192, 100), std::string(100, '\0'));
    EXPECT_EQ(bench.disk.seen[0],
              (MemoryDisk::Seen{Block::write_zeroes, false, 8192, (8192 - 16) * 512}));
    bench.disk.seen.clear();
    const auto range = [&](unsigned i, u32 blocks, u64 first) {
        driver.poke(data + 16 * i + 4, blocks);
        driver.poke(data + 16 * i + 8, first);
    };
    range(0, 8, 100);
    range(1, 0, 0);
    range(2, 16, 200);
    SubmissionEntry command = Driver::io(Op::dataset_management, 2, 1);
    ASSERT_EQ(driver.run(1, command), Status::success);
    EXPECT_TRUE(bench.disk.seen.empty()) << "only hints";
    command.cdw11 = 4;
    ASSERT_EQ(driver.run(1, command), Status::success);
    const std::vector<MemoryDisk::Seen> seen = {{Block::discard, false, 51200, 4096},
                                                {Block::discard, false, 102400, 8192}};
    EXPECT_EQ(bench.disk.seen, seen);
    range(2, 1, Bench::disk_bytes / 512);
    EXPECT_EQ(driver.run(1, command), Status::lba_out_of_range);
    EXPECT_EQ(bench.disk.seen.size(), 2U) << "nothing of it was done";
    command.cdw10 = 255;
    command.prp1 = data + 0xf00;
    command.prp2 = 1;
    EXPECT_EQ(driver.run(1, command), Status::prp_offset_invalid) << "4 KiB of ranges";
}

TEST_F(NvmeIo, Compares) {
    driver.poke(data, bench.disk.contents[0]);
    ASSERT_EQ(io(Op::read, 3, 8), Status::success);
    EXPECT_EQ(io(Op::compare, 3, 8), Status::success);
    driver.poke(data + 4095, static_cast<u8>(driver.peek<u8>(data + 4095) ^ 1));
    const std::string before = driver.text(data, 4096);
    EXPECT_EQ(io(Op::compare, 3, 8), Status::compare_failure);
    EXPECT_EQ(driver.text(data, 4096), before);
}

TEST_F(NvmeIo, WriteProtected) {
    bench.disk.write_protected = true;
    EXPECT_EQ(io(Op::write, 0, 1), Status::namespace_write_protected);
    EXPECT_EQ(io(Op::write_zeroes, 0, 1), Status::namespace_write_protected);
    SubmissionEntry command = Driver::io(Op::dataset_management, 0, 1);
    command.cdw11 = 4;
    EXPECT_EQ(driver.run(1, command), Status::namespace_write_protected);
    EXPECT_EQ(io(Op::flush, 0, 1), Status::success);
    command = Driver::io(Op::read, 0, 1);
    command.cdw12 |= 1 << 30;
    EXPECT_EQ(driver.run(1, command), Status::success);
    EXPECT_EQ(bench.disk.seen.size(), 1U);

    Options options;
    options.read_only = true;
    Bench protected_by_us(options);
    Driver other(protected_by_us);
    other.enable();
    other.create_queues(1);
    EXPECT_EQ(other.run(1, Driver::io(Op::write, 0, 1)), Status::namespace_write_protected);
    EXPECT_EQ(other.run(1, Driver::io(Op::read, 0, 1)), Status::success);
}

TEST_F(NvmeIo, TheHostsErrorsAreTheDisks) {
    const auto with = [&](BlockStatus status, Op op) {
        bench.disk.failure = status;
        SubmissionEntry command = Driver::io(op, 0, 1);
        if (op == Op::dataset_management) {
            command.cdw11 = 4;
            driver.poke(data, u64{1} << 32);
            driver.poke(data + 8, u64{0});
        }
        const Status result = driver.run(1, command);
        bench.disk.failure.reset();
        return result;
    };
    EXPECT_EQ(with(BlockStatus::io_error, Op::read), Status::unrecovered_read_error);
    EXPECT_EQ(with(BlockStatus::io_error, Op::compare), Status::unrecovered_read_error);
    EXPECT_EQ(with(BlockStatus::io_error, Op::write), Status::write_fault);
    EXPECT_EQ(with(BlockStatus::io_error, Op::write_zeroes), Status::write_fault);
    EXPECT_EQ(with(BlockStatus::io_error, Op::flush), Status::write_fault);
    EXPECT_EQ(with(BlockStatus::io_error, Op::dataset_management), Status::internal_error);
    EXPECT_EQ(with(BlockStatus::no_space, Op::write), Status::capacity_exceeded);
    EXPECT_EQ(with(BlockStatus::out_of_range, Op::read), Status::lba_out_of_range);
    EXPECT_EQ(with(BlockStatus::read_only, Op::write), Status::namespace_write_protected);
    ASSERT_EQ(driver.run(0, Driver::admin(AdminOpcode::get_log_page, 1 | 15 << 16)),
              Status::success);
    EXPECT_EQ(driver.peek<u64>(data), 9U);
    EXPECT_EQ(driver.peek<u16>(data + 8), 1U) << "of queue 1";
    ASSERT_EQ(driver.run(0, Driver::admin(AdminOpcode::get_log_page, 2 | 127 << 16)),
              Status::success);
    EXPECT_EQ(driver.peek<u64>(data + 160), 5U) << "media errors";
}

TEST_F(NvmeIo, HealthCounts) {
    for (unsigned i = 0; i < 3; ++i)
        ASSERT_EQ(driver.run(1, Driver::io(Op::read, 0, 800, data, 0xfee00000)),
                  Status::data_transfer_error);
    ASSERT_EQ(io(Op::read, 0, 8), Status::success);
    ASSERT_EQ(io(Op::write, 0, 8), Status::success);
    driver.submit(1, Driver::io(Op::write, 0, 1));
    bench.clock.advance(u64{120} * 1'000'000'000);
    bench.disk.reap();
    ASSERT_TRUE(driver.take(1));
    ASSERT_EQ(driver.run(0, Driver::admin(AdminOpcode::get_log_page, 2 | 127 << 16)),
              Status::success);
    EXPECT_EQ(driver.peek<u64>(data + 32), 1U) << "thousands of blocks, rounded up";
    EXPECT_EQ(driver.peek<u64>(data + 48), 1U);
    EXPECT_EQ(driver.peek<u64>(data + 64), 4U) << "reads";
    EXPECT_EQ(driver.peek<u64>(data + 80), 2U) << "writes";
    EXPECT_EQ(driver.peek<u64>(data + 96), 2U) << "busy minutes";
}

TEST_F(NvmeIo, CompletionsAreHeldBackWhole) {
    bench.completions.hold = true;
    const auto sent = bench.vectors.sent;
    const u16 id = driver.submit(1, Driver::io(Op::read, 40, 1));
    EXPECT_EQ(bench.completions.nominal.back(), 1040U);
    bench.disk.reap();
    EXPECT_EQ(driver.text(data, 512), on_disk(40 * 512, 512)) << "data may come early";
    EXPECT_FALSE(driver.take(1));
    EXPECT_EQ(bench.vectors.sent, sent);
    bench.completions.deliver_all();
    EXPECT_EQ(bench.vectors.sent[1], 1U);
    const auto entry = driver.take(1);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->command_id, id);
    driver.submit(0, Driver::admin(AdminOpcode::identify, 1));
    EXPECT_EQ(bench.completions.nominal.back(), 7U) << "of a command";
    EXPECT_FALSE(driver.take(0));
    bench.completions.deliver_all();
    EXPECT_TRUE(driver.take(0));
}

TEST_F(NvmeIo, RingsGoRound) {
    std::set<u16> ids;
    for (unsigned round = 0; round < 20; ++round) {
        for (unsigned i = 0; i < 15; ++i)
            driver.push(1, Driver::io(Op::read, i, 1));
        driver.ring_submission(1);
        EXPECT_EQ(bench.disk.under_way(), 15U);
        for (unsigned i = 15; i-- > 0;)
            bench.disk.finish(i * 5 % (i + 1)); // in some other order
        for (unsigned i = 0; i < 15; ++i) {
            const auto entry = driver.take(1, i != 14);
            ASSERT_TRUE(entry);
            EXPECT_TRUE(ids.insert(entry->command_id).second);
        }
        EXPECT_FALSE(driver.take(1));
    }
    EXPECT_EQ(ids.size(), 300U);
}

TEST_F(NvmeIo, AFullCompletionQueueHoldsBack) {
    driver.open(2, 4);
    driver.open(3, 64);
    ASSERT_EQ(driver.run(0, Driver::create_completion_queue(2, 4, 2)), Status::success);
    SubmissionEntry create = Driver::create_submission_queue(3, 64, 2);
    ASSERT_EQ(driver.run(0, create), Status::success);
    std::vector<u16> pushed;
    for (unsigned i = 0; i < 50; ++i)
        pushed.push_back(driver.push(3, Driver::io(Op::read, 1, 1)));
    driver.ring_submission(3);
    while (bench.disk.reap() != 0) {
    }
    std::vector<u16> got;
    for (unsigned i = 0; i < 50; ++i) {
        EXPECT_LE(bench.completions.known, 50U);
        const auto entry = driver.take(2);
        while (bench.disk.reap() != 0) {
        }
        ASSERT_TRUE(entry) << i;
        EXPECT_EQ(entry->submission_queue, 3U);
        got.push_back(entry->command_id);
    }
    EXPECT_EQ(got, pushed);
    EXPECT_FALSE(driver.take(2));
    // Commands that fail at once stop at the full queue too, and go on when there is room.
    for (unsigned i = 0; i < 50; ++i)
        driver.push(3, Driver::io(static_cast<Op>(0x77), 1, 1));
    driver.ring_submission(3);
    unsigned count = 0;
    while (driver.take(2))
        ++count;
    EXPECT_EQ(count, 50U);
}

TEST_F(NvmeIo, ManyQueuesShareTheRequests) {
    for (unsigned id = 2; id <= 3; ++id)
        driver.create_queues(id, 1024);
    for (unsigned id = 2; id <= 3; ++id) {
        for (unsigned i = 0; i < 1023; ++i)
            driver.push(id, Driver::io(Op::read, i, 1));
        driver.ring_submission(id);
    }
    EXPECT_EQ(bench.disk.under_way(), 1024U);
    driver.submit(0, Driver::admin(AdminOpcode::abort));
    EXPECT_TRUE(driver.take(0)) << "the admin queue goes on";
    while (bench.disk.reap() != 0) {
    }
    EXPECT_EQ(bench.disk.seen.size(), 2046U) << "each that ends makes room for the next";
    for (unsigned id = 2; id <= 3; ++id)
        for (unsigned i = 0; i < 1023; ++i)
            ASSERT_TRUE(driver.take(id, i != 1022));
}

TEST_F(NvmeIo, MessagesByVector) {
    driver.open(5, 16);
    ASSERT_EQ(driver.run(0, Driver::create_completion_queue(5, 16, 9)), Status::success);
    ASSERT_EQ(driver.run(0, Driver::create_submission_queue(5, 16, 5)), Status::success);
    bench.vectors.sent.clear();
    ASSERT_EQ(driver.run(5, Driver::io(Op::read, 0, 1)), Status::success);
    EXPECT_EQ(bench.vectors.sent, (std::map<unsigned, unsigned>{{9, 1}}));
    EXPECT_FALSE(bench.vectors.pin);
    // What is left unread asks again.
    driver.push(5, Driver::io(Op::read, 0, 1));
    driver.push(5, Driver::io(Op::read, 0, 1));
    driver.ring_submission(5);
    bench.disk.reap();
    EXPECT_EQ(bench.vectors.sent[9], 3U);
    ASSERT_TRUE(driver.take(5));
    EXPECT_EQ(bench.vectors.sent[9], 4U);
    ASSERT_TRUE(driver.take(5));
    EXPECT_EQ(bench.vectors.sent[9], 4U);

    driver.open(6, 16);
    SubmissionEntry polled = Driver::create_completion_queue(6, 16, 6);
    polled.cdw11 = 1;
    ASSERT_EQ(driver.run(0, polled), Status::success);
    ASSERT_EQ(driver.run(0, Driver::create_submission_queue(6, 16, 6)), Status::success);
    ASSERT_EQ(driver.run(6, Driver::io(Op::read, 0, 1)), Status::success);
    EXPECT_EQ(bench.vectors.sent.count(6), 0U) << "interrupts are off";
}

TEST_F(NvmeIo, ThePinStandsWhileThereIsSomethingToRead) {
    bench.vectors.messages = false;
    const auto sent = bench.vectors.sent;
    driver.open(2, 16);
    ASSERT_EQ(driver.run(0, Driver::create_completion_queue(2, 16, 0)), Status::success);
    ASSERT_EQ(driver.run(0, Driver::create_submission_queue(2, 16, 2)), Status::success);
    EXPECT_FALSE(bench.vectors.pin);
    driver.push(2, Driver::io(Op::read, 0, 1));
    driver.push(2, Driver::io(Op::read, 0, 1));
    driver.ring_submission(2);
    EXPECT_FALSE(bench.vectors.pin);
    bench.disk.reap();
    EXPECT_TRUE(bench.vectors.pin);
    driver.set(0x0c, 1);
    EXPECT_FALSE(bench.vectors.pin) << "masked";
    driver.set(0x10, 1);
    EXPECT_TRUE(bench.vectors.pin) << "and pending";
    ASSERT_TRUE(driver.take(2));
    EXPECT_TRUE(bench.vectors.pin);
    ASSERT_TRUE(driver.take(2));
    EXPECT_FALSE(bench.vectors.pin);
    EXPECT_EQ(bench.vectors.sent, sent) << "no messages";
    driver.submit(2, Driver::io(Op::read, 0, 1));
    bench.disk.reap();
    EXPECT_TRUE(bench.vectors.pin);
    driver.disable();
    EXPECT_FALSE(bench.vectors.pin);
}

TEST_F(NvmeIo, AResetWaitsForTheHostAndTellsNothing) {
    bench.completions.hold = true;
    driver.submit(1, Driver::io(Op::read, 0, 8));
    bench.disk.reap();
    driver.submit(1, Driver::io(Op::read, 8, 8));
    driver.submit(1, Driver::io(Op::write, 16, 8));
    EXPECT_EQ(bench.completions.known, 3U);
    driver.disable();
    EXPECT_EQ(bench.completions.known, 0U) << "one was held back, two were with the host";
    EXPECT_EQ(bench.completions.troubles, std::vector{GuestTrouble::reset});
    EXPECT_EQ(driver.get(0x1c), Csts::ready) << "the host still writes to the guest's memory";
    driver.submit(1, Driver::io(Op::read, 24, 8));
    driver.set(0x14, Driver::cc_enabled); // too early; it comes later
    EXPECT_EQ(bench.disk.under_way(), 2U);
    const u64 calls = bench.written.calls;
    bench.disk.finish(0);
    EXPECT_EQ(bench.written.calls, calls + 1) << "what was read is in memory, and said to be";
    EXPECT_EQ(bench.written.last, Gpa(data));
    EXPECT_EQ(driver.get(0x1c), Csts::ready);
    driver.disable();
    bench.disk.finish(0);
    EXPECT_EQ(driver.get(0x1c), 0U);
    EXPECT_EQ(bench.written.calls, calls + 1);
    driver.open(1, 16);
    EXPECT_FALSE(driver.take(1));
    bench.completions.hold = false;
    driver.enable();
    driver.create_queues(1);
    EXPECT_EQ(io(Op::read, 0, 1), Status::success);

    driver.submit(1, Driver::io(Op::read, 24, 8));
    driver.disable();
    driver.enable(); // at once
    EXPECT_EQ(driver.get(0x1c), Csts::ready);
    bench.disk.reap();
    EXPECT_EQ(driver.run(0, Driver::admin(AdminOpcode::identify, 1)), Status::success);
}

TEST_F(NvmeIo, DeletingAQueueEndsItsCommands) {
    driver.create_queues(2);
    driver.submit(1, Driver::io(Op::read, 0, 1));
    bench.completions.hold = true;
    driver.submit(2, Driver::io(Op::read, 0, 1));
    bench.disk.finish(1);
    driver.submit(2, Driver::io(Op::read, 8, 1));
    EXPECT_EQ(bench.completions.waiting(), 1U);
    bench.completions.hold = false;
    const u16 deletion = driver.submit(0, Driver::admin(AdminOpcode::delete_submission_queue, 2));
    EXPECT_FALSE(driver.take(0)) << "the host is not done";
    EXPECT_EQ(bench.completions.waiting(), 0U);
    bench.disk.finish(1);
    const auto entry = driver.take(0);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->command_id, deletion);
    EXPECT_FALSE(driver.take(2));
    bench.disk.finish(0);
    EXPECT_TRUE(driver.take(1)) << "another queue's goes on";
}

TEST_F(NvmeIo, DeletionIsAnsweredWhenTheHostIsDone) {
    driver.create_queues(2);
    driver.submit(1, Driver::io(Op::read, 0, 1));
    driver.submit(2, Driver::io(Op::read, 8, 1));
    const u16 deletion = driver.submit(0, Driver::admin(AdminOpcode::delete_submission_queue, 2));
    EXPECT_FALSE(driver.take(0));
    driver.submit(0, Driver::admin(AdminOpcode::delete_submission_queue, 2));
    auto entry = driver.take(0);
    ASSERT_TRUE(entry);
    EXPECT_EQ(Driver::status_of(*entry), Status::invalid_queue_identifier) << "on its way already";
    bench.disk.finish(0);
    EXPECT_TRUE(driver.take(1)) << "others go on";
    EXPECT_FALSE(driver.take(0));
    bench.disk.finish(0);
    entry = driver.take(0);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->command_id, deletion);
    EXPECT_EQ(Driver::status_of(*entry), Status::success);
    EXPECT_FALSE(driver.take(2));
    EXPECT_EQ(driver.run(0, Driver::admin(AdminOpcode::delete_completion_queue, 2)),
              Status::success);
    driver.create_queues(2);
    EXPECT_EQ(driver.run(2, Driver::io(Op::read, 8, 1)), Status::success);
    // A reset between deletion and its answer.
    driver.submit(2, Driver::io(Op::read, 8, 1));
    driver.submit(0, Driver::admin(AdminOpcode::delete_submission_queue, 2));
    driver.disable();
    bench.disk.finish(0);
    EXPECT_EQ(driver.get(0x1c), 0U);
}

TEST_F(NvmeIo, DeletionForgetsWhatAFullQueueHolds) {
    driver.open(2, 4);
    driver.open(3, 16);
    ASSERT_EQ(driver.run(0, Driver::create_completion_queue(2, 4, 2)), Status::success);
    ASSERT_EQ(driver.run(0, Driver::create_submission_queue(3, 16, 2)), Status::success);
    for (unsigned i = 0; i < 10; ++i)
        driver.push(3, Driver::io(Op::read, i, 1));
    driver.ring_submission(3);
    while (bench.disk.reap() != 0) {
    }
    ASSERT_EQ(driver.run(0, Driver::admin(AdminOpcode::delete_submission_queue, 3)),
              Status::success);
    for (unsigned i = 0; i < 3; ++i)
        EXPECT_TRUE(driver.take(2)) << "these were there";
    EXPECT_FALSE(driver.take(2));
    EXPECT_EQ(driver.run(0, Driver::admin(AdminOpcode::delete_completion_queue, 2)),
              Status::success);
    EXPECT_EQ(io(Op::read, 0, 1), Status::success);
}

TEST_F(NvmeIo, ShutdownWaitsForWhatIsUnderWay) {
    driver.submit(1, Driver::io(Op::write, 0, 1));
    driver.set(0x14, Driver::cc_enabled | 1 << 14);
    EXPECT_EQ(bench.disk.seen.size(), 1U);
    bench.disk.finish(0);
    EXPECT_TRUE(driver.take(1));
    EXPECT_EQ(bench.disk.seen.back().operation, Block::flush);
    EXPECT_EQ(driver.get(0x1c), Csts::ready | Csts::shutdown_occurring);
    driver.disable(); // in the middle of it
    EXPECT_EQ(driver.get(0x1c), Csts::ready);
    bench.disk.finish(0);
    EXPECT_EQ(driver.get(0x1c), 0U);
}

TEST_F(NvmeIo, AbortIsASignOfTrouble) {
    const u16 id = driver.submit(1, Driver::io(Op::read, 0, 1));
    driver.submit(0, Driver::admin(AdminOpcode::abort, u32{id} << 16 | 1));
    const auto entry = driver.take(0);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->result, 1U) << "not aborted";
    EXPECT_EQ(bench.completions.troubles, std::vector{GuestTrouble::abort});
    bench.disk.reap();
    EXPECT_TRUE(driver.take(1));
    EXPECT_EQ(driver.run(0, Driver::admin(AdminOpcode::abort, u32{id} << 16 | 1)), Status::success);
    EXPECT_EQ(bench.completions.troubles.size(), 1U) << "it was done already";
}

TEST_F(NvmeIo, ADoorbellIsACommandWritten) {
    const unsigned before = bench.completions.commands;
    driver.submit(1, Driver::io(Op::read, 0, 1));
    EXPECT_EQ(bench.completions.commands, before + 1);
    bench.disk.reap();
    ASSERT_TRUE(driver.take(1));
    EXPECT_EQ(bench.completions.commands, before + 1) << "a completion queue's is not";
}

/// Queues that lie in each other, in themselves, and in the data.
TEST_F(NvmeIo, Overlapping) {
    SubmissionEntry create = Driver::create_completion_queue(2, 64, 2);
    create.prp1 = Driver::submission_base(2);
    ASSERT_EQ(driver.run(0, create), Status::success);
    ASSERT_EQ(driver.run(0, Driver::create_submission_queue(2, 64, 2)), Status::success);
    driver.open(2, 64);
    for (unsigned i = 0; i < 60; ++i)
        driver.push(2, Driver::io(Op::read, 0, 8, Driver::submission_base(2)));
    driver.ring_submission(2);
    while (bench.disk.reap() != 0) {
    }
    EXPECT_EQ(driver.get(0x1c), Csts::ready);
    EXPECT_EQ(io(Op::read, 0, 1), Status::success);
}

} // namespace
} // namespace gnomon::platform::nvme
