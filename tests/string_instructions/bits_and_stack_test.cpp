// SPDX-License-Identifier: Apache-2.0
#include "twin.h"

#include <Zydis/Zydis.h>

namespace gnomon::processor::soft {
namespace {

class BitsAndStack : public Twin {
protected:
    BitsAndStack() {
        insn.is_memory = true;
        insn.base = rdi;
    }
};

struct BitForm {
    u16 mnemonic;
    u8 opcode;
};
constexpr BitForm bit_forms[] = {{ZYDIS_MNEMONIC_BT, 0xa3},
                                 {ZYDIS_MNEMONIC_BTS, 0xab},
                                 {ZYDIS_MNEMONIC_BTR, 0xb3},
                                 {ZYDIS_MNEMONIC_BTC, 0xbb}};

TEST_F(BitsAndStack, BitTestsAgreeWithTheHost) {
    insn.reg = rcx;
    for (int round = 0; round < 2000; ++round) {
        const BitForm& form = bit_forms[random() % 4];
        insn.mnemonic = form.mnemonic;
        insn.opcode = form.opcode;
        insn.operand_size = static_cast<u8>(2U << (random() % 3));
        fill_memory(round % 2 == 0 ? 0x55 : 0xaa);
        for (u64 page = 0; page < twin_pages; ++page)
            memory.set_kind(page, random() % 3 == 0 ? PageKind::careful : PageKind::ram);
        gpr(rdi) = address(4, random() % 64) - 32;
        const auto bit = static_cast<i64>(random() % 100000) - 50000;
        // Bits of the register beyond the operand size do not count.
        gpr(rcx) = insn.operand_size == 8   ? static_cast<u64>(bit)
                   : insn.operand_size == 4 ? (random() << 32) | static_cast<u32>(bit)
                                            : (random() << 16) | static_cast<u16>(bit % 32768);
        flags() = rflags::fixed1 | (random() & rflags::arithmetic);
        const bool lock = form.opcode != 0xa3 && random() % 2 == 0;
        Code code;
        if (lock) code.push_back(0xf0);
        if (insn.operand_size == 2) code.push_back(0x66);
        if (insn.operand_size == 8) code.push_back(0x48);
        code.append({0x0f, form.opcode, 0x0f});
        HostRegisters native = host_registers();
        host.run(code, native);
        ASSERT_EQ(bit_test_memory(*cpu, insn), HelperResult::next);
        ASSERT_NO_FATAL_FAILURE(expect_same_memory());
        expect_same_registers(native, rflags::cf | rflags::zf);
        if (HasFailure()) return;
    }
}

TEST_F(BitsAndStack, BitTestFaultsOnTheWholeOperand) {
    insn.reg = rcx;
    insn.mnemonic = ZYDIS_MNEMONIC_BTS;
    insn.operand_size = 8;
    memory.set_kind(1, PageKind::absent);
    gpr(rdi) = address(0, page_size - 4);
    gpr(rcx) = 0; // in the first page, but the operand is not
    expect_exception(bit_test_memory(*cpu, insn), Vector::pf);
    EXPECT_EQ(memory.fault_address, address(1));
    EXPECT_EQ(load<u8>(0, page_size - 4), 0);
    memory.set_kind(0, PageKind::read_only);
    gpr(rdi) = address(0);
    expect_exception(bit_test_memory(*cpu, insn), Vector::pf);
    EXPECT_EQ(cpu->pending.error_code, 0U); // as expect_exception left it
    insn.mnemonic = ZYDIS_MNEMONIC_BT;
    EXPECT_EQ(bit_test_memory(*cpu, insn), HelperResult::next);
}

TEST_F(BitsAndStack, BitTestReadsMmioOnlyOnceItMayWrite) {
    insn.reg = rcx;
    insn.mnemonic = ZYDIS_MNEMONIC_BTS;
    memory.set_kind(0, PageKind::mmio);
    gpr(rdi) = address(0);
    gpr(rcx) = 33;
    ASSERT_EQ(bit_test_memory(*cpu, insn), HelperResult::fault);
    EXPECT_EQ(memory.mmio_reads, 1U);
    EXPECT_TRUE(memory.mmio_writes.empty());
    cpu->cb.io_data = 0x100;
    cpu->cb.io_data_valid = true;
    ASSERT_EQ(bit_test_memory(*cpu, insn), HelperResult::next);
    ASSERT_EQ(memory.mmio_writes.size(), 1U);
    EXPECT_EQ(memory.mmio_writes[0].gva, address(0, 4));
    EXPECT_EQ(memory.mmio_writes[0].data, 0x102U);
}

TEST_F(BitsAndStack, BitTestWithAnImmediateStaysInTheOperand) {
    insn.reg = 5; // the opcode extension
    insn.opcode = 0xba;
    insn.mnemonic = ZYDIS_MNEMONIC_BTS;
    insn.immediate = 0xffffffffffffffc1; // bit 1 of 32
    gpr(rdi) = address(0);
    EXPECT_EQ(bit_test_memory(*cpu, insn), HelperResult::next);
    EXPECT_EQ(load<u64>(0), 2U);
}

TEST_F(BitsAndStack, EnterAgreesWithTheHost) {
    for (int round = 0; round < 500; ++round) {
        insn.operand_size = random() % 2 == 0 ? 8 : 2;
        insn.immediate = random() % 64;
        insn.immediate2 = random() % 2 == 0 ? random() % 40 : random() % 3; // taken modulo 32
        fill_memory();
        memory.set_all(random() % 2 == 0 ? PageKind::careful : PageKind::ram);
        gpr(rsp) = address(4, random() % 64);
        // The old frame anywhere, often overlapping the new one.
        gpr(rbp) = gpr(rsp) + random() % 600 - 300;
        HostRegisters native = host_registers();
        native.gpr[r8] = gpr(rsp);
        native.gpr[r9] = gpr(rbp);
        Code code = {0x49, 0x87, 0xe0,  // xchg rsp, r8
                     0x49, 0x87, 0xe9}; // xchg rbp, r9
        if (insn.operand_size == 2) code.push_back(0x66);
        code.append({0xc8, static_cast<u8>(insn.immediate), 0, static_cast<u8>(insn.immediate2)});
        code.append({0x49, 0x87, 0xe0, 0x49, 0x87, 0xe9});
        host.run(code, native);
        ASSERT_EQ(enter(*cpu, insn), HelperResult::next);
        EXPECT_EQ(gpr(rsp), native.gpr[r8]);
        EXPECT_EQ(gpr(rbp), native.gpr[r9]);
        ASSERT_NO_FATAL_FAILURE(expect_same_memory());
        if (HasFailure()) return;
    }
}

TEST_F(BitsAndStack, EnterFaultChangesNothing) {
    insn.operand_size = 8;
    insn.immediate = 16;
    insn.immediate2 = 4;
    fill_memory(0x33);
    gpr(rsp) = address(4, 8);
    gpr(rbp) = address(5, 8);
    memory.set_kind(3, PageKind::read_only);
    expect_exception(enter(*cpu, insn), Vector::pf);
    memory.set_kind(3, PageKind::ram);
    memory.set_kind(4, PageKind::ram);
    gpr(rsp) = address(3, 1024);
    memory.set_kind(4, PageKind::absent); // the outer frame pointers
    expect_exception(enter(*cpu, insn), Vector::pf);
    expect_same_memory();
    EXPECT_EQ(gpr(rsp), address(3, 1024));
    EXPECT_EQ(gpr(rbp), address(5, 8));
    // The write at the final stack pointer is checked, too.
    memory.set_kind(4, PageKind::ram);
    memory.set_kind(2, PageKind::absent);
    insn.immediate = 2048;
    expect_exception(enter(*cpu, insn), Vector::pf);
    expect_same_memory();
}

TEST_F(BitsAndStack, PushaAndPopaAreInverse) {
    expect_exception(pusha(*cpu, insn), Vector::ud);
    expect_exception(popa(*cpu, insn), Vector::ud);
    enter_compatibility_mode();
    insn.stack_size = 4;
    for (const u8 size : {u8{2}, u8{4}}) {
        fill_memory(0);
        insn.operand_size = size;
        for (const Gpr r : {rax, rcx, rdx, rbx, rbp, rsi, rdi})
            gpr(r) = random() & 0xffffffff;
        gpr(rsp) = address(1, 12);
        const u64 before = gpr(rsp);
        const HostRegisters saved = host_registers();
        ASSERT_EQ(pusha(*cpu, insn), HelperResult::next);
        EXPECT_EQ(gpr(rsp), before - 8U * size);
        for (unsigned i = 0; i < 8; ++i) { // EAX highest, EDI lowest
            u64 value = 0;
            std::memcpy(&value, memory.frame(0) + (before - area.address()) - (i + 1) * size, size);
            EXPECT_EQ(value, saved.gpr[i] & (size == 2 ? 0xffff : 0xffffffff)) << i;
        }
        for (const Gpr r : {rax, rcx, rdx, rbx, rbp, rsi, rdi})
            gpr(r) = 0xcccc0000;
        memory.set_kind(1, PageKind::absent);
        expect_exception(popa(*cpu, insn), Vector::pf);
        EXPECT_EQ(gpr(rdi), 0xcccc0000U);
        memory.set_kind(1, PageKind::ram);
        ASSERT_EQ(popa(*cpu, insn), HelperResult::next);
        EXPECT_EQ(gpr(rsp), before);
        for (const Gpr r : {rax, rcx, rdx, rbx, rbp, rsi, rdi})
            EXPECT_EQ(gpr(r), size == 4 ? saved.gpr[r] : 0xcccc0000U | (saved.gpr[r] & 0xffff))
                << r;
        memory.set_kind(0, PageKind::read_only);
        expect_exception(pusha(*cpu, insn), Vector::pf);
        EXPECT_EQ(gpr(rsp), before);
        memory.set_kind(0, PageKind::ram);
    }
}

TEST_F(BitsAndStack, BoundIsSignedAndInclusive) {
    expect_exception(bound(*cpu, insn), Vector::ud);
    enter_compatibility_mode();
    insn.address_size = 4;
    insn.reg = rax;
    gpr(rdi) = address(0);
    for (const u8 size : {u8{2}, u8{4}}) {
        insn.operand_size = size;
        const auto lower = static_cast<u32>(-5);
        std::memcpy(memory.frame(0), &lower, size);
        const u32 upper = 7;
        std::memcpy(memory.frame(0) + size, &upper, size);
        for (const i32 index : {-5, 0, 7}) {
            gpr(rax) = static_cast<u32>(index);
            EXPECT_EQ(bound(*cpu, insn), HelperResult::next) << index;
        }
        for (const i32 index : {-6, 8}) {
            gpr(rax) = static_cast<u32>(index);
            expect_exception(bound(*cpu, insn), Vector::br);
        }
    }
    insn.is_memory = false;
    expect_exception(bound(*cpu, insn), Vector::ud);
}

TEST_F(BitsAndStack, IntoTrapsOnOverflow) {
    expect_exception(into(*cpu, insn), Vector::ud);
    enter_compatibility_mode();
    EXPECT_EQ(into(*cpu, insn), HelperResult::next);
    flags() |= rflags::of;
    // The trap goes through the IDT, which has no gate 4 here: #GP with the IDT bit.
    EXPECT_EQ(into(*cpu, insn), HelperResult::fault);
    EXPECT_EQ(cpu->pending.vector, Vector::gp);
    EXPECT_EQ(cpu->pending.error_code, 4u * 8 + 2);
}

TEST_F(BitsAndStack, XlatAgreesWithTheHost) {
    fill_memory();
    for (int round = 0; round < 50; ++round) {
        gpr(rbx) = address(0, random() % page_size);
        gpr(rax) = random();
        HostRegisters native = host_registers();
        host.run({0xd7}, native);
        ASSERT_EQ(xlat(*cpu, insn), HelperResult::next);
        expect_same_registers(native);
    }
    insn.address_size = 4;
    gpr(rbx) = address(0, 5) | 0x1234500000000;
    gpr(rax) = 3;
    ASSERT_EQ(xlat(*cpu, insn), HelperResult::next);
    EXPECT_EQ(gpr(rax), load<u8>(0, 8));
    insn.address_size = 8;
    expect_exception(xlat(*cpu, insn), Vector::pf);
}

/// Every AL and both flags that take part, on the host's own compatibility mode.
TEST_F(BitsAndStack, DecimalAdjustmentsAgreeWithTheHost) {
    const struct {
        u16 mnemonic;
        Code code;
        u64 flags;
    } cases[] = {
        {ZYDIS_MNEMONIC_AAA, {0x37}, rflags::cf | rflags::af},
        {ZYDIS_MNEMONIC_AAS, {0x3f}, rflags::cf | rflags::af},
        {ZYDIS_MNEMONIC_DAA, {0x27}, rflags::arithmetic & ~rflags::of},
        {ZYDIS_MNEMONIC_DAS, {0x2f}, rflags::arithmetic & ~rflags::of},
        {ZYDIS_MNEMONIC_AAM, {0xd4, 10}, rflags::sf | rflags::zf | rflags::pf},
        {ZYDIS_MNEMONIC_AAM, {0xd4, 7}, rflags::sf | rflags::zf | rflags::pf},
        {ZYDIS_MNEMONIC_AAD, {0xd5, 10}, rflags::sf | rflags::zf | rflags::pf},
        {ZYDIS_MNEMONIC_AAD, {0xd5, 99}, rflags::sf | rflags::zf | rflags::pf},
        {ZYDIS_MNEMONIC_SALC, {0xd6}, rflags::arithmetic},
    };
    insn.operand_size = 1;
    for (const auto& c : cases) {
        insn.mnemonic = c.mnemonic;
        expect_exception((c.mnemonic == ZYDIS_MNEMONIC_SALC ? salc : bcd_adjust)(*cpu, insn),
                         Vector::ud);
    }
    if (!HostCpu::has_compatibility_mode())
        GTEST_SKIP() << "this host has no 32-bit user code segment to compare with";
    enter_compatibility_mode();
    for (const auto& c : cases)
        for (u64 ax = 0; ax < 0x10000; ax += ax % 256 == 255 ? 0x1601 : 1)
            for (const u64 set : {u64{0}, rflags::cf, rflags::af, rflags::cf | rflags::af}) {
                insn.mnemonic = c.mnemonic;
                insn.immediate = c.code.size() == 2 ? c.code[1] : 0;
                gpr(rax) = 0xabcd0000 | ax;
                flags() = rflags::fixed1 | set;
                HostRegisters native = host_registers();
                host.run_compatibility(c.code, native);
                const Helper helper = c.mnemonic == ZYDIS_MNEMONIC_SALC ? salc : bcd_adjust;
                ASSERT_EQ(helper(*cpu, insn), HelperResult::next);
                ASSERT_EQ(gpr(rax), native.gpr[rax] & 0xffffffff)
                    << std::hex << "opcode " << unsigned{c.code[0]} << " ax " << ax << " flags "
                    << set;
                ASSERT_EQ(flags() & c.flags, native.rflags & c.flags)
                    << std::hex << "opcode " << unsigned{c.code[0]} << " ax " << ax << " flags "
                    << set;
            }
}

TEST_F(BitsAndStack, AamByZeroIsADivideError) {
    enter_compatibility_mode();
    insn.mnemonic = ZYDIS_MNEMONIC_AAM;
    insn.immediate = 0;
    gpr(rax) = 0x1234;
    expect_exception(bcd_adjust(*cpu, insn), Vector::de);
    EXPECT_EQ(gpr(rax), 0x1234U);
}

} // namespace
} // namespace gnomon::processor::soft
