// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

namespace gnomon::processor::soft {
namespace {

class SystemCall : public SystemInstructions {
protected:
    SystemCall() {
        state.star = (u64{0x23} << 48) | (u64{kernel_code} << 32);
        state.lstar = handler_rip;
        state.fmask = rflags::if_ | rflags::tf | rflags::df | rflags::ac;
        state.sysenter_cs = kernel_code;
        state.sysenter_esp = kernel_stack;
        state.sysenter_eip = handler_rip;
    }
    void monitor_range(u64 begin, u64 end, u64 root = 0x1000) {
        cpu.cb.monitor_mode_begin = Gva(begin);
        cpu.cb.monitor_mode_end = Gva(end);
        cpu.cb.monitor_root = root;
    }
    static constexpr u64 hole = u64{1} << 47;
};

TEST_F(SystemCall, Syscall) {
    user64();
    state.rflags = rflags::fixed1 | rflags::if_ | rflags::zf | rflags::df | rflags::rf;
    EXPECT_EQ(run(syscall, make()), HelperResult::dispatch);
    EXPECT_EQ(state.rip, handler_rip);
    EXPECT_EQ(state.gpr[rcx], user_rip + 2);
    EXPECT_EQ(state.gpr[r11], rflags::fixed1 | rflags::if_ | rflags::zf | rflags::df);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::zf);
    EXPECT_EQ(state.gpr[rsp], user_stack);
    EXPECT_EQ(state.cpl(), 0U);
    EXPECT_EQ(state.segment[seg_cs].selector, kernel_code);
    EXPECT_EQ(state.segment[seg_ss].selector, kernel_data);
    EXPECT_EQ(state.segment[seg_cs].rights, 0xa09bU);
    EXPECT_EQ(state.segment[seg_ss].rights, 0xc093U);
    EXPECT_EQ(state.segment[seg_ss].limit, 0xffffffffU);
    EXPECT_FALSE(cpu.cb.monitor_mode);
}

TEST_F(SystemCall, FlagOneStaysWhateverTheMask) {
    user64();
    state.fmask = 0xffffffff;
    EXPECT_EQ(run(syscall, make()), HelperResult::dispatch);
    EXPECT_EQ(state.rflags, rflags::fixed1);
}

TEST_F(SystemCall, SyscallUndefined) {
    user32();
    expect_exception(run(syscall, make()), Vector::ud);
    user64();
    state.efer &= ~efer::sce;
    expect_exception(run(syscall, make()), Vector::ud);
    state.efer |= efer::sce;
    state.efer &= ~efer::lma;
    expect_exception(run(syscall, make()), Vector::ud);
}

TEST_F(SystemCall, HookedVectorEntersMonitorMode) {
    const auto enters = [&](u64 begin, u64 end, u64 root) {
        cpu.cb.monitor_mode = false;
        monitor_range(begin, end, root);
        user64();
        EXPECT_EQ(run(syscall, make()), HelperResult::dispatch);
        EXPECT_EQ(state.rip, handler_rip);
        const bool by_syscall = cpu.cb.monitor_mode;
        cpu.cb.monitor_mode = false;
        user32();
        EXPECT_EQ(run(sysenter, make()), HelperResult::dispatch);
        EXPECT_EQ(cpu.cb.monitor_mode, by_syscall);
        return by_syscall;
    };
    EXPECT_TRUE(enters(handler_rip, handler_rip + 1, 0x1000));
    EXPECT_TRUE(enters(handler_rip - 0x1000, handler_rip + 0x1000, 0x1000));
    EXPECT_FALSE(enters(handler_rip, handler_rip + 1, 0));
    EXPECT_FALSE(enters(handler_rip + 1, handler_rip + 0x1000, 0x1000));
    EXPECT_FALSE(enters(handler_rip - 0x1000, handler_rip, 0x1000));
}

TEST_F(SystemCall, SysretTo64BitMode) {
    state.gpr[rcx] = user_rip;
    state.gpr[r11] = ~u64{0};
    EXPECT_EQ(run(sysret, make(3, 8)), HelperResult::dispatch);
    EXPECT_EQ(state.rip, user_rip);
    EXPECT_EQ(state.cpl(), 3U);
    EXPECT_EQ(state.segment[seg_cs].selector, 0x33);
    EXPECT_EQ(state.segment[seg_ss].selector, 0x2b);
    EXPECT_TRUE(state.code64());
    EXPECT_EQ(state.segment[seg_cs].rights, 0xa0fbU);
    EXPECT_EQ(state.segment[seg_ss].rights, 0xc0f3U);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::arithmetic | rflags::tf | rflags::if_ |
                                rflags::df | rflags::iopl | rflags::nt | rflags::ac | rflags::id);
}

TEST_F(SystemCall, SysretToCompatibilityMode) {
    state.gpr[rcx] = 0xffff000008048000;
    state.gpr[r11] = rflags::if_;
    EXPECT_EQ(run(sysret, make(2, 4)), HelperResult::dispatch);
    EXPECT_EQ(state.rip, 0x08048000U);
    EXPECT_EQ(state.segment[seg_cs].selector, 0x23);
    EXPECT_FALSE(state.code64());
    EXPECT_TRUE(state.segment[seg_cs].has(Segment::db));
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::if_);
}

TEST_F(SystemCall, SysretChecks) {
    state.gpr[rcx] = hole;
    expect_exception(run(sysret, make(3, 8)), Vector::gp, 0);
    state.gpr[rcx] = user_rip;
    user64();
    expect_exception(run(sysret, make(3, 8)), Vector::gp, 0);
    kernel32();
    expect_exception(run(sysret, make(2, 4)), Vector::ud);
    run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
    state.efer &= ~efer::sce;
    expect_exception(run(sysret, make(3, 8)), Vector::ud);
}

