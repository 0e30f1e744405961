// SPDX-License-Identifier: Apache-2.0
// M1.5: returns from system calls, by the execution hook and its handler.
#include "same_state.h"
#include "support/guest.h"

#include <chrono>
#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;
using monitor::CallAction;
using monitor::handler_base;
using processor::Injection;
namespace rf = processor::rflags;

constexpr u64 kernel_entry = place::kernel_code + 0x1000;
constexpr u64 hook = place::kernel_code + 0x2340;
constexpr u64 registers = place::data + 0x100; ///< pt_regs: ax, orig_ax, cs
constexpr u64 current = place::data + 0x800;   ///< the task that runs
constexpr u64 a_task = 0xffff888012345680;
constexpr u64 user_cs = 0x33;

guest::linux_::RegistersLayout layout() {
    guest::linux_::RegistersLayout r;
    r.ax = 0;
    r.orig_ax = 8;
    r.cs = 16;
    return r;
}

/// A kernel whose calls return what RDI says, less 10.
class M1_5_Return : public testing::Test {
protected:
    M1_5_Return() { make(CallAction::sum, CallAction::hypercall); }

    void make(CallAction entry, CallAction exit) {
        recorder = {};
        recorder.decide = [entry](u64) { return entry; };
        recorder.decide_return = [exit](u64) { return exit; };
        make();
    }
    void make() {
        g = std::make_unique<Guest>();
        g->interpose(recorder);
        ASSERT_TRUE(g->interposer().write_msr(0xc0000082, kernel_entry));
        g->interposer().watch_returns(Gva(hook), layout(), Gpa(current));
        g->poke(current, a_task);
        g->assemble(kernel_entry, [](Code& c) {
            c.mov(r8, rsp);
            c.mov(rsp, place::kernel_stack);
            c.mov(r9, registers);
            c.mov(ptr[r9 + 8], rax);
            c.mov(qword[r9 + 16], user_cs);
            c.lea(rax, ptr[rdi - 10]);
            c.mov(ptr[r9], rax);
            c.push(rdi);
            c.mov(rdi, r9);
            c.mov(edx, static_cast<u32>(hook));
            c.call(rdx);
            c.pop(rdi);
            c.mov(rsp, r8);
            c.sysretq();
        });
        g->assemble(hook, [](Code& c) {
            c.inc(r15);
            c.ret();
        });
    }
    /// A program that makes `count` calls of numbers 100 to 103 in turn, RDI counting up.
    void call(u32 count) {
        g->assemble(place::user_code, [count](Code& c) {
            Xbyak::Label again;
            c.xor_(r15, r15);
            c.xor_(edi, edi);
            c.L(again);
            c.mov(eax, edi);
            c.and_(eax, 3);
            c.add(eax, 100);
            c.syscall();
            c.inc(edi);
            c.cmp(edi, count);
            c.jne(again);
            c.ud2();
        });
        g->start_user();
    }
    /// Now the shadow has what the handler reads for the processor.
    void warm() {
        call(1);
        ASSERT_TRUE(g->run().is(Vector::ud));
        g->interposer().finish();
        recorder.entries.clear();
        recorder.returns.clear();
        recorder.sums.clear();
    }
    /// One call, up to the return hook.
    void begin_call(u64 number) {
        g->assemble(place::user_code, [](Code& c) { c.syscall(); });
        g->assemble(kernel_entry, [](Code& c) { c.hlt(); });
        g->start_user();
        g->gpr(processor::rax) = number;
        ASSERT_TRUE(g->run().halted());
    }
    void set_registers(u64 ax, u64 orig_ax, u64 cs = user_cs) {
        g->poke(registers, ax);
        g->poke(registers + 8, orig_ax);
        g->poke(registers + 16, cs);
    }
    /// The kernel at the hook, behind which it halts.
    void start_return() {
        g->assemble(hook, [](Code& c) { c.hlt(); });
        g->start_kernel(hook);
        g->gpr(processor::rdi) = registers;
    }
    [[nodiscard]] u64 summed() const {
        u64 sum = 0;
        for (const auto& s : recorder.sums)
            sum += s.calls;
        return sum;
    }
    Recorder recorder;
    std::unique_ptr<Guest> g;
};

