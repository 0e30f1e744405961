// SPDX-License-Identifier: Apache-2.0
// M1.1 Hook, M1.2 Protect, M1.3 Enter.
#include "support/guest.h"

#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;
using monitor::CallAction;
using monitor::handler_base;
using monitor::SystemCallAbi;

constexpr u32 lstar = 0xc0000082, cstar = 0xc0000083, sysenter_eip = 0x176;
constexpr u64 kernel_entry = place::kernel_code + 0x1000;

void wrmsr(Code& c, u32 index, u64 value) {
    c.mov(ecx, index);
    c.mov(eax, static_cast<u32>(value));
    c.mov(edx, static_cast<u32>(value >> 32));
    c.wrmsr();
}
/// RDMSR into a register.
void rdmsr(Code& c, u32 index, const Xbyak::Reg64& to) {
    c.mov(ecx, index);
    c.rdmsr();
    c.shl(rdx, 32);
    c.or_(rax, rdx);
    c.mov(to, rax);
}

class Hooked : public testing::Test {
protected:
    Hooked() {
        recorder.decide = [](u64) { return CallAction::hypercall; };
        g.interpose(recorder);
    }
    [[nodiscard]] bool hooks_in_place() {
        const auto in_range = [&](u64 vector) {
            return vector >= g.block().monitor_mode_begin.value() &&
                   vector < g.block().monitor_mode_end.value();
        };
        return in_range(g.state().lstar) && in_range(g.state().cstar) &&
               in_range(g.state().sysenter_eip);
    }
    /// The guest's own vectors, set by its own WRMSR.
    void set_vectors() {
        g.assemble(place::kernel_code, [](Code& c) {
            wrmsr(c, lstar, kernel_entry);
            wrmsr(c, sysenter_eip, kernel_entry);
            c.hlt();
        });
        ASSERT_TRUE(g.run().halted());
    }
    Recorder recorder;
    Guest g;
};
class M1_1_Hook : public Hooked {};
class M1_2_Protect : public Hooked {};

TEST_F(M1_1_Hook, VectorsAreInTheRegisterBlock) {
    EXPECT_TRUE(hooks_in_place());
    EXPECT_EQ(g.block().monitor_mode_begin, Gva(handler_base));
    EXPECT_NE(g.state().lstar, g.state().cstar);
    EXPECT_NE(g.state().lstar, g.state().sysenter_eip);
    for (const u32 index : {lstar, cstar, sysenter_eip}) {
        EXPECT_TRUE(g.block().msr_read_intercept.test(index));
        EXPECT_TRUE(g.block().msr_write_intercept.test(index));
    }
    EXPECT_TRUE(g.block().int_delivery_exit.test(0x80));
    EXPECT_EQ(g.block().int_delivery_exit.count(), 1U);
    EXPECT_TRUE(g.block().int_intercept.none());
}

