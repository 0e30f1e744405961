// SPDX-License-Identifier: Apache-2.0
/// @file A guest's driver of the NVMe controller, as small as it can be.
#pragma once

#include "nvme_bench.h"

#include <gtest/gtest.h>

namespace gnomon::platform::nvme::test {

/// Queues at fixed places: the pair n at 1 MiB + n * 128 KiB, the submission queue first. Data from
/// 64 KiB on.
class Driver {
public:
    static constexpr u64 queue_base = 0x10'0000, queue_stride = 0x2'0000, data = 0x1'0000;
    static constexpr u32 cc_enabled = 0x0046'0001;

    explicit Driver(Bench& bench) : m_bench(bench), m_rings(65) {}

    [[nodiscard]] u32 get(u64 offset) { return static_cast<u32>(m_bench.device.read(offset, 4)); }
    void set(u64 offset, u32 value) { m_bench.device.write(offset, 4, value); }

    [[nodiscard]] static u64 submission_base(unsigned id) { return queue_base + id * queue_stride; }
    [[nodiscard]] static u64 completion_base(unsigned id) {
        return submission_base(id) + queue_stride / 2;
    }

    void enable(u32 entries = 32) {
        m_rings.assign(m_rings.size(), Ring{});
        open(0, entries);
        set(0x24, (entries - 1) << 16 | (entries - 1));
        m_bench.device.write(0x28, 8, submission_base(0));
        m_bench.device.write(0x30, 8, completion_base(0));
        set(0x14, cc_enabled);
    }
    void disable() { set(0x14, 0); }

    /// Notes a ring and clears its completion queue, as drivers do.
    void open(unsigned id, u32 entries) {
        m_rings[id] = Ring{entries};
        const std::vector<std::byte> zeroes(entries * sizeof(CompletionEntry));
        EXPECT_TRUE(m_bench.memory.write(Gpa(completion_base(id)), zeroes));
    }
    [[nodiscard]] static SubmissionEntry create_completion_queue(unsigned id, u32 entries,
                                                                 unsigned vector) {
        SubmissionEntry command;
        command.opcode = u8(AdminOpcode::create_completion_queue);
        command.prp1 = completion_base(id);
        command.cdw10 = id | (entries - 1) << 16;
        command.cdw11 = vector << 16 | 3;
        return command;
    }
    [[nodiscard]] static SubmissionEntry create_submission_queue(unsigned id, u32 entries,
                                                                 unsigned completion_queue) {
        SubmissionEntry command;
        command.opcode = u8(AdminOpcode::create_submission_queue);
        command.prp1 = submission_base(id);
        command.cdw10 = id | (entries - 1) << 16;
        command.cdw11 = completion_queue << 16 | 1;
        return command;
    }
    [[nodiscard]] static SubmissionEntry admin(AdminOpcode opcode, u32 cdw10 = 0, u32 cdw11 = 0) {
        SubmissionEntry command;
        command.opcode = u8(opcode);
        command.prp1 = data;
        command.cdw10 = cdw10;
        command.cdw11 = cdw11;
        return command;
    }
    [[nodiscard]] static SubmissionEntry io(IoOpcode opcode, u64 block, u32 blocks, u64 prp1 = data,
                                            u64 prp2 = 0) {
        SubmissionEntry command;
        command.opcode = u8(opcode);
        command.namespace_id = 1;
        command.prp1 = prp1;
        command.prp2 = prp2;
        command.cdw10 = static_cast<u32>(block);
        command.cdw11 = static_cast<u32>(block >> 32);
        command.cdw12 = blocks - 1;
        return command;
    }
    void create_queues(unsigned id, u32 entries = 16) {
        open(id, entries);
        EXPECT_EQ(run(0, create_completion_queue(id, entries, id)), Status::success);
        EXPECT_EQ(run(0, create_submission_queue(id, entries, id)), Status::success);
    }

    /// Puts a command into the ring without telling; its identifier.
    u16 push(unsigned id, SubmissionEntry command) {
        Ring& ring = m_rings[id];
        command.command_id = m_next_id++;
        EXPECT_TRUE(m_bench.memory.write_object(
            Gpa(submission_base(id) + ring.tail * sizeof command), command));
        ring.tail = (ring.tail + 1) % ring.entries;
        return command.command_id;
    }
    void ring_submission(unsigned id) { set(0x1000 + 8 * id, m_rings[id].tail); }
    void ring_completion(unsigned id) { set(0x1004 + 8 * id, m_rings[id].head); }
    u16 submit(unsigned id, const SubmissionEntry& command) {
        const u16 command_id = push(id, command);
        ring_submission(id);
        return command_id;
    }
    /// The next completion, if there is one; the controller is told unless `quietly`.
    std::optional<CompletionEntry> take(unsigned id, bool quietly = false) {
        Ring& ring = m_rings[id];
        CompletionEntry entry;
        EXPECT_TRUE(
            m_bench.memory.read_object(Gpa(completion_base(id) + ring.head * sizeof entry), entry));
        if ((entry.status & 1) != (ring.phase ? 1 : 0)) return std::nullopt;
        if (++ring.head == ring.entries) {
            ring.head = 0;
            ring.phase = !ring.phase;
        }
        if (!quietly) ring_completion(id);
        return entry;
    }
    /// Without M, which every error has.
    [[nodiscard]] static Status status_of(const CompletionEntry& entry) {
        const u16 status = entry.status >> 1;
        const u16 more = static_cast<u16>(Status::more);
        EXPECT_EQ((status & more) != 0, status != 0);
        return static_cast<Status>(status & ~more);
    }
    /// Submits and waits. A command that is not answered fails the test.
    Status run(unsigned id, const SubmissionEntry& command) {
        const u16 command_id = submit(id, command);
        while (m_bench.disk.reap() != 0) {
        }
        const auto entry = take(id);
        if (!entry) {
            ADD_FAILURE() << "no completion";
            return Status::internal_error;
        }
        EXPECT_EQ(entry->command_id, command_id);
        EXPECT_EQ(entry->submission_queue, id);
        EXPECT_EQ(entry->submission_head, m_rings[id].tail);
        result = entry->result;
        return status_of(*entry);
    }

    template <class T>
    [[nodiscard]] T peek(u64 gpa) {
        T value{};
        EXPECT_TRUE(m_bench.memory.read_object(Gpa(gpa), value));
        return value;
    }
    template <class T>
    void poke(u64 gpa, const T& value) {
        EXPECT_TRUE(m_bench.memory.write_object(Gpa(gpa), value));
    }
    void fill(u64 gpa, u64 size, u8 value) {
        const std::vector<std::byte> bytes(size, std::byte{value});
        EXPECT_TRUE(m_bench.memory.write(Gpa(gpa), bytes));
    }
    [[nodiscard]] std::string text(u64 gpa, std::size_t size) {
        std::string out(size, '\0');
        EXPECT_TRUE(m_bench.memory.read(Gpa(gpa), std::as_writable_bytes(std::span(out))));
        return out;
    }

    u32 result = 0; ///< DW0 of the last that was run

private:
    struct Ring {
        u32 entries = 0, tail = 0, head = 0;
        bool phase = true;
    };

    Bench& m_bench;
    std::vector<Ring> m_rings;
    u16 m_next_id = 100;
};

} // namespace gnomon::platform::nvme::test
