// SPDX-License-Identifier: Apache-2.0
// M1.4 Substitute handler, M1.5 Hooked operation and the guest's handler.
#include "same_state.h"
#include "support/guest.h"

#include <cstring>
#include <gtest/gtest.h>

namespace gnomon::test {
namespace {

using namespace Xbyak::util;
using monitor::CallAction;
using monitor::handler_base;
using processor::Injection;
namespace rf = processor::rflags;

constexpr u64 kernel_entry = place::kernel_code + 0x1000;

/// A guest whose own handler halts.
class Calling : public testing::Test {
protected:
    Calling() { make(CallAction::hypercall); }
    void make(CallAction action) {
        recorder.entries.clear();
        recorder.decide = [action](u64) { return action; };
        g = std::make_unique<Guest>();
        g->interpose(recorder);
        ASSERT_TRUE(g->interposer().write_msr(0xc0000082, kernel_entry));
        g->assemble(kernel_entry, [](Code& c) { c.hlt(); });
        g->assemble(place::user_code, [](Code& c) { c.syscall(); });
        g->start_user();
    }
    Recorder recorder;
    std::unique_ptr<Guest> g;
};
class M1_4_SubstituteHandler : public Calling {};
class M1_5_GuestHandler : public Calling {};

/// Where a root maps `gva`: the leaf's bits, 0 if nothing.
u64 leaf_of(Guest& g, u64 root, u64 gva) {
    u64 table = root;
    for (unsigned level = 4;; --level) {
        u64 e = 0;
        std::memcpy(
            &e, g.block().shadow_arena + table + 8 * processor::shadow_index(Gva(gva), level), 8);
        if ((e & 1) == 0) return 0;
        if (level == 1) return e;
        table = processor::ShadowEntry{e}.address();
    }
}

TEST_F(M1_4_SubstituteHandler, RunsOnMonitorPagesInMonitorMode) {
    g->gpr(processor::rax) = 1;
    Exit exit;
    do {
        exit = g->cpu().enter();
    } while (exit.reason == ExitReason::page_fault && g->handle(exit));
    ASSERT_EQ(exit.reason, ExitReason::hypercall);
    EXPECT_TRUE(g->block().monitor_mode);
    EXPECT_GE(g->state().rip, handler_base);
    EXPECT_LT(g->state().rip, handler_base + monitor::handler_code_size);
    EXPECT_EQ(g->state().cpl(), 0U);
    const u64 leaf = leaf_of(*g, g->block().monitor_root, handler_base);
    EXPECT_GE(processor::ShadowEntry{leaf}.address(), processor::monitor_frame_base);
    EXPECT_EQ(leaf & (pte::u | pte::w), 0U) << "code is neither the user's nor writable";
    const u64 data = leaf_of(*g, g->block().monitor_root, handler_base + page_size);
    EXPECT_NE(data & pte::nx, 0U);
    EXPECT_EQ(leaf_of(*g, g->block().shadow_root, handler_base), 0U);
    EXPECT_EQ(g->memory().hva(Gpa(processor::ShadowEntry{leaf}.address()), 1), nullptr);
    // It goes on to the guest's handler, and leaves the mode.
    g->interposer().on_hypercall();
    const Stop stop = g->run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_FALSE(g->block().monitor_mode);
    EXPECT_EQ(stop.rip, kernel_entry + 1);
}

class GuestAtHandlerBase : public M1_4_SubstituteHandler,
                           public testing::WithParamInterface<bool> {};

TEST_P(GuestAtHandlerBase, GetsTheFaultThatItsOwnTablesGive) {
    const bool user = GetParam();
    // The hook has been used: whatever could be cached is.
    ASSERT_TRUE(g->run().halted());
    const u64 where = user ? place::user_code : place::kernel_code;
    const struct {
        void (*emit)(Code&);
        u32 error;
    } accesses[] = {{[](Code& c) { c.mov(rax, ptr[rbx]); }, 0},
                    {[](Code& c) { c.mov(ptr[rbx], rax); }, 2},
                    {[](Code& c) { c.lock(), c.inc(qword[rbx]); }, 2},
                    {[](Code& c) { c.jmp(rbx); }, 0x10}};
    for (const u64 offset : {u64{0}, page_size, page_size + 0x100})
        for (const auto& access : accesses) {
            g->assemble(where + 0x200, [&](Code& c) {
                c.mov(rbx, handler_base + offset);
                access.emit(c);
            });
            if (user)
                g->start_user(where + 0x200);
            else
                g->start_kernel(where + 0x200);
            const Stop stop = g->run();
            ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
            EXPECT_EQ(stop.error_code, access.error | (user ? 4U : 0U));
            EXPECT_EQ(g->state().cr2, handler_base + offset);
            EXPECT_FALSE(g->block().monitor_mode);
        }
}

TEST_P(GuestAtHandlerBase, SeesItsOwnPageThere) {
    const bool user = GetParam();
    g->map(handler_base, place::data, pte::p | pte::w | pte::u);
    g->map(handler_base + page_size, place::data + page_size, pte::p | pte::w | pte::u);
    g->poke<u64>(place::data, 0x1122334455667788);
    const u64 where = (user ? place::user_code : place::kernel_code) + 0x400;
    g->assemble(place::data + 0x800, [](Code& c) { // the guest's code at the handler's address
        c.mov(r15d, 77);
        c.jmp(r14);
    });
    g->assemble(kernel_entry, [](Code& c) { c.jmp(r13); });
    g->assemble(where, [&](Code& c) {
        Xbyak::Label back, after;
        c.mov(rbx, handler_base);
        c.mov(r8, ptr[rbx]);
        c.mov(eax, 5);
        c.lea(r13, ptr[rip + after]);
        c.syscall();
        c.L(after);
        c.mov(r9, ptr[rbx]); // the mode is left: the guest's page again
        c.mov(qword[rbx + 8], 0x55);
        c.mov(qword[rbx + static_cast<int>(page_size)], 0x66);
        c.lea(r14, ptr[rip + back]);
        c.lea(r10, ptr[rbx + 0x800]);
        c.jmp(r10);
        c.L(back);
        c.mov(r12d, 1);
        c.hlt();
    });
    if (user)
        g->start_user(where);
    else
        g->start_kernel(where);
    const Stop stop = g->run();
    ASSERT_TRUE(stop.halted()) << stop.text();
    EXPECT_EQ(g->gpr(processor::r8), 0x1122334455667788U);
    EXPECT_EQ(g->gpr(processor::r9), 0x1122334455667788U);
    EXPECT_EQ(g->gpr(processor::r15), 77U);
    EXPECT_EQ(g->peek(place::data + 8), 0x55U);
    EXPECT_EQ(g->peek(place::data + page_size), 0x66U);
    EXPECT_EQ(recorder.entries.size(), 1U) << "the hook works all the same";
    EXPECT_EQ(g->interposer().calls()[5], 1U);
}
INSTANTIATE_TEST_SUITE_P(Rings, GuestAtHandlerBase, testing::Bool(),
                         [](const auto& p) { return p.param ? "User" : "Kernel"; });

TEST_F(M1_4_SubstituteHandler, OnlyTheHookedVectorEnters) {
    // A jump to the entry faults; so does a guest handler that claims to lie there.
    g->assemble(place::kernel_code, [&](Code& c) {
        c.mov(rbx, g->state().lstar);
        c.jmp(rbx);
    });
    g->start_kernel();
    Stop stop = g->run();
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.error_code, 0x10U);
    EXPECT_TRUE(recorder.entries.empty());

