// SPDX-License-Identifier: Apache-2.0
#include "twin.h"

#include <gmock/gmock.h>

namespace gnomon::processor::soft {
namespace {

enum class Operation : u8 { movs, stos, lods, cmps, scas };
constexpr Operation all_operations[] = {Operation::movs, Operation::stos, Operation::lods,
                                        Operation::cmps, Operation::scas};

class Strings : public Twin {
protected:
    Strings() { insn.operand_size = 1; }

    static Helper helper(Operation operation) {
        switch (operation) {
        case Operation::movs: return movs;
        case Operation::stos: return stos;
        case Operation::lods: return lods;
        case Operation::cmps: return cmps;
        default: return scas;
        }
    }

    /// The bytes of what `insn` describes.
    Code encode(Operation operation) const {
        Code code;
        if (insn.address_size == 4) code.push_back(0x67);
        if (insn.rep) code.push_back(0xf3);
        if (insn.repne) code.push_back(0xf2);
        if (insn.operand_size == 2) code.push_back(0x66);
        if (insn.operand_size == 8) code.push_back(0x48);
        const u8 opcodes[] = {0xa4, 0xaa, 0xac, 0xa6, 0xae};
        const u8 opcode = opcodes[static_cast<unsigned>(operation)];
        code.push_back(insn.operand_size == 1 ? opcode : static_cast<u8>(opcode + 1));
        return code;
    }

    /// Runs until the instruction is complete, as a dispatcher that ignores polls would.
    HelperResult complete(Operation operation) {
        HelperResult result{};
        do {
            result = helper(operation)(*cpu, insn);
            cpu->poll = 0;
            cpu->deferred_exit = false;
        } while (result == HelperResult::dispatch);
        return result;
    }

    void compare_with_host(Operation operation) {
        HostRegisters expected = host_registers();
        host.run(encode(operation), expected);
        ASSERT_EQ(complete(operation), HelperResult::next);
        expect_same_registers(expected);
        ASSERT_NO_FATAL_FAILURE(expect_same_memory());
    }

