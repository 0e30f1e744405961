// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

namespace gnomon::processor::soft {
namespace {

class ControlRegisters : public SystemInstructions {
protected:
    static constexpr u64 hole = u64{1} << 47, operand = 0x5000;

    static Instruction numbered(unsigned reg) {
        Instruction i = make(3, 8);
        i.reg = static_cast<u8>(reg);
        i.rm = rbx;
        return i;
    }
    HelperResult write(unsigned reg, u64 value) {
        state.gpr[rbx] = value;
        return run(mov_to_control, numbered(reg));
    }
    void expect_write(unsigned reg, u64 value, u64 taken) {
        expect_leave(write(reg, value), ExitReason::control_register);
        EXPECT_EQ(cpu.exit.index, reg);
        EXPECT_EQ(cpu.exit.value, taken);
        EXPECT_EQ(cpu.exit.instruction_length, 3);
    }
    void expect_refused(unsigned reg, u64 value) {
        expect_exception(write(reg, value), Vector::gp, 0);
    }
    HelperResult write_debug(unsigned reg, u64 value) {
        state.gpr[rbx] = value;
        return run(mov_to_debug, numbered(reg));
    }
};

TEST_F(ControlRegisters, Read) {
    state.cr2 = 0x1122334455667788;
    state.cr3 = 0x5000;
    state.cr8 = 9;
    const u64 expected[] = {state.cr0, 0, state.cr2, state.cr3, state.cr4, 0, 0, 0, state.cr8};
    for (const unsigned reg : {0U, 2U, 3U, 4U, 8U}) {
        EXPECT_EQ(run(mov_from_control, numbered(reg)), HelperResult::next);
        EXPECT_EQ(state.gpr[rbx], expected[reg]);
    }
    for (const unsigned reg : {1U, 5U, 6U, 7U, 9U, 15U}) {
        expect_exception(run(mov_from_control, numbered(reg)), Vector::ud);
        expect_exception(run(mov_to_control, numbered(reg)), Vector::ud);
    }
    kernel32();
    EXPECT_EQ(run(mov_from_control, numbered(2)), HelperResult::next);
    EXPECT_EQ(state.gpr[rbx], 0x55667788U);
    user64();
    expect_exception(run(mov_from_control, numbered(0)), Vector::gp, 0);
    expect_exception(run(mov_to_control, numbered(0)), Vector::gp, 0);
}

TEST_F(ControlRegisters, WriteCr0) {
    expect_write(0, state.cr0 | cr0::ts, state.cr0 | cr0::ts);
    expect_write(0, (state.cr0 | (1 << 7)) & ~cr0::et, state.cr0); // reserved ignored, ET fixed
    expect_write(0, state.cr0 | cr0::cd | cr0::nw, state.cr0 | cr0::cd | cr0::nw);
    expect_refused(0, state.cr0 | (u64{1} << 32));
    expect_refused(0, state.cr0 & ~cr0::pe);
    expect_refused(0, state.cr0 | cr0::nw);
    expect_refused(0, state.cr0 & ~cr0::pg); // in 64-bit mode
}

TEST_F(ControlRegisters, LeaveAndEnterLongMode) {
    kernel32();
    expect_write(0, state.cr0 & ~cr0::pg, state.cr0 & ~cr0::pg);
    state.cr4 |= cr4::pcide;
    expect_refused(0, state.cr0 & ~cr0::pg);
    state.cr4 &= ~cr4::pcide;
    state.cr0 &= ~cr0::pg;
    state.efer &= ~efer::lma;
    const u64 paging = state.cr0 | cr0::pg;
    expect_write(0, paging, paging);
    state.cr4 &= ~cr4::pae;
    expect_refused(0, paging);
    state.cr4 |= cr4::pae;
    state.segment[seg_cs].rights |= Segment::l;
    expect_refused(0, paging);
    state.segment[seg_cs].rights &= ~Segment::l;
    state.tr.rights = 3 | Segment::present;
    expect_refused(0, paging);
}

TEST_F(ControlRegisters, WriteCr2AndCr8) {
    EXPECT_EQ(write(2, hole), HelperResult::next);
    EXPECT_EQ(state.cr2, hole);
    expect_write(8, 15, 15);
    expect_refused(8, 16);
}

TEST_F(ControlRegisters, WriteCr3) {
    expect_write(3, 0xfffffff018, 0xfffffff018);
    expect_refused(3, u64{1} << 40);
    expect_refused(3, u64{1} << 63);
    state.cr4 |= cr4::pcide;
    expect_write(3, (u64{1} << 63) | 0x5001, (u64{1} << 63) | 0x5001);
    expect_refused(3, u64{1} << 62);
}

TEST_F(ControlRegisters, WriteCr4) {
    const u64 shown = cr4::tsd | cr4::de | cr4::pse | cr4::pae | cr4::mce | cr4::pge | cr4::pce |
                      cr4::osfxsr | cr4::osxmmexcpt | cr4::umip | cr4::fsgsbase | cr4::pcide |
                      cr4::osxsave | cr4::smep | cr4::smap;
    expect_write(4, shown, shown);
    for (const u64 bit : {cr4::vme, cr4::pvi, cr4::la57, u64{1} << 13, u64{1} << 22, u64{1} << 63})
        expect_refused(4, shown | bit);
    expect_refused(4, shown & ~cr4::pae); // in IA-32e mode
    state.cr3 = 0x5001;
    expect_refused(4, shown); // PCIDE with a PCID already in CR3
    state.cr4 |= cr4::pcide;
    expect_write(4, shown, shown);
    leaf(7).ebx &= ~(1U << 20);
    expect_refused(4, shown);
    leaf(1).ecx &= ~(1U << 17);
    expect_refused(4, cr4::pae | cr4::pcide);
}

TEST_F(ControlRegisters, DebugRegisters) {
    for (const unsigned reg : {0U, 1U, 2U, 3U}) {
        EXPECT_EQ(write_debug(reg, 0x1000 + reg), HelperResult::dispatch);
        EXPECT_EQ(state.dr[reg], 0x1000 + reg);
    }
    EXPECT_EQ(state.rip, kernel_rip + 12);
    EXPECT_EQ(write_debug(6, 0), HelperResult::dispatch);
    EXPECT_EQ(state.dr[6], 0xffff0ff0U);
    EXPECT_EQ(write_debug(6, 0xffffffff), HelperResult::dispatch);
    EXPECT_EQ(state.dr[6], 0xffffefffU);
    EXPECT_EQ(write_debug(7, 0xffffdfff), HelperResult::dispatch);
    EXPECT_EQ(state.dr[7], 0xffff07ffU);
    EXPECT_EQ(run(mov_from_debug, numbered(7)), HelperResult::next);
    EXPECT_EQ(state.gpr[rbx], 0xffff07ffU);
    expect_exception(write_debug(6, u64{1} << 32), Vector::gp, 0);
    expect_exception(write_debug(7, u64{1} << 32), Vector::gp, 0);
}

TEST_F(ControlRegisters, DebugRegisterAliases) {
    EXPECT_EQ(write_debug(5, 0x400 | 1), HelperResult::dispatch);
    EXPECT_EQ(state.dr[7], 0x401U);
    EXPECT_EQ(run(mov_from_debug, numbered(4)), HelperResult::next);
    EXPECT_EQ(state.gpr[rbx], state.dr[6]);
    state.cr4 |= cr4::de;
    expect_exception(write_debug(4, 0), Vector::ud);
    expect_exception(run(mov_from_debug, numbered(5)), Vector::ud);
    expect_exception(run(mov_from_debug, numbered(8)), Vector::ud);
    user64();
    expect_exception(run(mov_from_debug, numbered(7)), Vector::gp, 0);
    expect_exception(write_debug(7, 0), Vector::gp, 0);
}

TEST_F(ControlRegisters, GeneralDetect) {
    state.dr[7] |= 1 << 13;
    expect_exception(write_debug(0, 0), Vector::db);
    EXPECT_EQ(cpu.pending.dr6, u64{1} << 13);
    expect_exception(run(mov_from_debug, numbered(0)), Vector::db);
}

TEST_F(ControlRegisters, TaskSwitchedFlag) {
    EXPECT_EQ(run(clts, make()), HelperResult::next);
    state.cr0 |= cr0::ts;
    expect_leave(run(clts, make()), ExitReason::control_register);
    EXPECT_EQ(cpu.exit.index, 0U);
    EXPECT_EQ(cpu.exit.value, state.cr0 & ~cr0::ts);
    user64();
    expect_exception(run(clts, make()), Vector::gp, 0);
}

TEST_F(ControlRegisters, MachineStatusWord) {
    Instruction i = make(3, 2);
    i.rm = rbx;
    state.gpr[rbx] = 0xfff8; // MP, EM clear, TS set, PE clear; the rest is ignored
    expect_leave(run(lmsw, i), ExitReason::control_register);
    EXPECT_EQ(cpu.exit.value, (state.cr0 & ~cr0::mp) | cr0::ts);
    memory.absent = {operand};
    expect_leave(run(lmsw, with_memory(operand)), ExitReason::page_fault);
    memory.absent = {};
    i.operand_size = 4;
    EXPECT_EQ(run(smsw, i), HelperResult::next);
    EXPECT_EQ(state.gpr[rbx], state.cr0);
    memory.put<u32>(operand, ~0U);
    EXPECT_EQ(run(smsw, with_memory(operand)), HelperResult::next);
    EXPECT_EQ(memory.get<u32>(operand), 0xffff0000 | (state.cr0 & 0xffff));
    user64();
    expect_exception(run(lmsw, i), Vector::gp, 0);
    EXPECT_EQ(run(smsw, i), HelperResult::next);
    state.cr4 |= cr4::umip;
    expect_exception(run(smsw, i), Vector::gp, 0);
}

TEST_F(ControlRegisters, Invlpg) {
    expect_leave(run(invlpg, with_memory(0x123456)), ExitReason::invlpg);
    EXPECT_EQ(cpu.exit.gva.value(), 0x123456U);
    EXPECT_EQ(run(invlpg, with_memory(hole)), HelperResult::next);
    expect_exception(run(invlpg, make()), Vector::ud);
    user64();
    expect_exception(run(invlpg, with_memory(0x123456)), Vector::gp, 0);
}

TEST_F(ControlRegisters, Invpcid) {
    Instruction i = with_memory(operand);
    i.reg = rcx;
    const auto with = [&](u64 type, u64 pcid, u64 address) {
        state.gpr[rcx] = type;
        memory.put(operand, pcid);
        memory.put(operand + 8, address);
        return run(invpcid, i);
    };
    state.cr4 |= cr4::pcide;
    for (u64 type = 0; type < 4; ++type) {
        expect_leave(with(type, 0xabc, 0x7000), ExitReason::invpcid);
        EXPECT_EQ(cpu.exit.index, type);
        EXPECT_EQ(cpu.exit.value, 0xabcU);
        EXPECT_EQ(cpu.exit.gva.value(), 0x7000U);
        expect_exception(with(type, 0x1000, 0), Vector::gp, 0);
    }
    expect_exception(with(4, 0, 0), Vector::gp, 0);
    expect_exception(with(u64{1} << 32, 0, 0), Vector::gp, 0);
    expect_exception(with(0, 0, hole), Vector::gp, 0);
    expect_leave(with(1, 0, hole), ExitReason::invpcid);
    state.cr4 &= ~cr4::pcide;
    expect_exception(with(0, 1, 0), Vector::gp, 0);
    expect_exception(with(1, 1, 0), Vector::gp, 0);
    expect_leave(with(2, 1, 0), ExitReason::invpcid);
    memory.absent = {operand};
    expect_leave(run(invpcid, i), ExitReason::page_fault);
    memory.absent = {};
    user64();
    expect_exception(with(0, 0, 0), Vector::gp, 0);
    leaf(7).ebx &= ~(1U << 10);
    expect_exception(with(0, 0, 0), Vector::ud);
}

TEST_F(ControlRegisters, ExtendedControl) {
    const auto set = [&](u64 value, u64 index = 0) {
        state.gpr[rax] = value & 0xffffffff;
        state.gpr[rdx] = value >> 32;
        state.gpr[rcx] = index;
        return run(xsetbv, make(3));
    };
    expect_exception(set(1), Vector::ud);
    expect_exception(run(xgetbv, make(3)), Vector::ud);
    state.cr4 |= cr4::osxsave;
    for (const u64 value : {u64{1}, u64{3}, u64{7}}) {
        const u64 rip = state.rip;
        EXPECT_EQ(set(value), HelperResult::dispatch);
        EXPECT_EQ(state.xcr0, value);
        EXPECT_EQ(state.rip, rip + 3);
    }
    for (const u64 value : {u64{0}, u64{2}, u64{5}, u64{0xf}, u64{0xe7}, u64{1} << 63})
        expect_exception(set(value), Vector::gp, 0);
    leaf(0xd, 0).eax = 0xe7; // the three components of AVX-512 go together, and with AVX
    for (const u64 value : {u64{0x27}, u64{0x47}, u64{0x87}, u64{0x67}, u64{0xa7}, u64{0xc7},
                            u64{0xe3}, u64{0xe1}, u64{0xe5}})
        expect_exception(set(value), Vector::gp, 0);
    EXPECT_EQ(set(0xe7), HelperResult::dispatch);
    EXPECT_EQ(state.xcr0, 0xe7U);
    EXPECT_EQ(set(7), HelperResult::dispatch);
    expect_exception(set(7, 1), Vector::gp, 0);
    state.gpr[rcx] = 0;
    EXPECT_EQ(run(xgetbv, make(3)), HelperResult::next);
    EXPECT_EQ(state.gpr[rax], 7U);
    EXPECT_EQ(state.gpr[rdx], 0U);
    state.gpr[rcx] = 1;
    EXPECT_EQ(run(xgetbv, make(3)), HelperResult::next); // leaf 0xD.1 shows it
    leaf(0xd, 1).eax = 3;
    expect_exception(run(xgetbv, make(3)), Vector::gp, 0);
    state.gpr[rcx] = 2;
    expect_exception(run(xgetbv, make(3)), Vector::gp, 0);
    leaf(0xd, 0).eax = 3;
    expect_exception(set(7), Vector::gp, 0); // AVX not shown
    user64();
    expect_exception(set(3), Vector::gp, 0);
}

TEST_F(ControlRegisters, Wbinvd) {
    expect_leave(run(wbinvd, make()), ExitReason::wbinvd);
    user64();
    expect_exception(run(wbinvd, make()), Vector::gp, 0);
}

} // namespace
} // namespace gnomon::processor::soft
