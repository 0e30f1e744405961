// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

namespace gnomon::processor::soft {
namespace {

class PortIo : public SystemInstructions {
protected:
    static constexpr u64 buffer = 0x600000;

    static Instruction port_instruction(u8 opcode, u8 operand_size = 4, u8 immediate = 0) {
        Instruction i = make(2, operand_size);
        i.opcode = opcode;
        i.immediate = immediate;
        return i;
    }
    static Instruction string(u8 opcode, bool rep = false, u8 operand_size = 4,
                              u8 address_size = 8) {
        Instruction i = port_instruction(opcode, operand_size);
        i.rep = rep;
        i.address_size = address_size;
        return i;
    }
    void expect_io(bool write, u16 port, unsigned size, u64 data = 0) const {
        EXPECT_EQ(cpu.exit.reason, ExitReason::io);
        EXPECT_EQ(cpu.exit.write, write);
        EXPECT_EQ(cpu.exit.port, port);
        EXPECT_EQ(cpu.exit.size, size);
        EXPECT_EQ(cpu.exit.data, data);
    }
    void answer(u64 data) {
        cpu.cb.io_data = data;
        cpu.cb.io_data_valid = true;
    }
    // A user-mode process with an I/O permission bit map at 0x68 of the TSS, all ports allowed.
    void user_with_map() {
        user64();
        memory.put<u16>(tss + 0x66, 0x68);
        state.tr.limit = 0x68 + 0x2000;
    }
    void forbid(u16 port) {
        const u64 address = tss + 0x68 + port / 8U;
        memory.put<u8>(address, static_cast<u8>(memory.get<u8>(address) | (1U << (port & 7))));
    }
};

TEST_F(PortIo, InLeavesThenTakesTheData) {
    state.gpr[rax] = ~u64{0};
    expect_leave(run(in, port_instruction(0xe4, 1, 0x71)), ExitReason::io);
    expect_io(false, 0x71, 1);
    answer(0x1ab);
    EXPECT_EQ(run(in, port_instruction(0xe4, 1, 0x71)), HelperResult::next);
    EXPECT_EQ(state.gpr[rax], 0xffffffffffffffab);
    EXPECT_FALSE(cpu.cb.io_data_valid);
    expect_leave(run(in, port_instruction(0xe4, 1, 0x71)), ExitReason::io);
}

TEST_F(PortIo, InSizes) {
    state.gpr[rdx] = 0xffff0cfc;
    struct {
        u8 opcode, operand_size;
        unsigned size;
        u64 result;
    } const rows[] = {{0xec, 1, 1, 0x1111111111111188},
                      {0xed, 2, 2, 0x1111111111117788},
                      {0xed, 4, 4, 0x55667788},
                      {0xed, 8, 4, 0x55667788}};
    for (const auto& row : rows) {
        const Instruction i = port_instruction(row.opcode, row.operand_size);
        state.gpr[rax] = 0x1111111111111111;
        expect_leave(run(in, i), ExitReason::io);
        expect_io(false, 0x0cfc, row.size);
        answer(0x1122334455667788);
        EXPECT_EQ(run(in, i), HelperResult::next);
        EXPECT_EQ(state.gpr[rax], row.result);
    }
}

TEST_F(PortIo, OutIsCompleteWhenItLeaves) {
    state.gpr[rax] = 0x1122334455667788;
    state.gpr[rdx] = 0x3f8;
    EXPECT_EQ(run(out, port_instruction(0xee, 1)), HelperResult::exit);
    expect_io(true, 0x3f8, 1, 0x88);
    EXPECT_EQ(state.rip, kernel_rip + 2);
    EXPECT_EQ(run(out, port_instruction(0xe7, 4, 0xf4)), HelperResult::exit);
    expect_io(true, 0xf4, 4, 0x55667788);
    EXPECT_EQ(run(out, port_instruction(0xef, 2)), HelperResult::exit);
    expect_io(true, 0x3f8, 2, 0x7788);
}

TEST_F(PortIo, PermissionByIoplAndMap) {
    user64();
    state.gpr[rdx] = 0x3f8;
    memory.put<u16>(tss + 0x66, 0xffff); // beyond the limit: no map
    expect_exception(run(in, port_instruction(0xec, 1)), Vector::gp, 0);
    state.rflags |= rflags::iopl;
    expect_leave(run(in, port_instruction(0xec, 1)), ExitReason::io);
    state.rflags &= ~rflags::iopl;
    user_with_map();
    expect_leave(run(in, port_instruction(0xec, 1)), ExitReason::io);
    forbid(0x3f9);
    expect_leave(run(in, port_instruction(0xec, 1)), ExitReason::io);
    expect_exception(run(in, port_instruction(0xed, 2)), Vector::gp, 0);
    expect_exception(run(out, port_instruction(0xef, 2)), Vector::gp, 0);
    state.gpr[rdx] = 0x3ff; // straddles two bytes of the map
    EXPECT_EQ(run(out, port_instruction(0xef, 4)), HelperResult::exit);
    forbid(0x402);
    expect_exception(run(out, port_instruction(0xef, 4)), Vector::gp, 0);
    for (const auto& access : memory.accesses)
        EXPECT_EQ(access.mode, AccessMode::supervisor);
}

TEST_F(PortIo, PermissionNeedsTheMapWithinTheTask) {
    user_with_map();
    state.gpr[rdx] = 0xffff;
    const Instruction i = port_instruction(0xec, 1);
    expect_leave(run(in, i), ExitReason::io);
    state.tr.limit = 0x68 + 0x1fff; // the second byte that is read lies beyond
    expect_exception(run(in, i), Vector::gp, 0);
    state.tr.limit = 0x66;
    state.gpr[rdx] = 0;
    expect_exception(run(in, i), Vector::gp, 0);
    user_with_map();
    state.tr.rights |= Segment::unusable;
    expect_exception(run(in, i), Vector::gp, 0);
    state.tr.rights = 3 | Segment::present; // a 16-bit TSS
    expect_exception(run(in, i), Vector::gp, 0);
    state.tr.rights = 11 | Segment::present;
    memory.absent = {tss};
    answer(1);
    expect_leave(run(in, i), ExitReason::page_fault);
    EXPECT_TRUE(cpu.cb.io_data_valid) << "the access is tried again";
    memory.absent = {};
    forbid(0);
    expect_exception(run(in, i), Vector::gp, 0);
    EXPECT_FALSE(cpu.cb.io_data_valid) << "no later instruction may take it";
}

TEST_F(PortIo, InsOneElement) {
    state.gpr[rdi] = buffer;
    state.gpr[rdx] = 0x1f0;
    expect_leave(run(ins, string(0x6d, false, 2)), ExitReason::io);
    expect_io(false, 0x1f0, 2);
    answer(0xbeef);
    EXPECT_EQ(run(ins, string(0x6d, false, 2)), HelperResult::next);
    EXPECT_EQ(memory.get<u32>(buffer), 0xbeefU);
    EXPECT_EQ(state.gpr[rdi], buffer + 2);
    EXPECT_FALSE(cpu.cb.io_data_valid);
}

TEST_F(PortIo, InsRepeated) {
    state.gpr[rdi] = buffer;
    state.gpr[rcx] = 3;
    state.gpr[rdx] = 0x1f0;
    const Instruction i = string(0x6d, true, 4);
    for (u32 element = 0; element < 3; ++element) {
        expect_leave(run(ins, i), ExitReason::io);
        answer(0x1000 + element);
        EXPECT_EQ(run(ins, i), element == 2 ? HelperResult::next : HelperResult::dispatch);
        EXPECT_EQ(state.rip, kernel_rip);
        EXPECT_EQ(state.gpr[rcx], 2 - element);
        EXPECT_EQ(memory.get<u32>(buffer + 4 * element), 0x1000 + element);
    }
    EXPECT_EQ(run(ins, i), HelperResult::next) << "RCX is 0";
    EXPECT_TRUE(unchanged());
    EXPECT_EQ(state.gpr[rdi], buffer + 12);
}

TEST_F(PortIo, InsProbesBeforeItReadsThePort) {
    state.gpr[rdi] = buffer;
    memory.read_only = {buffer};
    expect_leave(run(ins, string(0x6c)), ExitReason::page_fault);
    answer(7);
    expect_leave(run(ins, string(0x6c)), ExitReason::page_fault);
    EXPECT_TRUE(cpu.cb.io_data_valid);
    state.gpr[rdi] = u64{1} << 47;
    expect_exception(run(ins, string(0x6c)), Vector::gp, 0);
    EXPECT_FALSE(cpu.cb.io_data_valid);
    user64();
    expect_exception(run(ins, string(0x6c)), Vector::gp, 0);
}

TEST_F(PortIo, InsAddressSizesAndDirection) {
    state.rflags |= rflags::df;
    state.gpr[rdi] = 0xabc00000000 | buffer;
    state.gpr[rcx] = 0xabc00000002;
    answer(0x42);
    EXPECT_EQ(run(ins, string(0x6c, true, 1, 4)), HelperResult::dispatch);
    EXPECT_EQ(memory.get<u8>(buffer), 0x42);
    EXPECT_EQ(state.gpr[rdi], buffer - 1);
    EXPECT_EQ(state.gpr[rcx], 1U);
    user32();
    state.rflags |= rflags::iopl;
    state.gpr[rdi] = 0x12340000;
    state.segment[seg_es].base = 0x1000;
    answer(0x43);
    EXPECT_EQ(run(ins, string(0x6c, false, 1, 2)), HelperResult::next);
    EXPECT_EQ(memory.get<u8>(0x1000), 0x43);
    EXPECT_EQ(state.gpr[rdi], 0x1234ffffU);
}

TEST_F(PortIo, OutsRepeated) {
    memory.put<u64>(buffer, 0x8877665544332211);
    state.gpr[rsi] = buffer;
    state.gpr[rcx] = 2;
    state.gpr[rdx] = 0x1f0;
    const Instruction i = string(0x6f, true, 4);
    EXPECT_EQ(run(outs, i), HelperResult::exit);
    expect_io(true, 0x1f0, 4, 0x44332211);
    EXPECT_EQ(state.rip, kernel_rip);
    EXPECT_EQ(run(outs, i), HelperResult::exit);
    expect_io(true, 0x1f0, 4, 0x88776655);
    EXPECT_EQ(state.rip, kernel_rip + 2);
    EXPECT_EQ(state.gpr[rsi], buffer + 8);
    EXPECT_EQ(state.gpr[rcx], 0U);
    EXPECT_EQ(run(outs, i), HelperResult::next);
}

TEST_F(PortIo, OutsSegmentAndFaults) {
    Instruction i = string(0x6e, false, 1);
    i.segment = seg_gs;
    state.segment[seg_gs].base = 0x10000;
    memory.put<u8>(0x10000 + buffer, 0x5a);
    state.gpr[rsi] = buffer;
    EXPECT_EQ(run(outs, i), HelperResult::exit);
    EXPECT_EQ(cpu.exit.data, 0x5aU);
    EXPECT_EQ(state.rip, kernel_rip + 2);
    memory.absent = {0x10000 + buffer};
    state.gpr[rsi] = buffer;
    expect_leave(run(outs, i), ExitReason::page_fault);
    state.gpr[rsi] = u64{1} << 47;
    expect_exception(run(outs, i), Vector::gp, 0);
    i.segment = seg_ss;
    expect_exception(run(outs, i), Vector::ss, 0);
    user_with_map();
    forbid(0);
    expect_exception(run(outs, i), Vector::gp, 0);
}

} // namespace
} // namespace gnomon::processor::soft
