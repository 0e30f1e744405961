// SPDX-License-Identifier: Apache-2.0
/// @file Two local APICs on one bus: their register page and MSRs, interrupts from both and from
/// devices, time, and a processor that takes what comes.
#include "platform/local_apic.h"
#include "fuzz/support/machine.h"

using namespace gnomon;
using namespace gnomon::fuzz;
using platform::LocalApic;

namespace {

/// 256 bits of ISR, TMR or IRR, by whichever interface is on; none while both are off.
struct Vectors {
    bool readable = false;
    std::array<u32, 8> words{};
    [[nodiscard]] bool test(u8 vector) const {
        return (words[vector / 32] >> (vector % 32) & 1) != 0;
    }
    [[nodiscard]] int highest() const {
        for (int v = 255; v >= 0; --v)
            if (test(static_cast<u8>(v))) return v;
        return -1;
    }
};
Vectors read_vectors(LocalApic& apic, LocalApic::Reg first) {
    Vectors out;
    for (u32 i = 0; i < 8; ++i) {
        const u32 reg = static_cast<u32>(first) + i;
        u64 value = 0;
        if (apic.x2apic_mode()) {
            out.readable = apic.read_msr(0x800 + reg, value);
        } else if (apic.page()) {
            value = apic.read(u64{reg} * 16, 4);
            out.readable = true;
        }
        out.words[i] = static_cast<u32>(value);
    }
    return out;
}

void check(LocalApic& apic) {
    const auto vector = apic.deliverable();
    require(!vector || apic.hardware_enabled(), "a disabled APIC offers an interrupt");
    require(!vector || *vector >= 16, "an APIC offers a vector below 16");
    require(apic.page().has_value() == (apic.hardware_enabled() && !apic.x2apic_mode()),
            "the register page is there exactly in xAPIC mode");
    const Vectors irr = read_vectors(apic, LocalApic::Reg::irr0),
                  isr = read_vectors(apic, LocalApic::Reg::isr0);
    require(apic.cr8() < 16, "CR8 has four bits");
    if (!irr.readable) return;
    require((irr.words[0] & 0xffff) == 0 && (isr.words[0] & 0xffff) == 0,
            "a vector below 16 is pending");
    const int in_service = std::max(isr.highest(), 0);
    require(apic.processor_priority() >> 4 == std::max(apic.cr8() + 0, in_service >> 4),
            "the processor priority is the higher of task and interrupt in service");
    const int highest = irr.highest();
    const bool expected = highest >= 0 && highest >> 4 > apic.processor_priority() >> 4;
    require(vector.has_value() == expected && (!vector || *vector == highest),
            "the vector offered is the highest requested one above the processor priority");
}

void take_interrupt(LocalApic& apic) {
    const auto offered = apic.deliverable();
    const auto taken = apic.acknowledge();
    require(offered == taken, "what is acknowledged is what was offered");
    if (!taken) return;
    const Vectors irr = read_vectors(apic, LocalApic::Reg::irr0),
                  isr = read_vectors(apic, LocalApic::Reg::isr0);
    require(!irr.readable || (!irr.test(*taken) && isr.test(*taken)),
            "an acknowledged vector goes from IRR to ISR");
    require(!irr.readable || isr.highest() == *taken, "it has the highest priority in service");
    require(!apic.deliverable() || *apic.deliverable() >> 4 > *taken >> 4,
            "only a higher class interrupts what is in service");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    platform::ManualClock clock;
    platform::ApicBus bus;
    LocalApic first({.id = 0, .bootstrap = true}, clock, bus);
    LocalApic second({.id = 1, .bootstrap = false, .x2apic = input.flag()}, clock, bus);
    bus.attach(first);
    bus.attach(second);
    while (!input.empty()) {
        const u8 what = input.take<u8>();
        LocalApic& apic = (what & 0x80) != 0 ? second : first;
        u64 value = 0;
        switch (what & 15) {
        case 0:
        case 1:
        case 2:
        case 3: { // registers, at their own width half of the time
            Access a = take_access(input, platform::layout::local_apic_size);
            if ((what & 0x40) != 0) a.offset = (a.offset & 0x3f) * 16, a.size = 4;
            if (apic.page()) make_access(apic, a);
            break;
        }
        case 4:
        case 5: {
            const u32 msr = 0x800 + input.take<u8>() % 0x40;
            value = input.number();
            const bool written = apic.write_msr(msr, value);
            require(!written || apic.x2apic_mode(), "x2APIC MSRs exist outside x2APIC mode");
            break;
        }
        case 6: {
            const u32 msr = 0x800 + input.take<u8>();
            require(!apic.read_msr(msr, value) || apic.x2apic_mode(),
                    "x2APIC MSRs exist outside x2APIC mode");
            break;
        }
        case 7: // IA32_APIC_BASE: mostly its mode bits
            value = (what & 0x40) != 0 ? input.number() : 0xfee00000 | u64{input.take<u8>()} << 8;
            if (apic.write_msr(static_cast<u32>(LocalApic::Msr::apic_base), value)) {
                u64 now = 0;
                require(apic.read_msr(static_cast<u32>(LocalApic::Msr::apic_base), now) &&
                            now == value,
                        "IA32_APIC_BASE does not hold what was written");
                require((now & LocalApic::base_extd) == 0 || (now & LocalApic::base_enable) != 0,
                        "the state EXTD without EN is invalid");
            }
            break;
        case 8:
            value = clock.tsc() + take_delay(input);
            static_cast<void>(
                apic.write_msr(static_cast<u32>(LocalApic::Msr::tsc_deadline), value));
            break;
        case 9: pass(apic, clock, take_delay(input), 8); break;
        case 10: take_interrupt(apic); break;
        case 11: apic.set_cr8(input.take<u8>()); break;
        case 12: {
            platform::InterruptMessage message;
            const u8 shape = input.take<u8>();
            message.mode = static_cast<platform::DeliveryMode>(shape & 7);
            message.logical = (shape & 8) != 0;
            message.level_triggered = (shape & 16) != 0;
            message.destination = (shape & 32) != 0 ? input.take<u32>() : shape >> 6;
            message.vector = input.take<u8>();
            static_cast<void>(bus.deliver(message));
            break;
        }
        case 13: apic.set_lint(what >> 4 & 1, (what & 0x20) != 0); break;
        case 14:
            if (apic.take_init()) {
                u64 base = 0;
                require(apic.read_msr(static_cast<u32>(LocalApic::Msr::apic_base), base),
                        "IA32_APIC_BASE is readable");
                require(apic.waiting_for_start_up() == ((base & LocalApic::base_bsp) == 0),
                        "after INIT only the bootstrap processor runs");
                require(!apic.deliverable(), "an interrupt survives INIT");
            }
            static_cast<void>(apic.take_start_up());
            static_cast<void>(apic.take_nmi());
            break;
        default:
            bus.deliver_msi(0xfee00000 | (input.take<u32>() & 0xfffff), input.take<u32>());
            break;
        }
        settle(first, clock);
        settle(second, clock);
        check(first);
        check(second);
    }
    return 0;
}
