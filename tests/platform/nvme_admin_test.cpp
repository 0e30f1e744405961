// SPDX-License-Identifier: Apache-2.0
/// @file Registers, states and the admin command set.
#include "nvme_driver.h"

#include "fixtures.h"
#include "platform/nvme/identify.h"

namespace gnomon::platform::nvme {
namespace {

using namespace test;

class NvmeAdmin : public testing::Test {
protected:
    static constexpr u64 data = Driver::data;
    using Op = AdminOpcode;

    Status admin(Op opcode, u32 cdw10 = 0, u32 cdw11 = 0, u32 name_space = 0) {
        SubmissionEntry command = Driver::admin(opcode, cdw10, cdw11);
        command.namespace_id = name_space;
        return driver.run(0, command);
    }
    Status log(LogPage page, u32 bytes, u32 name_space = 0, bool retain = false) {
        return admin(Op::get_log_page,
                     static_cast<u32>(page) | (bytes / 4 - 1) << 16 | (retain ? 1U << 15 : 0), 0,
                     name_space);
    }
    u32 get_feature(FeatureId id, u32 select = 0, u32 selector = 0) {
        EXPECT_EQ(admin(Op::get_features, static_cast<u32>(id) | select << 8, selector),
                  Status::success);
        return driver.result;
    }
    Status set_feature(FeatureId id, u32 value) {
        return admin(Op::set_features, static_cast<u32>(id), value);
    }

