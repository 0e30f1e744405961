// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

namespace gnomon::processor::soft {
namespace {

class FarTransfer : public SystemInstructions {
protected:
    static constexpr u64 pointer = 0xffffc90000001000;

    // JMP/CALL m16:64 (or :32, :16) through memory.
    HelperResult through(Helper helper, u64 offset, u16 selector, u8 size = 8) {
        memory.copy_in(pointer, &offset, size);
        memory.put(pointer + size, selector);
        return run(helper, with_memory(pointer, size, 3));
    }
    HelperResult jump(u64 offset, u16 selector, u8 size = 8) {
        return through(far_jump, offset, selector, size);
    }
    HelperResult call(u64 offset, u16 selector, u8 size = 8) {
        return through(far_call, offset, selector, size);
    }
    HelperResult ret(u8 size = 8, std::optional<u16> released = std::nullopt) {
        Instruction i = make(1, size);
        i.opcode = released ? 0xca : 0xcb;
        i.immediate = released.value_or(0);
        return run(far_return, i);
    }
    void push(unsigned size, std::initializer_list<u64> items) {
        u64 address = state.gpr[rsp];
        for (const u64 item : items) {
            memory.copy_in(address, &item, size);
            address += size;
        }
    }
    // A far pointer in the instruction, outside 64-bit mode.
    static Instruction immediate(u32 offset, u16 selector, u8 size = 4) {
        Instruction i = make(size == 4 ? 7 : 5, size);
        i.immediate = offset;
        i.immediate2 = selector;
        return i;
    }
};

TEST_F(FarTransfer, JumpWithin64BitMode) {
    EXPECT_EQ(jump(handler_rip, kernel_code | 0), HelperResult::dispatch);
    EXPECT_EQ(state.rip, handler_rip);
    EXPECT_EQ(jump(0x12345678, kernel_code32, 4), HelperResult::dispatch);
    EXPECT_EQ(state.rip, 0x12345678U);
    EXPECT_FALSE(state.code64());
    EXPECT_EQ(state.segment[seg_cs].selector, kernel_code32);
}

TEST_F(FarTransfer, JumpFromCompatibilityMode) {
    user32();
    EXPECT_EQ(run(far_jump, immediate(0x401000, user_code)), HelperResult::dispatch);
    EXPECT_TRUE(state.code64());
    EXPECT_EQ(state.rip, 0x401000U);
    user32();
    EXPECT_EQ(run(far_jump, immediate(0xffff1234, user_code32, 2)), HelperResult::dispatch);
    EXPECT_EQ(state.rip, 0x1234U);
}

TEST_F(FarTransfer, SelectorGetsThePrivilegeLevel) {
    user64();
    EXPECT_EQ(jump(user_rip, user_code & ~3U), HelperResult::dispatch);
    EXPECT_EQ(state.segment[seg_cs].selector, user_code);
    EXPECT_EQ(jump(user_rip, conforming_code), HelperResult::dispatch);
    EXPECT_EQ(state.segment[seg_cs].selector, conforming_code | 3);
    EXPECT_EQ(state.cpl(), 3U);
}

TEST_F(FarTransfer, DirectChecks) {
    for (const Helper helper : {&far_jump, &far_call}) {
        run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
        const auto go = [&](u16 selector, u64 offset = user_rip) {
            return through(helper, offset, selector);
        };
        expect_exception(go(0), Vector::gp, 0);
        expect_exception(go(3), Vector::gp, 0);
        expect_exception(go(last_selector), Vector::gp, last_selector);
        expect_exception(go(kernel_data), Vector::gp, kernel_data);
        expect_exception(go(user_code), Vector::gp, user_code & ~3U);
        expect_exception(go(kernel_code | 3), Vector::gp, kernel_code); // RPL > CPL
        expect_exception(go(tss_selector), Vector::gp, tss_selector);
        set_gdt(spare, d::code | d::l | d::db | d::flat_limit);
        expect_exception(go(spare), Vector::gp, spare);
        set_gdt(spare, (d::code | d::l | d::flat_limit) & ~d::p);
        expect_exception(go(spare), Vector::np, spare);
        set_gdt(spare, d::type(15) | d::s | d::p | d::l | d::flat_limit | d::dpl(3));
        expect_exception(go(spare), Vector::gp, spare); // conforming, DPL > CPL
        set_gdt(spare, d::type(5) | d::p);              // task gate
        expect_exception(go(spare), Vector::gp, spare);
        expect_exception(go(kernel_code, u64{1} << 47), Vector::gp, 0);
        set_gdt(spare, d::code | d::db | d::limit(0xfff));
        expect_exception(go(spare, 0x1000), Vector::gp, 0);
        user64();
        expect_exception(go(kernel_code), Vector::gp, kernel_code);
    }
}

TEST_F(FarTransfer, PointerAbsentAndStackSegmentOperand) {
    memory.absent = {pointer};
    expect_leave(run(far_jump, with_memory(pointer)), ExitReason::page_fault);
    Instruction i = with_memory(u64{1} << 47);
    expect_exception(run(far_jump, i), Vector::gp, 0);
    i.segment = seg_ss;
    expect_exception(run(far_jump, i), Vector::ss, 0);
}

TEST_F(FarTransfer, CallPushesReturnAddressInOperandSize) {
    EXPECT_EQ(call(handler_rip, kernel_code), HelperResult::dispatch);
    EXPECT_EQ(state.gpr[rsp], kernel_stack - 16);
    EXPECT_EQ(memory.get<u64>(kernel_stack - 16), kernel_rip + 3);
    EXPECT_EQ(memory.get<u64>(kernel_stack - 8), kernel_code);
    user32();
    EXPECT_EQ(run(far_call, immediate(0x8050000, user_code32)), HelperResult::dispatch);
    EXPECT_EQ(state.gpr[rsp], 0xffff0000U - 8);
    EXPECT_EQ(memory.get<u32>(0xfffefff8), 0x8048007U);
    EXPECT_EQ(memory.get<u32>(0xfffefffc), user_code32);
}

TEST_F(FarTransfer, CallStackFaults) {
    state.gpr[rsp] = (u64{1} << 47) + 16;
    expect_exception(call(handler_rip, kernel_code), Vector::ss, 0);
    state.gpr[rsp] = kernel_stack;
    memory.read_only = {kernel_stack - page_size};
    expect_leave(call(handler_rip, kernel_code), ExitReason::page_fault);
}

TEST_F(FarTransfer, CallMarksCodeAccessed) {
    set_gdt(spare, d::type(10) | d::s | d::p | d::l | d::flat_limit);
    memory.read_only = {gdt};
    expect_leave(call(handler_rip, spare), ExitReason::page_fault);
    expect_leave(jump(handler_rip, spare), ExitReason::page_fault);
    memory.read_only = {};
    EXPECT_EQ(call(handler_rip, spare), HelperResult::dispatch);
    EXPECT_EQ(get_gdt(spare), d::code | d::l | d::flat_limit);
}

TEST_F(FarTransfer, CallGateToInnerLevel) {
    set_call_gate(kernel_code, handler_rip, 3);
    user64();
    EXPECT_EQ(call(0, gate_selector | 3), HelperResult::dispatch);
    EXPECT_EQ(state.rip, handler_rip);
    EXPECT_EQ(state.cpl(), 0U);
    EXPECT_EQ(state.segment[seg_cs].selector, kernel_code);
    EXPECT_EQ(state.segment[seg_ss].selector, 0);
    EXPECT_EQ(state.gpr[rsp], other_stack - 32);
    EXPECT_EQ(memory.get<u64>(other_stack - 32), user_rip + 3);
    EXPECT_EQ(memory.get<u64>(other_stack - 24), user_code);
    EXPECT_EQ(memory.get<u64>(other_stack - 16), user_stack);
    EXPECT_EQ(memory.get<u64>(other_stack - 8), user_data);
}

TEST_F(FarTransfer, CallGateAtSameLevel) {
    set_call_gate(kernel_code, handler_rip, 0);
    EXPECT_EQ(call(0, gate_selector, 4), HelperResult::dispatch);
    EXPECT_EQ(state.gpr[rsp], kernel_stack - 16);
    EXPECT_EQ(memory.get<u64>(kernel_stack - 16), kernel_rip + 3);
    EXPECT_EQ(memory.get<u64>(kernel_stack - 8), kernel_code);
    run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
    EXPECT_EQ(jump(0, gate_selector), HelperResult::dispatch);
    EXPECT_EQ(state.rip, handler_rip);
    EXPECT_EQ(state.gpr[rsp], kernel_stack);
}

TEST_F(FarTransfer, CallGateChecks) {
    set_call_gate(kernel_code, handler_rip, 0);
    user64();
    expect_exception(call(0, gate_selector), Vector::gp, gate_selector); // DPL < CPL
    run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
    expect_exception(call(0, gate_selector | 3), Vector::gp, gate_selector); // DPL < RPL
    set_call_gate(kernel_code, handler_rip, 0, 4);
    expect_exception(call(0, gate_selector), Vector::gp, gate_selector);
    set_call_gate(kernel_code, handler_rip, 0, 12, false);
    expect_exception(call(0, gate_selector), Vector::np, gate_selector);
    set_call_gate(kernel_code, handler_rip, 0);
    memory.put<u64>(gdt + gate_selector + 8, (handler_rip >> 32) | (u64{1} << 40));
    expect_exception(call(0, gate_selector), Vector::gp, gate_selector);
    set_call_gate(kernel_code, handler_rip, 0);
    state.gdtr.limit = gate_selector + 7; // half a gate
    expect_exception(call(0, gate_selector), Vector::gp, gate_selector);
    state.gdtr.limit = last_selector - 1;
    set_call_gate(0, handler_rip, 0);
    expect_exception(call(0, gate_selector), Vector::gp, 0);
    set_call_gate(last_selector, handler_rip, 0);
    expect_exception(call(0, gate_selector), Vector::gp, last_selector);
    set_call_gate(kernel_data, handler_rip, 0);
    expect_exception(call(0, gate_selector), Vector::gp, kernel_data);
    set_call_gate(kernel_code32, handler_rip, 0);
    expect_exception(call(0, gate_selector), Vector::gp, kernel_code32);
    set_call_gate(user_code, handler_rip, 0);
    expect_exception(call(0, gate_selector), Vector::gp, user_code & ~3U);
    set_gdt(spare, (d::code | d::l | d::flat_limit) & ~d::p);
    set_call_gate(spare, handler_rip, 0);
    expect_exception(call(0, gate_selector), Vector::np, spare);
    set_call_gate(kernel_code, u64{1} << 47, 0);
    expect_exception(call(0, gate_selector), Vector::gp, 0);
}

TEST_F(FarTransfer, CallGateStackChecks) {
    set_call_gate(kernel_code, handler_rip, 3);
    user64();
    expect_exception(jump(0, gate_selector | 3), Vector::gp,
                     kernel_code); // a jump stays at its level
    state.tr.limit = 10;
    expect_exception(call(0, gate_selector | 3), Vector::ts, tss_selector);
    state.tr.limit = 0x67;
    memory.put<u64>(tss + 4, u64{1} << 47);
    expect_exception(call(0, gate_selector | 3), Vector::ss, 0);
    memory.put<u64>(tss + 4, other_stack);
    memory.absent = {(other_stack - 32) & ~page_offset_mask};
    expect_leave(call(0, gate_selector | 3), ExitReason::page_fault);
}

TEST_F(FarTransfer, ReturnAtSameLevel) {
    push(8, {handler_rip, kernel_code});
    EXPECT_EQ(ret(), HelperResult::dispatch);
    EXPECT_EQ(state.rip, handler_rip);
    EXPECT_EQ(state.gpr[rsp], kernel_stack + 16);
    run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
    push(4, {0x12340000, kernel_code32});
    EXPECT_EQ(ret(4, 0x20), HelperResult::dispatch);
    EXPECT_EQ(state.rip, 0x12340000U);
    EXPECT_EQ(state.gpr[rsp], kernel_stack + 8 + 0x20);
    EXPECT_FALSE(state.code64());
}

TEST_F(FarTransfer, ReturnToOuterLevel) {
    push(8, {user_rip, user_code, 0, 0, user_stack, user_data});
    state.segment[seg_ds] = segment_of(kernel_data);
    EXPECT_EQ(ret(8, 16), HelperResult::dispatch);
    EXPECT_EQ(state.rip, user_rip);
    EXPECT_EQ(state.gpr[rsp], user_stack + 16);
    EXPECT_EQ(state.cpl(), 3U);
    EXPECT_TRUE(state.segment[seg_ds].has(Segment::unusable));
}

TEST_F(FarTransfer, ReturnChecks) {
    const auto to = [&](u64 rip, u16 cs, u16 ss = user_data) {
        push(8, {rip, cs, user_stack, ss});
        return ret();
    };
    expect_exception(to(user_rip, 0), Vector::gp, 0);
    expect_exception(to(user_rip, last_selector), Vector::gp, last_selector);
    expect_exception(to(user_rip, kernel_data), Vector::gp, kernel_data);
    expect_exception(to(user_rip, user_code & ~3U), Vector::gp, user_code & ~3U);
    set_gdt(spare, (d::code | d::l | d::flat_limit | d::dpl(3)) & ~d::p);
    expect_exception(to(user_rip, spare | 3), Vector::np, spare);
    expect_exception(to(u64{1} << 47, kernel_code), Vector::gp, 0);
    expect_exception(to(u64{1} << 32, user_code32), Vector::gp, 0);
    expect_exception(to(user_rip, user_code, 0), Vector::gp, 0);
    expect_exception(to(user_rip, user_code, kernel_data), Vector::gp, kernel_data);
    set_gdt(spare, (d::data | d::dpl(3)) & ~d::p);
    expect_exception(to(user_rip, user_code, spare | 3), Vector::ss, spare);
    user64();
    expect_exception(to(user_rip, kernel_code), Vector::gp, kernel_code);
    state.gpr[rsp] = u64{1} << 47;
    expect_exception(ret(), Vector::ss, 0);
}

TEST_F(FarTransfer, LocalDescriptorTable) {
    memory.put<u64>(ldt + 8, d::code | d::l | d::flat_limit);
    expect_exception(jump(handler_rip, 0x0c), Vector::gp, 0x0c); // no LDT
    state.ldtr = {ldt, 0x0f, 2 | Segment::present, ldt_selector, {}};
    EXPECT_EQ(jump(handler_rip, 0x0c), HelperResult::dispatch);
    EXPECT_EQ(state.segment[seg_cs].selector, 0x0c);
    expect_exception(jump(handler_rip, 0x14), Vector::gp, 0x14);
}

} // namespace
} // namespace gnomon::processor::soft