TEST_F(M1_5_Return, SumsCallsWithoutAnExit) {
    const u64 begin = g->clock().now_ns();
    call(1000);
    const Stop stop = g->run();
    const u64 end = g->clock().now_ns();
    ASSERT_TRUE(stop.is(Vector::ud)) << stop.text();
    EXPECT_EQ(g->gpr(processor::r15), 1000U) << "the hooked instruction";
    EXPECT_EQ(g->exits(ExitReason::hypercall), 0U);
    // The first time the shadow lacks what the handler would read.
    EXPECT_LE(g->exits(ExitReason::execution_hook), 1U);
    const u64 by_exit = recorder.returns.size();
    EXPECT_EQ(recorder.entries.size(), by_exit);
    g->interposer().finish();
    ASSERT_EQ(recorder.sums.size(), 4U);
    EXPECT_EQ(summed() + by_exit, 1000U);
    u64 errors = 0, time = 0;
    for (unsigned n = 0; n < 4; ++n) {
        EXPECT_EQ(recorder.sums[n].number, 100 + n);
        errors += recorder.sums[n].errors;
        time += recorder.sums[n].time_ns;
    }
    EXPECT_EQ(errors + by_exit, 10U) << "results -10 to -1";
    EXPECT_GT(time, 0U);
    EXPECT_LE(time, end - begin);
    g->interposer().finish();
    EXPECT_EQ(recorder.sums.size(), 4U) << "each sum is told once";
}

TEST_F(M1_5_Return, ResultsFromMinus4095AreErrors) {
    for (const i64 result :
         {i64{-4096}, i64{-4095}, i64{-1}, i64{0}, i64{1}, INT64_MIN, INT64_MAX}) {
        make(CallAction::sum, CallAction::hypercall);
        warm();
        begin_call(5);
        set_registers(static_cast<u64>(result), 5);
        start_return();
        ASSERT_TRUE(g->run().halted());
        g->interposer().finish();
        ASSERT_EQ(recorder.sums.size(), 1U);
        EXPECT_EQ(recorder.sums[0].errors, result < 0 && result >= -4095 ? 1U : 0U) << result;
    }
}

// Under way at the end, changed on the way, of an unknown task, two of one place: all are reported.
TEST_F(M1_5_Return, WhatCannotBeSummedIsReported) {
    warm();
    begin_call(5);
    EXPECT_TRUE(recorder.entries.empty());
    const u64 now = g->clock().now_ns();
    g->interposer().finish();
    ASSERT_EQ(recorder.entries.size(), 1U);
    EXPECT_EQ(recorder.entries[0].number, 5U);
    EXPECT_LE(recorder.entries[0].time_ns, now);
    EXPECT_TRUE(recorder.sums.empty());

    recorder.entries.clear();
    begin_call(5);
    set_registers(1, 6); // by a debugger of the guest's
    start_return();
    ASSERT_TRUE(g->run().halted());
    ASSERT_EQ(recorder.entries.size(), 1U);
    ASSERT_EQ(recorder.returns.size(), 1U);
    EXPECT_EQ(recorder.entries[0].number, 5U);
    EXPECT_EQ(recorder.returns[0].original_number, 6);
    EXPECT_EQ(recorder.returns[0].result, 1);

    recorder.entries.clear();
    begin_call(5);
    begin_call(7); // nobody saw 5 return
    ASSERT_EQ(recorder.entries.size(), 2U);
    EXPECT_EQ(recorder.entries[0].number, 5U);
    EXPECT_EQ(recorder.entries[1].number, 7U);

    recorder.entries.clear();
    u64 other = a_task + 64;
    while (monitor::pending_slot(other) != monitor::pending_slot(a_task))
        other += 64;
    begin_call(5);
    g->poke(current, other);
    begin_call(8);
    set_registers(0, 8);
    start_return();
    recorder.returns.clear();
    ASSERT_TRUE(g->run().halted());
    ASSERT_EQ(recorder.entries.size(), 1U);
    EXPECT_EQ(recorder.entries[0].number, 8U);
    EXPECT_EQ(recorder.returns.size(), 1U);
    g->poke(current, a_task);
    set_registers(0, 5);
    start_return();
    ASSERT_TRUE(g->run().halted());
    EXPECT_EQ(recorder.returns.size(), 1U) << "that one is summed";
    g->interposer().finish();
    EXPECT_EQ(recorder.entries.size(), 1U);
    ASSERT_EQ(recorder.sums.size(), 1U);
    EXPECT_EQ(recorder.sums[0].number, 5U);

    recorder.entries.clear();
    g->poke(current, u64{0}); // early: no task yet
    begin_call(9);
    g->interposer().finish();
    ASSERT_EQ(recorder.entries.size(), 1U);
    EXPECT_EQ(recorder.entries[0].number, 9U);
}

