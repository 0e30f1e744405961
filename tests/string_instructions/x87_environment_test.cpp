// SPDX-License-Identifier: Apache-2.0
#include "extended_twin.h"

namespace gnomon::processor::soft {
namespace {

class X87Environment : public ExtendedTwin {
protected:
    [[nodiscard]] u64 fields() const { return insn.operand_size == 2 ? 2 : 4; }
    /// The same instruction on the host, which fills in pointers of its own: clear them.
    void run_host(u8 opcode, u8 modrm, HostRegisters& registers, bool stores) {
        Code code;
        if (insn.operand_size == 2) code.push_back(0x66);
        code.append({opcode, modrm});
        host.run(code, registers);
        if (!stores) return;
        std::byte* const image = area.data() + (gpr(rdi) - area.address());
        if (fields() == 2)
            std::memset(image + 6, 0, 8);
        else
            std::memset(image + 12, 0, 14);
    }
    /// Registers of every class: zero, denormal, normal, infinity, NaN, unnormal.
    void random_x87() {
        random_state();
        for (unsigned i = 0; i < 8; ++i) {
            const u64 significands[] = {0, 1, u64{1} << 63, random() | u64{1} << 63, random() >> 1};
            const u16 exponents[] = {0, 1, 0x3fff, 0x7fff, 0xffff, 0x8000};
            set_legacy<u64>(ExtendedState::st0 + 16 * i, significands[random() % 5]);
            set_legacy<u16>(ExtendedState::st0 + 16 * i + 8, exponents[random() % 6]);
        }
    }
};

TEST_F(X87Environment, FnstenvStoresWhatTheHostStores) {
    for (int round = 0; round < 400; ++round) {
        insn.operand_size = round % 2 == 0 ? 2 : 4;
        fill_memory(0xaa);
        random_x87();
        // Unmasked exceptions may be pending: FNSTENV does not wait.
        set_legacy<u16>(ExtendedState::fcw, static_cast<u16>(0x340 | (random() & 0x3f)));
        gpr(rdi) = address(0, page_size - 7);
        HostRegisters native = host_registers_with_state();
        // What the processor really holds, ES and B computed.
        host.run({}, native);
        state() = *native.extended;
        std::memset(state().legacy + ExtendedState::fop, 0, 18);
        run_host(0xd9, 0x37, native, true); // fnstenv [rdi]
        ASSERT_EQ(fnstenv(*cpu, insn), HelperResult::next);
        ASSERT_NO_FATAL_FAILURE(expect_same_memory());
        ASSERT_NO_FATAL_FAILURE(expect_same_state(native));
    }
}

TEST_F(X87Environment, FldenvLoadsWhatTheHostLoads) {
    for (int round = 0; round < 400; ++round) {
        insn.operand_size = round % 2 == 0 ? 2 : 4;
        fill_memory();
        random_x87();
        gpr(rdi) = address(0, page_size - 7);
        HostRegisters native = host_registers_with_state();
        run_host(0xd9, 0x27, native, false); // fldenv [rdi]
        ASSERT_EQ(fldenv(*cpu, insn), HelperResult::next);
        ASSERT_NO_FATAL_FAILURE(expect_same_state(native));
    }
}

TEST_F(X87Environment, FnsaveStoresWhatTheHostStoresAndInitialises) {
    for (int round = 0; round < 400; ++round) {
        insn.operand_size = round % 2 == 0 ? 2 : 4;
        fill_memory(0xaa);
        random_x87();
        gpr(rdi) = address(1, page_size - 50);
        HostRegisters native = host_registers_with_state();
        run_host(0xdd, 0x37, native, true); // fnsave [rdi]
        ASSERT_EQ(fnsave(*cpu, insn), HelperResult::next);
        ASSERT_NO_FATAL_FAILURE(expect_same_memory());
        ASSERT_NO_FATAL_FAILURE(expect_same_state(native));
    }
}

TEST_F(X87Environment, FrstorLoadsWhatTheHostLoads) {
    for (int round = 0; round < 400; ++round) {
        insn.operand_size = round % 2 == 0 ? 2 : 4;
        fill_memory();
        random_x87();
        gpr(rdi) = address(1, page_size - 50);
        HostRegisters native = host_registers_with_state();
        run_host(0xdd, 0x27, native, false); // frstor [rdi]
        ASSERT_EQ(frstor(*cpu, insn), HelperResult::next);
        ASSERT_NO_FATAL_FAILURE(expect_same_state(native));
    }
}

TEST_F(X87Environment, WaitingInstructionsReportAPendingException) {
    random_state();
    set_legacy<u16>(ExtendedState::fcw, 0x340);
    set_legacy<u16>(ExtendedState::fsw, 0x8081);
    gpr(rdi) = address(0);
    expect_exception(fldenv(*cpu, insn), Vector::mf);
    expect_exception(frstor(*cpu, insn), Vector::mf);
    EXPECT_EQ(fnstenv(*cpu, insn), HelperResult::next); // which masks them all
    EXPECT_EQ(fldenv(*cpu, insn), HelperResult::next);
}

TEST_F(X87Environment, DeviceNotAvailable) {
    random_state();
    for (const u64 bit : {cr0::em, cr0::ts}) {
        cpu->cb.state.cr0 |= bit;
        expect_exception(fnstenv(*cpu, insn), Vector::nm);
        expect_exception(fldenv(*cpu, insn), Vector::nm);
        expect_exception(fnsave(*cpu, insn), Vector::nm);
        expect_exception(frstor(*cpu, insn), Vector::nm);
        cpu->cb.state.cr0 &= ~bit;
    }
}

TEST_F(X87Environment, FaultChangesNothing) {
    random_state();
    const ExtendedState before = state();
    memory.set_kind(1, PageKind::absent);
    fill_memory(0xaa);
    gpr(rdi) = address(0, page_size - 20);
    for (const Helper helper : {fnstenv, fldenv, fnsave, frstor}) {
        expect_exception(helper(*cpu, insn), Vector::pf);
        EXPECT_EQ(memory.fault_address, address(1));
        EXPECT_EQ(std::memcmp(&before, &state(), sizeof before), 0);
    }
    expect_same_memory();
}

} // namespace
} // namespace gnomon::processor::soft
