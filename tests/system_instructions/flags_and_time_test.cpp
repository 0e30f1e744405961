// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include <x86intrin.h>

namespace gnomon::processor::soft {
namespace {

class FlagsAndTime : public SystemInstructions {
protected:
    bool flag(u64 bit) const { return (state.rflags & bit) != 0; }
    HelperResult pop_flags(u64 image, u8 size = 8) {
        memory.put(state.gpr[rsp], image);
        return run(popf, make(1, size));
    }
    CpuidLeaf ask(u32 index, u32 subleaf = 0) {
        state.gpr[rax] = index | (u64{1} << 40);
        state.gpr[rcx] = subleaf | (u64{1} << 40);
        EXPECT_EQ(run(cpuid, make()), HelperResult::next);
        EXPECT_EQ((state.gpr[rax] | state.gpr[rbx] | state.gpr[rcx] | state.gpr[rdx]) >> 32, 0U);
        CpuidLeaf out;
        out.eax = static_cast<u32>(state.gpr[rax]);
        out.ebx = static_cast<u32>(state.gpr[rbx]);
        out.ecx = static_cast<u32>(state.gpr[rcx]);
        out.edx = static_cast<u32>(state.gpr[rdx]);
        return out;
    }
};

TEST_F(FlagsAndTime, InterruptFlag) {
    EXPECT_EQ(run(sti, make(1)), HelperResult::next);
    EXPECT_TRUE(flag(rflags::if_));
    EXPECT_EQ(run(cli, make(1)), HelperResult::next);
    EXPECT_FALSE(flag(rflags::if_));
    user64();
    expect_exception(run(sti, make(1)), Vector::gp, 0);
    expect_exception(run(cli, make(1)), Vector::gp, 0);
    state.rflags |= rflags::iopl;
    EXPECT_EQ(run(sti, make(1)), HelperResult::next);
    EXPECT_EQ(run(cli, make(1)), HelperResult::next);
}

TEST_F(FlagsAndTime, StiShadow) {
    EXPECT_EQ(run(sti, make(1)), HelperResult::next);
    EXPECT_FALSE(cpu.cb.interrupt_shadow) << "nothing waits";
    for (const bool by_poll : {false, true}) {
        state.rflags &= ~rflags::if_;
        state.rip = kernel_rip;
        cpu.cb.interrupt_shadow = cpu.single_step_once = false;
        cpu.cb.interrupt_window = !by_poll;
        cpu.poll = by_poll ? 1 : 0;
        EXPECT_EQ(run(sti, make(1)), HelperResult::dispatch);
        EXPECT_TRUE(cpu.cb.interrupt_shadow);
        EXPECT_TRUE(cpu.single_step_once);
        EXPECT_EQ(state.rip, kernel_rip + 1);
    }
    cpu.cb.interrupt_shadow = false;
    EXPECT_EQ(run(sti, make(1)), HelperResult::next); // IF was set already: no shadow
    EXPECT_FALSE(cpu.cb.interrupt_shadow);
}

TEST_F(FlagsAndTime, Pushf) {
    state.rflags = rflags::fixed1 | rflags::rf | rflags::vm | rflags::if_ | rflags::ac | rflags::of;
    EXPECT_EQ(run(pushf, make(1, 8)), HelperResult::next);
    EXPECT_EQ(memory.get<u64>(kernel_stack - 8),
              rflags::fixed1 | rflags::if_ | rflags::ac | rflags::of);
    EXPECT_EQ(state.gpr[rsp], kernel_stack - 8);
    memory.put<u32>(kernel_stack - 10, 0xeeeeeeee);
    EXPECT_EQ(run(pushf, make(2, 2)), HelperResult::next);
    EXPECT_EQ(memory.get<u16>(kernel_stack - 10), rflags::fixed1 | rflags::if_ | rflags::of);
    EXPECT_EQ(state.gpr[rsp], kernel_stack - 10);
    user32();
    EXPECT_EQ(run(pushf, make(1, 4)), HelperResult::next);
    EXPECT_EQ(state.gpr[rsp], 0xfffefffcU);
    state.gpr[rsp] = 0xfffff000;
    memory.absent = {0xffffe000};
    expect_leave(run(pushf, make(1, 4)), ExitReason::page_fault);
    user64();
    state.gpr[rsp] = (u64{1} << 47) + 8;
    expect_exception(run(pushf, make(1, 8)), Vector::ss, 0);
    expect_exception(run(popf, make(1, 8)), Vector::ss, 0);
}

TEST_F(FlagsAndTime, PopfByPrivilege) {
    const u64 plain = rflags::fixed1 | rflags::arithmetic | rflags::df | rflags::nt | rflags::id;
    const u64 all_but_trap = ~(rflags::tf | rflags::ac);
    EXPECT_EQ(pop_flags(all_but_trap), HelperResult::next);
    EXPECT_EQ(state.rflags, plain | rflags::if_ | rflags::iopl);
    EXPECT_EQ(state.gpr[rsp], kernel_stack + 8);
    user64();
    state.rflags = rflags::fixed1 | rflags::rf;
    EXPECT_EQ(pop_flags(all_but_trap), HelperResult::next);
    EXPECT_EQ(state.rflags, plain) << "neither IF nor IOPL";
    state.rflags = rflags::fixed1 | rflags::iopl;
    EXPECT_EQ(pop_flags(rflags::if_), HelperResult::next);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::if_ | rflags::iopl) << "IF with IOPL";
    state.rflags = rflags::fixed1 | rflags::ac | rflags::id;
    EXPECT_EQ(pop_flags(rflags::cf, 2), HelperResult::next);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::ac | rflags::id | rflags::cf);
}