    ASSERT_TRUE(g->interposer().write_msr(0xc0000082, g->state().lstar));
    g->start_user();
    stop = g->run();
    ASSERT_TRUE(stop.is(Vector::pf)) << stop.text();
    EXPECT_EQ(stop.rip, g->state().lstar);
    EXPECT_EQ(stop.error_code, 0x10U);
    EXPECT_FALSE(g->block().monitor_mode);
    EXPECT_EQ(recorder.entries.size(), 1U);
}

TEST_F(M1_4_SubstituteHandler, HypercallsOutsideItAreUndefined) {
    for (const bool user : {false, true}) {
        const u64 where = user ? place::user_code + 0x100 : place::kernel_code;
        g->assemble(where, [](Code& c) { c.db(0x0f), c.db(0x01), c.db(0xc1); });
        if (user)
            g->start_user(where);
        else
            g->start_kernel(where);
        EXPECT_TRUE(g->run().is(Vector::ud));
    }
    EXPECT_EQ(g->exits(ExitReason::hypercall), 0U);
}

// Whatever is injected while the handler runs is delivered at the guest's handler.
TEST_F(M1_4_SubstituteHandler, NothingIsDeliveredInside) {
    for (const auto kind : {Injection::Kind::external_interrupt, Injection::Kind::nmi}) {
        make(CallAction::hypercall);
        g->state().rflags |= rf::if_; // and FMASK leaves it
        Exit exit;
        do {
            exit = g->cpu().enter();
        } while (exit.reason == ExitReason::page_fault && g->handle(exit));
        ASSERT_EQ(exit.reason, ExitReason::hypercall);
        g->block().injection.kind = kind;
        g->block().injection.vector = kind == Injection::Kind::nmi ? 2 : 0x40;
        g->block().interrupt_window = true;
        g->interposer().on_hypercall();
        const Stop stop = g->run();
        ASSERT_EQ(stop.kind, Stop::Kind::event) << stop.text();
        EXPECT_EQ(stop.vector, kind == Injection::Kind::nmi ? 2 : 0x40);
        EXPECT_EQ(stop.rip, kernel_entry);
    }
}

TEST_F(M1_4_SubstituteHandler, InterruptWindowOpensBehindIt) {
    make(CallAction::none);
    g->assemble(place::user_code, [](Code& c) { c.syscall(); });
    g->state().rflags |= rf::if_;
    ASSERT_TRUE(g->run().halted()); // the shadow has all it needs
    g->start_user();
    g->state().rflags |= rf::if_;
    ASSERT_EQ(g->state().rip, place::user_code);
    Exit exit;
    u64 inside = 0;
    for (int n = 0; n < 100; ++n) { // kicks at whatever place they hit
        g->start_user();
        g->state().rflags |= rf::if_;
        g->cpu().kick();
        exit = g->cpu().enter();
        ASSERT_EQ(exit.reason, ExitReason::kicked);
        g->block().interrupt_window = true;
        exit = g->cpu().enter();
        ASSERT_EQ(exit.reason, ExitReason::interrupt_window);
        inside += g->state().rip >= handler_base && g->state().rip < handler_base + 0x10000;
        g->block().interrupt_window = false;
        ASSERT_TRUE(g->run().halted());
    }
    EXPECT_EQ(inside, 0U);
}

TEST_F(M1_4_SubstituteHandler, KicksDuringCallsNeverLeaveItHalfDone) {
    make(CallAction::log);
    g->assemble(kernel_entry, [](Code& c) { c.sysretq(); });
    g->assemble(place::user_code, [](Code& c) {
        Xbyak::Label again;
        c.mov(ebx, 100000);
        c.L(again);
        c.mov(eax, 7);
        c.syscall();
        c.dec(ebx);
        c.jnz(again);
        c.ud2();
    });
    g->start_user();
    std::atomic<bool> done = false;
    std::thread kicker([&] {
        while (!done) {
            g->cpu().kick();
            std::this_thread::yield();
        }
    });
    Stop stop;
    do {
        stop = g->run();
        ASSERT_FALSE(g->block().monitor_mode && stop.kind == Stop::Kind::event);
    } while (stop.is(ExitReason::kicked));
    done = true;
    kicker.join();
    EXPECT_TRUE(stop.is(Vector::ud)) << stop.text();
    g->interposer().drain_ring();
    EXPECT_EQ(g->interposer().calls()[7], 100000U);
    EXPECT_EQ(recorder.entries.size(), 100000U);
}

// What is reported later is about then: the tables in use, and the time, whatever the guest has
// made of its TSC since.
TEST_F(M1_4_SubstituteHandler, LoggedCallsKeepTheirTablesAndTime) {
    make(CallAction::log);
    constexpr u64 other_root = place::data + 64 * page_size;
    g->assemble(kernel_entry, [&](Code& c) {
        c.mov(rax, other_root);
        c.mov_to_cr(3, rax);
        c.hlt();
    });
    for (unsigned n = 0; n < 512; ++n)
        g->poke<u64>(other_root + 8 * n, g->peek<u64>(place::pml4 + 8 * n));
    const auto call = [&] {
        g->start_user();
        g->gpr(processor::rax) = 3;
        ASSERT_TRUE(g->run().halted());
    };
    const auto adjust = [&](u64 ticks) {
        g->interposer().set_tsc_adjust(ticks);
        g->block().tsc_offset = g->clock().tsc_offset() + ticks;
    };
    const u64 begin = g->clock().now_ns();
    call();
    call();
    adjust(u64{1} << 50); // more than a week
    call();
    adjust(0 - (u64{1} << 40));
    call();
    g->interposer().drain_ring();
    const u64 end = g->clock().now_ns();
    ASSERT_EQ(recorder.entries.size(), 4U);
    EXPECT_EQ(recorder.entries[0].caller.cr3, place::pml4);
    EXPECT_EQ(recorder.entries[1].caller.cr3, other_root);
    u64 last = begin;
    for (const auto& entry : recorder.entries) {
        EXPECT_GE(entry.time_ns, last);
        EXPECT_LE(entry.time_ns, end);
        last = entry.time_ns;
    }
}

// Breakpoints on the handler's addresses must not give it away.
TEST_F(M1_4_SubstituteHandler, BreakpointsDoNotSeeIt) {
    for (const CallAction action : {CallAction::none, CallAction::log, CallAction::hypercall})
        for (const u64 offset : {u64{0}, page_size, page_size + 8, page_size + 16}) {
            make(action);
            g->state().dr[0] = handler_base + offset;
            g->state().dr[7] =
                0x400 | 1 | u64{offset == 0 ? 0U : 0xbU} << 16; // execute, or 8 bytes
            g->state().dr[1] = handler_base + page_size + 24;
            g->state().dr[7] |= 4 | u64{0xb} << 20;
            const u64 dr6 = g->state().dr[6];
            const Stop stop = g->run();
            ASSERT_TRUE(stop.halted()) << stop.text();
            EXPECT_EQ(stop.rip, kernel_entry + 1);
            EXPECT_EQ(g->state().dr[6], dr6);
        }
}

// ---------------------------------------------------------------- M1.5

class EveryAction : public M1_5_GuestHandler, public testing::WithParamInterface<CallAction> {};

TEST_P(EveryAction, BeginsWithTheStateThatSyscallLeaves) {
    make(GetParam());
    Guest plain;
    plain.state().lstar = kernel_entry;
    plain.assemble(kernel_entry, [](Code& c) { c.hlt(); });
    plain.assemble(place::user_code, [](Code& c) { c.syscall(); });
    u64 seed = 1;
    for (const u64 fmask : {u64{0}, u64{0x257fd5}, u64{0x47700}, rf::if_, rf::cf | rf::of, rf::tf})
        for (const bool trap : {false, true})
            for (const u64 number :
                 {u64{0}, u64{59}, u64{511}, u64{512}, ~u64{0}, u64{0xffffffff00000003}}) {
                const std::string what =
                    fmt::format("fmask {:#x} trap {} number {:#x}", fmask, trap, number);
                Stop stops[2];
                for (Guest* guest : {g.get(), &plain}) {
                    guest->start_user();
                    randomize(guest->state(), seed, number, fmask, trap);
                    stops[guest == &plain] = guest->run();
                }
                ++seed;
                EXPECT_EQ(stops[0].kind, stops[1].kind) << what << stops[0].text();
                EXPECT_EQ(stops[0].vector, stops[1].vector) << what;
                EXPECT_EQ(stops[0].rip, stops[1].rip) << what;
                EXPECT_EQ(stops[0].rflags, stops[1].rflags) << what;
                expect_same_state(*g, plain, what);
                if (HasFailure()) return;
                // The stack of a #DB frame is the user's, which random RSP makes unusable:
                // shutdown.
                if (stops[0].is(ExitReason::triple_fault)) {
                    g->block().injection = {};
                    plain.block().injection = {};
                }
            }
}
INSTANTIATE_TEST_SUITE_P(Actions, EveryAction,
                         testing::Values(CallAction::none, CallAction::log, CallAction::hypercall));

TEST_F(M1_5_GuestHandler, SingleStepTrapsAtTheGuestsHandlerNotInsideOurs) {
    for (const CallAction action : {CallAction::none, CallAction::log, CallAction::hypercall}) {
        make(action);
        g->set_gate(1, place::stubs + 16, 0, 1);
        g->gpr(processor::rax) = 3;
        g->state().rflags |= rf::tf;
        const Stop stop = g->run();
        ASSERT_TRUE(stop.is(Vector::db)) << stop.text();
        EXPECT_EQ(stop.rip, kernel_entry);
        EXPECT_NE(stop.rflags & rf::tf, 0U);
        EXPECT_EQ(stop.rsp, place::user_stack);
    }
}

TEST_F(M1_5_GuestHandler, CountsCallsByNumber) {
    make(CallAction::none);
    g->assemble(kernel_entry, [](Code& c) { c.sysretq(); });
    g->assemble(place::user_code, [](Code& c) {
        Xbyak::Label again;
        c.mov(ebx, 1000);
        c.L(again);
        c.mov(eax, ebx);
        c.and_(eax, 3);
        c.syscall();
        c.dec(ebx);
        c.jnz(again);
        c.mov(eax, 511);
        c.syscall();
        c.mov(eax, 512); // beyond the table: reported always
        c.syscall();
        c.mov(rax, ~u64{0});
        c.syscall();
        c.ud2();
    });
    g->start_user();
    const Stop stop = g->run();
    ASSERT_TRUE(stop.is(Vector::ud)) << stop.text();
    const auto calls = g->interposer().calls();
    for (unsigned n = 0; n < 4; ++n)
        EXPECT_EQ(calls[n], 250U);
    EXPECT_EQ(calls[511], 1U);
    u64 sum = 0;
    for (const u64 n : calls)
        sum += n;
    EXPECT_EQ(sum, 1001U);
    EXPECT_EQ(g->exits(ExitReason::hypercall), 2U);
    ASSERT_EQ(recorder.entries.size(), 2U);
    EXPECT_EQ(recorder.entries[0].number, 512U);
    EXPECT_EQ(recorder.entries[1].number & 0xffffffff, 0xffffffffU);
}

/// `count` calls whose arguments are a running number.
void numbered_calls(Guest& g, u32 count) {
    g.assemble(kernel_entry, [](Code& c) { c.sysretq(); });
    g.assemble(place::user_code, [count](Code& c) {
        Xbyak::Label again;
        c.xor_(edi, edi);
        c.L(again);
        c.mov(eax, 39);
        c.lea(rsi, ptr[rdi + 1]);
        c.lea(rdx, ptr[rdi + 2]);
        c.lea(r10, ptr[rdi + 3]);
        c.lea(r8, ptr[rdi + 4]);
        c.lea(r9, ptr[rdi + 5]);
        c.syscall();
        c.inc(edi);
        c.cmp(edi, count);
        c.jne(again);
        c.ud2();
    });
    g.start_user();
}

void expect_numbered(const Recorder& recorder, u32 count) {
    ASSERT_EQ(recorder.entries.size(), count);
    for (u64 n = 0; n < count; ++n) {
        const auto& e = recorder.entries[n];
        ASSERT_EQ(e.number, 39U);
        ASSERT_EQ(e.args, (std::array<u64, 6>{n, n + 1, n + 2, n + 3, n + 4, n + 5}));
        ASSERT_EQ(e.user_sp, place::user_stack);
        ASSERT_GT(e.user_ip, place::user_code);
        ASSERT_LT(e.user_ip, place::user_code + 0x100);
        if (n > 0) {
            ASSERT_GE(e.time_ns, recorder.entries[n - 1].time_ns);
        }
    }
}

TEST_F(M1_5_GuestHandler, LogsInOrderWithoutAnExit) {
    make(CallAction::log);
    numbered_calls(*g, 1000);
    const Stop stop = g->run();
    ASSERT_TRUE(stop.is(Vector::ud)) << stop.text();
    EXPECT_EQ(g->exits(ExitReason::hypercall), 0U);
    EXPECT_TRUE(recorder.entries.empty());
    g->interposer().drain_ring();
    expect_numbered(recorder, 1000);
}

TEST_F(M1_5_GuestHandler, AFullRingLosesNothingAndWraps) {
    make(CallAction::log);
    constexpr u32 count = 5 * monitor::handler_ring_size + 17;
    numbered_calls(*g, count);
    const Stop stop = g->run();
    ASSERT_TRUE(stop.is(Vector::ud)) << stop.text();
    EXPECT_EQ(g->exits(ExitReason::hypercall), count / (monitor::handler_ring_size + 1));
    g->interposer().drain_ring();
    expect_numbered(recorder, count);
}

/// A clock whose reader is taken off its processor after each look.
class InterruptedClock final : public platform::Clock {
public:
    explicit InterruptedClock(const platform::Clock& clock) : m_clock(clock) {}
    [[nodiscard]] u64 now_ns() const override { return late(m_clock.now_ns()); }
    [[nodiscard]] u64 tsc() const override { return late(m_clock.tsc()); }
    [[nodiscard]] u64 tsc_hz() const override { return m_clock.tsc_hz(); }

private:
    static u64 late(u64 read) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        return read;
    }
    const platform::Clock& m_clock;
};