TEST_F(M1_5_Return, TimeThatIsAdjustedInACallIsNotSummed) {
    begin_call(5);
    const u64 before = g->clock().now_ns();
    g->interposer().set_tsc_adjust(u64{1} << 50);
    ASSERT_EQ(recorder.entries.size(), 1U);
    EXPECT_LE(recorder.entries[0].time_ns, before);
}

TEST_F(M1_5_Return, LogsReturnsInOrderAndAFullRingLosesNothing) {
    // With an event more before them it becomes full at a return instead of at an entry.
    for (const bool one_more : {false, true}) {
        make(CallAction::log, CallAction::log);
        warm();
        if (one_more) {
            set_registers(77, 42);
            start_return();
            ASSERT_TRUE(g->run().halted());
            g->assemble(hook, [](Code& c) {
                c.inc(r15);
                c.ret();
            });
        }
        constexpr u32 count = 3 * monitor::handler_ring_size + 17;
        call(count);
        const Stop stop = g->run();
        ASSERT_TRUE(stop.is(Vector::ud)) << stop.text();
        EXPECT_EQ(g->gpr(processor::r15), count);
        // The event that meets the full ring is reported by its exit.
        EXPECT_EQ(g->exits(ExitReason::hypercall),
                  (2 * count + one_more) / (monitor::handler_ring_size + 1));
        g->interposer().drain_ring();
        ASSERT_EQ(recorder.entries.size(), count);
        ASSERT_EQ(recorder.returns.size(), count + one_more);
        u64 last = 0;
        for (u64 n = 0; n < count; ++n) {
            const auto& entry = recorder.entries[n];
            const auto& exit = recorder.returns[recorder.returns.size() - count + n];
            ASSERT_EQ(entry.args[0], n);
            ASSERT_EQ(exit.result, static_cast<i64>(n) - 10);
            ASSERT_EQ(exit.original_number, static_cast<i64>(entry.number));
            ASSERT_FALSE(exit.compat);
            ASSERT_GE(entry.time_ns, last);
            ASSERT_GE(exit.time_ns, entry.time_ns);
            last = exit.time_ns;
        }
    }
}

// What is 32-bit, or may be, is for the monitor to see at once.
TEST_F(M1_5_Return, ReturnsTo32BitCodeAreNotLogged) {
    make(CallAction::log, CallAction::log);
    warm();
    for (int n = 0; n < 2; ++n) {
        set_registers(0, 42, 0x23);
        start_return();
        ASSERT_TRUE(g->run().halted());
        ASSERT_EQ(recorder.returns.size(), n + 1U);
        EXPECT_TRUE(recorder.returns.back().compat);
    }
    set_registers(0, 42);
    start_return();
    ASSERT_TRUE(g->run().halted());
    EXPECT_EQ(recorder.returns.size(), 2U) << "logged";
    g->set_gate(0x80, kernel_entry, 3);
    g->assemble(kernel_entry, [](Code& c) { c.hlt(); });
    g->assemble(place::user_code, [](Code& c) { c.db(0xcd), c.db(0x80); });
    g->start_user();
    ASSERT_TRUE(g->run().halted());
    EXPECT_EQ(recorder.returns.size(), 3U);
    set_registers(0, 42);
    start_return();
    ASSERT_TRUE(g->run().halted());
    EXPECT_EQ(recorder.returns.size(), 4U) << "it may be INT 0x80's";
}

TEST_F(M1_5_Return, UnwantedReturnsAreNotReported) {
    make(CallAction::none, CallAction::none);
    call(100);
    ASSERT_TRUE(g->run().is(Vector::ud));
    g->interposer().finish();
    EXPECT_TRUE(recorder.entries.empty());
    EXPECT_TRUE(recorder.sums.empty());
    EXPECT_LE(recorder.returns.size(), 1U);
    EXPECT_EQ(g->exits(ExitReason::hypercall), 0U);
    // Numbers beyond the table are reported always.
    set_registers(0, ~u64{0});
    start_return();
    recorder.returns.clear();
    ASSERT_TRUE(g->run().halted());
    EXPECT_EQ(recorder.returns.size(), 1U);
}

struct Way {
    CallAction entry, exit;
    const char* name;
};
class EveryReturn : public M1_5_Return, public testing::WithParamInterface<Way> {};