TEST_F(FlagsAndTime, PopfDispatchesOnWhatMatters) {
    EXPECT_EQ(pop_flags(rflags::tf), HelperResult::dispatch);
    EXPECT_EQ(state.rip, kernel_rip + 1);
    EXPECT_EQ(pop_flags(rflags::tf), HelperResult::next);
    EXPECT_EQ(pop_flags(rflags::ac), HelperResult::dispatch);
    EXPECT_EQ(pop_flags(0), HelperResult::dispatch);
    cpu.cb.interrupt_window = true;
    EXPECT_EQ(pop_flags(rflags::if_), HelperResult::dispatch);
    EXPECT_FALSE(cpu.cb.interrupt_shadow);
    EXPECT_EQ(pop_flags(0), HelperResult::next);
    memory.absent = {kernel_stack};
    expect_leave(run(popf, make(1, 8)), ExitReason::page_fault);
}

TEST_F(FlagsAndTime, AlignmentFlag) {
    EXPECT_EQ(run(clac_stac, named(ZYDIS_MNEMONIC_STAC, make(3))), HelperResult::dispatch);
    EXPECT_TRUE(flag(rflags::ac));
    EXPECT_EQ(state.rip, kernel_rip + 3);
    EXPECT_EQ(run(clac_stac, named(ZYDIS_MNEMONIC_CLAC, make(3))), HelperResult::dispatch);
    EXPECT_FALSE(flag(rflags::ac));
    user64();
    expect_exception(run(clac_stac, named(ZYDIS_MNEMONIC_STAC)), Vector::ud);
    run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
    leaf(7).ebx = 0;
    expect_exception(run(clac_stac, named(ZYDIS_MNEMONIC_STAC)), Vector::ud);
}

TEST_F(FlagsAndTime, DirectionFlag) {
    EXPECT_EQ(run(cld_std, named(ZYDIS_MNEMONIC_STD)), HelperResult::next);
    EXPECT_TRUE(flag(rflags::df));
    EXPECT_EQ(run(cld_std, named(ZYDIS_MNEMONIC_CLD)), HelperResult::next);
    EXPECT_FALSE(flag(rflags::df));
}

TEST_F(FlagsAndTime, Halt) {
    cpu.cb.interrupt_shadow = true;
    EXPECT_EQ(run(hlt, make(1)), HelperResult::exit);
    EXPECT_EQ(cpu.exit.reason, ExitReason::halt);
    EXPECT_EQ(state.rip, kernel_rip + 1);
    EXPECT_FALSE(cpu.cb.interrupt_shadow);
    user64();
    expect_exception(run(hlt, make(1)), Vector::gp, 0);
}

TEST_F(FlagsAndTime, CpuidTable) {
    EXPECT_EQ(ask(0).eax, 0xdU);
    EXPECT_EQ(ask(0x80000008).eax, 0x3028U);
    EXPECT_EQ(ask(0x40000000).ebx, 0x1234U);
    EXPECT_EQ(ask(7).ebx, leaf(7).ebx);
    EXPECT_EQ(ask(7, 1).ebx, 0U) << "no such subleaf";
    EXPECT_EQ(ask(5).eax, 0U) << "in range, not listed";
    EXPECT_EQ(ask(0x40000001).eax, 0U);
    const CpuidLeaf level = ask(0xb, 0x107);
    EXPECT_EQ(level.eax, 0U);
    EXPECT_EQ(level.ecx, 7U);
    EXPECT_EQ(level.edx, 5U);
}

