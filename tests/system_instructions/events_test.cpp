// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

namespace gnomon::processor::soft {
namespace {

using Kind = Injection::Kind;

class Events : public SystemInstructions {
protected:
    HelperResult inject(Kind kind, unsigned vector, std::optional<u32> error = std::nullopt,
                        u8 length = 0, u64 cr2 = 0) {
        cpu.cb.injection = {kind,   static_cast<u8>(vector), error.has_value(),
                            length, error.value_or(0),       cr2};
        const HelperResult result = run([&] { return deliver_event(cpu); });
        if (result == HelperResult::fault)
            EXPECT_EQ(cpu.cb.injection.kind, kind);
        else
            EXPECT_EQ(cpu.cb.injection.kind, Kind::none);
        return result;
    }
    HelperResult interrupt(unsigned vector = 0x40) {
        return inject(Kind::external_interrupt, vector);
    }
    u64 pushed(unsigned index) { return memory.get<u64>(state.gpr[rsp] + 8 * index); }
    static Instruction int_instruction(u8 opcode, u8 vector = 0) {
        Instruction i = make(opcode == 0xcd ? 2 : 1);
        i.opcode = opcode;
        i.immediate = vector;
        return i;
    }
};

TEST_F(Events, InterruptFromUserSwitchesStackAndClearsFlags) {
    set_gate(0x40, kernel_code, handler_rip);
    user64();
    state.rflags |= rflags::if_ | rflags::tf | rflags::nt | rflags::rf | rflags::cf;
    const u64 flags = state.rflags;
    cpu.cb.interrupt_shadow = true;
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
    EXPECT_EQ(state.rip, handler_rip);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::cf);
    EXPECT_EQ(state.cpl(), 0U);
    EXPECT_EQ(state.segment[seg_cs].selector, kernel_code);
    EXPECT_TRUE(state.code64());
    EXPECT_EQ(state.segment[seg_ss].selector, 0);
    EXPECT_TRUE(state.segment[seg_ss].has(Segment::unusable));
    EXPECT_EQ(state.gpr[rsp], (other_stack & ~u64{15}) - 40);
    EXPECT_EQ(pushed(0), user_rip);
    EXPECT_EQ(pushed(1), user_code);
    EXPECT_EQ(pushed(2), flags);
    EXPECT_EQ(pushed(3), user_stack);
    EXPECT_EQ(pushed(4), user_data);
    EXPECT_FALSE(cpu.cb.interrupt_shadow);
    for (const auto& access : memory.accesses)
        EXPECT_EQ(access.mode, AccessMode::supervisor);
}

TEST_F(Events, InterruptInKernelStaysOnStackAligned) {
    set_gate(0x40, kernel_code, handler_rip, 15);
    state.gpr[rsp] = kernel_stack + 8;
    state.rflags |= rflags::if_;
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
    EXPECT_EQ(state.gpr[rsp], kernel_stack - 40);
    EXPECT_EQ(pushed(3), kernel_stack + 8);
    EXPECT_EQ(state.segment[seg_ss].selector, kernel_data);
    EXPECT_NE(state.rflags & rflags::if_, 0U) << "a trap gate leaves IF";
    EXPECT_EQ(memory.accesses.back().mode, AccessMode::data);
}

TEST_F(Events, InterruptStackTableIsUsedAtAnyLevel) {
    set_gate(0x40, kernel_code, handler_rip, 14, 0, 1);
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
    EXPECT_EQ(state.gpr[rsp], ist_stack - 40);
    EXPECT_EQ(state.segment[seg_ss].selector, kernel_data);
    user64();
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
    EXPECT_EQ(state.gpr[rsp], ist_stack - 40);
    EXPECT_EQ(state.cpl(), 0U);
}

TEST_F(Events, FaultPushesErrorCodeAndResumeFlag) {
    set_gate(14, kernel_code, handler_rip);
    user64();
    EXPECT_EQ(inject(Kind::exception, 14, 6, 0, 0x1234), HelperResult::dispatch);
    EXPECT_EQ(state.cr2, 0x1234U);
    EXPECT_EQ(state.gpr[rsp], (other_stack & ~u64{15}) - 48);
    EXPECT_EQ(pushed(0), 6U);
    EXPECT_EQ(pushed(1), user_rip);
    EXPECT_EQ(pushed(3), rflags::fixed1 | rflags::rf);
}

TEST_F(Events, TrapsAndAbortsDoNotSetResumeFlag) {
    for (const unsigned vector : {1U, 3U, 4U, 8U, 18U}) {
        set_gate(vector, kernel_code, handler_rip);
        run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
        EXPECT_EQ(inject(Kind::exception, vector), HelperResult::dispatch);
        EXPECT_EQ(pushed(2) & rflags::rf, 0U) << vector;
    }
    for (const unsigned vector : {0U, 5U, 6U, 7U, 16U, 17U, 19U}) {
        set_gate(vector, kernel_code, handler_rip);
        run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
        EXPECT_EQ(inject(Kind::exception, vector), HelperResult::dispatch);
        EXPECT_NE(pushed(2) & rflags::rf, 0U) << vector;
    }
}

TEST_F(Events, ErrorCodeIsForExceptionsOnly) {
    set_gate(0x40, kernel_code, handler_rip);
    EXPECT_EQ(inject(Kind::external_interrupt, 0x40, 9), HelperResult::dispatch);
    EXPECT_EQ(state.gpr[rsp], kernel_stack - 40);
}

TEST_F(Events, NmiIsVector2AndBlocksFurtherOnes) {
    set_gate(2, kernel_code, handler_rip);
    EXPECT_EQ(inject(Kind::nmi, 0), HelperResult::dispatch);
    EXPECT_TRUE(cpu.cb.nmi_blocked);
    EXPECT_EQ(state.rip, handler_rip);
}

TEST_F(Events, FailedNmiBlocksNothing) {
    set_gate(2, kernel_code, handler_rip, 14, 0, 0, false);
    expect_exception(inject(Kind::nmi, 0), Vector::np, 2 * 8 + 2 + 1);
    EXPECT_FALSE(cpu.cb.nmi_blocked);
}

TEST_F(Events, DebugExceptionClearsGeneralDetect) {
    set_gate(1, kernel_code, handler_rip);
    state.dr[7] |= 1 << 13;
    EXPECT_EQ(inject(Kind::exception, 1), HelperResult::dispatch);
    EXPECT_EQ(state.dr[7], 0x400U);
}

TEST_F(Events, FromCompatibilityMode) {
    set_gate(0x40, kernel_code, handler_rip);
    user32();
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
    EXPECT_TRUE(state.code64());
    EXPECT_EQ(pushed(0), 0x8048000U);
    EXPECT_EQ(pushed(1), user_code32);
    EXPECT_EQ(pushed(3), 0xffff0000U);
}

TEST_F(Events, ConformingHandlerKeepsPrivilegeLevel) {
    set_gate(0x40, conforming_code, handler_rip);
    user64();
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
    EXPECT_EQ(state.cpl(), 3U);
    EXPECT_EQ(state.segment[seg_cs].selector, conforming_code | 3);
    EXPECT_EQ(state.gpr[rsp], (user_stack & ~u64{15}) - 40);
    EXPECT_EQ(memory.accesses.back().mode, AccessMode::data);
}

TEST_F(Events, AccessedBitOfCodeIsSet) {
    set_gdt(spare, d::type(10) | d::s | d::p | d::l | d::flat_limit);
    set_gate(0x40, spare, handler_rip);
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
    EXPECT_EQ(get_gdt(spare), d::code | d::l | d::flat_limit);
    EXPECT_TRUE(state.segment[seg_cs].has(Segment::accessed));
}

TEST_F(Events, DeliveryDropsIoDataOfTheInterruptedInstruction) {
    set_gate(0x40, kernel_code, handler_rip);
    cpu.cb.io_data_valid = true;
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
    EXPECT_FALSE(cpu.cb.io_data_valid);
}

TEST_F(Events, NothingToDeliver) {
    const HelperResult result = run([&] { return deliver_event(cpu); });
    EXPECT_EQ(result, HelperResult::dispatch);
    EXPECT_TRUE(unchanged());
}

// --- faults of the delivery; EXT is set for events external to the program ---

TEST_F(Events, GateBeyondLimit) {
    set_gate(0x40, kernel_code, handler_rip);
    state.idtr.limit = 0x40 * 16 + 14;
    expect_exception(interrupt(), Vector::gp, 0x40 * 8 + 2 + 1);
    state.idtr.limit = 0x40 * 16 + 15;
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
}

TEST_F(Events, GateOfWrongType) {
    for (const u64 type : {u64{5}, u64{6}, u64{7}, u64{12}, u64{0}}) {
        set_gate(0x40, kernel_code, handler_rip, type);
        expect_exception(interrupt(), Vector::gp, 0x40 * 8 + 2 + 1);
    }
    set_gate(0x40, kernel_code, handler_rip);
    memory.put<u64>(idt + 0x400, memory.get<u64>(idt + 0x400) | d::s);
    expect_exception(interrupt(), Vector::gp, 0x40 * 8 + 2 + 1);
}

TEST_F(Events, GateNotPresent) {
    set_gate(0x40, kernel_code, handler_rip, 14, 0, 0, false);
    expect_exception(interrupt(), Vector::np, 0x40 * 8 + 2 + 1);
}

TEST_F(Events, OutsideLongModeNothingIsDelivered) {
    set_gate(0x40, kernel_code, handler_rip);
    state.efer &= ~efer::lma;
    expect_exception(interrupt(), Vector::gp, 0x40 * 8 + 2 + 1);
}

TEST_F(Events, HandlerSelectorChecks) {
    set_gate(0x40, 3, handler_rip);
    expect_exception(interrupt(), Vector::gp, 1);
    set_gate(0x40, last_selector, handler_rip);
    expect_exception(interrupt(), Vector::gp, last_selector + 1);
    set_gate(0x40, 4, handler_rip);
    expect_exception(interrupt(), Vector::gp, 4 + 1);
    set_gate(0x40, kernel_data, handler_rip);
    expect_exception(interrupt(), Vector::gp, kernel_data + 1);
    set_gate(0x40, kernel_code32, handler_rip);
    expect_exception(interrupt(), Vector::gp, kernel_code32 + 1);
    set_gate(0x40, user_code, handler_rip);
    expect_exception(interrupt(), Vector::gp, (user_code & ~3U) + 1);
    set_gdt(spare, (d::code | d::l | d::flat_limit) & ~d::p);
    set_gate(0x40, spare, handler_rip);
    expect_exception(interrupt(), Vector::np, spare + 1);
    set_gdt(spare, d::code | d::l | d::db | d::flat_limit);
    expect_exception(interrupt(), Vector::gp, spare + 1);
}

TEST_F(Events, TaskStateTooSmall) {
    set_gate(0x40, kernel_code, handler_rip);
    user64();
    state.tr.limit = 4 + 6;
    expect_exception(interrupt(), Vector::ts, tss_selector + 1);
    state.tr.limit = 4 + 7;
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
    set_gate(0x40, kernel_code, handler_rip, 14, 0, 7);
    expect_exception(interrupt(), Vector::ts, tss_selector + 1);
}

TEST_F(Events, AddressesThatAreNotCanonical) {
    constexpr u64 hole = u64{1} << 47;
    set_gate(0x40, kernel_code, hole);
    expect_exception(interrupt(), Vector::gp, 1);
    set_gate(0x40, kernel_code, handler_rip);
    state.gpr[rsp] = hole + 64;
    expect_exception(interrupt(), Vector::ss, 1);
    state.gpr[rsp] = 0xffff800000000010; // canonical, but not what lies below
    expect_exception(interrupt(), Vector::ss, 1);
    user64();
    memory.put<u64>(tss + 4, hole);
    expect_exception(interrupt(), Vector::ss, 1);
}

TEST_F(Events, PageFaultsOfTheDeliveryLeaveWithTheEventInPlace) {
    set_gate(0x40, kernel_code, handler_rip);
    user64();
    for (const u64 page : {gdt, idt, tss, other_stack - 64}) {
        memory.absent = {page & ~page_offset_mask};
        expect_leave(interrupt(), ExitReason::page_fault);
        EXPECT_TRUE(cpu.exit.during_delivery);
    }
    memory.absent = {};
    memory.read_only = {(other_stack - 64) & ~page_offset_mask};
    expect_leave(interrupt(), ExitReason::page_fault);
    set_gdt(spare, d::type(10) | d::s | d::p | d::l | d::flat_limit);
    set_gate(0x40, spare, handler_rip);
    memory.read_only = {gdt};
    expect_leave(interrupt(), ExitReason::page_fault);
    memory.read_only = {};
    EXPECT_EQ(interrupt(), HelperResult::dispatch);
}

TEST_F(Events, PageFaultAddressIsLoadedThoughTheDeliveryFails) {
    set_gate(14, kernel_code, handler_rip, 14, 0, 0, false);
    state.cr2 = 7;
    EXPECT_EQ(inject(Kind::exception, 14, 0, 0, 0x5000), HelperResult::fault);
    EXPECT_EQ(cpu.pending.kind, Pending::Kind::exception);
    EXPECT_EQ(cpu.pending.vector, Vector::np);
    EXPECT_EQ(cpu.pending.error_code, 14U * 8 + 2 + 1);
    EXPECT_EQ(state.cr2, 0x5000U); // CR2 belongs to the detection of the fault, not to its handler
}

TEST_F(Events, AWriteThatFailsThoughProbedChangesNoRegister) {
    set_gate(0x40, kernel_code, handler_rip);
    memory.writes_allowed = 0;
    expect_leave(interrupt(), ExitReason::write_buffer_full);
}

// --- software interrupts ---

TEST_F(Events, InjectedSoftwareInterruptChecksGateAndPushesNextRip) {
    set_gate(0x80, kernel_code, handler_rip, 14, 3);
    user64();
    EXPECT_EQ(inject(Kind::software_interrupt, 0x80, std::nullopt, 2), HelperResult::dispatch);
    EXPECT_EQ(pushed(0), user_rip + 2);
    user64();
    set_gate(0x80, kernel_code, handler_rip, 14, 0);
    expect_exception(inject(Kind::software_interrupt, 0x80, std::nullopt, 2), Vector::gp,
                     0x80 * 8 + 2);
}

TEST_F(Events, IntN) {
    set_gate(0x80, kernel_code, handler_rip, 15, 3);
    user64();
    EXPECT_EQ(run(int_n, int_instruction(0xcd, 0x80)), HelperResult::dispatch);
    EXPECT_EQ(pushed(0), user_rip + 2);
    EXPECT_EQ(state.rip, handler_rip);
    EXPECT_EQ(state.cpl(), 0U);
}

TEST_F(Events, IntNFaultsAreRestartableWithoutExt) {
    set_gate(0x80, kernel_code, handler_rip, 14, 2);
    user64();
    expect_exception(run(int_n, int_instruction(0xcd, 0x80)), Vector::gp, 0x80 * 8 + 2);
    EXPECT_EQ(cpu.cb.injection.kind, Kind::none);
    set_gate(0x80, kernel_code, handler_rip, 14, 3, 0, false);
    expect_exception(run(int_n, int_instruction(0xcd, 0x80)), Vector::np, 0x80 * 8 + 2);
    set_gate(0x80, 0, handler_rip, 14, 3);
    expect_exception(run(int_n, int_instruction(0xcd, 0x80)), Vector::gp, 0);
    set_gate(0x80, kernel_code, handler_rip, 14, 3);
    state.tr.limit = 0;
    expect_exception(run(int_n, int_instruction(0xcd, 0x80)), Vector::ts, tss_selector);
    state.tr.limit = 0x67;
    memory.absent = {tss};
    expect_leave(run(int_n, int_instruction(0xcd, 0x80)), ExitReason::page_fault);
    EXPECT_FALSE(cpu.exit.during_delivery);
}

TEST_F(Events, IntNIntercept) {
    cpu.cb.int_intercept.set(0x80);
    user64();
    expect_leave(run(int_n, int_instruction(0xcd, 0x80)), ExitReason::software_interrupt);
    EXPECT_EQ(cpu.exit.index, 0x80U);
    EXPECT_EQ(cpu.exit.instruction_length, 2);
}

TEST_F(Events, Int3ChecksGateAndInt1DoesNot) {
    set_gate(3, kernel_code, handler_rip, 14, 0);
    set_gate(1, kernel_code, handler_rip, 14, 0);
    user64();
    expect_exception(run(int_n, int_instruction(0xcc)), Vector::gp, 3 * 8 + 2);
    EXPECT_EQ(run(int_n, int_instruction(0xf1)), HelperResult::dispatch);
    EXPECT_EQ(pushed(0), user_rip + 1);
    EXPECT_EQ(pushed(2) & rflags::rf, 0U);
    user64();
    set_gate(3, kernel_code, handler_rip, 14, 3);
    EXPECT_EQ(run(int_n, int_instruction(0xcc)), HelperResult::dispatch);
    EXPECT_EQ(pushed(0), user_rip + 1);
    user64();
    set_gate(1, kernel_code, handler_rip, 14, 0, 0, false);
    expect_exception(run(int_n, int_instruction(0xf1)), Vector::np, 1 * 8 + 2 + 1);
}

// --- combinations ---

Injection exception(unsigned vector) {
    Injection i;
    i.kind = Kind::exception;
    i.vector = static_cast<u8>(vector);
    return i;
}

TEST(CombineExceptions, Table) {
    constexpr unsigned benign[] = {1, 3, 4, 5, 6, 7, 16, 17, 18, 19};
    constexpr unsigned contributory[] = {0, 10, 11, 12, 13};
    constexpr unsigned page_fault = 14, double_fault = 8;
    const auto outcome = [](unsigned first, unsigned second) -> int {
        const auto result = combine_exceptions(exception(first), exception(second));
        return result ? result->vector : -1;
    };
    for (const unsigned b : benign) {
        for (const unsigned c : contributory) {
            EXPECT_EQ(outcome(b, c), static_cast<int>(c));
            EXPECT_EQ(outcome(c, b), static_cast<int>(b));
        }
        EXPECT_EQ(outcome(b, page_fault), 14);
        EXPECT_EQ(outcome(page_fault, b), static_cast<int>(b));
        EXPECT_EQ(outcome(double_fault, b), static_cast<int>(b));
        EXPECT_EQ(outcome(b, b), static_cast<int>(b));
    }
    for (const unsigned c : contributory) {
        for (const unsigned c2 : contributory)
            EXPECT_EQ(outcome(c, c2), 8);
        EXPECT_EQ(outcome(c, page_fault), 14);
        EXPECT_EQ(outcome(page_fault, c), 8);
        EXPECT_EQ(outcome(double_fault, c), -1);
    }
    EXPECT_EQ(outcome(page_fault, page_fault), 8);
    EXPECT_EQ(outcome(double_fault, page_fault), -1);
}

TEST(CombineExceptions, DoubleFaultHasErrorCodeZeroAndOthersKeepTheirs) {
    Injection second = exception(13);
    second.has_error_code = true;
    second.error_code = 0x18;
    auto result = combine_exceptions(exception(13), second);
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->kind, Kind::exception);
    EXPECT_TRUE(result->has_error_code);
    EXPECT_EQ(result->error_code, 0U);
    Injection interrupt;
    interrupt.kind = Kind::external_interrupt;
    interrupt.vector = 13; // not an exception, whatever its number
    result = combine_exceptions(interrupt, second);
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->vector, 13);
    EXPECT_EQ(result->error_code, 0x18U);
}

} // namespace
} // namespace gnomon::processor::soft