TEST_F(SystemCall, Sysenter) {
    user32();
    state.rflags = rflags::fixed1 | rflags::if_ | rflags::tf | rflags::rf;
    state.sysenter_cs = kernel_code | 3;
    EXPECT_EQ(run(sysenter, make()), HelperResult::dispatch);
    EXPECT_EQ(state.rip, handler_rip);
    EXPECT_EQ(state.gpr[rsp], kernel_stack);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::tf);
    EXPECT_EQ(state.segment[seg_cs].selector, kernel_code);
    EXPECT_EQ(state.segment[seg_ss].selector, kernel_data);
    EXPECT_TRUE(state.code64());
    EXPECT_EQ(state.cpl(), 0U);
}

TEST_F(SystemCall, SysenterChecks) {
    user64();
    state.sysenter_cs = 3;
    expect_exception(run(sysenter, make()), Vector::gp, 0);
    state.sysenter_cs = kernel_code;
    leaf(1).edx &= ~(1U << 11);
    expect_exception(run(sysenter, make()), Vector::ud);
    expect_exception(run(sysexit, make()), Vector::ud);
}

TEST_F(SystemCall, Sysexit) {
    state.gpr[rcx] = user_stack;
    state.gpr[rdx] = user_rip;
    EXPECT_EQ(run(sysexit, make(3, 8)), HelperResult::dispatch);
    EXPECT_EQ(state.rip, user_rip);
    EXPECT_EQ(state.gpr[rsp], user_stack);
    EXPECT_EQ(state.segment[seg_cs].selector, kernel_code + 32 + 3);
    EXPECT_EQ(state.segment[seg_ss].selector, kernel_code + 40 + 3);
    EXPECT_TRUE(state.code64());
    EXPECT_EQ(state.cpl(), 3U);
    run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
    state.gpr[rcx] = hole | 0x1000;
    state.gpr[rdx] = hole | 0x2000;
    EXPECT_EQ(run(sysexit, make(2, 4)), HelperResult::dispatch);
    EXPECT_EQ(state.rip, 0x2000U);
    EXPECT_EQ(state.gpr[rsp], 0x1000U);
    EXPECT_EQ(state.segment[seg_cs].selector, kernel_code + 16 + 3);
    EXPECT_EQ(state.segment[seg_ss].selector, kernel_code + 24 + 3);
    EXPECT_FALSE(state.code64());
}

TEST_F(SystemCall, SysexitChecks) {
    state.gpr[rcx] = hole;
    state.gpr[rdx] = user_rip;
    expect_exception(run(sysexit, make(3, 8)), Vector::gp, 0);
    state.gpr[rcx] = user_stack;
    state.gpr[rdx] = hole;
    expect_exception(run(sysexit, make(3, 8)), Vector::gp, 0);
    state.gpr[rdx] = user_rip;
    state.sysenter_cs = 0;
    expect_exception(run(sysexit, make(3, 8)), Vector::gp, 0);
    state.sysenter_cs = kernel_code;
    user64();
    expect_exception(run(sysexit, make(3, 8)), Vector::gp, 0);
}

TEST_F(SystemCall, Swapgs) {
    state.segment[seg_gs].base = 1;
    state.kernel_gs_base = 2;
    EXPECT_EQ(run(swapgs, make()), HelperResult::next);
    EXPECT_EQ(state.segment[seg_gs].base, 2U);
    EXPECT_EQ(state.kernel_gs_base, 1U);
    user64();
    expect_exception(run(swapgs, make()), Vector::gp, 0);
    kernel32();
    expect_exception(run(swapgs, make()), Vector::ud);
}

TEST_F(SystemCall, FsGsBase) {
    Instruction i = make(5, 8);
    i.rm = rbx;
    const auto with = [&](ZydisMnemonic mnemonic) {
        return run(rdwr_fsgsbase, named(mnemonic, i));
    };
    expect_exception(with(ZYDIS_MNEMONIC_RDFSBASE), Vector::ud);
    state.cr4 |= cr4::fsgsbase;
    user64();
    state.gpr[rbx] = 0x7fff12345678;
    EXPECT_EQ(with(ZYDIS_MNEMONIC_WRFSBASE), HelperResult::next);
    EXPECT_EQ(state.segment[seg_fs].base, 0x7fff12345678U);
    i.operand_size = 4;
    EXPECT_EQ(with(ZYDIS_MNEMONIC_WRGSBASE), HelperResult::next);
    EXPECT_EQ(state.segment[seg_gs].base, 0x12345678U);
    EXPECT_EQ(with(ZYDIS_MNEMONIC_RDFSBASE), HelperResult::next);
    EXPECT_EQ(state.gpr[rbx], 0x12345678U);
    i.operand_size = 8;
    EXPECT_EQ(with(ZYDIS_MNEMONIC_RDFSBASE), HelperResult::next);
    EXPECT_EQ(state.gpr[rbx], 0x7fff12345678U);
    EXPECT_EQ(with(ZYDIS_MNEMONIC_RDGSBASE), HelperResult::next);
    EXPECT_EQ(state.gpr[rbx], 0x12345678U);
    state.gpr[rbx] = hole;
    expect_exception(with(ZYDIS_MNEMONIC_WRGSBASE), Vector::gp, 0);
    user32();
    expect_exception(with(ZYDIS_MNEMONIC_RDGSBASE), Vector::ud);
}

} // namespace
} // namespace gnomon::processor::soft
