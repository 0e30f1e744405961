// SPDX-License-Identifier: Apache-2.0
#include "platform/local_apic.h"

#include "fixtures.h"

#include <gtest/gtest.h>

namespace gnomon::platform {
namespace {

using Reg = LocalApic::Reg;
constexpr u32 apic_base_msr = 0x1b, deadline_msr = 0x6e0;
constexpr u64 xapic = 0xfee00900, x2apic = 0xfee00d00, disabled = 0xfee00100;

class Apic : public testing::Test {
protected:
    Apic() {
        for (LocalApic* each : {&apic, &other})
            bus.attach(*each);
    }
    static u64 offset(Reg r) { return static_cast<u64>(r) * 16; }
    static u32 msr(Reg r) { return 0x800 + static_cast<u32>(r); }
    u32 read(Reg r) { return static_cast<u32>(apic.read(offset(r), 4)); }
    void write(Reg r, u32 value) { apic.write(offset(r), 4, value); }
    static void enable(LocalApic& a) { a.write(offset(Reg::svr), 4, 0x1ff); }
    static bool fixed(LocalApic& a, u8 vector, bool level = false) {
        return a.accept({.vector = vector, .level_triggered = level});
    }
    u64 get(u32 index) {
        u64 value = 0xdead;
        EXPECT_TRUE(apic.read_msr(index, value));
        return value;
    }
    bool put(u32 index, u64 value) { return apic.write_msr(index, value); }
    void run_to(u64 ns) {
        clock.advance_to(ns);
        apic.advance(ns);
    }