    u64 below(u64 limit) { return random() % limit; }
};

TEST_F(Strings, AgreeWithTheHostWhateverThePages) {
    for (int round = 0; round < 3000; ++round) {
        const Operation operation = all_operations[below(std::size(all_operations))];
        insn.operand_size = static_cast<u8>(1U << below(4));
        insn.address_size = below(4) == 0 ? 4 : 8;
        const u64 kind = below(3);
        insn.rep = kind == 1;
        insn.repne = kind == 2;
        // Few distinct bytes, so that runs of equal elements come up; sometimes one value
        // throughout.
        const u64 variety = 1 + below(3);
        for (u64 i = 0; i < area.size(); ++i)
            area.data()[i] = memory.frame(0)[i] =
                below(64) == 0 ? static_cast<std::byte>(below(variety)) : std::byte{1};
        for (u64 page = 0; page < twin_pages; ++page)
            memory.set_kind(page, below(3) == 0 ? PageKind::careful : PageKind::ram);
        const bool backward = below(3) == 0;
        flags() = rflags::fixed1 | (random() & rflags::arithmetic) | (backward ? rflags::df : 0);
        const u64 size = insn.operand_size;
        const u64 count = below(4) == 0 ? below(4) : below(3 * page_size / size);
        const u64 extent = (count == 0 ? 1 : count) * size;
        const u64 span = area.size() - extent;
        // Mostly overlapping or near each other.
        const u64 source = below(span);
        u64 destination = below(2) == 0 ? below(span) : source + below(40);
        if (destination > span) destination = span;
        const u64 last = backward ? extent - size : 0;
        const u64 junk = insn.address_size == 4 ? random() << 32 : 0;
        gpr(rcx) = count | junk;
        gpr(rsi) = (area.address() + source + last) | junk;
        gpr(rdi) = (area.address() + destination + last) | junk;
        gpr(rax) = random() & 0x0101010101010101;
        if (below(3) != 0) gpr(rax) = 0x0101010101010101;
        if (below(4) == 0) memory.poll_after = 1 + below(4);
        SCOPED_TRACE(testing::Message()
                     << "round " << round << " operation " << static_cast<int>(operation)
                     << " size " << size << " count " << count << " backward " << backward);
        ASSERT_NO_FATAL_FAILURE(compare_with_host(operation));
        if (HasFailure()) return;
        memory.poll_after = 0;
    }
}

TEST_F(Strings, ForwardOverlapReplicatesThePattern) {
    insn.rep = true;
    for (u64 i = 0; i < 3; ++i)
        store<u8>(0, i, static_cast<u8>(i + 1));
    gpr(rsi) = address(0);
    gpr(rdi) = address(0, 3);
    gpr(rcx) = 2 * page_size;
    compare_with_host(Operation::movs);
    EXPECT_EQ(load<u8>(1, 2), (page_size + 2) % 3 + 1);
}

TEST_F(Strings, OverlapOfAliasedFramesIsSeen) {
    // Pages 0 and 1 show one frame: what looks like two distant ranges overlaps by one byte's
    // distance.
    memory.alias(1, 0);
    insn.rep = true;
    memory.frame(0)[0] = std::byte{0x5a};
    gpr(rsi) = address(0);
    gpr(rdi) = address(1, 1);
    gpr(rcx) = 100;
    ASSERT_EQ(movs(*cpu, insn), HelperResult::next);
    for (u64 i = 0; i <= 100; ++i)
        EXPECT_EQ(memory.frame(0)[i], std::byte{0x5a}) << i;
}

TEST_F(Strings, ZeroCountDoesNothing) {
    insn.rep = true;
    insn.address_size = 4;
    for (const Operation operation : all_operations) {
        gpr(rcx) = 0xabcd00000000;
        gpr(rsi) = 0x1111122222222222;
        gpr(rdi) = 0x3333344444444444;
        flags() = rflags::fixed1 | rflags::cf | rflags::of;
        const HostRegisters before = host_registers();
        ASSERT_EQ(helper(operation)(*cpu, insn), HelperResult::next);
        expect_same_registers(before);
    }
}

TEST_F(Strings, FaultLeavesTheProgressAndRestarts) {
    for (const Operation operation : all_operations)
        for (const u64 size : {1, 2, 4, 8})
            for (const bool backward : {false, true})
                for (const PageKind kind : {PageKind::ram, PageKind::careful}) {
                    fill_memory(7);
                    memory.set_all(kind);
                    const bool source =
                        operation != Operation::stos && operation != Operation::scas;
                    const bool destination = operation != Operation::lods;
                    insn.operand_size = static_cast<u8>(size);
                    insn.rep = true;
                    flags() = rflags::fixed1 | rflags::of | (backward ? rflags::df : 0);
                    const u64 count = 1000;
                    const u64 done = 10; // elements before the page that is absent
                    gpr(rcx) = count;
                    gpr(rax) = 0x0707070707070707;
                    const u64 start = backward ? address(2, done * size - size)
                                               : address(2, page_size - done * size);
                    gpr(rsi) = start;
                    gpr(rdi) = destination && source ? start + 3 * page_size : start;
                    const HostRegisters before = host_registers();
                    const u64 absent = backward ? 1 : 3;
                    memory.set_kind(absent, PageKind::absent);
                    SCOPED_TRACE(testing::Message() << static_cast<int>(operation) << " size "
                                                    << size << " backward " << backward);
                    expect_exception(helper(operation)(*cpu, insn), Vector::pf);
                    const u64 moved = (backward ? -done : done) * size;
                    EXPECT_EQ(gpr(rcx), count - done);
                    EXPECT_EQ(gpr(rsi), before.gpr[rsi] + (source ? moved : 0));
                    EXPECT_EQ(gpr(rdi), before.gpr[rdi] + (destination ? moved : 0));
                    EXPECT_EQ(flags(), before.rflags); // CMPS, SCAS: as before the instruction
                    EXPECT_EQ(cpu->cb.state.rip, 0x1234U);
                    // Nothing happens without progress.
                    const HostRegisters at_fault = host_registers();
                    expect_exception(helper(operation)(*cpu, insn), Vector::pf);
                    expect_same_registers(at_fault);

                    memory.set_kind(absent, kind);
                    HostRegisters expected = before;
                    host.run(encode(operation), expected);
                    ASSERT_EQ(complete(operation), HelperResult::next);
                    expect_same_registers(expected);
                    expect_same_memory();
                }
}

TEST_F(Strings, FaultDoesNotZeroExtendWithoutProgress) {
    insn.rep = true;
    insn.address_size = 4;
    memory.set_kind(0, PageKind::absent);
    gpr(rcx) = 0xffff000000000005;
    gpr(rdi) = 0xffff000000000000 | address(0);
    const HostRegisters before = host_registers();
    expect_exception(stos(*cpu, insn), Vector::pf);
    expect_same_registers(before);
    EXPECT_EQ(memory.fault_address, address(0));
}

TEST_F(Strings, StraddlingElementIsWrittenWholeOrNotAtAll) {
    fill_memory(0);
    insn.operand_size = 8;
    memory.set_kind(1, PageKind::absent);
    gpr(rax) = ~u64{0};
    gpr(rdi) = address(0, page_size - 4);
    expect_exception(stos(*cpu, insn), Vector::pf);
    EXPECT_EQ(load<u32>(0, page_size - 4), 0U);
    EXPECT_EQ(gpr(rdi), address(0, page_size - 4));
    EXPECT_EQ(memory.fault_address, address(1));
}

TEST_F(Strings, MmioWriteStopsAfterEachElement) {
    memory.set_kind(1, PageKind::mmio);
    fill_memory(3);
    insn.rep = true;
    insn.operand_size = 4;
    gpr(rsi) = address(0);
    gpr(rdi) = address(1, 16);
    gpr(rcx) = 3;
    for (u64 i = 1; i <= 2; ++i) {
        EXPECT_EQ(movs(*cpu, insn), HelperResult::dispatch);
        EXPECT_TRUE(cpu->deferred_exit);
        cpu->deferred_exit = false;
        EXPECT_EQ(gpr(rcx), 3 - i);
        EXPECT_EQ(gpr(rsi), address(0, 4 * i));
        EXPECT_EQ(gpr(rdi), address(1, 16 + 4 * i));
        EXPECT_EQ(cpu->cb.state.rip, 0x1234U);
    }
    EXPECT_EQ(movs(*cpu, insn), HelperResult::next);
    EXPECT_TRUE(cpu->deferred_exit);
    ASSERT_EQ(memory.mmio_writes.size(), 3U);
    for (u64 i = 0; i < 3; ++i) {
        EXPECT_EQ(memory.mmio_writes[i].gva, address(1, 16 + 4 * i));
        EXPECT_EQ(memory.mmio_writes[i].size, 4U);
        EXPECT_EQ(memory.mmio_writes[i].data, 0x03030303U);
    }
}

TEST_F(Strings, MmioSourceIsReadOnlyOnceTheDestinationIsKnownToWork) {
    memory.set_kind(0, PageKind::mmio);
    memory.set_kind(1, PageKind::absent);
    insn.operand_size = 2;
    gpr(rsi) = address(0);
    gpr(rdi) = address(1);
    expect_exception(movs(*cpu, insn), Vector::pf);
    EXPECT_EQ(memory.mmio_reads, 0U);
    memory.set_kind(1, PageKind::read_only);
    expect_exception(movs(*cpu, insn), Vector::pf);
    EXPECT_EQ(memory.mmio_reads, 0U);

    memory.set_kind(1, PageKind::ram);
    ASSERT_EQ(movs(*cpu, insn), HelperResult::fault);
    EXPECT_EQ(cpu->pending.kind, Pending::Kind::exit);
    EXPECT_EQ(gpr(rsi), address(0));
    cpu->cb.io_data = 0xbeef;
    cpu->cb.io_data_valid = true;
    EXPECT_EQ(movs(*cpu, insn), HelperResult::next);
    EXPECT_EQ(load<u16>(1), 0xbeef);
}

TEST_F(Strings, RepeatedMmioReadKeepsWhatArrived) {
    memory.set_kind(0, PageKind::mmio);
    insn.rep = true;
    insn.operand_size = 4;
    gpr(rsi) = address(0);
    gpr(rcx) = 2;
    gpr(rax) = ~u64{0};
    ASSERT_EQ(lods(*cpu, insn), HelperResult::fault);
    EXPECT_EQ(gpr(rax), ~u64{0});
    cpu->cb.io_data = 0x11;
    cpu->cb.io_data_valid = true;
    ASSERT_EQ(lods(*cpu, insn), HelperResult::fault);
    EXPECT_EQ(gpr(rax), 0x11U);
    EXPECT_EQ(gpr(rcx), 1U);
    cpu->cb.io_data = 0x22;
    cpu->cb.io_data_valid = true;
    ASSERT_EQ(lods(*cpu, insn), HelperResult::next);
    EXPECT_EQ(gpr(rax), 0x22U);
    EXPECT_EQ(gpr(rsi), address(0, 8));
}

TEST_F(Strings, PollStopsBetweenPages) {
    insn.rep = true;
    gpr(rax) = 0x5a;
    gpr(rdi) = address(1, 100);
    gpr(rcx) = 3 * page_size;
    cpu->poll = 1;
    EXPECT_EQ(stos(*cpu, insn), HelperResult::dispatch);
    EXPECT_EQ(gpr(rdi), address(2));
    EXPECT_EQ(gpr(rcx), 2 * page_size + 100);
    EXPECT_EQ(stos(*cpu, insn), HelperResult::dispatch);
    EXPECT_EQ(gpr(rdi), address(3));
    cpu->poll = 0;
    EXPECT_EQ(stos(*cpu, insn), HelperResult::next);
    EXPECT_EQ(gpr(rcx), 0U);
    EXPECT_EQ(load<u8>(4, 99), 0x5a);
    EXPECT_EQ(load<u8>(4, 100), 0);
    // A poll does not hold up an instruction that is complete.
    cpu->poll = 1;
    gpr(rcx) = 5;
    gpr(rdi) = address(0);
    EXPECT_EQ(stos(*cpu, insn), HelperResult::next);
}

TEST_F(Strings, SingleStepDoesOneElement) {
    insn.rep = true;
    flags() |= rflags::tf;
    gpr(rdi) = address(0);
    gpr(rcx) = 2;
    EXPECT_EQ(stos(*cpu, insn), HelperResult::dispatch);
    EXPECT_EQ(gpr(rcx), 1U);
    EXPECT_EQ(stos(*cpu, insn), HelperResult::next);
    EXPECT_EQ(gpr(rcx), 0U);
}

TEST_F(Strings, SegmentOverrideMovesOnlyTheSource) {
    insn.segment = seg_fs;
    cpu->cb.state.segment[seg_fs].base = address(2);
    cpu->cb.state.segment[seg_es].base = 0x7777; // ignored in 64-bit mode
    store<u8>(2, 5, 0x42);
    gpr(rsi) = 5;
    gpr(rdi) = address(3);
    EXPECT_EQ(movs(*cpu, insn), HelperResult::next);
    EXPECT_EQ(load<u8>(3), 0x42);
    EXPECT_EQ(gpr(rsi), 6U);
}

TEST_F(Strings, SixteenBitAddressesWrapInCompatibilityMode) {
    enter_compatibility_mode();
    insn.address_size = 2;
    insn.rep = true;
    // 16-bit offsets 0xff00-0xffff and then 0x0000 on, from a segment that puts the first into
    // page 6.
    cpu->cb.state.segment[seg_es].base = area.address() - 0xff00 + 6 * page_size;
    const u64 wrapped = area.address() - 0xff00 + 6 * page_size; // where offset 0 lies
    FlatMemory wide(wrapped & ~page_offset_mask, 18);
    FlatCpu other(wide);
    other.cb.state = cpu->cb.state;
    const auto byte_at = [&](u64 offset) {
        return *(wide.frame(0) + (wrapped & page_offset_mask) + offset);
    };
    other.cb.state.gpr[rdi] = 0xdead0000ff80;
    other.cb.state.gpr[rcx] = 0xbeef00000100;
    other.cb.state.gpr[rax] = 0x99;
    EXPECT_EQ(stos(other, insn), HelperResult::next);
    EXPECT_EQ(other.cb.state.gpr[rdi], 0xdead00000080U);
    EXPECT_EQ(other.cb.state.gpr[rcx], 0xbeef00000000U);
    for (u64 i = 0; i < 0x80; ++i) {
        EXPECT_EQ(byte_at(0xff80 + i), std::byte{0x99});
        EXPECT_EQ(byte_at(i), std::byte{0x99});
    }
    EXPECT_EQ(byte_at(0x80), std::byte{0});
    EXPECT_EQ(byte_at(0xff7f), std::byte{0});

    // Backward past offset 0.
    other.cb.state.rflags |= rflags::df;
    other.cb.state.gpr[rdi] = 0x10;
    other.cb.state.gpr[rcx] = 0x20;
    other.cb.state.gpr[rax] = 0x66;
    EXPECT_EQ(stos(other, insn), HelperResult::next);
    EXPECT_EQ(other.cb.state.gpr[rdi], 0xfff0U);
    EXPECT_EQ(byte_at(0x10), std::byte{0x66});
    EXPECT_EQ(byte_at(0), std::byte{0x66});
    EXPECT_EQ(byte_at(0xffff), std::byte{0x66});
    EXPECT_EQ(byte_at(0xfff1), std::byte{0x66});
    EXPECT_EQ(byte_at(0xfff0), std::byte{0x99});
}

TEST_F(Strings, EveryFlagOfCompareAgreesWithTheHost) {
    const u64 values[] = {0,
                          1,
                          0x7f,
                          0x80,
                          0xff,
                          0x7fff,
                          0x8000,
                          0xffff,
                          0x7fffffff,
                          0x80000000,
                          0xffffffff,
                          0x7fffffffffffffff,
                          0x8000000000000000,
                          ~u64{0},
                          0x10,
                          0x0f};
    for (const u64 size : {1, 2, 4, 8})
        for (const u64 left : values)
            for (const u64 right : values) {
                insn.operand_size = static_cast<u8>(size);
                store(0, 0, right);
                gpr(rax) = left;
                gpr(rdi) = address(0);
                flags() = rflags::fixed1;
                compare_with_host(Operation::scas);
            }
}

} // namespace
} // namespace gnomon::processor::soft
