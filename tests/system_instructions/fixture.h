// SPDX-License-Identifier: Apache-2.0
/// @file A processor in 64-bit kernel mode with a GDT, an LDT, an IDT and a TSS, and what its tests
/// ask for.
#pragma once

#include "fake_memory.h"
#include "processor/exceptions.h"
#include "processor/soft/events.h"
#include "processor/soft/helpers.h"

#include <Zydis/Mnemonic.h>
#include <cstring>
#include <gtest/gtest.h>
#include <initializer_list>
#include <memory>
#include <optional>

namespace gnomon::processor::soft {

// Bits of descriptors above the base and limit fields, at their place in the low quadword.
namespace d {
constexpr u64 type(u64 t) { return t << 40; }
constexpr u64 dpl(u64 level) { return level << 45; }
inline constexpr u64 s = u64{1} << 44, p = u64{1} << 47, l = u64{1} << 53, db = u64{1} << 54,
                     g = u64{1} << 55;
inline constexpr u64 flat_limit = 0xffff | (u64{0xf} << 48) | g;
inline constexpr u64 code = type(11) | s | p, data = type(3) | s | p;
constexpr u64 base(u64 b) { return ((b & 0xffffff) << 16) | (((b >> 24) & 0xff) << 56); }
constexpr u64 limit(u64 bytes) { return (bytes & 0xffff) | ((bytes & 0xf0000) << 32); }
} // namespace d

class SystemInstructions : public ::testing::Test {
protected:
    static constexpr u64 gdt = 0xfffffe0000001000, idt = 0xfffffe0000003000,
                         tss = 0xfffffe0000006000, ldt = 0xfffffe0000008000,
                         kernel_stack = 0xffffc90000010000, other_stack = 0xffffc90000020008,
                         ist_stack = 0xffffc90000030000, kernel_rip = 0xffffffff81000000,
                         handler_rip = 0xffffffff82001000, user_rip = 0x401000,
                         user_stack = 0x7ffdffff0008;
    // Selectors of the GDT below.
    static constexpr u16 kernel_code32 = 0x08, kernel_code = 0x10, kernel_data = 0x18,
                         user_code32 = 0x23, user_data = 0x2b, user_code = 0x33,
                         tss_selector = 0x40, ldt_selector = 0x50, gate_selector = 0x60,
                         conforming_code = 0x70, spare = 0x78, last_selector = 0x90;

    SystemInstructions()
        : m_cpu(std::make_unique<FakeCpu>()), memory(m_cpu->memory), cpu(*m_cpu),
          state(cpu.cb.state) {
        set_gdt(kernel_code32, d::code | d::db | d::flat_limit);
        set_gdt(kernel_code, d::code | d::l | d::flat_limit);
        set_gdt(kernel_data, d::data | d::db | d::flat_limit);
        set_gdt(user_code32, d::code | d::db | d::flat_limit | d::dpl(3));
        set_gdt(user_data, d::data | d::db | d::flat_limit | d::dpl(3));
        set_gdt(user_code, d::code | d::l | d::flat_limit | d::dpl(3));
        set_gdt(tss_selector, d::type(9) | d::p | d::base(tss) | d::limit(0x2067));
        memory.put<u64>(gdt + tss_selector + 8, tss >> 32);
        set_gdt(ldt_selector, d::type(2) | d::p | d::base(ldt) | d::limit(0x0f));
        memory.put<u64>(gdt + ldt_selector + 8, ldt >> 32);
        set_gdt(conforming_code, d::type(15) | d::s | d::p | d::l | d::flat_limit);
        memory.put<u64>(tss + 4, other_stack);
        memory.put<u64>(tss + 36, ist_stack);
        state.gdtr = {gdt, last_selector - 1, 0};
        state.idtr = {idt, 0xfff, 0};
        state.tr = {tss, 0x2067, 11 | Segment::present, tss_selector, {}};
        state.ldtr.rights = Segment::unusable;
        state.cr0 = cr0::pe | cr0::pg | cr0::et | cr0::wp | cr0::ne | cr0::mp;
        state.cr4 = cr4::pae;
        state.efer = efer::lme | efer::lma | efer::sce | efer::nxe;
        state.rflags = rflags::fixed1;
        run_in(kernel_code, kernel_data, kernel_rip, kernel_stack);
        table({{.leaf = 0, .eax = 0xd},
               {.leaf = 1, .ecx = (1U << 17) | (1U << 26), .edx = 0x178bfbff & ~(1U << 1)},
               {.leaf = 7,
                .has_subleaf = true,
                .ebx = (1U << 0) | (1U << 7) | (1U << 10) | (1U << 20),
                .ecx = (1U << 2) | (1U << 22)},
               {.leaf = 0xb, .has_subleaf = true, .eax = 1, .ebx = 1, .ecx = 0x100, .edx = 5},
               {.leaf = 0xd, .subleaf = 0, .has_subleaf = true, .eax = 7, .ebx = 1, .ecx = 832},
               {.leaf = 0xd, .subleaf = 1, .has_subleaf = true, .eax = 7, .ebx = 1},
               {.leaf = 0x40000000, .eax = 0x40000001, .ebx = 0x1234},
               {.leaf = 0x80000000, .eax = 0x80000008},
               {.leaf = 0x80000001, .edx = (1U << 11) | (1U << 20) | (1U << 27) | (1U << 29)},
               {.leaf = 0x80000008, .eax = 0x3028}});
    }

