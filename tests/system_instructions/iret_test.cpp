// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

namespace gnomon::processor::soft {
namespace {

class Iret : public SystemInstructions {
protected:
    void frame(unsigned size, std::initializer_list<u64> items) {
        u64 address = state.gpr[rsp];
        for (const u64 item : items) {
            memory.copy_in(address, &item, size);
            address += size;
        }
    }
    HelperResult iretq() { return run(iret, make(2, 8)); }
    void user_frame(u64 flags = rflags::fixed1 | rflags::if_) {
        frame(8, {user_rip, user_code, flags, user_stack, user_data});
    }
};

TEST_F(Iret, ToUser) {
    user_frame();
    cpu.cb.nmi_blocked = true;
    state.segment[seg_fs].base = 0x7f0000001000; // selector null: must survive
    state.segment[seg_gs] = segment_of(kernel_data);
    state.segment[seg_gs].base = 0x5000;
    EXPECT_EQ(iretq(), HelperResult::dispatch);
    EXPECT_EQ(state.rip, user_rip);
    EXPECT_EQ(state.gpr[rsp], user_stack);
    EXPECT_EQ(state.cpl(), 3U);
    EXPECT_EQ(state.segment[seg_cs].selector, user_code);
    EXPECT_EQ(state.segment[seg_ss].selector, user_data);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::if_);
    EXPECT_FALSE(cpu.cb.nmi_blocked);
    EXPECT_EQ(state.segment[seg_fs].base, 0x7f0000001000U);
    for (const unsigned name : {seg_ds, seg_es, seg_gs}) {
        EXPECT_EQ(state.segment[name].selector, 0);
        EXPECT_TRUE(state.segment[name].has(Segment::unusable));
    }
    EXPECT_EQ(state.segment[seg_gs].base, 0x5000U);
}

TEST_F(Iret, BackToAContextThatIsWatchedIsNoted) {
    const auto returned = [&](const ReturnWatch& watch) {
        run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
        state.cr3 = 0x5000;
        cpu.cb.return_watch = watch;
        cpu.cb.interrupt_window = false;
        user_frame();
        EXPECT_EQ(iretq(), HelperResult::dispatch);
        EXPECT_NE(cpu.cb.return_watch.armed, cpu.cb.return_watch.seen);
        return cpu.cb.return_watch.seen;
    };
    const ReturnWatch watch{.armed = true, .cs = user_code, .cr3 = 0x5000, .rsp = user_stack};
    EXPECT_TRUE(returned(watch));
    EXPECT_FALSE(cpu.cb.interrupt_window);
    ReturnWatch other = watch;
    other.opens_window = true;
    EXPECT_TRUE(returned(other));
    EXPECT_TRUE(cpu.cb.interrupt_window);
    other.rsp += 8;
    EXPECT_FALSE(returned(other));
    EXPECT_FALSE(cpu.cb.interrupt_window);
    other = watch;
    other.cs = kernel_code;
    EXPECT_FALSE(returned(other));
    other = watch;
    other.cr3 += 0x1000;
    EXPECT_FALSE(returned(other));
    cpu.cb.return_watch = {.cs = user_code, .cr3 = 0x5000, .rsp = user_stack};
    user_frame();
    EXPECT_EQ(iretq(), HelperResult::dispatch);
    EXPECT_FALSE(cpu.cb.return_watch.seen) << "not armed";
}

TEST_F(Iret, ToUserKeepsItsDataSegments) {
    user_frame();
    state.segment[seg_ds] = segment_of(user_data);
    state.segment[seg_es] = segment_of(conforming_code);
    EXPECT_EQ(iretq(), HelperResult::dispatch);
    EXPECT_EQ(state.segment[seg_ds].selector, user_data);
    EXPECT_EQ(state.segment[seg_es].selector, conforming_code);
}

TEST_F(Iret, SameLevelIn64BitModePopsStackToo) {
    frame(8, {kernel_rip + 0x100, kernel_code, rflags::fixed1, other_stack, 0});
    EXPECT_EQ(iretq(), HelperResult::dispatch);
    EXPECT_EQ(state.gpr[rsp], other_stack);
    EXPECT_TRUE(state.segment[seg_ss].has(Segment::unusable));
    EXPECT_EQ(state.cpl(), 0U);
}

TEST_F(Iret, NarrowOperands) {
    frame(4, {0x8048000, user_code32, rflags::fixed1, 0xbffff000, user_data});
    EXPECT_EQ(run(iret, make(1, 4)), HelperResult::dispatch);
    EXPECT_EQ(state.rip, 0x8048000U);
    EXPECT_EQ(state.gpr[rsp], 0xbffff000U);
    EXPECT_FALSE(state.code64());
    run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
    frame(2, {0x1234, kernel_code, rflags::fixed1 | rflags::cf, 0x8000, kernel_data});
    state.rflags |= rflags::ac | rflags::rf;
    EXPECT_EQ(run(iret, make(2, 2)), HelperResult::dispatch);
    EXPECT_EQ(state.rip, 0x1234U);
    EXPECT_EQ(state.gpr[rsp], 0x8000U);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::cf | rflags::ac) << "AC is above 16 bits";
}

