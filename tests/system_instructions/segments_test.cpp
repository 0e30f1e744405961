// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

namespace gnomon::processor::soft {
namespace {

class Segments : public SystemInstructions {
protected:
    static constexpr u64 operand = 0x5000;

    HelperResult load(unsigned name, u16 selector) {
        Instruction i = make(2, 2);
        i.reg = static_cast<u8>(name);
        i.rm = rbx;
        state.gpr[rbx] = 0xdead0000 | selector;
        return run(mov_to_segment, i);
    }
    HelperResult with_selector(Helper helper, u16 selector,
                               ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID, u8 size = 4) {
        Instruction i = named(mnemonic, make(3, size));
        i.reg = rcx;
        i.rm = rbx;
        state.gpr[rbx] = selector;
        return run(helper, i);
    }
    bool zf() const { return (state.rflags & rflags::zf) != 0; }
    static Instruction segment_operand(unsigned name, u8 size = 8) {
        Instruction i = make(2, size);
        i.reg = static_cast<u8>(name);
        return i;
    }
};

TEST_F(Segments, LoadData) {
    EXPECT_EQ(load(seg_ds, user_data), HelperResult::next);
    EXPECT_EQ(state.segment[seg_ds].selector, user_data);
    EXPECT_EQ(state.segment[seg_ds].limit, 0xffffffffU);
    EXPECT_EQ(state.segment[seg_ds].dpl(), 3U);
    set_gdt(spare, d::data | d::base(0xfedcba98) | d::limit(0x12345));
    EXPECT_EQ(load(seg_fs, spare), HelperResult::next);
    EXPECT_EQ(state.segment[seg_fs].base, 0xfedcba98U);
    EXPECT_EQ(state.segment[seg_fs].limit, 0x12345U);
    EXPECT_EQ(load(seg_gs, kernel_code), HelperResult::next); // readable code
}

TEST_F(Segments, LoadFromMemory) {
    Instruction i = with_memory(operand, 2);
    i.reg = seg_es;
    memory.put<u16>(operand, user_data);
    EXPECT_EQ(run(mov_to_segment, i), HelperResult::next);
    EXPECT_EQ(state.segment[seg_es].selector, user_data);
    memory.absent = {operand};
    expect_leave(run(mov_to_segment, i), ExitReason::page_fault);
}

TEST_F(Segments, OutsideLongCodeALoadDispatches) {
    user32();
    EXPECT_EQ(load(seg_ds, user_data), HelperResult::dispatch);
    EXPECT_EQ(state.rip, 0x8048002U);
}

TEST_F(Segments, NullData) {
    state.segment[seg_fs].base = 0x1234;
    for (u16 selector = 0; selector < 4; ++selector) {
        EXPECT_EQ(load(seg_fs, selector), HelperResult::next);
        EXPECT_EQ(state.segment[seg_fs].selector, selector);
        EXPECT_TRUE(state.segment[seg_fs].has(Segment::unusable));
        EXPECT_EQ(state.segment[seg_fs].base, 0U);
    }
}

TEST_F(Segments, DataChecks) {
    expect_exception(load(seg_ds, last_selector), Vector::gp, last_selector);
    expect_exception(load(seg_ds, 0x0c), Vector::gp, 0x0c); // no LDT
    expect_exception(load(seg_ds, tss_selector), Vector::gp, tss_selector);
    expect_exception(load(seg_ds, kernel_data | 3), Vector::gp, kernel_data); // RPL > DPL
    set_gdt(spare, d::type(9) | d::s | d::p);                                 // execute-only code
    expect_exception(load(seg_ds, spare), Vector::gp, spare);
    set_gdt(spare, d::data & ~d::p);
    expect_exception(load(seg_ds, spare), Vector::np, spare);
    user64();
    expect_exception(load(seg_ds, kernel_data), Vector::gp, kernel_data); // CPL > DPL
    EXPECT_EQ(load(seg_ds, conforming_code | 3), HelperResult::next);
    memory.absent = {gdt};
    expect_leave(load(seg_ds, user_data), ExitReason::page_fault);
}

TEST_F(Segments, AccessedBit) {
    set_gdt(spare, d::type(2) | d::s | d::p);
    memory.read_only = {gdt};
    expect_leave(load(seg_ds, spare), ExitReason::page_fault);
    memory.read_only = {};
    EXPECT_EQ(load(seg_ds, spare), HelperResult::next);
    EXPECT_EQ(get_gdt(spare), d::data);
    EXPECT_EQ(state.segment[seg_ds].type(), 3U);
    EXPECT_EQ(memory.accesses.back().mode, AccessMode::supervisor);
    const unsigned writes = memory.writes();
    EXPECT_EQ(load(seg_ds, spare), HelperResult::next);
    EXPECT_EQ(memory.writes(), writes);
}

TEST_F(Segments, StackLoadHoldsInterruptsOff) {
    EXPECT_EQ(load(seg_ss, kernel_data), HelperResult::dispatch);
    EXPECT_EQ(state.rip, kernel_rip + 2);
    EXPECT_TRUE(cpu.cb.interrupt_shadow);
    EXPECT_TRUE(cpu.single_step_once);
}

TEST_F(Segments, StackNull) {
    EXPECT_EQ(load(seg_ss, 0), HelperResult::dispatch);
    EXPECT_TRUE(state.segment[seg_ss].has(Segment::unusable));
    EXPECT_EQ(state.cpl(), 0U);
    expect_exception(load(seg_ss, 3), Vector::gp, 0);
    user64();
    expect_exception(load(seg_ss, 3), Vector::gp, 0);
    kernel32();
    expect_exception(load(seg_ss, 0), Vector::gp, 0);
    set_gdt(spare, d::data | d::dpl(1));
    run_in(kernel_code, spare, kernel_rip, kernel_stack);
    EXPECT_EQ(load(seg_ss, 1), HelperResult::dispatch);
    EXPECT_EQ(state.cpl(), 1U);
}

TEST_F(Segments, StackChecks) {
    expect_exception(load(seg_ss, last_selector), Vector::gp, last_selector);
    expect_exception(load(seg_ss, kernel_data | 3), Vector::gp, kernel_data);
    expect_exception(load(seg_ss, user_data), Vector::gp, user_data & ~3U);
    expect_exception(load(seg_ss, user_data & ~3U), Vector::gp, user_data & ~3U);
    expect_exception(load(seg_ss, kernel_code), Vector::gp, kernel_code);
    set_gdt(spare, d::type(1) | d::s | d::p);
    expect_exception(load(seg_ss, spare), Vector::gp, spare);
    set_gdt(spare, d::data & ~d::p);
    expect_exception(load(seg_ss, spare), Vector::ss, spare);
    EXPECT_FALSE(cpu.cb.interrupt_shadow);
}

TEST_F(Segments, CodeIsNotLoadable) {
    expect_exception(load(seg_cs, kernel_code), Vector::ud);
    expect_exception(load(6, kernel_data), Vector::ud);
    expect_exception(run(pop_segment, segment_operand(seg_cs)), Vector::ud);
    Instruction i = make(2, 4);
    i.reg = 7;
    i.rm = rax;
    expect_exception(run(mov_from_segment, i), Vector::ud);
}

TEST_F(Segments, Store) {
    state.gpr[rax] = ~u64{0};
    Instruction i = segment_operand(seg_ss, 2);
    i.rm = rax;
    EXPECT_EQ(run(mov_from_segment, i), HelperResult::next);
    EXPECT_EQ(state.gpr[rax], 0xffffffffffff0000 | kernel_data);
    i.operand_size = 4;
    EXPECT_EQ(run(mov_from_segment, i), HelperResult::next);
    EXPECT_EQ(state.gpr[rax], kernel_data);
    memory.put<u32>(operand, 0xffffffff);
    i = with_memory(operand, 8);
    i.reg = seg_cs;
    EXPECT_EQ(run(mov_from_segment, i), HelperResult::next);
    EXPECT_EQ(memory.get<u32>(operand), 0xffff0000 | kernel_code);
}

TEST_F(Segments, PushAndPop) {
    state.segment[seg_fs].selector = 0x1234;
    EXPECT_EQ(run(push_segment, segment_operand(seg_fs)), HelperResult::next);
    EXPECT_EQ(state.gpr[rsp], kernel_stack - 8);
    EXPECT_EQ(memory.get<u64>(kernel_stack - 8), 0x1234U);
    memory.put<u64>(kernel_stack - 8, user_data);
    EXPECT_EQ(run(pop_segment, segment_operand(seg_gs)), HelperResult::next);
    EXPECT_EQ(state.segment[seg_gs].selector, user_data);
    EXPECT_EQ(state.gpr[rsp], kernel_stack);
    memory.put<u64>(kernel_stack, kernel_data);
    EXPECT_EQ(run(pop_segment, segment_operand(seg_fs, 2)), HelperResult::next);
    EXPECT_EQ(state.gpr[rsp], kernel_stack + 2);
}

TEST_F(Segments, PushOf32BitsWrites16) {
    user32();
    memory.put<u32>(0xfffefffc, 0xaaaaaaaa);
    EXPECT_EQ(run(push_segment, segment_operand(seg_ss, 4)), HelperResult::next);
    EXPECT_EQ(memory.get<u32>(0xfffefffc), 0xaaaa0000 | user_data);
    EXPECT_EQ(state.gpr[rsp], 0xfffefffcU);
    EXPECT_EQ(run(pop_segment, segment_operand(seg_ss, 4)), HelperResult::dispatch);
    EXPECT_TRUE(cpu.cb.interrupt_shadow);
    EXPECT_EQ(state.gpr[rsp], 0xffff0000U);
    memory.read_only = {0xfffef000};
    expect_leave(run(push_segment, segment_operand(seg_ss, 4)), ExitReason::page_fault);
}

TEST_F(Segments, PopFaultsLeaveStackPointer) {
    memory.put<u64>(kernel_stack, last_selector);
    expect_exception(run(pop_segment, segment_operand(seg_fs)), Vector::gp, last_selector);
    state.gpr[rsp] = u64{1} << 47;
    expect_exception(run(pop_segment, segment_operand(seg_fs)), Vector::ss, 0);
    state.gpr[rsp] += 16;
    expect_exception(run(push_segment, segment_operand(seg_fs)), Vector::ss, 0);
}

TEST_F(Segments, FarPointers) {
    Instruction i = named(ZYDIS_MNEMONIC_LGS, with_memory(operand, 8));
    i.reg = rdx;
    memory.put<u64>(operand, 0x1122334455667788);
    memory.put<u16>(operand + 8, user_data);
    EXPECT_EQ(run(load_far_pointer, i), HelperResult::next);
    EXPECT_EQ(state.gpr[rdx], 0x1122334455667788U);
    EXPECT_EQ(state.segment[seg_gs].selector, user_data);
    i = named(ZYDIS_MNEMONIC_LSS, with_memory(operand, 4));
    i.reg = rsp;
    memory.put<u16>(operand + 4, kernel_data);
    EXPECT_EQ(run(load_far_pointer, i), HelperResult::next);
    EXPECT_EQ(state.gpr[rsp], 0x55667788U);
    EXPECT_FALSE(cpu.cb.interrupt_shadow);
    memory.put<u16>(operand + 4, last_selector);
    expect_exception(run(load_far_pointer, i), Vector::gp, last_selector);
    i.is_memory = false;
    expect_exception(run(load_far_pointer, i), Vector::ud);
    expect_exception(run(load_far_pointer, named(ZYDIS_MNEMONIC_NOP, with_memory(operand))),
                     Vector::ud);
    user32();
    i = named(ZYDIS_MNEMONIC_LES, with_memory(operand, 2));
    i.reg = rbx;
    memory.put<u32>(operand, 0x1234 | u32{user_data} << 16);
    EXPECT_EQ(run(load_far_pointer, i), HelperResult::dispatch);
    EXPECT_EQ(state.segment[seg_es].selector, user_data);
    EXPECT_EQ(state.gpr[rbx] & 0xffff, 0x1234U);
}

TEST_F(Segments, DescriptorTableRegisters) {
    memory.put<u16>(operand, 0x1ff);
    memory.put<u64>(operand + 2, 0xfffffe0000abc000);
    EXPECT_EQ(run(lgdt_lidt, named(ZYDIS_MNEMONIC_LGDT, with_memory(operand))), HelperResult::next);
    EXPECT_EQ(state.gdtr.base, 0xfffffe0000abc000U);
    EXPECT_EQ(state.gdtr.limit, 0x1ffU);
    EXPECT_EQ(run(lgdt_lidt, named(ZYDIS_MNEMONIC_LIDT, with_memory(operand))), HelperResult::next);
    EXPECT_EQ(state.idtr.base, 0xfffffe0000abc000U);
    memory.put<u64>(operand + 2, u64{1} << 47);
    expect_exception(run(lgdt_lidt, named(ZYDIS_MNEMONIC_LGDT, with_memory(operand))), Vector::gp,
                     0);
    memory.absent = {operand};
    expect_leave(run(lgdt_lidt, named(ZYDIS_MNEMONIC_LGDT, with_memory(operand))),
                 ExitReason::page_fault);
    expect_exception(run(lgdt_lidt, named(ZYDIS_MNEMONIC_LGDT)), Vector::ud);
    user64();
    expect_exception(run(lgdt_lidt, named(ZYDIS_MNEMONIC_LGDT, with_memory(operand))), Vector::gp,
                     0);
}

TEST_F(Segments, DescriptorTableRegistersOutside64BitMode) {
    kernel32();
    memory.put<u16>(operand, 0x3f);
    memory.put<u64>(operand + 2, 0xffffffff12345678);
    EXPECT_EQ(run(lgdt_lidt, named(ZYDIS_MNEMONIC_LIDT, with_memory(operand, 4))),
              HelperResult::next);
    EXPECT_EQ(state.idtr.base, 0x12345678U);
    EXPECT_EQ(run(lgdt_lidt, named(ZYDIS_MNEMONIC_LIDT, with_memory(operand, 2))),
              HelperResult::next);
    EXPECT_EQ(state.idtr.base, 0x345678U);
    memory.put<u64>(operand, ~u64{0});
    EXPECT_EQ(run(sgdt_sidt, named(ZYDIS_MNEMONIC_SIDT, with_memory(operand, 4))),
              HelperResult::next);
    EXPECT_EQ(memory.get<u64>(operand), 0xffff00345678003fU);
}

TEST_F(Segments, StoreDescriptorTableRegisters) {
    user64();
    EXPECT_EQ(run(sgdt_sidt, named(ZYDIS_MNEMONIC_SGDT, with_memory(operand))), HelperResult::next);
    EXPECT_EQ(memory.get<u16>(operand), last_selector - 1);
    EXPECT_EQ(memory.get<u64>(operand + 2), gdt);
    EXPECT_EQ(run(sgdt_sidt, named(ZYDIS_MNEMONIC_SIDT, with_memory(operand))), HelperResult::next);
    EXPECT_EQ(memory.get<u64>(operand + 2), idt);
    state.cr4 |= cr4::umip;
    expect_exception(run(sgdt_sidt, named(ZYDIS_MNEMONIC_SGDT, with_memory(operand))), Vector::gp,
                     0);
    expect_exception(with_selector(sldt_str, 0, ZYDIS_MNEMONIC_STR), Vector::gp, 0);
    run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
    EXPECT_EQ(run(sgdt_sidt, named(ZYDIS_MNEMONIC_SGDT, with_memory(operand))), HelperResult::next);
    expect_exception(run(sgdt_sidt, named(ZYDIS_MNEMONIC_SGDT)), Vector::ud);
    memory.read_only = {operand};
    expect_leave(run(sgdt_sidt, named(ZYDIS_MNEMONIC_SGDT, with_memory(operand))),
                 ExitReason::page_fault);
}

TEST_F(Segments, StoreTaskAndLocalTable) {
    state.ldtr.selector = ldt_selector;
    Instruction i = named(ZYDIS_MNEMONIC_STR, make(3, 4));
    i.rm = rax;
    state.gpr[rax] = ~u64{0};
    EXPECT_EQ(run(sldt_str, i), HelperResult::next);
    EXPECT_EQ(state.gpr[rax], tss_selector);
    i = named(ZYDIS_MNEMONIC_SLDT, with_memory(operand));
    memory.put<u32>(operand, ~0U);
    EXPECT_EQ(run(sldt_str, i), HelperResult::next);
    EXPECT_EQ(memory.get<u32>(operand), 0xffff0000 | ldt_selector);
}

TEST_F(Segments, LoadLocalTable) {
    EXPECT_EQ(with_selector(lldt, ldt_selector), HelperResult::next);
    EXPECT_EQ(state.ldtr.base, ldt);
    EXPECT_EQ(state.ldtr.limit, 0x0fU);
    EXPECT_EQ(state.ldtr.selector, ldt_selector);
    memory.put<u64>(ldt + 8, d::data);
    EXPECT_EQ(load(seg_ds, 0x0c), HelperResult::next);
    EXPECT_EQ(with_selector(lldt, 0), HelperResult::next);
    EXPECT_TRUE(state.ldtr.has(Segment::unusable));
    expect_exception(load(seg_ds, 0x0c), Vector::gp, 0x0c);
}

TEST_F(Segments, LoadLocalTableChecks) {
    expect_exception(with_selector(lldt, ldt_selector | 4), Vector::gp, ldt_selector | 4);
    expect_exception(with_selector(lldt, last_selector), Vector::gp, last_selector);
    expect_exception(with_selector(lldt, tss_selector), Vector::gp, tss_selector);
    expect_exception(with_selector(lldt, kernel_data), Vector::gp, kernel_data);
    state.gdtr.limit = ldt_selector + 7;
    expect_exception(with_selector(lldt, ldt_selector), Vector::gp, ldt_selector);
    state.gdtr.limit = last_selector - 1;
    memory.put<u64>(gdt + ldt_selector + 8, u64{1} << 15); // base not canonical
    expect_exception(with_selector(lldt, ldt_selector), Vector::gp, ldt_selector);
    set_gdt(ldt_selector, d::type(2));
    expect_exception(with_selector(lldt, ldt_selector), Vector::np, ldt_selector);
    user64();
    expect_exception(with_selector(lldt, ldt_selector), Vector::gp, 0);
}

TEST_F(Segments, LoadTask) {
    state.tr = {};
    EXPECT_EQ(with_selector(ltr, tss_selector), HelperResult::next);
    EXPECT_EQ(state.tr.base, tss);
    EXPECT_EQ(state.tr.type(), 11U);
    EXPECT_EQ(state.tr.limit, 0x2067U);
    EXPECT_EQ((get_gdt(tss_selector) >> 40) & 15, 11U);
    expect_exception(with_selector(ltr, tss_selector), Vector::gp, tss_selector); // busy
}

TEST_F(Segments, LoadTaskChecks) {
    expect_exception(with_selector(ltr, 0), Vector::gp, 0);
    expect_exception(with_selector(ltr, tss_selector | 4), Vector::gp, tss_selector | 4);
    expect_exception(with_selector(ltr, last_selector), Vector::gp, last_selector);
    expect_exception(with_selector(ltr, kernel_data), Vector::gp, kernel_data);
    expect_exception(with_selector(ltr, ldt_selector), Vector::gp, ldt_selector);
    memory.read_only = {gdt};
    expect_leave(with_selector(ltr, tss_selector), ExitReason::page_fault);
    memory.read_only = {};
    memory.put<u64>(gdt + tss_selector + 8, u64{1} << 40);
    expect_exception(with_selector(ltr, tss_selector), Vector::gp, tss_selector);
    set_gdt(tss_selector, d::type(9));
    expect_exception(with_selector(ltr, tss_selector), Vector::np, tss_selector);
    set_gdt(tss_selector, d::type(1) | d::p); // a 16-bit TSS
    expect_exception(with_selector(ltr, tss_selector), Vector::gp, tss_selector);
    user64();
    expect_exception(with_selector(ltr, tss_selector), Vector::gp, 0);
}

TEST_F(Segments, AccessRights) {
    state.gpr[rcx] = ~u64{0};
    EXPECT_EQ(with_selector(lar_lsl, user_code, ZYDIS_MNEMONIC_LAR), HelperResult::next);
    EXPECT_TRUE(zf());
    // Bits 19:16, which hold a part of the limit, are undefined (SDM vol. 2, LAR); processors show
    // them as they are.
    EXPECT_EQ(state.gpr[rcx], (get_gdt(user_code) >> 32) & 0x00ffff00);
    EXPECT_EQ(with_selector(lar_lsl, user_code, ZYDIS_MNEMONIC_LAR, 2), HelperResult::next);
    EXPECT_EQ(state.gpr[rcx] & 0xffff, (get_gdt(user_code) >> 32) & 0xff00);
    for (const u16 selector : {u16{0}, last_selector, u16{kernel_data | 3}}) {
        state.gpr[rcx] = 5;
        EXPECT_EQ(with_selector(lar_lsl, selector, ZYDIS_MNEMONIC_LAR), HelperResult::next);
        EXPECT_FALSE(zf()) << selector;
        EXPECT_EQ(state.gpr[rcx], 5U);
    }
    // System descriptors in IA-32e mode.
    for (u64 type = 0; type < 16; ++type) {
        set_gdt(spare, d::type(type) | d::p);
        EXPECT_EQ(with_selector(lar_lsl, spare, ZYDIS_MNEMONIC_LAR), HelperResult::next);
        EXPECT_EQ(zf(), type == 2 || type == 9 || type == 11 || type == 12) << type;
        EXPECT_EQ(with_selector(lar_lsl, spare, ZYDIS_MNEMONIC_LSL), HelperResult::next);
        EXPECT_EQ(zf(), type == 2 || type == 9 || type == 11) << type;
    }
    memory.absent = {gdt};
    expect_leave(with_selector(lar_lsl, spare, ZYDIS_MNEMONIC_LAR), ExitReason::page_fault);
}

TEST_F(Segments, Limit) {
    EXPECT_EQ(with_selector(lar_lsl, kernel_data, ZYDIS_MNEMONIC_LSL), HelperResult::next);
    EXPECT_TRUE(zf());
    EXPECT_EQ(state.gpr[rcx], 0xffffffffU);
    set_gdt(spare, d::data | d::limit(0x12345));
    EXPECT_EQ(with_selector(lar_lsl, spare, ZYDIS_MNEMONIC_LSL, 8), HelperResult::next);
    EXPECT_EQ(state.gpr[rcx], 0x12345U);
    user64();
    EXPECT_EQ(with_selector(lar_lsl, spare, ZYDIS_MNEMONIC_LSL), HelperResult::next);
    EXPECT_FALSE(zf());
    EXPECT_EQ(with_selector(lar_lsl, conforming_code, ZYDIS_MNEMONIC_LSL), HelperResult::next);
    EXPECT_TRUE(zf());
}

TEST_F(Segments, Verify) {
    const auto verify = [&](u16 selector, ZydisMnemonic mnemonic) {
        EXPECT_EQ(with_selector(verr_verw, selector, mnemonic), HelperResult::next);
        return zf();
    };
    EXPECT_TRUE(verify(kernel_data, ZYDIS_MNEMONIC_VERW));
    EXPECT_TRUE(verify(kernel_data, ZYDIS_MNEMONIC_VERR));
    EXPECT_TRUE(verify(kernel_code, ZYDIS_MNEMONIC_VERR));
    EXPECT_FALSE(verify(kernel_code, ZYDIS_MNEMONIC_VERW));
    EXPECT_FALSE(verify(tss_selector, ZYDIS_MNEMONIC_VERR));
    EXPECT_FALSE(verify(0, ZYDIS_MNEMONIC_VERR));
    EXPECT_FALSE(verify(last_selector, ZYDIS_MNEMONIC_VERR));
    set_gdt(spare, d::type(9) | d::s | d::p);
    EXPECT_FALSE(verify(spare, ZYDIS_MNEMONIC_VERR));
    set_gdt(spare, d::type(1) | d::s | d::p);
    EXPECT_FALSE(verify(spare, ZYDIS_MNEMONIC_VERW));
    user64();
    EXPECT_FALSE(verify(kernel_data, ZYDIS_MNEMONIC_VERR));
    EXPECT_TRUE(verify(conforming_code, ZYDIS_MNEMONIC_VERR));
    memory.absent = {gdt};
    expect_leave(with_selector(verr_verw, kernel_data, ZYDIS_MNEMONIC_VERW),
                 ExitReason::page_fault);
}

TEST_F(Segments, AdjustRpl) {
    user32();
    state.gpr[rcx] = 3;
    EXPECT_EQ(with_selector(arpl, 0x40, ZYDIS_MNEMONIC_ARPL, 2), HelperResult::next);
    EXPECT_TRUE(zf());
    EXPECT_EQ(state.gpr[rbx], 0x43U);
    state.gpr[rcx] = 1;
    EXPECT_EQ(with_selector(arpl, 0x42, ZYDIS_MNEMONIC_ARPL, 2), HelperResult::next);
    EXPECT_FALSE(zf());
    EXPECT_EQ(state.gpr[rbx], 0x42U);
    Instruction i = with_memory(operand, 2);
    i.reg = rcx;
    memory.put<u16>(operand, 0x40);
    EXPECT_EQ(run(arpl, i), HelperResult::next);
    EXPECT_EQ(memory.get<u16>(operand), 0x41);
    memory.put<u16>(operand, 0x40);
    memory.read_only = {operand};
    expect_leave(run(arpl, i), ExitReason::page_fault);
    user64();
    expect_exception(with_selector(arpl, 0x40, ZYDIS_MNEMONIC_ARPL, 2), Vector::ud);
}

} // namespace
} // namespace gnomon::processor::soft