TEST_P(EveryReturn, ReachesTheHookedInstructionWithTheStateThatItHas) {
    make(GetParam().entry, GetParam().exit);
    warm();
    Guest plain;
    plain.assemble(hook, [](Code& c) { c.hlt(); });
    for (u64 seed = 1; seed < 60; ++seed) {
        begin_call(5);
        set_registers(seed - 20, seed % 7 == 0 ? 6 : 5);
        start_return();
        plain.start_kernel(hook);
        for (Guest* guest : {g.get(), &plain}) {
            randomize(guest->state(), seed, 3, 0, false);
            guest->gpr(processor::rdi) = seed % 9 == 0 ? ~u64{0} / seed : registers;
        }
        const Stop stop = g->run();
        ASSERT_TRUE(stop.halted()) << stop.text();
        ASSERT_TRUE(plain.run().halted());
        expect_same_state(*g, plain, fmt::format("seed {}", seed));
        EXPECT_FALSE(g->block().monitor_mode || g->block().monitor_mode_by_hook);
        if (HasFailure()) return;
    }
}

TEST_P(EveryReturn, KicksNeverLeaveItHalfDone) {
    make(GetParam().entry, GetParam().exit);
    constexpr u32 count = 50000;
    call(count);
    std::atomic<bool> done = false;
    std::thread kicker([&] {
        // On a busy host kicks without end would leave the guest no time of its own.
        for (unsigned n = 1; !done; ++n) {
            g->cpu().kick();
            if (n % 64 == 0)
                std::this_thread::sleep_for(std::chrono::microseconds(100));
            else
                std::this_thread::yield();
        }
    });
    Stop stop;
    bool inside = false;
    do {
        stop = g->run();
        inside = inside || (g->block().monitor_mode && stop.kind == Stop::Kind::event);
    } while (stop.is(ExitReason::kicked));
    done = true;
    kicker.join();
    EXPECT_FALSE(inside);
    EXPECT_TRUE(stop.is(Vector::ud)) << stop.text();
    EXPECT_EQ(g->gpr(processor::r15), count);
    g->interposer().finish();
    if (GetParam().entry != CallAction::none) {
        EXPECT_EQ(recorder.entries.size() + summed(), count);
        EXPECT_EQ(recorder.returns.size() + summed(), count);
    }
}

INSTANTIATE_TEST_SUITE_P(Ways, EveryReturn,
                         testing::Values(Way{CallAction::sum, CallAction::hypercall, "Sum"},
                                         Way{CallAction::log, CallAction::log, "Log"},
                                         Way{CallAction::hypercall, CallAction::hypercall, "Exit"},
                                         Way{CallAction::none, CallAction::none, "None"}),
                         [](const auto& p) { return p.param.name; });

// Interrupts wait for the hooked instruction, as they do after an exit at it.
TEST_F(M1_5_Return, NothingIsDeliveredBeforeTheHookedInstruction) {
    for (const auto kind : {Injection::Kind::external_interrupt, Injection::Kind::nmi}) {
        make(CallAction::hypercall, CallAction::hypercall);
        warm();
        g->assemble(hook, [](Code& c) {
            c.inc(r15);
            c.endless();
        });
        set_registers(1, 5);
        g->start_kernel(hook);
        g->gpr(processor::rdi) = registers;
        g->gpr(processor::r15) = 0;
        g->state().rflags |= rf::if_;
        const Exit exit = g->cpu().enter();
        ASSERT_EQ(exit.reason, ExitReason::hypercall);
        ASSERT_TRUE(g->block().monitor_mode && g->block().monitor_mode_by_hook);
        EXPECT_EQ(g->gpr(processor::r15), 0U);
        g->block().injection.kind = kind;
        g->block().injection.vector = kind == Injection::Kind::nmi ? 2 : 0x40;
        g->block().interrupt_window = true;
        g->interposer().on_hypercall();
        const Stop stop = g->run();
        ASSERT_EQ(stop.kind, Stop::Kind::event) << stop.text();
        EXPECT_EQ(stop.vector, kind == Injection::Kind::nmi ? 2 : 0x40);
        EXPECT_EQ(stop.rip, hook + 3);
        EXPECT_EQ(g->gpr(processor::r15), 1U);
    }
}

