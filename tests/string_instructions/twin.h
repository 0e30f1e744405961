// SPDX-License-Identifier: Apache-2.0
/// @file A helper's processor and the host side by side: the same bytes at the same addresses below
/// 4 GiB, so that registers can be compared as they are.
#pragma once

#include "flat_memory.h"
#include "host_cpu.h"
#include "processor/soft/helpers.h"

#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <random>

namespace gnomon::processor::soft {

inline constexpr u64 twin_pages = 8;

class Twin : public testing::Test {
protected:
    Twin() {
        RegisterBlock& state = cpu->cb.state;
        state.efer = efer::lme | efer::lma;
        state.segment[seg_cs].rights = Segment::l;
        state.cr0 = cr0::pe | cr0::et | cr0::ne | cr0::pg;
        state.cr4 = cr4::osfxsr | cr4::osxsave;
        state.xcr0 = xcr0::x87 | xcr0::sse | xcr0::avx;
        state.rip = 0x1234;
        const u32 mxcsr = 0x1f80;
        std::memcpy(state.extended.legacy + ExtendedState::mxcsr, &mxcsr, sizeof mxcsr);
    }

    void enter_compatibility_mode() {
        cpu->cb.state.segment[seg_cs].rights = Segment::db;
        for (const SegmentName name : {seg_es, seg_ss, seg_ds, seg_fs, seg_gs}) {
            Segment& segment = cpu->cb.state.segment[name];
            segment.rights = 3 | Segment::s | Segment::present | Segment::db | Segment::g;
            segment.limit = 0xffffffff;
        }
        insn.code64 = false;
    }

    /// The same random bytes on both sides.
    void fill_memory() {
        for (u64 i = 0; i < area.size(); ++i)
            area.data()[i] = *(memory.frame(0) + i) = static_cast<std::byte>(random());
    }
    void fill_memory(u8 value) {
        std::memset(area.data(), value, area.size());
        std::memset(memory.frame(0), value, memory.size());
    }
    void expect_same_memory() {
        if (std::memcmp(memory.frame(0), area.data(), area.size()) == 0) return;
        for (u64 i = 0; i < area.size(); ++i)
            ASSERT_EQ(memory.frame(0)[i], area.data()[i]) << "offset " << i;
    }
    [[nodiscard]] u64 address(u64 page, u64 offset = 0) const {
        return area.address() + page * page_size + offset;
    }
    template <class T>
    [[nodiscard]] T load(u64 page, u64 offset = 0) {
        T value;
        std::memcpy(&value, memory.frame(page) + offset, sizeof value);
        return value;
    }
    template <class T>
    void store(u64 page, u64 offset, T value) {
        std::memcpy(memory.frame(page) + offset, &value, sizeof value);
        std::memcpy(area.data() + page * page_size + offset, &value, sizeof value);
    }

    u64& gpr(Gpr r) { return cpu->cb.state.gpr[r]; }
    u64& flags() { return cpu->cb.state.rflags; }

    /// The host's registers, as the helper's processor has them now.
    HostRegisters host_registers() {
        HostRegisters registers;
        std::memcpy(registers.gpr, cpu->cb.state.gpr, sizeof registers.gpr);
        registers.rflags = flags();
        return registers;
    }
    void expect_same_registers(const HostRegisters& expected, u64 flag_mask = rflags::arithmetic) {
        for (const Gpr r : {rax, rcx, rdx, rbx, rsi, rdi, r8, r9, r11})
            EXPECT_EQ(gpr(r), expected.gpr[r]) << "register " << r;
        EXPECT_EQ(flags() & flag_mask, expected.rflags & flag_mask);
    }
    void expect_exception(HelperResult result, Vector vector) {
        ASSERT_EQ(result, HelperResult::fault);
        EXPECT_EQ(cpu->pending.kind, Pending::Kind::exception);
        EXPECT_EQ(cpu->pending.vector, vector);
        cpu->pending = {};
    }

    LowMemory area{twin_pages};
    FlatMemory memory{area.address(), twin_pages};
    std::unique_ptr<FlatCpu> cpu = std::make_unique<FlatCpu>(memory);
    HostCpu host;
    Instruction insn = [] {
        Instruction i;
        i.length = 3;
        i.operand_size = 4;
        i.address_size = 8;
        i.stack_size = 8;
        i.code64 = true;
        return i;
    }();
    std::mt19937_64 random{20240229};
};

} // namespace gnomon::processor::soft