    Bench bench;
    Driver driver{bench};
};

TEST_F(NvmeAdmin, RegistersBeforeItIsEnabled) {
    Controller& device = bench.device;
    const u64 cap = device.read(0, 8);
    EXPECT_EQ(cap & 0xffff, 1023U) << "MQES";
    EXPECT_EQ(cap >> 16 & 1, 1U) << "CQR";
    EXPECT_EQ(cap >> 24 & 0xff, 60U) << "TO";
    EXPECT_EQ(cap >> 32 & 15, 0U) << "DSTRD";
    EXPECT_EQ(cap >> 36 & 1, 1U) << "NSSRS";
    EXPECT_EQ(cap >> 37 & 0xff, 1U) << "CSS";
    EXPECT_EQ(cap >> 48 & 0xff, 0x40U) << "MPSMIN, MPSMAX";
    EXPECT_EQ(driver.get(0x04), cap >> 32);
    EXPECT_EQ(device.read(6, 2), cap >> 48) << "any read gives the bytes";
    EXPECT_EQ(driver.get(0x08), 0x10400U);
    EXPECT_EQ(device.read(8, 8), 0x10400U);
    for (const u64 offset : {0x0c, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38,
                             0x3c, 0x40, 0xe00, 0x1000, 0x1ffc})
        EXPECT_EQ(driver.get(offset), 0U) << offset;
}

TEST_F(NvmeAdmin, RegistersTakeDwordsAndQwordsOnly) {
    Controller& device = bench.device;
    driver.set(0x24, ~0U);
    EXPECT_EQ(driver.get(0x24), 0x0fff0fffU);
    device.write(0x28, 8, ~u64{0});
    EXPECT_EQ(device.read(0x28, 8), ~u64{0xfff});
    driver.set(0x30, 0x12345678);
    driver.set(0x34, 0x9);
    EXPECT_EQ(device.read(0x30, 8), 0x9'1234'5000U);
    device.write(0x30, 2, 0xffff);
    device.write(0x30, 1, 0xff);
    device.write(0x31, 4, ~u64{0});
    device.write(0x2c, 8, 0);
    EXPECT_EQ(device.read(0x30, 8), 0x9'1234'5000U);
    EXPECT_EQ(device.read(0x28, 8), ~u64{0xfff});
    driver.set(0x0c, 0xf0);
    driver.set(0x0c, 0x01);
    EXPECT_EQ(driver.get(0x0c), 0xf1U);
    driver.set(0x10, 0x30);
    EXPECT_EQ(driver.get(0x0c), 0xc1U);
    EXPECT_EQ(driver.get(0x10), 0xc1U);
    driver.set(0x08, 0);
    EXPECT_EQ(driver.get(0x08), 0x10400U);
}

TEST_F(NvmeAdmin, EnablesAndDisables) {
    driver.enable();
    EXPECT_EQ(driver.get(0x1c), Csts::ready);
    EXPECT_EQ(driver.get(0x14), Driver::cc_enabled);
    EXPECT_EQ(admin(Op::identify, 1), Status::success);
    driver.disable();
    EXPECT_EQ(driver.get(0x1c), 0U);
    EXPECT_EQ(driver.get(0x24), 0x001f001fU) << "the admin queue's registers stay";
    driver.enable();
    EXPECT_EQ(admin(Op::identify, 1), Status::success) << "rings begin anew";
}

TEST_F(NvmeAdmin, WhatCannotBeEnabledIsFatal) {
    const auto status_with = [&](u32 cc, u32 aqa, u64 asq, u64 acq) {
        driver.disable();
        EXPECT_EQ(driver.get(0x1c), 0U);
        driver.set(0x24, aqa);
        bench.device.write(0x28, 8, asq);
        bench.device.write(0x30, 8, acq);
        driver.set(0x14, cc);
        return driver.get(0x1c);
    };
    constexpr u32 cc = Driver::cc_enabled, sizes = 0x001f'001f;
    EXPECT_EQ(status_with(cc, sizes, 0x10000, 0x20000), Csts::ready);
    EXPECT_EQ(status_with(cc | 6 << 4, sizes, 0x10000, 0x20000), Csts::fatal) << "command set";
    EXPECT_EQ(status_with(cc | 5 << 7, sizes, 0x10000, 0x20000), Csts::fatal) << "page size";
    EXPECT_EQ(status_with(cc | 1 << 11, sizes, 0x10000, 0x20000), Csts::fatal) << "arbitration";
    EXPECT_EQ(status_with(cc, 0x001f'0000, 0x10000, 0x20000), Csts::fatal) << "one entry";
    EXPECT_EQ(status_with(cc, 0x0000'001f, 0x10000, 0x20000), Csts::fatal);
    EXPECT_EQ(status_with(cc, sizes, Bench::memory_bytes, 0x20000), Csts::fatal) << "no RAM";
    EXPECT_EQ(status_with(cc, sizes, 0x10000, 0xfee00000), Csts::fatal);
    EXPECT_EQ(status_with(cc, sizes, ~u64{0xfff}, 0x20000), Csts::fatal);
    EXPECT_EQ(status_with(cc, 0x0fff'0fff, Bench::memory_bytes - 0x1000, 0x20000), Csts::fatal)
        << "past the end";
    EXPECT_EQ(status_with(cc | 1 << 7, sizes, 0x11000, 0x20000), Csts::fatal) << "8 KiB pages";
    EXPECT_EQ(status_with(cc | 4 << 7, sizes, 0x10000, 0x20000), Csts::ready) << "64 KiB pages";
}

TEST_F(NvmeAdmin, IdentifiesTheController) {
    Options options;
    options.serial = "S123";
    options.model = "A model\x01 of a disk";
    options.vendor_id = 0x1234;
    Bench other(options);
    Driver guest(other);
    guest.enable();
    ASSERT_EQ(guest.run(0, Driver::admin(Op::identify, 1)), Status::success);
    EXPECT_EQ(guest.peek<u16>(data), 0x1234U);
    EXPECT_EQ(guest.text(data + 4, 20), "S123                ");
    EXPECT_EQ(guest.text(data + 24, 40), "A model_ of a disk                      ");
    EXPECT_EQ(guest.peek<u8>(data + 77), 7U) << "MDTS";
    EXPECT_EQ(guest.peek<u32>(data + 80), 0x10400U) << "VER";
    EXPECT_EQ(guest.peek<u8>(data + 111), 1U) << "CNTRLTYPE";
    EXPECT_EQ(guest.peek<u16>(data + 256), 0U) << "OACS";
    EXPECT_EQ(guest.peek<u8>(data + 512), 0x66U) << "SQES";
    EXPECT_EQ(guest.peek<u8>(data + 513), 0x44U) << "CQES";
    EXPECT_EQ(guest.peek<u32>(data + 516), 1U) << "NN";
    EXPECT_EQ(guest.peek<u8>(data + 525), 7U) << "VWC";
    EXPECT_EQ(guest.peek<u32>(data + 536), 0U) << "SGLS";
    EXPECT_EQ(guest.text(data + 768, 32), "nqn.2014-08.org.nvmexpress:uuid:");
    EXPECT_EQ(guest.peek<u8>(data + 768 + 68), 0U) << "SUBNQN ends";
    EXPECT_NE(unique_id(options), unique_id(Options{}));
}

TEST_F(NvmeAdmin, IdentifiesTheNamespace) {
    driver.enable();
    ASSERT_EQ(admin(Op::identify, 0, 0, 1), Status::success);
    for (const u64 field : {0, 8, 16})
        EXPECT_EQ(driver.peek<u64>(data + field), Bench::disk_bytes / 512);
    EXPECT_EQ(driver.peek<u8>(data + 25), 0U) << "one format";
    EXPECT_EQ(driver.peek<u32>(data + 128), 9U << 16) << "of 512 bytes";
    EXPECT_EQ(driver.peek<u8>(data + 99), 0U);
    bench.disk.write_protected = true;
    ASSERT_EQ(admin(Op::identify, 0, 0, 1), Status::success);
    EXPECT_EQ(driver.peek<u8>(data + 99), 1U) << "write protected";

    driver.fill(data, 4096, 0xff);
    ASSERT_EQ(admin(Op::identify, 2, 0, 0), Status::success);
    EXPECT_EQ(driver.peek<u64>(data), 1U) << "namespace 1, and no more";
    ASSERT_EQ(admin(Op::identify, 2, 0, 1), Status::success);
    EXPECT_EQ(driver.peek<u64>(data), 0U);
    driver.fill(data, 4096, 0xff);
    ASSERT_EQ(admin(Op::identify, 3, 0, 1), Status::success);
    EXPECT_EQ(driver.peek<u32>(data), 0x1003U) << "a UUID";
    EXPECT_EQ(driver.peek<u32>(data + 20), 0U) << "and nothing else";

    for (const u32 none : {0U, 2U, all_namespaces})
        EXPECT_EQ(admin(Op::identify, 0, 0, none), Status::invalid_namespace);
    EXPECT_EQ(admin(Op::identify, 2, 0, all_namespaces), Status::invalid_namespace);
    EXPECT_EQ(admin(Op::identify, 3, 0, 0), Status::invalid_namespace);
    for (const u32 structure : {4U, 5U, 6U, 0x10U, 0xffU})
        EXPECT_EQ(admin(Op::identify, structure, 0, 1), Status::invalid_field);
}

TEST_F(NvmeAdmin, DataGoWhereThePrpsSay) {
    driver.enable();
    SubmissionEntry command = Driver::admin(Op::identify, 1);
    command.prp1 = data + 0xffc;
    command.prp2 = data + 0x3000;
    driver.fill(data, 0x5000, 0xaa);
    ASSERT_EQ(driver.run(0, command), Status::success);
    EXPECT_EQ(driver.peek<u8>(data + 0xffb), 0xaaU);
    EXPECT_EQ(driver.text(data + 0x3000, 10), "GNOMON0001");
    EXPECT_EQ(driver.peek<u32>(data + 0x3ffc), 0xaaaaaaaaU);
    command.prp1 = data + 1;
    EXPECT_EQ(driver.run(0, command), Status::prp_offset_invalid);
    command.prp1 = data + 4;
    command.prp2 = data + 8;
    EXPECT_EQ(driver.run(0, command), Status::prp_offset_invalid);
    command.prp2 = 0xfee0'0000;
    EXPECT_EQ(driver.run(0, command), Status::data_transfer_error);
    command = Driver::admin(Op::identify, 1);
    for (const unsigned flags : {0x01, 0x02, 0x40, 0x80, 0xc0}) {
        command.flags = static_cast<u8>(flags);
        EXPECT_EQ(driver.run(0, command), Status::invalid_field) << "fused, or an SGL";
    }
}

TEST_F(NvmeAdmin, RefusesWhatIsNotOffered) {
    driver.enable();
    unsigned refused = 0;
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
        if (opcode <= 0x0c && opcode != 3 && opcode != 7 && opcode != 0x0b) continue;
        EXPECT_EQ(admin(static_cast<Op>(opcode)), Status::invalid_opcode) << opcode;
        ++refused;
    }
    EXPECT_EQ(refused, 246U) << "format, firmware, security, keep alive and the rest";
}

TEST_F(NvmeAdmin, CreatesAndDeletesQueues) {
    driver.enable();
    const auto cq = [&](unsigned id, u32 entries, unsigned vector) {
        return driver.run(0, Driver::create_completion_queue(id, entries, vector));
    };
    const auto sq = [&](unsigned id, u32 entries, unsigned completion) {
        return driver.run(0, Driver::create_submission_queue(id, entries, completion));
    };
    EXPECT_EQ(cq(0, 16, 0), Status::invalid_queue_identifier);
    EXPECT_EQ(cq(17, 16, 0), Status::invalid_queue_identifier);
    EXPECT_EQ(cq(1, 1, 0), Status::invalid_queue_size);
    EXPECT_EQ(cq(1, 1025, 0), Status::invalid_queue_size);
    EXPECT_EQ(cq(1, 16, 17), Status::invalid_interrupt_vector);
    SubmissionEntry command = Driver::create_completion_queue(1, 16, 1);
    command.cdw11 &= ~1U;
    EXPECT_EQ(driver.run(0, command), Status::invalid_field) << "not contiguous";
    command = Driver::create_completion_queue(1, 16, 1);
    command.prp1 += 64;
    EXPECT_EQ(driver.run(0, command), Status::prp_offset_invalid);
    command.prp1 = Bench::memory_bytes - 4096;
    command.cdw10 = 1 | 1023 << 16;
    EXPECT_EQ(driver.run(0, command), Status::data_transfer_error);
    EXPECT_EQ(cq(1, 1024, 1), Status::success);
    EXPECT_EQ(cq(1, 16, 1), Status::invalid_queue_identifier) << "in use";

    EXPECT_EQ(sq(0, 16, 1), Status::invalid_queue_identifier);
    EXPECT_EQ(sq(17, 16, 1), Status::invalid_queue_identifier);
    EXPECT_EQ(sq(1, 16, 0), Status::invalid_queue_identifier);
    EXPECT_EQ(sq(1, 16, 17), Status::invalid_queue_identifier);
    EXPECT_EQ(sq(1, 16, 2), Status::completion_queue_invalid);
    EXPECT_EQ(sq(1, 1025, 1), Status::invalid_queue_size);
    EXPECT_EQ(sq(1, 1024, 1), Status::success);
    EXPECT_EQ(sq(1, 16, 1), Status::invalid_queue_identifier);
    EXPECT_EQ(sq(2, 16, 1), Status::success) << "two on one completion queue";

    EXPECT_EQ(admin(Op::delete_completion_queue, 0), Status::invalid_queue_identifier);
    EXPECT_EQ(admin(Op::delete_completion_queue, 2), Status::invalid_queue_identifier);
    EXPECT_EQ(admin(Op::delete_completion_queue, 1), Status::invalid_queue_deletion);
    EXPECT_EQ(admin(Op::delete_submission_queue, 0), Status::invalid_queue_identifier);
    EXPECT_EQ(admin(Op::delete_submission_queue, 3), Status::invalid_queue_identifier);
    EXPECT_EQ(admin(Op::delete_submission_queue, 1), Status::success);
    EXPECT_EQ(admin(Op::delete_completion_queue, 1), Status::invalid_queue_deletion);
    EXPECT_EQ(admin(Op::delete_submission_queue, 2), Status::success);
    EXPECT_EQ(admin(Op::delete_completion_queue, 1), Status::success);
    EXPECT_EQ(admin(Op::delete_completion_queue, 1), Status::invalid_queue_identifier);

    driver.disable();
    driver.enable();
    driver.set(0x14, Driver::cc_enabled & ~0x00ff'0000U);
    EXPECT_EQ(cq(1, 16, 0), Status::invalid_queue_size) << "no entry sizes";
    bench.vectors.messages = false;
    driver.set(0x14, Driver::cc_enabled);
    EXPECT_EQ(cq(1, 16, 1), Status::invalid_interrupt_vector) << "INTx has one";
    EXPECT_EQ(cq(1, 16, 0), Status::success);
}

TEST_F(NvmeAdmin, Features) {
    driver.enable();
    EXPECT_EQ(set_feature(FeatureId::number_of_queues, 0x00030007), Status::success);
    EXPECT_EQ(driver.result, 0x000f000fU);
    EXPECT_EQ(get_feature(FeatureId::number_of_queues), 0x000f000fU);
    EXPECT_EQ(set_feature(FeatureId::number_of_queues, 0xffff), Status::invalid_field);
    EXPECT_EQ(set_feature(FeatureId::arbitration, 0x01020303), Status::success);
    EXPECT_EQ(get_feature(FeatureId::arbitration), 0x01020303U);
    EXPECT_EQ(set_feature(FeatureId::power_management, 1), Status::invalid_field);
    EXPECT_EQ(set_feature(FeatureId::power_management, 0x20), Status::success);
    EXPECT_EQ(get_feature(FeatureId::volatile_write_cache), 1U);
    EXPECT_EQ(set_feature(FeatureId::volatile_write_cache, 0), Status::success);
    EXPECT_EQ(get_feature(FeatureId::volatile_write_cache), 0U);
    EXPECT_EQ(get_feature(FeatureId::volatile_write_cache, 1), 1U) << "default";
    EXPECT_EQ(get_feature(FeatureId::volatile_write_cache, 2), 1U) << "saved";
    EXPECT_EQ(get_feature(FeatureId::volatile_write_cache, 3), 4U) << "changeable";
    EXPECT_EQ(get_feature(FeatureId::error_recovery, 3), 6U) << "by namespace";
    EXPECT_EQ(set_feature(FeatureId::error_recovery, 1 << 16), Status::invalid_field);
    EXPECT_EQ(get_feature(FeatureId::temperature_threshold), warning_temperature);
    EXPECT_EQ(get_feature(FeatureId::temperature_threshold, 0, 1 << 20), 0U);
    EXPECT_EQ(set_feature(FeatureId::temperature_threshold, 1 << 16 | 300), Status::invalid_field);
    EXPECT_EQ(set_feature(FeatureId::interrupt_coalescing, 0x0a03), Status::success);
    EXPECT_EQ(get_feature(FeatureId::interrupt_coalescing), 0x0a03U);
    EXPECT_EQ(set_feature(FeatureId::interrupt_vector_configuration, 1 << 16 | 5), Status::success);
    EXPECT_EQ(get_feature(FeatureId::interrupt_vector_configuration, 0, 5), 1U << 16 | 5);
    EXPECT_EQ(get_feature(FeatureId::interrupt_vector_configuration, 0, 6), 6U);
    EXPECT_EQ(set_feature(FeatureId::interrupt_vector_configuration, 17), Status::invalid_field);
    EXPECT_EQ(set_feature(FeatureId::write_atomicity, 1), Status::success);
    EXPECT_EQ(get_feature(FeatureId::write_atomicity), 1U);

    driver.fill(data, 16, 0x5a);
    EXPECT_EQ(set_feature(FeatureId::host_identifier, 0), Status::invalid_field) << "64 bits";
    EXPECT_EQ(set_feature(FeatureId::host_identifier, 1), Status::success);
    driver.fill(data, 17, 0);
    EXPECT_EQ(get_feature(FeatureId::host_identifier, 0, 1), 0U);
    EXPECT_EQ(driver.text(data, 17), std::string(16, '\x5a') + '\0');

    for (const u32 id : {0U, 3U, 0x0cU, 0x0dU, 0x0eU, 0x0fU, 0x80U, 0xffU}) {
        EXPECT_EQ(admin(Op::get_features, id), Status::invalid_field) << id;
        EXPECT_EQ(admin(Op::set_features, id), Status::invalid_field) << id;
    }
    EXPECT_EQ(admin(Op::set_features, 1U << 31 | 6, 1), Status::feature_not_saveable);
    EXPECT_EQ(admin(Op::set_features, 6, 1, 1), Status::feature_not_namespace_specific);
    EXPECT_EQ(admin(Op::set_features, 5, 1, 1), Status::success);
    EXPECT_EQ(admin(Op::set_features, 6, 1, 2), Status::invalid_namespace);
    EXPECT_EQ(admin(Op::get_features, 6, 1, 2), Status::invalid_namespace);
    EXPECT_EQ(admin(Op::get_features, 6 | 4 << 8), Status::invalid_field) << "SEL";

    driver.create_queues(1);
    EXPECT_EQ(set_feature(FeatureId::number_of_queues, 0), Status::command_sequence_error);
    driver.disable();
    driver.enable();
    EXPECT_EQ(get_feature(FeatureId::volatile_write_cache), 1U) << "nothing is saved";
}

TEST_F(NvmeAdmin, LogPages) {
    driver.enable();
    EXPECT_EQ(admin(Op::identify, 0x77), Status::invalid_field);
    EXPECT_EQ(admin(static_cast<Op>(0x80)), Status::invalid_opcode);
    ASSERT_EQ(log(LogPage::errors, 128), Status::success);
    EXPECT_EQ(driver.peek<u64>(data), 2U) << "newest first";
    EXPECT_EQ(driver.peek<u64>(data + 64), 1U);
    EXPECT_EQ(driver.peek<u16>(data + 12), (0x4001 | 0x2000) << 1 & 0xffff);
    EXPECT_EQ(driver.peek<u16>(data + 64 + 12), (0x4002 | 0x2000) << 1 & 0xffff);
    EXPECT_EQ(driver.peek<u16>(data + 10), driver.peek<u16>(data + 64 + 10) + 1) << "CID";

    bench.clock.advance(u64{3} * 3600 * 1'000'000'000);
    ASSERT_EQ(log(LogPage::health, 512, all_namespaces), Status::success);
    EXPECT_EQ(driver.peek<u8>(data), 0U);
    EXPECT_EQ(driver.peek<u16>(data + 1), composite_temperature);
    EXPECT_EQ(driver.peek<u64>(data + 128), 3U) << "hours";
    EXPECT_EQ(driver.peek<u64>(data + 176), 2U) << "errors";
    EXPECT_EQ(log(LogPage::health, 512, 1), Status::invalid_field);

    driver.fill(data, 4096, 0xff);
    ASSERT_EQ(log(LogPage::firmware_slots, 512), Status::success);
    EXPECT_EQ(driver.peek<u8>(data), 1U);
    EXPECT_EQ(driver.text(data + 8, 8), "1       ");
    driver.fill(data, 4096, 0xff);
    ASSERT_EQ(log(LogPage::changed_namespaces, 4096), Status::success);
    EXPECT_EQ(driver.text(data, 4096), std::string(4096, '\0'));
    ASSERT_EQ(log(LogPage::commands_supported, 4096), Status::success);
    EXPECT_EQ(driver.peek<u32>(data + 4 * 0x06), 1U);
    EXPECT_EQ(driver.peek<u32>(data + 4 * 0x80), 0U);
    EXPECT_EQ(driver.peek<u32>(data + 1024 + 4 * 0x01), 3U);
    EXPECT_EQ(log(static_cast<LogPage>(0x07), 512), Status::invalid_log_page);

    SubmissionEntry command = Driver::admin(Op::get_log_page, 3 | 15 << 16);
    command.cdw12 = 8;
    ASSERT_EQ(driver.run(0, command), Status::success);
    EXPECT_EQ(driver.text(data, 8), "1       ") << "from an offset";
    command.cdw12 = 512;
    ASSERT_EQ(driver.run(0, command), Status::success);
    EXPECT_EQ(driver.peek<u64>(data), 0U);
    for (const u32 offset : {2U, 516U}) {
        command.cdw12 = offset;
        EXPECT_EQ(driver.run(0, command), Status::invalid_field);
    }
    command.cdw12 = 0;
    command.cdw13 = 1;
    EXPECT_EQ(driver.run(0, command), Status::invalid_field);
    EXPECT_EQ(admin(Op::get_log_page, 0xffff'0003, 0xffff), Status::invalid_field) << "16 GiB";
}

TEST_F(NvmeAdmin, ErrorLogKeepsTheLast) {
    driver.enable();
    for (unsigned i = 0; i < 70; ++i)
        EXPECT_EQ(admin(static_cast<Op>(0x80)), Status::invalid_opcode);
    SubmissionEntry command = Driver::admin(Op::get_log_page, 1 | (65 * 16 - 1) << 16);
    command.prp2 = data + 0x1000;
    driver.fill(data, 0x2000, 0xee);
    ASSERT_EQ(driver.run(0, command), Status::success);
    EXPECT_EQ(driver.peek<u64>(data), 70U);
    EXPECT_EQ(driver.peek<u64>(data + 63 * 64), 7U);
    EXPECT_EQ(driver.peek<u64>(data + 64 * 64), 0U) << "64 entries, then nothing";
}

TEST_F(NvmeAdmin, EventsAreToldOnceUntilTheirLogIsRead) {
    driver.enable();
    const u16 first = driver.submit(0, Driver::admin(Op::asynchronous_event_request));
    const u16 second = driver.submit(0, Driver::admin(Op::asynchronous_event_request));
    EXPECT_FALSE(driver.take(0));
    driver.set(0x1000 + 8 * 5, 1);
    auto entry = driver.take(0);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->command_id, first);
    EXPECT_EQ(entry->result, 0x010000U) << "error, invalid register, log page 1";
    EXPECT_EQ(entry->status >> 1, 0U);
    driver.set(0x1000, 32);
    EXPECT_FALSE(driver.take(0)) << "masked";
    const u16 read = driver.submit(0, Driver::admin(Op::get_log_page, 1 | 1 << 15 | 15 << 16));
    entry = driver.take(0);
    ASSERT_TRUE(entry && entry->command_id == read);
    driver.set(0x1004, 31);
    EXPECT_FALSE(driver.take(0)) << "retained";
    ASSERT_EQ(log(LogPage::errors, 64), Status::success);
    driver.set(0x1004, 31);
    entry = driver.take(0);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->command_id, second);
    EXPECT_EQ(entry->result, 0x010100U) << "invalid value";
}

TEST_F(NvmeAdmin, EventRequestsAreLimitedAndCanBeAborted) {
    driver.enable();
    std::vector<u16> ids;
    for (unsigned i = 0; i < 4; ++i)
        ids.push_back(driver.submit(0, Driver::admin(Op::asynchronous_event_request)));
    EXPECT_EQ(admin(Op::asynchronous_event_request), Status::event_request_limit_exceeded);
    driver.submit(0, Driver::admin(Op::abort, u32{ids[2]} << 16));
    auto entry = driver.take(0);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->command_id, ids[2]);
    EXPECT_EQ(entry->status >> 1, u16(Status::abort_requested));
    entry = driver.take(0);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->result, 0U) << "aborted";
    EXPECT_EQ(admin(Op::abort, u32{ids[2]} << 16), Status::success);
    EXPECT_EQ(driver.result, 1U) << "not aborted";
    driver.disable();
    driver.enable();
    driver.set(0x1000 + 8 * 5, 1);
    EXPECT_FALSE(driver.take(0)) << "a reset forgets them";
}

TEST_F(NvmeAdmin, TemperatureThreshold) {
    driver.enable();
    const u16 request = driver.submit(0, Driver::admin(Op::asynchronous_event_request));
    EXPECT_EQ(set_feature(FeatureId::temperature_threshold, 300), Status::success);
    EXPECT_FALSE(driver.take(0)) << "nobody asked for it";
    ASSERT_EQ(log(LogPage::health, 512), Status::success);
    EXPECT_EQ(driver.peek<u8>(data), Health::temperature);
    EXPECT_EQ(set_feature(FeatureId::temperature_threshold, 350), Status::success);
    EXPECT_EQ(set_feature(FeatureId::asynchronous_events, 0xff), Status::success);
    driver.submit(0, Driver::admin(Op::set_features, 4, 1 << 20 | 320));
    const auto entry = driver.take(0);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->command_id, request);
    EXPECT_EQ(entry->result, 0x020101U);
}

TEST_F(NvmeAdmin, SubsystemResetForgetsEverything) {
    driver.enable();
    driver.set(0x20, 0x4e564d64);
    EXPECT_EQ(driver.get(0x1c), Csts::ready);
    driver.set(0x20, 0x4e564d65);
    EXPECT_EQ(driver.get(0x1c), Csts::subsystem_reset_occurred);
    for (const u64 offset : {0x14, 0x24, 0x28, 0x30})
        EXPECT_EQ(driver.get(offset), 0U);
    driver.set(0x1c, Csts::subsystem_reset_occurred);
    EXPECT_EQ(driver.get(0x1c), 0U);
    driver.enable();
    EXPECT_EQ(admin(Op::identify, 1), Status::success);
    bench.device.reset();
    EXPECT_EQ(driver.get(0x1c), 0U);
}

TEST_F(NvmeAdmin, ShutdownFlushes) {
    driver.enable();
    driver.create_queues(1);
    driver.set(0x14, Driver::cc_enabled | 1 << 14);
    EXPECT_EQ(driver.get(0x1c), Csts::ready | Csts::shutdown_occurring);
    const MemoryDisk::Seen flush{BlockOperation::flush, false, 0, 0};
    EXPECT_EQ(bench.disk.seen.back(), flush);
    bench.disk.reap();
    EXPECT_EQ(driver.get(0x1c), Csts::ready | Csts::shutdown_complete);
    driver.submit(0, Driver::admin(Op::identify, 1));
    EXPECT_FALSE(driver.take(0)) << "no commands after that";
    driver.disable();
    EXPECT_EQ(driver.get(0x1c), 0U);
    driver.enable();
    EXPECT_EQ(admin(Op::identify, 1), Status::success);

    bench.disk.seen.clear();
    bench.disk.write_protected = true;
    driver.set(0x14, Driver::cc_enabled | 2 << 14);
    EXPECT_EQ(driver.get(0x1c), Csts::ready | Csts::shutdown_complete) << "nothing to flush";
    EXPECT_TRUE(bench.disk.seen.empty());
}

TEST_F(NvmeAdmin, HostileRegisters) {
    driver.enable();
    driver.create_queues(1);
    platform::test::abuse(bench.device, 0x1100, 4, [&](std::mt19937_64& random) {
        if (random() % 16 == 0) bench.disk.reap();
    });
    bench.device.reset();
    while (bench.disk.reap() != 0) {
    }
    driver.enable();
    EXPECT_EQ(driver.get(0x1c), Csts::ready);
    EXPECT_EQ(admin(Op::identify, 1), Status::success);
}

} // namespace
} // namespace gnomon::platform::nvme