// A program under a debugger, or a kernel: the hook exits, and the traps come where they would.
TEST_F(M1_5_Return, SingleStepsMeetTheHookedInstructionOnce) {
    begin_call(5);
    g->set_gate(1, place::stubs + 16, 0, 1);
    g->assemble(hook - 1, [](Code& c) {
        c.nop();
        c.inc(r15);
        c.hlt();
    });
    for (int n = 0; n < 3; ++n) {
        set_registers(1, 5);
        const u64 exits = g->exits(ExitReason::execution_hook);
        u64 rip = hook - 1;
        g->gpr(processor::r15) = 0;
        for (const u64 after : {hook, hook + 3}) {
            const u64 r15_before = g->gpr(processor::r15);
            g->start_kernel(rip);
            g->gpr(processor::rdi) = registers;
            g->gpr(processor::r15) = r15_before;
            g->state().rflags |= rf::tf;
            const Stop stop = g->run();
            ASSERT_TRUE(stop.is(Vector::db)) << stop.text();
            EXPECT_EQ(stop.rip, after);
            EXPECT_NE(stop.rflags & rf::tf, 0U);
            rip = stop.rip;
        }
        EXPECT_EQ(g->gpr(processor::r15), 1U);
        EXPECT_EQ(g->exits(ExitReason::execution_hook), exits + 1);
    }
}

TEST_F(M1_5_Return, BreakpointsAreMetAsWithoutTheHook) {
    g->set_gate(1, place::stubs + 16, 0, 1);
    const struct {
        u64 address, type; ///< DR7 bits of breakpoint 0: execution, or 8 bytes read or written
        bool trap;
    } cases[] = {{hook, 0, true},
                 {registers, 0xb, false},
                 {current, 0xb, false},
                 {handler_base + page_size, 0xb, false},
                 {handler_base, 0, false}};
    for (const auto& at : cases) {
        make(CallAction::sum, CallAction::hypercall);
        g->set_gate(1, place::stubs + 16, 0, 1);
        begin_call(5);
        set_registers(1, 5);
        start_return();
        g->state().dr[0] = at.address;
        g->state().dr[7] = 0x400 | 2 | at.type << 16;
        const u64 dr6 = g->state().dr[6];
        Stop stop = g->run();
        if (at.trap) {
            ASSERT_TRUE(stop.is(Vector::db)) << stop.text();
            EXPECT_EQ(stop.rip, hook);
            continue;
        }
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g->state().dr[6], dr6);
        EXPECT_EQ(recorder.returns.size(), 1U);
    }
}

// The instruction at the hook is restarted, or faults for good.
TEST_F(M1_5_Return, IsSeenOnceThoughTheInstructionIsRestarted) {
    constexpr u64 pages = place::data + 16 * page_size;
    warm();
    g->assemble(hook, [](Code& c) {
        c.mov(r15, ptr[r14]); // the shadow has no entry for it yet
        c.hlt();
    });
    for (unsigned n = 0; n < 8; ++n) {
        begin_call(5);
        set_registers(0, 5);
        g->start_kernel(hook);
        g->gpr(processor::rdi) = registers;
        g->gpr(processor::r14) = pages + n * page_size;
        const u64 faults = g->exits(ExitReason::page_fault);
        ASSERT_TRUE(g->run().halted());
        EXPECT_GT(g->exits(ExitReason::page_fault), faults);
        EXPECT_TRUE(recorder.returns.empty());
    }
    g->start_kernel(hook);
    g->gpr(processor::rdi) = registers;
    g->gpr(processor::r14) = place::identity_end + page_size;
    const Stop stop = g->run();
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.rip, hook);
    g->interposer().finish();
    EXPECT_EQ(summed(), 8U);
    EXPECT_EQ(recorder.returns.size(), 1U) << "and once more, of no call";
}

// A kernel that calls the hooked function with anything at all.
TEST_F(M1_5_Return, OperandsThatCannotBeReadMakeItExit) {
    for (const u64 pointer : {u64{0x8000000000000000}, place::identity_end + 8, u64{0},
                              place::data + page_size - 12, u64{0xffffffffffffffff}}) {
        start_return();
        g->gpr(processor::rdi) = pointer;
        const u64 exits = g->exits(ExitReason::execution_hook);
        const Stop stop = g->run();
        ASSERT_TRUE(stop.halted()) << stop.text();
        EXPECT_EQ(g->exits(ExitReason::execution_hook) - exits, 1U) << std::hex << pointer;
    }
}

// Only an address that is run in 64-bit supervisor mode is hooked.
TEST_F(M1_5_Return, RingThreeIsNotHooked) {
    make(CallAction::none, CallAction::hypercall);
    g->interposer().watch_returns(Gva(place::user_code + 0x100), layout(), Gpa(current));
    g->assemble(place::user_code + 0x100, [](Code& c) { c.ud2(); });
    g->start_user(place::user_code + 0x100);
    ASSERT_TRUE(g->run().is(Vector::ud));
    EXPECT_TRUE(recorder.returns.empty());
    EXPECT_EQ(g->exits(ExitReason::execution_hook), 0U);
}

} // namespace
} // namespace gnomon::test