TEST_F(Iret, CompatibilityModeSameLevel) {
    user32();
    frame(4, {0x8049000, user_code32, rflags::fixed1 | rflags::if_ | rflags::zf});
    EXPECT_EQ(run(iret, make(1, 4)), HelperResult::dispatch);
    EXPECT_EQ(state.rip, 0x8049000U);
    EXPECT_EQ(state.gpr[rsp], 0xffff000cU);
    EXPECT_EQ(state.segment[seg_ss].selector, user_data);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::zf) << "CPL > IOPL: IF stays";
}

TEST_F(Iret, CompatibilityModeOuterLevel) {
    kernel32();
    frame(4, {0x8049000, user_code32, rflags::fixed1 | rflags::if_, 0xbfff0000, user_data});
    EXPECT_EQ(run(iret, make(1, 4)), HelperResult::dispatch);
    EXPECT_EQ(state.cpl(), 3U);
    EXPECT_EQ(state.gpr[rsp], 0xbfff0000U);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::if_);
}

TEST_F(Iret, CompatibilityMode16BitStackWraps) {
    set_gdt(spare, d::data | d::limit(0xffff) | d::base(0x10000) | d::dpl(3));
    user32();
    state.segment[seg_ss] = segment_of(spare | 3);
    state.gpr[rsp] = 0xabcdfffc;
    const u32 items[] = {0x8049000, user_code32, static_cast<u32>(rflags::fixed1)};
    memory.put(0x1fffc, items[0]);
    memory.put(0x10000, items[1]);
    memory.put(0x10004, items[2]);
    EXPECT_EQ(run(iret, make(1, 4)), HelperResult::dispatch);
    EXPECT_EQ(state.rip, 0x8049000U);
    EXPECT_EQ(state.gpr[rsp], 0xabcd0008U);
}

TEST_F(Iret, ReturnTo16BitStackLoadsOnlySp) {
    set_gdt(spare, d::data | d::limit(0xffff) | d::dpl(3));
    frame(8, {0x8048000, user_code32, rflags::fixed1, 0x12345678, spare | 3});
    EXPECT_EQ(iretq(), HelperResult::dispatch);
    EXPECT_EQ(state.gpr[rsp], (kernel_stack & ~u64{0xffff}) | 0x5678);
}

TEST_F(Iret, FlagsByPrivilege) {
    const u64 all = ~u64{0};
    // The debug and nested-task flags come from the image at any level; VM, VIF, VIP and reserved
    // bits never.
    const u64 at_any = rflags::arithmetic | rflags::tf | rflags::df | rflags::nt | rflags::rf |
                       rflags::ac | rflags::id | rflags::fixed1;
    user_frame(all);
    EXPECT_EQ(iretq(), HelperResult::dispatch);
    EXPECT_EQ(state.rflags, at_any | rflags::if_ | rflags::iopl);
    user64();
    state.rflags = rflags::fixed1;
    user_frame(all);
    EXPECT_EQ(iretq(), HelperResult::dispatch);
    EXPECT_EQ(state.rflags, at_any);
    user64();
    state.rflags = rflags::fixed1 | rflags::iopl;
    user_frame(all);
    EXPECT_EQ(iretq(), HelperResult::dispatch);
    EXPECT_EQ(state.rflags, at_any | rflags::if_ | rflags::iopl);
    user64();
    state.rflags = rflags::fixed1 | rflags::if_;
    user_frame(0);
    EXPECT_EQ(iretq(), HelperResult::dispatch);
    EXPECT_EQ(state.rflags, rflags::fixed1 | rflags::if_);
}

TEST_F(Iret, NestedTask) {
    user_frame();
    state.rflags |= rflags::nt;
    expect_exception(iretq(), Vector::gp, 0);
}