TEST_F(M1_1_Hook, SyscallIsSeenAndReachesTheGuestsHandler) {
    set_vectors();
    g.assemble(kernel_entry, [](Code& c) { c.hlt(); });
    g.assemble(place::user_code, [](Code& c) {
        c.mov(eax, 59);
        c.mov(edi, 1);
        c.mov(esi, 2);
        c.mov(edx, 3);
        c.mov(r10d, 4);
        c.mov(r8d, 5);
        c.mov(r9d, 6);
        c.syscall();
    });
    g.start_user();
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(stop.rip, kernel_entry + 1);
    ASSERT_EQ(recorder.entries.size(), 1U);
    const auto& e = recorder.entries[0];
    EXPECT_EQ(e.abi, SystemCallAbi::x86_64);
    EXPECT_EQ(e.number, 59U);
    EXPECT_EQ(e.args, (std::array<u64, 6>{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(e.user_ip, g.gpr(processor::rcx));
    EXPECT_EQ(e.user_sp, place::user_stack);
    EXPECT_EQ(e.caller.cr3, place::pml4);
}

TEST_F(M1_1_Hook, Int80ExitsBehindItsDelivery) {
    g.set_gate(0x80, place::stubs + 16 * 0x80, 3);
    g.assemble(place::user_code, [](Code& c) {
        c.mov(eax, 4);
        c.mov(rbx, ~u64{0}); // the ABI is 32 bits wide
        c.mov(ecx, 22);
        c.mov(edx, 33);
        c.mov(esi, 44);
        c.mov(edi, 55);
        c.mov(ebp, 66);
        c.db(0xcd), c.db(0x80);
    });
    g.start_user();
    const Stop stop = g.run();
    ASSERT_EQ(stop.kind, Stop::Kind::event) << stop.text();
    EXPECT_EQ(stop.vector, 0x80);
    EXPECT_EQ(stop.cs, selector::user_code);
    EXPECT_EQ(g.peek<u16>(stop.rip - 2), 0x80cd) << "returns behind the INT";
    EXPECT_EQ(g.exits(ExitReason::software_interrupt_delivered), 1U);
    ASSERT_EQ(recorder.entries.size(), 1U);
    EXPECT_EQ(recorder.entries[0].abi, SystemCallAbi::i386);
    EXPECT_EQ(recorder.entries[0].number, 4U);
    EXPECT_EQ(recorder.entries[0].args, (std::array<u64, 6>{0xffffffff, 22, 33, 44, 55, 66}));
    EXPECT_EQ(recorder.entries[0].user_ip, stop.rip);
    EXPECT_EQ(recorder.entries[0].user_sp, place::user_stack);
}

TEST_F(M1_1_Hook, Int80OfTheKernelIsNoSystemCall) {
    g.assemble(place::kernel_code, [](Code& c) { c.db(0xcd), c.db(0x80); });
    const Stop stop = g.run();
    EXPECT_EQ(stop.vector, 0x80);
    EXPECT_TRUE(recorder.entries.empty());
}

// A gate that user mode may not use faults as without the hook.
TEST_F(M1_1_Hook, ForbiddenInt80FaultsAsWithoutTheHook) {
    g.assemble(place::user_code, [](Code& c) { c.db(0xcd), c.db(0x80); });
    g.start_user();
    const Stop stop = g.run();
    ASSERT_TRUE(stop.is(Vector::gp)) << stop.text();
    EXPECT_EQ(stop.error_code, 0x80U * 8 + 2);
    EXPECT_EQ(stop.rip, place::user_code);
    EXPECT_TRUE(recorder.entries.empty()) << "the kernel was not entered by it";
}

// One that faults on its way and is run again is one call.
TEST_F(M1_1_Hook, Int80WhoseFrameFaultsIsSeenOnce) {
    g.set_gate(0x80, place::stubs + 16 * 0x80, 3);
    g.set_gate(14, place::stubs + 16 * 14, 0, 1);
    g.assemble(place::user_code, [](Code& c) { c.db(0xcd), c.db(0x80); });
    g.poke<u64>(place::tss + 4, place::identity_end + 0x800); // RSP0: not mapped
    g.start_user();
    Stop stop = g.run();
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.rip, place::user_code);
    EXPECT_TRUE(recorder.entries.empty());
    g.poke<u64>(place::tss + 4, place::kernel_stack);
    g.start_user();
    stop = g.run();
    EXPECT_EQ(stop.vector, 0x80) << stop.text();
    EXPECT_EQ(recorder.entries.size(), 1U);
}

// The kernel takes EAX: a program must not hide a call behind what is above it in RAX.
TEST_F(M1_1_Hook, NumbersAreThirtyTwoBitsWide) {
    set_vectors();
    g.assemble(kernel_entry, [](Code& c) { c.hlt(); });
    g.assemble(place::user_code, [](Code& c) { c.syscall(); });
    for (const u64 high : {u64{0}, u64{1} << 32, u64{0xffffffff00000000}})
        for (const u64 number : {u64{59}, u64{0x40000208}, u64{0xffffffff}, u64{512}}) {
            recorder.entries.clear();
            g.start_user();
            g.gpr(processor::rax) = high | number;
            ASSERT_TRUE(g.run().halted());
            ASSERT_EQ(recorder.entries.size(), 1U);
            EXPECT_EQ(recorder.entries[0].number, number);
        }
}

TEST_F(M1_1_Hook, SysenterIsSeenAndReachesTheGuestsHandler) {
    set_vectors();
    g.assemble(kernel_entry, [](Code& c) { c.hlt(); });
    g.poke<u32>(place::user_stack - 0x100, 666);
    g.assemble(place::user_code, [](Code& c) {
        c.mov(eax, 20);
        c.mov(ebx, 1);
        c.mov(ecx, 2);
        c.mov(edx, 3);
        c.mov(esi, 4);
        c.mov(edi, 5);
        c.mov(ebp, place::user_stack - 0x100);
        c.sysenter();
    });
    g.start_user();
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(stop.rip, kernel_entry + 1);
    EXPECT_EQ(g.gpr(processor::rsp), place::kernel_stack);
    ASSERT_EQ(recorder.entries.size(), 1U);
    EXPECT_EQ(recorder.entries[0].abi, SystemCallAbi::i386);
    EXPECT_EQ(recorder.entries[0].number, 20U);
    EXPECT_EQ(recorder.entries[0].args, (std::array<u64, 6>{1, 2, 3, 4, 5, 666}));
}

// ---------------------------------------------------------------- M1.2

TEST_F(M1_2_Protect, ReadsGiveTheGuestsOwnValueAndTheHookStays) {
    g.assemble(place::kernel_code, [](Code& c) {
        rdmsr(c, lstar, r8);
        wrmsr(c, lstar, 0xffffffff81000000);
        wrmsr(c, cstar, 0xffffffff81000100);
        wrmsr(c, sysenter_eip, 0xffffffff81000200);
        rdmsr(c, lstar, r9);
        rdmsr(c, cstar, r10);
        rdmsr(c, sysenter_eip, r11);
        wrmsr(c, lstar, 0);
        rdmsr(c, lstar, r12);
        c.hlt();
    });
    const u64 hooked = g.state().lstar;
    const Stop stop = g.run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g.gpr(processor::r8), 0U) << "as after reset";
    EXPECT_EQ(g.gpr(processor::r9), 0xffffffff81000000U);
    EXPECT_EQ(g.gpr(processor::r10), 0xffffffff81000100U);
    EXPECT_EQ(g.gpr(processor::r11), 0xffffffff81000200U);
    EXPECT_EQ(g.gpr(processor::r12), 0U);
    EXPECT_EQ(g.state().lstar, hooked);
    EXPECT_TRUE(hooks_in_place());
}

TEST_F(M1_2_Protect, NonCanonicalWritesFaultAndChangeNothing) {
    for (const u32 index : {lstar, cstar, sysenter_eip}) {
        g.assemble(place::kernel_code, [&](Code& c) {
            wrmsr(c, index, 0xffffffff81234560);
            wrmsr(c, index, 0x0000800000000000);
        });
        g.start_kernel();
        const Stop stop = g.run();
        ASSERT_TRUE(stop.is(Vector::gp)) << stop.text();
        EXPECT_EQ(stop.error_code, 0U);
        EXPECT_EQ(g.peek<u16>(stop.rip), 0x300f) << "at the WRMSR";
        EXPECT_EQ(g.interposer().read_msr(index), 0xffffffff81234560U);
        EXPECT_TRUE(hooks_in_place());
    }
}

TEST_F(M1_2_Protect, UserModeMayNotAsk) {
    for (const u16 opcode : {u16{0x320f}, u16{0x300f}}) {
        g.assemble(place::user_code, [&](Code& c) {
            c.mov(ecx, lstar);
            c.dw(opcode);
        });
        g.start_user();
        const Stop stop = g.run();
        EXPECT_TRUE(stop.is(Vector::gp)) << stop.text();
        EXPECT_EQ(g.exits(ExitReason::msr_read) + g.exits(ExitReason::msr_write), 0U);
    }
}

TEST_F(M1_2_Protect, WriteFollowedBySyscallRunsTheNewTarget) {
    const u64 first = kernel_entry, second = kernel_entry + 0x100;
    g.assemble(first, [](Code& c) {
        c.mov(r14, rcx);
        wrmsr(c, lstar, kernel_entry + 0x100);
        c.syscall(); // from ring 0, at once
        c.ud2();
    });
    g.assemble(second, [](Code& c) { c.hlt(); });
    g.assemble(place::kernel_code, [&](Code& c) {
        wrmsr(c, lstar, first);
        c.xor_(eax, eax);
        c.syscall();
        c.ud2();
    });
    for (int n = 0; n < 3; ++n) { // also with everything translated
        g.start_kernel();
        const Stop stop = g.run();
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(stop.rip, second + 1);
    }
    EXPECT_EQ(recorder.entries.size(), 6U);
}

// ---------------------------------------------------------------- M1.3

/// Everything that a guest could find in its RAM.
std::vector<std::byte> ram(Guest& g) {
    std::vector<std::byte> bytes(g.memory().size());
    EXPECT_TRUE(g.memory().read(Gpa(0), bytes));
    return bytes;
}

TEST(M1_3_Enter, InstallingChangesNothingInGuestMemory) {
    Recorder recorder;
    Guest g;
    const auto before = ram(g);
    g.interpose(recorder);
    EXPECT_EQ(ram(g), before);
}

/// Ten system calls in a loop, with SYSRET, and a store of every result.
void calling_program(Guest& g) {
    g.assemble(place::kernel_code, [](Code& c) {
        wrmsr(c, lstar, kernel_entry);
        c.mov(ecx, place::user_code);
        c.mov(r11d, 0x202);
        c.mov(esp, place::user_stack);
        c.sysretq();
    });
    g.assemble(kernel_entry, [](Code& c) {
        Xbyak::Label last;
        c.cmp(rbx, 10);
        c.je(last);
        c.mov(ptr[rdi], rcx);
        c.mov(ptr[rdi + 8], r11);
        c.mov(ptr[rdi + 16], rax);
        c.sysretq();
        c.L(last);
        c.hlt();
    });
    g.assemble(place::user_code, [](Code& c) {
        Xbyak::Label again;
        c.xor_(ebx, ebx);
        c.mov(edi, place::data);
        c.L(again);
        c.mov(eax, ebx);
        c.cmp(rbx, 5);
        c.push(rax);
        c.syscall();
        c.pop(rax);
        c.add(rdi, 24);
        c.inc(ebx);
        c.jmp(again);
    });
}

TEST(M1_3_Enter, ARunLeavesTheSameMemoryWithAndWithoutTheHook) {
    Guest plain;
    calling_program(plain);
    ASSERT_TRUE(plain.run().halted());
    const auto expected = ram(plain);
    for (const CallAction action : {CallAction::none, CallAction::log, CallAction::hypercall}) {
        Recorder recorder;
        recorder.decide = [&](u64) { return action; };
        Guest g;
        calling_program(g);
        g.interpose(recorder);
        const Stop stop = g.run();
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_TRUE(ram(g) == expected) << static_cast<int>(action);
        g.interposer().drain_ring();
        EXPECT_EQ(recorder.entries.size(), action == CallAction::none ? 0U : 11U);
    }
}

} // namespace
} // namespace gnomon::test