// However slowly they are reported, also on a host that is busy with other things.
TEST_F(M1_5_GuestHandler, LoggedCallsHaveTheTimeOfTheCall) {
    recorder.decide = [](u64) { return CallAction::log; };
    g = std::make_unique<Guest>();
    const InterruptedClock clock(g->clock());
    g->interpose(recorder, &clock);
    ASSERT_TRUE(g->interposer().write_msr(0xc0000082, kernel_entry));
    numbered_calls(*g, 20);
    const u64 begin = g->clock().now_ns();
    ASSERT_TRUE(g->run().is(Vector::ud));
    const u64 end = g->clock().now_ns();
    g->interposer().drain_ring();
    expect_numbered(recorder, 20);
    EXPECT_GE(recorder.entries.front().time_ns, begin);
    EXPECT_LE(recorder.entries.back().time_ns, end);
}

TEST_F(M1_5_GuestHandler, HypercallsReportAtTheTimeOfTheCall) {
    numbered_calls(*g, 50);
    ASSERT_TRUE(g->run().is(Vector::ud));
    EXPECT_EQ(g->exits(ExitReason::hypercall), 50U);
    expect_numbered(recorder, 50);
}

// A mixture keeps its order: the ring is emptied before a hypercall is reported.
TEST_F(M1_5_GuestHandler, LoggedAndReportedCallsKeepTheirOrder) {
    recorder.decide = [](u64 n) { return n % 3 == 0 ? CallAction::hypercall : CallAction::log; };
    g = std::make_unique<Guest>();
    g->interpose(recorder);
    ASSERT_TRUE(g->interposer().write_msr(0xc0000082, kernel_entry));
    g->assemble(kernel_entry, [](Code& c) { c.sysretq(); });
    g->assemble(place::user_code, [](Code& c) {
        Xbyak::Label again;
        c.xor_(ebx, ebx);
        c.L(again);
        c.mov(eax, ebx);
        c.syscall();
        c.inc(ebx);
        c.cmp(ebx, 100);
        c.jne(again);
        c.ud2();
    });
    g->start_user();
    ASSERT_TRUE(g->run().is(Vector::ud));
    g->interposer().drain_ring();
    ASSERT_EQ(recorder.entries.size(), 100U);
    for (u64 n = 0; n < 100; ++n)
        EXPECT_EQ(recorder.entries[n].number, n);
}

} // namespace
} // namespace gnomon::test