TEST_F(Iret, CodeSegmentChecks) {
    const auto with_cs = [&](u16 cs) {
        frame(8, {user_rip, cs, rflags::fixed1, user_stack, user_data});
        return iretq();
    };
    expect_exception(with_cs(0), Vector::gp, 0);
    expect_exception(with_cs(3), Vector::gp, 0);
    expect_exception(with_cs(last_selector), Vector::gp, last_selector);
    expect_exception(with_cs(user_data), Vector::gp, user_data & ~3U);
    expect_exception(with_cs(tss_selector), Vector::gp, tss_selector);
    expect_exception(with_cs(user_code & ~3U), Vector::gp, user_code & ~3U); // DPL 3, RPL 0
    expect_exception(with_cs(kernel_code | 3), Vector::gp, kernel_code);
    set_gdt(spare, (d::code | d::l | d::flat_limit | d::dpl(3)) & ~d::p);
    expect_exception(with_cs(spare | 3), Vector::np, spare);
    set_gdt(spare, d::code | d::l | d::db | d::flat_limit | d::dpl(3));
    expect_exception(with_cs(spare | 3), Vector::gp, spare);
    set_gdt(spare, d::type(15) | d::s | d::p | d::l | d::flat_limit | d::dpl(2));
    expect_exception(with_cs(spare | 1), Vector::gp, spare); // conforming, DPL > RPL
    user64();
    expect_exception(with_cs(kernel_code), Vector::gp, kernel_code); // RPL < CPL
}

TEST_F(Iret, StackSegmentChecks) {
    const auto with_ss = [&](u16 ss, u16 cs = user_code) {
        frame(8, {user_rip, cs, rflags::fixed1, user_stack, ss});
        return iretq();
    };
    expect_exception(with_ss(0), Vector::gp, 0);
    expect_exception(with_ss(3), Vector::gp, 0);
    expect_exception(with_ss(0, user_code32), Vector::gp, 0);
    expect_exception(with_ss(0, kernel_code32), Vector::gp, 0);
    expect_exception(with_ss(1, kernel_code), Vector::gp, 0);
    expect_exception(with_ss(last_selector | 3), Vector::gp, last_selector);
    expect_exception(with_ss(user_data & ~3U), Vector::gp, user_data & ~3U);
    expect_exception(with_ss(kernel_data | 3), Vector::gp, kernel_data);
    expect_exception(with_ss(user_code), Vector::gp, user_code & ~3U);
    set_gdt(spare, d::type(1) | d::s | d::p | d::dpl(3)); // read-only
    expect_exception(with_ss(spare | 3), Vector::gp, spare);
    set_gdt(spare, (d::data | d::dpl(3)) & ~d::p);
    expect_exception(with_ss(spare | 3), Vector::ss, spare);
}

TEST_F(Iret, TargetChecks) {
    frame(8, {u64{1} << 47, user_code, rflags::fixed1, user_stack, user_data});
    expect_exception(iretq(), Vector::gp, 0);
    set_gdt(spare, d::code | d::db | d::limit(0xfff) | d::dpl(3));
    frame(8, {0x1000, spare | 3, rflags::fixed1, user_stack, user_data});
    expect_exception(iretq(), Vector::gp, 0);
    frame(8, {0xfff, spare | 3, rflags::fixed1, user_stack, user_data});
    EXPECT_EQ(iretq(), HelperResult::dispatch);
}

TEST_F(Iret, StackNotCanonicalOrAbsent) {
    state.gpr[rsp] = u64{1} << 47;
    expect_exception(iretq(), Vector::ss, 0);
    state.gpr[rsp] = (u64{1} << 47) - 16; // the range leaves the canonical half
    expect_exception(iretq(), Vector::ss, 0);
    state.gpr[rsp] = kernel_stack;
    memory.absent = {kernel_stack};
    expect_leave(iretq(), ExitReason::page_fault);
}

TEST_F(Iret, AccessedBitsOfBothSegmentsOrNone) {
    set_gdt(user_code, d::type(10) | d::s | d::p | d::l | d::flat_limit | d::dpl(3));
    set_gdt(spare, d::type(2) | d::s | d::p | d::db | d::flat_limit | d::dpl(3));
    frame(8, {user_rip, user_code, rflags::fixed1, user_stack, spare | 3});
    memory.read_only = {gdt};
    expect_leave(iretq(), ExitReason::page_fault);
    memory.read_only = {};
    EXPECT_EQ(iretq(), HelperResult::dispatch);
    EXPECT_EQ(get_gdt(user_code), d::code | d::l | d::flat_limit | d::dpl(3));
    EXPECT_EQ(get_gdt(spare), d::data | d::db | d::flat_limit | d::dpl(3));
}

} // namespace
} // namespace gnomon::processor::soft