TEST_F(FlagsAndTime, CpuidBeyondTheRangesIsTheHighestBasicLeaf) {
    for (const u32 index : {0xeU, 0x3fffffffU, 0x40000002U, 0x80000009U, 0xffffffffU}) {
        EXPECT_EQ(ask(index, 0).eax, leaf(0xd).eax) << index;
        EXPECT_EQ(ask(index, 0).ecx, 832U) << index;
    }
    cpu.cb.cpuid = nullptr;
    EXPECT_EQ(ask(0).eax, 0U);
}

TEST_F(FlagsAndTime, CpuidFollowsRegisters) {
    constexpr u32 osxsave = 1U << 27;
    EXPECT_EQ(ask(1).ecx & osxsave, 0U);
    state.cr4 |= cr4::osxsave;
    EXPECT_EQ(ask(1).ecx & osxsave, osxsave);
    leaf(7).ecx |= 1U << 4;
    EXPECT_EQ(ask(7).ecx & (1U << 4), 0U) << "OSPKE";
    EXPECT_EQ(ask(0xd, 0).ebx, 576U);
    EXPECT_EQ(ask(0xd, 1).ebx, 576U);
    state.xcr0 = xcr0::x87 | xcr0::sse | xcr0::avx;
    EXPECT_EQ(ask(0xd, 0).ebx, 832U);
    EXPECT_EQ(ask(0xd, 1).ebx, 832U);
    state.xcr0 |= xcr0::avx512;
    EXPECT_EQ(ask(0xd, 0).ebx, 2432U);
    EXPECT_EQ(ask(0xd, 1).ebx, 2432U);
    EXPECT_EQ(ask(0xd, 5).ebx, 0U);
    EXPECT_NE(ask(0x80000001).edx & (1U << 11), 0U);
    user32();
    EXPECT_EQ(ask(0x80000001).edx & (1U << 11), 0U) << "SYSCALL is shown in 64-bit mode only";
}

TEST_F(FlagsAndTime, TimeStampCounter) {
    cpu.cb.tsc_offset = 0x123456789abc;
    state.tsc_aux = 0x1007;
    for (const Helper helper : {&rdtsc, &rdtscp}) {
        const u64 before = __rdtsc();
        EXPECT_EQ(run(helper, make()), HelperResult::next);
        const u64 after = __rdtsc();
        const u64 host = (state.gpr[rax] | (state.gpr[rdx] << 32)) - cpu.cb.tsc_offset;
        EXPECT_GE(host, before);
        EXPECT_LE(host, after);
        EXPECT_EQ(state.gpr[rax] >> 32, 0U);
    }
    EXPECT_EQ(state.gpr[rcx], 0x1007U);
    state.cr4 |= cr4::tsd;
    EXPECT_EQ(run(rdtsc, make()), HelperResult::next);
    user64();
    expect_exception(run(rdtsc, make()), Vector::gp, 0);
    expect_exception(run(rdtscp, make()), Vector::gp, 0);
    leaf(0x80000001).edx = 0;
    expect_exception(run(rdtscp, make()), Vector::ud);
}

TEST_F(FlagsAndTime, Rdpid) {
    Instruction i = make(4);
    i.rm = r9;
    state.tsc_aux = 0x2003;
    user64();
    EXPECT_EQ(run(rdpid, i), HelperResult::next);
    EXPECT_EQ(state.gpr[r9], 0x2003U);
    leaf(7).ecx = 0;
    expect_exception(run(rdpid, i), Vector::ud);
}

TEST_F(FlagsAndTime, PerformanceCountersAndUndefined) {
    expect_exception(run(rdpmc, make()), Vector::gp, 0);
    expect_exception(run(raise_ud, make()), Vector::ud);
}

TEST_F(FlagsAndTime, Hypercall) {
    state.gpr[rax] = 0x1122334455667788;
    expect_exception(run(vmcall, make(3)), Vector::ud);
    cpu.cb.monitor_mode = true;
    EXPECT_EQ(run(vmcall, make(3)), HelperResult::exit);
    EXPECT_EQ(cpu.exit.reason, ExitReason::hypercall);
    EXPECT_EQ(cpu.exit.index, 0x55667788U);
    EXPECT_EQ(state.rip, kernel_rip + 3);
}

} // namespace
} // namespace gnomon::processor::soft