    void table(std::vector<CpuidLeaf> leaves) {
        m_leaves = std::move(leaves);
        cpu.cb.cpuid = m_leaves.data();
        cpu.cb.cpuid_count = static_cast<u32>(m_leaves.size());
    }
    CpuidLeaf& leaf(u32 index, u32 subleaf = 0) {
        for (CpuidLeaf& entry : m_leaves)
            if (entry.leaf == index && (!entry.has_subleaf || entry.subleaf == subleaf))
                return entry;
        ADD_FAILURE() << "no leaf " << index;
        return m_leaves.front();
    }

    void set_gdt(u16 selector, u64 raw) { memory.put<u64>(gdt + (selector & 0xfff8), raw); }
    u64 get_gdt(u16 selector) { return memory.get<u64>(gdt + (selector & 0xfff8)); }

    void set_gate(unsigned vector, u16 selector, u64 target, u64 type = 14, u64 dpl = 0,
                  u64 ist = 0, bool present = true) {
        const u64 low = (target & 0xffff) | (u64{selector} << 16) | (ist << 32) | d::type(type) |
                        d::dpl(dpl) | (present ? d::p : 0) | ((target & 0xffff0000) << 32);
        memory.put<u64>(idt + 16 * vector, low);
        memory.put<u64>(idt + 16 * vector + 8, target >> 32);
    }
    void set_call_gate(u16 selector, u64 target, u64 dpl, u64 type = 12, bool present = true) {
        set_gdt(gate_selector, (target & 0xffff) | (u64{selector} << 16) | d::type(type) |
                                   d::dpl(dpl) | (present ? d::p : 0) |
                                   ((target & 0xffff0000) << 32));
        memory.put<u64>(gdt + gate_selector + 8, target >> 32);
    }

    Segment segment_of(u16 selector) {
        const u64 raw = get_gdt(selector);
        u32 limit = static_cast<u32>(raw & 0xffff) | (static_cast<u32>(raw >> 32) & 0xf0000);
        if ((raw & d::g) != 0) limit = (limit << 12) | 0xfff;
        return {((raw >> 16) & 0xffffff) | ((raw >> 56) << 24),
                limit,
                static_cast<u32>(raw >> 40) & 0xf0ff,
                selector,
                {}};
    }
    void run_in(u16 code, u16 stack, u64 rip, u64 stack_pointer) {
        state.segment[seg_cs] = segment_of(code);
        state.segment[seg_ss] = segment_of(stack);
        for (const unsigned name : {seg_ds, seg_es})
            state.segment[name] = segment_of(stack);
        for (const unsigned name : {seg_fs, seg_gs}) {
            state.segment[name] = {};
            state.segment[name].rights = Segment::unusable;
        }
        state.rip = rip;
        state.gpr[rsp] = stack_pointer;
    }
    void user64() { run_in(user_code, user_data, user_rip, user_stack); }
    void user32() { run_in(user_code32, user_data, 0x8048000, 0xffff0000); }
    void kernel32() { run_in(kernel_code32, kernel_data, 0x100000, 0x90000); }

    static Instruction make(u8 length = 2, u8 operand_size = 8) {
        Instruction i;
        i.length = length;
        i.operand_size = operand_size;
        i.address_size = 8;
        i.stack_size = 8;
        return i;
    }
    static Instruction with_memory(u64 address, u8 operand_size = 8, u8 length = 4) {
        Instruction i = make(length, operand_size);
        i.is_memory = true;
        i.displacement = static_cast<i64>(address);
        return i;
    }
    static Instruction named(ZydisMnemonic mnemonic, Instruction i = make()) {
        i.mnemonic = static_cast<u16>(mnemonic);
        return i;
    }

    /// Runs a helper, remembering the state before.
    template <class F>
    HelperResult run(F&& body) {
        std::memcpy(m_before, &state, sizeof state);
        m_writes_before = memory.writes();
        cpu.pending = {};
        return body();
    }
    HelperResult run(Helper helper, const Instruction& insn) {
        return run([&] { return helper(cpu, insn); });
    }
    [[nodiscard]] bool unchanged() const {
        return std::memcmp(m_before, &state, sizeof state) == 0 &&
               memory.writes() == m_writes_before;
    }

    void expect_exception(HelperResult result, Vector vector,
                          std::optional<u32> error_code = std::nullopt) const {
        EXPECT_EQ(result, HelperResult::fault);
        EXPECT_EQ(cpu.pending.kind, Pending::Kind::exception);
        EXPECT_EQ(static_cast<unsigned>(cpu.pending.vector), static_cast<unsigned>(vector));
        EXPECT_EQ(cpu.pending.has_error_code, error_code.has_value());
        EXPECT_EQ(cpu.pending.error_code, error_code.value_or(0));
        EXPECT_TRUE(unchanged());
    }
    void expect_leave(HelperResult result, ExitReason reason) const {
        EXPECT_EQ(result, HelperResult::fault);
        EXPECT_EQ(cpu.pending.kind, Pending::Kind::exit);
        EXPECT_EQ(static_cast<unsigned>(cpu.exit.reason), static_cast<unsigned>(reason));
        EXPECT_TRUE(unchanged());
    }

private:
    std::unique_ptr<FakeCpu> m_cpu;
    std::vector<CpuidLeaf> m_leaves;
    unsigned char m_before[sizeof(RegisterBlock)] = {};
    unsigned m_writes_before = 0;

protected:
    FakeMemory& memory;
    Cpu& cpu;
    RegisterBlock& state;
};

} // namespace gnomon::processor::soft