    ManualClock clock{2'000'000'000};
    ApicBus bus;
    LocalApic apic{{.id = 0}, clock, bus};
    LocalApic other{{.id = 1, .bootstrap = false}, clock, bus};
};

TEST_F(Apic, ResetValues) {
    EXPECT_EQ(get(apic_base_msr), xapic);
    EXPECT_EQ(apic.page(), Gpa(0xfee00000));
    EXPECT_EQ(read(Reg::id), 0U);
    EXPECT_EQ(other.read(offset(Reg::id), 4), 0x01000000U);
    EXPECT_EQ(read(Reg::version), 0x00050014U);
    EXPECT_EQ(read(Reg::svr), 0xffU);
    EXPECT_EQ(read(Reg::dfr), 0xffffffffU);
    for (const Reg r : {Reg::lvt_timer, Reg::lvt_thermal, Reg::lvt_performance, Reg::lvt_lint0,
                        Reg::lvt_lint1, Reg::lvt_error})
        EXPECT_EQ(read(r), 0x10000U);
    EXPECT_FALSE(apic.enabled());
}

TEST_F(Apic, AcceptsByPriority) {
    EXPECT_FALSE(fixed(apic, 0x40)) << "software-disabled";
    enable(apic);
    EXPECT_TRUE(fixed(apic, 0x40));
    EXPECT_TRUE(fixed(apic, 0x55));
    EXPECT_EQ(read(static_cast<Reg>(0x22)), 1U | 1U << 21) << "IRR: 40h and 55h";
    EXPECT_EQ(apic.deliverable(), 0x55);
    EXPECT_EQ(apic.acknowledge(), 0x55);
    EXPECT_EQ(read(Reg::ppr), 0x50U);
    EXPECT_EQ(read(static_cast<Reg>(0x12)), 1U << 21) << "ISR";
    EXPECT_FALSE(apic.deliverable());
    EXPECT_TRUE(fixed(apic, 0x5f));
    EXPECT_FALSE(apic.deliverable()) << "same class";
    write(Reg::eoi, 0);
    EXPECT_EQ(apic.acknowledge(), 0x5f);
    write(Reg::eoi, 0);
    write(Reg::tpr, 0x40);
    EXPECT_FALSE(apic.deliverable());
    EXPECT_EQ(apic.cr8(), 4);
    apic.set_cr8(3);
    EXPECT_EQ(read(Reg::tpr), 0x30U);
    EXPECT_EQ(apic.acknowledge(), 0x40);
    write(Reg::eoi, 0);
    write(Reg::eoi, 0); // one too many does nothing
    EXPECT_EQ(read(Reg::ppr), 0x30U);
}

class Eois final : public ApicBusListener {
public:
    void end_of_interrupt(u8 vector) override { vectors.push_back(vector); }
    void acceptance_changed() override {}
    std::vector<u8> vectors;
};

TEST_F(Apic, OnlyLevelInterruptsBroadcastEoi) {
    Eois eois;
    bus.attach(eois);
    enable(apic);
    ASSERT_TRUE(fixed(apic, 0x40, true));
    ASSERT_TRUE(fixed(apic, 0x50, false));
    EXPECT_EQ(read(static_cast<Reg>(0x1a)), 1U) << "TMR";
    EXPECT_EQ(apic.acknowledge(), 0x50);
    write(Reg::eoi, 0);
    EXPECT_EQ(apic.acknowledge(), 0x40);
    write(Reg::eoi, 0);
    EXPECT_EQ(eois.vectors, (std::vector<u8>{0x40}));
}

TEST_F(Apic, Errors) {
    enable(apic);
    write(Reg::lvt_error, 0xfe);
    EXPECT_FALSE(fixed(apic, 0x0f));
    EXPECT_EQ(apic.acknowledge(), 0xfe);
    EXPECT_EQ(read(Reg::esr), 0U) << "latched by a write";
    write(Reg::esr, 0);
    EXPECT_EQ(read(Reg::esr), 0x40U);
    write(Reg::esr, 0);
    EXPECT_EQ(read(Reg::esr), 0U);
    write(Reg::icr_low, 0x40005); // to self, illegal vector
    static_cast<void>(apic.read(0x3d0, 4));
    write(Reg::esr, 0);
    EXPECT_EQ(read(Reg::esr), 0xa0U) << "send illegal vector, illegal register";
    write(Reg::lvt_error, 0x05); // reporting the error is an error, once
    write(static_cast<Reg>(0x3d), 0);
    write(Reg::esr, 0);
    EXPECT_EQ(read(Reg::esr), 0xc0U);
}

TEST_F(Apic, PageAccessesOfOtherShapes) {
    enable(apic);
    EXPECT_EQ(apic.read(offset(Reg::version) + 2, 1), 0x05U);
    EXPECT_EQ(apic.read(offset(Reg::version), 8), 0x50014U);
    EXPECT_EQ(apic.read(offset(Reg::version) + 4, 4), 0U);
    apic.write(offset(Reg::tpr), 1, 0x77);
    apic.write(offset(Reg::tpr) + 4, 4, 0x77);
    EXPECT_EQ(read(Reg::tpr), 0U);
    write(Reg::version, 0);
    write(Reg::irr0, ~0U);
    EXPECT_EQ(read(Reg::irr0), 0U);
    write(Reg::esr, 0);
    EXPECT_EQ(read(Reg::esr), 0U) << "read-only registers are no error";
}

TEST_F(Apic, SoftwareDisableMasksLvt) {
    enable(apic);
    write(Reg::lvt_lint0, 0x700);
    EXPECT_TRUE(apic.passes_external_interrupts());
    write(Reg::lvt_lint0, 0x10700);
    EXPECT_FALSE(apic.passes_external_interrupts());
    write(Reg::lvt_lint0, 0x00030);
    EXPECT_FALSE(apic.passes_external_interrupts());
    write(Reg::svr, 0xff);
    EXPECT_EQ(read(Reg::lvt_lint0), 0x10030U);
    write(Reg::lvt_lint0, 0x30);
    EXPECT_EQ(read(Reg::lvt_lint0), 0x10030U);
    EXPECT_TRUE(apic.passes_external_interrupts());
}

TEST_F(Apic, LocalPins) {
    enable(apic);
    write(Reg::lvt_lint1, 0x400);
    apic.set_lint(1, true);
    EXPECT_TRUE(apic.take_nmi());
    EXPECT_FALSE(apic.take_nmi());
    write(Reg::lvt_lint0, 0x31); // fixed, edge: Linux's last resort for the timer
    apic.set_lint(0, true);
    EXPECT_EQ(apic.acknowledge(), 0x31);
    write(Reg::eoi, 0);
    EXPECT_FALSE(apic.deliverable());
    write(Reg::lvt_lint0, 0x8032); // level, still asserted
    EXPECT_EQ(read(Reg::lvt_lint0), 0xc032U) << "remote IRR";
    EXPECT_EQ(apic.acknowledge(), 0x32);
    write(Reg::eoi, 0);
    EXPECT_EQ(apic.acknowledge(), 0x32) << "asserted at EOI: again";
    apic.set_lint(0, false);
    write(Reg::eoi, 0);
    EXPECT_FALSE(apic.deliverable());
    apic.set_lint(2, true); // no such pin
}

TEST_F(Apic, OneShotAndPeriodicTimer) {
    enable(apic);
    write(Reg::lvt_timer, 0x40);
    write(Reg::timer_divide, 0x3); // by 16
    write(Reg::timer_initial, 1000);
    EXPECT_EQ(apic.next_deadline_ns(), 16'000U);
    run_to(8'000);
    EXPECT_EQ(read(Reg::timer_current), 500U);
    write(Reg::timer_divide, 0xb); // by 1: what is left goes on faster
    EXPECT_EQ(apic.next_deadline_ns(), 8'500U);
    run_to(8'500);
    EXPECT_EQ(apic.acknowledge(), 0x40);
    write(Reg::eoi, 0);
    EXPECT_EQ(read(Reg::timer_current), 0U);
    EXPECT_FALSE(apic.next_deadline_ns());

    write(Reg::lvt_timer, 0x20041);
    write(Reg::timer_initial, 1'000'000);
    for (unsigned i = 1; i <= 3; ++i) {
        EXPECT_EQ(apic.next_deadline_ns(), 8'500 + i * 1'000'000U);
        run_to(*apic.next_deadline_ns());
        EXPECT_EQ(apic.acknowledge(), 0x41);
        write(Reg::eoi, 0);
    }
    run_to(clock.now_ns() + 10'250'000);
    EXPECT_EQ(apic.acknowledge(), 0x41);
    EXPECT_FALSE(apic.acknowledge());
    EXPECT_EQ(read(Reg::timer_current), 750'000U) << "in step after missed periods";
    write(Reg::timer_initial, 0);
    EXPECT_FALSE(apic.next_deadline_ns());
}

TEST_F(Apic, MaskedTimerCountsSilently) {
    enable(apic);
    write(Reg::timer_divide, 0xb);
    write(Reg::timer_initial, 1000);
    EXPECT_FALSE(apic.next_deadline_ns());
    clock.advance(2000);
    write(Reg::lvt_timer, 0x40); // unmasked too late: no interrupt for the past
    EXPECT_FALSE(apic.deliverable());
    EXPECT_EQ(read(Reg::timer_current), 0U);
}

TEST_F(Apic, TinyPeriodsDoNotFloodTheMonitor) {
    enable(apic);
    write(Reg::lvt_timer, 0x20040);
    write(Reg::timer_divide, 0xb);
    write(Reg::timer_initial, 1);
    unsigned wakes = 0;
    while (clock.now_ns() < 1'000'000) {
        run_to(*apic.next_deadline_ns());
        ++wakes;
    }
    EXPECT_LE(wakes, 1'000'000 / minimum_period_ns + 2);
}

TEST_F(Apic, TscDeadline) {
    enable(apic);
    EXPECT_TRUE(put(deadline_msr, 5000)) << "ignored outside its mode";
    EXPECT_EQ(get(deadline_msr), 0U);
    write(Reg::lvt_timer, 0x40040);
    write(Reg::timer_initial, 1000);
    EXPECT_EQ(read(Reg::timer_current), 0U);
    EXPECT_TRUE(put(deadline_msr, 20'001));
    EXPECT_EQ(get(deadline_msr), 20'001U);
    EXPECT_EQ(apic.next_deadline_ns(), 10'001U) << "2 GHz, rounded up";
    run_to(10'000);
    EXPECT_FALSE(apic.deliverable());
    run_to(10'001);
    EXPECT_EQ(apic.acknowledge(), 0x40);
    write(Reg::eoi, 0);
    EXPECT_EQ(get(deadline_msr), 0U);
    EXPECT_TRUE(put(deadline_msr, 1)); // in the past: at once
    EXPECT_EQ(apic.next_deadline_ns(), clock.now_ns());
    apic.advance(clock.now_ns());
    EXPECT_EQ(apic.acknowledge(), 0x40);
    write(Reg::eoi, 0);
    apic.set_tsc_adjust(1'000'000);
    EXPECT_TRUE(put(deadline_msr, 1'040'000)); // by the guest's TSC
    EXPECT_EQ(apic.next_deadline_ns(), 20'000U);
    write(Reg::lvt_timer, 0x00040); // leaving the mode disarms
    write(Reg::lvt_timer, 0x40040);
    EXPECT_EQ(get(deadline_msr), 0U);
    EXPECT_TRUE(put(deadline_msr, ~u64{0}));
    EXPECT_GT(*apic.next_deadline_ns(), u64{1} << 60);
}

/// Time goes on with each look at it.
class RunningClock final : public Clock {
public:
    [[nodiscard]] u64 now_ns() const override { return TickRate(tsc_hz()).passed_ns(tsc()); }
    [[nodiscard]] u64 tsc() const override { return m_tsc += 100; }
    [[nodiscard]] u64 tsc_hz() const override { return 1'000'000'000; }

private:
    mutable u64 m_tsc = 0;
};

// The deadline that comes while somebody asks for it is not one that never comes.
TEST_F(Apic, TscDeadlineThatComesMeanwhile) {
    for (const u64 adjust : {u64{0}, u64{1} << 50, 0 - (u64{1} << 50)})
        for (u64 ahead = 0; ahead < 2000; ahead += 50) {
            const RunningClock running;
            LocalApic late{{.id = 2}, running, bus};
            enable(late);
            late.set_tsc_adjust(adjust);
            late.write(offset(Reg::lvt_timer), 4, 0x40040);
            const u64 now = running.tsc();
            ASSERT_TRUE(late.write_msr(deadline_msr, now + adjust + ahead));
            const auto deadline = late.next_deadline_ns();
            ASSERT_TRUE(deadline);
            EXPECT_LE(*deadline, now + std::max(ahead, u64{1000}))
                << ahead << " ticks ahead, adjusted by " << adjust;
        }
}

TEST_F(Apic, IpisFindTheirDestination) {
    enable(apic);
    enable(other);
    const auto to_other = [&] { return other.acknowledge().has_value(); };
    const auto to_self = [&] { return apic.acknowledge().has_value(); };
    const auto eoi = [&] {
        for (LocalApic* a : {&apic, &other})
            for (int i = 0; i < 4; ++i)
                a->write(offset(Reg::eoi), 4, 0);
    };
    write(Reg::icr_high, 1U << 24);
    write(Reg::icr_low, 0x4041); // physical
    EXPECT_TRUE(to_other());
    EXPECT_FALSE(to_self());
    eoi();
    write(Reg::icr_high, 0xffU << 24);
    write(Reg::icr_low, 0x4041);
    EXPECT_TRUE(to_other() && to_self());
    eoi();
    write(Reg::ldr, 0x01U << 24);
    other.write(offset(Reg::ldr), 4, 0x02U << 24);
    write(Reg::icr_high, 0x02U << 24);
    write(Reg::icr_low, 0x4841); // logical, flat
    EXPECT_TRUE(to_other());
    EXPECT_FALSE(to_self());
    eoi();
    for (LocalApic* a : {&apic, &other})
        a->write(offset(Reg::dfr), 4, 0); // clusters
    other.write(offset(Reg::ldr), 4, 0x12U << 24);
    write(Reg::icr_high, 0x13U << 24);
    write(Reg::icr_low, 0x4841);
    EXPECT_TRUE(to_other());
    EXPECT_FALSE(to_self());
    eoi();
    write(Reg::icr_low, 0x44041); // self
    EXPECT_TRUE(to_self());
    EXPECT_FALSE(to_other());
    eoi();
    write(Reg::icr_low, 0x84041); // all including self
    EXPECT_TRUE(to_self() && to_other());
    eoi();
    write(Reg::icr_low, 0xc4041); // all excluding self
    EXPECT_TRUE(to_other());
    EXPECT_FALSE(to_self());
    EXPECT_EQ(read(Reg::icr_low), 0xc4041U) << "delivery status idle";
    write(Reg::icr_low, 0xc4400);
    EXPECT_TRUE(other.take_nmi());
    EXPECT_FALSE(apic.nmi_pending());
}

TEST_F(Apic, LowestPriorityChoosesTheIdlest) {
    enable(apic);
    enable(other);
    apic.set_cr8(8);
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(bus.deliver({.destination = InterruptMessage::broadcast,
                                 .mode = DeliveryMode::lowest_priority,
                                 .vector = 0x41}));
        EXPECT_EQ(other.acknowledge(), 0x41);
        other.write(offset(Reg::eoi), 4, 0);
        EXPECT_FALSE(apic.deliverable());
    }
}

TEST_F(Apic, InitAndStartUp) {
    EXPECT_FALSE(apic.waiting_for_start_up());
    EXPECT_TRUE(other.waiting_for_start_up());
    enable(other);
    write(Reg::icr_high, 1U << 24);
    write(Reg::icr_low, 0xc500); // INIT, level assert
    write(Reg::icr_low, 0x8500); // and de-assert
    EXPECT_TRUE(other.init_pending());
    write(Reg::icr_low, 0x4609);
    EXPECT_FALSE(other.take_start_up()) << "INIT first";
    EXPECT_TRUE(other.take_init());
    EXPECT_FALSE(other.enabled()) << "reset";
    EXPECT_EQ(other.take_start_up(), 0x09);
    write(Reg::icr_low, 0x4609);
    EXPECT_FALSE(other.take_start_up()) << "a running processor ignores it";
    write(Reg::icr_high, 0);
    write(Reg::icr_low, 0x4500);
    EXPECT_TRUE(apic.take_init());
    EXPECT_FALSE(apic.waiting_for_start_up());
}

TEST_F(Apic, Msi) {
    enable(apic);
    EXPECT_TRUE(bus.deliver_msi(0xfee00000, 0x4041));
    EXPECT_EQ(apic.acknowledge(), 0x41);
    EXPECT_FALSE(bus.deliver_msi(0xfee05000, 0x4042)) << "no such processor";
    EXPECT_FALSE(bus.deliver_msi(0xfef00000, 0x4042));
    EXPECT_FALSE(bus.deliver_msi(0x1'fee00000, 0x4042));
    EXPECT_FALSE(bus.deliver_msi(0xfee00000, 0x4007)) << "illegal vector";
}

TEST_F(Apic, BaseStateMachine) {
    EXPECT_FALSE(put(apic_base_msr, 0xfee00500)) << "x2APIC without enable";
    EXPECT_FALSE(put(apic_base_msr, xapic | 1)) << "reserved";
    EXPECT_FALSE(put(apic_base_msr, xapic | u64{1} << guest_physical_bits));
    EXPECT_TRUE(put(apic_base_msr, disabled));
    EXPECT_FALSE(apic.page());
    EXPECT_TRUE(apic.passes_external_interrupts());
    EXPECT_FALSE(put(apic_base_msr, x2apic)) << "not from disabled";
    EXPECT_TRUE(put(apic_base_msr, xapic));
    write(Reg::tpr, 0x20);
    EXPECT_TRUE(put(apic_base_msr, x2apic));
    EXPECT_FALSE(apic.page());
    EXPECT_EQ(get(msr(Reg::tpr)), 0x20U) << "kept";
    EXPECT_FALSE(put(apic_base_msr, xapic)) << "no way back";
    EXPECT_FALSE(put(apic_base_msr, 0xfee00500));
    EXPECT_EQ(get(apic_base_msr), x2apic);
    EXPECT_TRUE(put(apic_base_msr, disabled));
    EXPECT_TRUE(put(apic_base_msr, 0xfed00900));
    EXPECT_EQ(apic.page(), Gpa(0xfed00000));
    EXPECT_EQ(read(Reg::tpr), 0U) << "disabling resets";

    LocalApic without({.id = 0, .x2apic = false}, clock, bus);
    EXPECT_FALSE(without.write_msr(apic_base_msr, x2apic));
}

TEST_F(Apic, X2apicFaults) {
    u64 value = 0;
    EXPECT_FALSE(apic.read_msr(msr(Reg::id), value)) << "not in x2APIC mode";
    EXPECT_FALSE(put(msr(Reg::tpr), 0));
    ASSERT_TRUE(put(apic_base_msr, x2apic));
    for (const Reg r : {Reg::apr, Reg::eoi, Reg::rrd, Reg::dfr, Reg::icr_high, Reg::self_ipi})
        EXPECT_FALSE(apic.read_msr(msr(r), value)) << static_cast<int>(r);
    for (const Reg r : {Reg::id, Reg::version, Reg::ppr, Reg::ldr, Reg::dfr, Reg::isr0, Reg::tmr0,
                        Reg::irr0, Reg::icr_high, Reg::timer_current})
        EXPECT_FALSE(put(msr(r), 0)) << static_cast<int>(r);
    EXPECT_FALSE(put(msr(Reg::tpr), 0x100));
    EXPECT_FALSE(put(msr(Reg::eoi), 1));
    EXPECT_FALSE(put(msr(Reg::esr), 1));
    EXPECT_FALSE(put(msr(Reg::svr), 0x1000));
    EXPECT_FALSE(put(msr(Reg::lvt_timer), 0x80000));
    EXPECT_FALSE(put(msr(Reg::timer_initial), u64{1} << 32));
    EXPECT_FALSE(put(msr(Reg::self_ipi), 0x100));
    EXPECT_FALSE(put(msr(Reg::icr_low), 1 << 13));
    EXPECT_FALSE(put(0x840, 0));
    EXPECT_FALSE(apic.read_msr(0x8ff, value));
    EXPECT_FALSE(LocalApic::owns_msr(0x900));
}

TEST_F(Apic, X2apicSends) {
    ASSERT_TRUE(put(apic_base_msr, x2apic));
    ASSERT_TRUE(other.write_msr(apic_base_msr, 0xfee00c00));
    ASSERT_TRUE(put(msr(Reg::svr), 0x1ff));
    ASSERT_TRUE(other.write_msr(msr(Reg::svr), 0x1ff));
    EXPECT_EQ(get(msr(Reg::ldr)), 1U);
    EXPECT_EQ(get(msr(Reg::id)), 0U);
    ASSERT_TRUE(put(msr(Reg::icr_low), u64{1} << 32 | 0x41));
    EXPECT_EQ(other.acknowledge(), 0x41);
    EXPECT_EQ(get(msr(Reg::icr_low)), u64{1} << 32 | 0x41);
    ASSERT_TRUE(put(msr(Reg::icr_low), u64{2} << 32 | 0x851)); // logical: cluster 0, bit 1
    EXPECT_EQ(other.acknowledge(), 0x51);
    ASSERT_TRUE(put(msr(Reg::self_ipi), 0x61));
    EXPECT_EQ(apic.acknowledge(), 0x61);
    ASSERT_TRUE(put(msr(Reg::eoi), 0));
    EXPECT_EQ(get(msr(Reg::ppr)), 0U);
    ASSERT_TRUE(put(msr(Reg::self_ipi), 0x05));
    ASSERT_TRUE(put(msr(Reg::esr), 0));
    EXPECT_EQ(get(msr(Reg::esr)), 0x20U);
}

TEST_F(Apic, HostilePage) {
    enable(apic);
    test::abuse(apic, layout::local_apic_size, 3, [&](std::mt19937_64& random) {
        clock.advance(random() % 100'000);
        apic.advance(clock.now_ns());
        if (const auto deadline = apic.next_deadline_ns()) {
            clock.advance_to(std::min(*deadline, clock.now_ns() + 1'000'000));
            apic.advance(clock.now_ns());
        }
        ASSERT_GE(apic.acknowledge().value_or(16), 16);
        apic.take_init();
        apic.take_nmi();
        other.take_init();
        static_cast<void>(other.take_start_up());
    });
}

TEST_F(Apic, HostileMsrs) {
    std::mt19937_64 random(1);
    for (unsigned i = 0; i < 300'000; ++i) {
        const u64 pick = random() % 8;
        const u32 index = pick == 0   ? apic_base_msr
                          : pick == 1 ? deadline_msr
                                      : 0x800 + static_cast<u32>(random() % 0x100);
        u64 value = random() >> random() % 64;
        if (index == apic_base_msr && random() % 2 == 0) value = 0xfee00000 | (random() & 0xd00);
        const u64 mode = get(apic_base_msr);
        const bool accepted = put(index, value);
        ASSERT_TRUE(accepted || get(apic_base_msr) == mode) << "a fault changes nothing";
        static_cast<void>(apic.read_msr(index, value));
        ASSERT_NE(get(apic_base_msr) & 0xc00, 0x400U) << "no impossible mode";
        clock.advance(random() % 10'000);
        apic.advance(clock.now_ns());
        static_cast<void>(apic.next_deadline_ns());
        static_cast<void>(apic.acknowledge());
    }
}

} // namespace
} // namespace gnomon::platform
