// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/msr.h"

#include "fixture.h"

#include <x86intrin.h>

namespace gnomon::processor::soft {
namespace {

class Msr : public SystemInstructions {
protected:
    static constexpr u64 hole = u64{1} << 47;

    HelperResult write(u32 index, u64 value) {
        state.gpr[rcx] = index | (u64{0xabc} << 32); // the upper half does not matter
        state.gpr[rax] = value & 0xffffffff;
        state.gpr[rdx] = value >> 32;
        return run(wrmsr, make());
    }
    u64 read(u32 index) {
        state.gpr[rcx] = index;
        EXPECT_EQ(run(rdmsr, make()), HelperResult::next) << index;
        return state.gpr[rax] | (state.gpr[rdx] << 32);
    }
};

TEST_F(Msr, Storage) {
    struct {
        u32 index;
        const u64* held;
        u64 value;
    } const rows[] = {
        {msr::star, &state.star, ~u64{0}},
        {msr::lstar, &state.lstar, handler_rip},
        {msr::cstar, &state.cstar, handler_rip + 8},
        {msr::fmask, &state.fmask, 0xffffffff},
        {msr::sysenter_cs, &state.sysenter_cs, 0x10},
        {msr::sysenter_esp, &state.sysenter_esp, kernel_stack},
        {msr::sysenter_eip, &state.sysenter_eip, handler_rip},
        {msr::fs_base, &state.segment[seg_fs].base, 0x7f0000000000},
        {msr::gs_base, &state.segment[seg_gs].base, 0xffff888000000000},
        {msr::kernel_gs_base, &state.kernel_gs_base, 0x7f0000001000},
        {msr::tsc_aux, &state.tsc_aux, 0x12345},
        {msr::pat, &state.pat, 0x0407050600070106},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(write(row.index, row.value), HelperResult::next) << row.index;
        EXPECT_EQ(*row.held, row.value) << row.index;
        EXPECT_EQ(read(row.index), row.value) << row.index;
    }
    EXPECT_EQ(read(msr::efer), state.efer);
}

TEST_F(Msr, ValuesRefused) {
    for (const u32 index : {msr::lstar, msr::cstar, msr::sysenter_esp, msr::sysenter_eip,
                            msr::fs_base, msr::gs_base, msr::kernel_gs_base}) {
        expect_exception(write(index, hole), Vector::gp, 0);
        EXPECT_FALSE(msr_value_allowed(cpu.cb, index, hole));
        EXPECT_TRUE(msr_value_allowed(cpu.cb, index, ~u64{0}));
    }
    for (const u32 index : {msr::fmask, msr::tsc_aux})
        expect_exception(write(index, u64{1} << 32), Vector::gp, 0);
    for (const u64 type : {u64{2}, u64{3}, u64{8}, u64{0x80}}) {
        expect_exception(write(msr::pat, type), Vector::gp, 0);
        expect_exception(write(msr::pat, type << 56), Vector::gp, 0);
    }
    EXPECT_TRUE(msr_value_allowed(cpu.cb, 0x12345678, hole));
}

TEST_F(Msr, Efer) {
    EXPECT_EQ(write(msr::efer, state.efer), HelperResult::next);
    const u64 without_lma = (state.efer & ~efer::lma) | efer::sce;
    EXPECT_EQ(write(msr::efer, without_lma), HelperResult::next) << "LMA is read-only";
    expect_leave(write(msr::efer, state.efer & ~efer::nxe), ExitReason::msr_write);
    EXPECT_EQ(cpu.exit.index, msr::efer);
    EXPECT_EQ(cpu.exit.value, state.efer & ~efer::nxe);
    expect_leave(write(msr::efer, without_lma & ~efer::sce), ExitReason::msr_write);
    EXPECT_EQ(cpu.exit.value, state.efer & ~efer::sce);
    expect_exception(write(msr::efer, state.efer & ~efer::lme), Vector::gp, 0);
    for (const unsigned bit : {1U, 9U, 12U, 15U, 63U})
        expect_exception(write(msr::efer, state.efer | (u64{1} << bit)), Vector::gp, 0);
    leaf(0x80000001).edx &= ~(1U << 20);
    expect_exception(write(msr::efer, state.efer), Vector::gp, 0);
    leaf(0x80000001).edx |= 1U << 20;
    state.cr0 &= ~cr0::pg;
    state.efer &= ~efer::lma;
    expect_leave(write(msr::efer, state.efer & ~efer::lme), ExitReason::msr_write);
    expect_leave(write(msr::efer, (state.efer | efer::lma) & ~efer::nxe), ExitReason::msr_write);
    EXPECT_EQ(cpu.exit.value, state.efer & ~efer::nxe) << "nor can LMA be set";
}

TEST_F(Msr, InterceptsComeBeforeTheChecks) {
    cpu.cb.msr_write_intercept.set(msr::lstar);
    cpu.cb.msr_read_intercept.set(msr::lstar);
    cpu.cb.msr_write_intercept.set(msr::sysenter_eip);
    expect_leave(write(msr::lstar, hole), ExitReason::msr_write);
    EXPECT_EQ(cpu.exit.index, msr::lstar);
    EXPECT_EQ(cpu.exit.value, hole);
    expect_leave(write(msr::sysenter_eip, 0x1234), ExitReason::msr_write);
    state.gpr[rcx] = msr::lstar;
    expect_leave(run(rdmsr, make()), ExitReason::msr_read);
    EXPECT_EQ(cpu.exit.index, msr::lstar);
    EXPECT_EQ(read(msr::sysenter_eip), 0U);
    cpu.cb.msr_write_intercept.set(msr::efer);
    expect_leave(write(msr::efer, state.efer), ExitReason::msr_write);
}

TEST_F(Msr, OthersLeave) {
    for (const u32 index : {0x1bU, 0x8bU, 0x1a0U, 0x800U, 0xc0000108U, 0xdeadbeefU, 0xffffffffU}) {
        expect_leave(write(index, 0x1122334455667788), ExitReason::msr_write);
        EXPECT_EQ(cpu.exit.index, index);
        EXPECT_EQ(cpu.exit.value, 0x1122334455667788U);
        expect_leave(run(rdmsr, make()), ExitReason::msr_read);
        EXPECT_EQ(cpu.exit.index, index);
    }
    leaf(0x80000001).edx &= ~(1U << 27);
    EXPECT_EQ(write(msr::tsc_aux, 1), HelperResult::next) << "RDPID has it too";
    leaf(7).ecx = 0;
    expect_leave(write(msr::tsc_aux, 1), ExitReason::msr_write);
}

TEST_F(Msr, TimeStampCounter) {
    cpu.cb.tsc_offset = -u64{0x100000000};
    const u64 before = __rdtsc();
    const u64 value = read(msr::tsc);
    const u64 after = __rdtsc();
    EXPECT_GE(value + 0x100000000, before);
    EXPECT_LE(value + 0x100000000, after);
    expect_leave(write(msr::tsc, 5), ExitReason::msr_write);
}

TEST_F(Msr, Privilege) {
    user64();
    expect_exception(write(msr::lstar, 0), Vector::gp, 0);
    expect_exception(run(rdmsr, make()), Vector::gp, 0);
}

} // namespace
} // namespace gnomon::processor::soft
