// SPDX-License-Identifier: Apache-2.0
/// @file SingleMaker: what memory and registers hold for an instruction to do something, and where
/// it transfers control to.
#include "single_maker.h"
#include "values.h"

#include <cstring>

namespace gnomon::test {

using processor::ExtendedState;
using processor::soft::Action;
using processor::soft::gpr_number;

namespace {

constexpr u64 stop_size = 16; ///< room that a stop wants, natively

/// What POPF and IRET must not set: natively single-stepping and alignment checks stop this
/// process.
constexpr u64 flags_kept_off =
    processor::rflags::tf | processor::rflags::ac | processor::rflags::nt;

} // namespace

void SingleMaker::put(u64 address, std::span<const u8> bytes) {
    if (address < layout::data_begin || address + bytes.size() > layout::data_end) return;
    m_program.memory.push_back({address, {bytes.begin(), bytes.end()}});
}

void SingleMaker::put_word(u64 address, u64 value, std::size_t size) {
    u8 bytes[8];
    std::memcpy(bytes, &value, 8);
    put(address, std::span<const u8>(bytes, size));
}

u64 SingleMaker::word_at(u64 address, std::size_t size) const {
    u8 bytes[8] = {};
    for (std::size_t i = 0; i < size; ++i)
        for (const Bytes& b : m_program.memory)
            if (address + i >= b.address && address + i < b.address + b.content.size())
                bytes[i] = b.content[address + i - b.address];
    u64 value;
    std::memcpy(&value, bytes, 8);
    return value;
}

/// A selector of any kind but that of the descriptor with the CPU's number.
u16 SingleMaker::choose_selector(bool may_be_null) {
    if (m_random.percent(60))
        return m_random.pick<u16>(
            {layout::user_ss, layout::user_cs, layout::user_cs32, 0x2a, 0x28});
    for (;;) {
        const u16 selector = m_random.percent(70) ? static_cast<u16>(m_random.below(0x90))
                                                  : static_cast<u16>(m_random.next());
        if (selector < 4 && !may_be_null) continue;
        const bool local =
            (selector & 4) != 0; // Linux gives programs no LDT, nor has the guest one
        if (local || selector / 8 != layout::cpu_number_index) return selector;
    }
}

/// Gives instructions that load or look at a selector one that names something.
void SingleMaker::prepare_selector() {
    const auto names_fs_gs = [](ZydisRegister r) {
        return r == ZYDIS_REGISTER_FS || r == ZYDIS_REGISTER_GS;
    };
    // A null selector in FS or GS clears the base with Intel, and leaves it with AMD.
    bool may_be_null = !is({ZYDIS_MNEMONIC_LFS, ZYDIS_MNEMONIC_LGS});
    bool loads = false;
    for (unsigned i = 0; i < z().operand_count_visible; ++i)
        if (operand(i).type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(operand(i).reg.value) == ZYDIS_REGCLASS_SEGMENT &&
            (operand(i).actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0) {
            loads = true;
            may_be_null = may_be_null && !names_fs_gs(operand(i).reg.value);
        }
    if (is({ZYDIS_MNEMONIC_POP}) && loads) {
        put_word(gpr(processor::rsp), choose_selector(may_be_null), 2);
        return;
    }
    if (is({ZYDIS_MNEMONIC_LDS, ZYDIS_MNEMONIC_LES, ZYDIS_MNEMONIC_LFS, ZYDIS_MNEMONIC_LGS,
            ZYDIS_MNEMONIC_LSS})) {
        put_word(m_target + z().operand_width / 8U, choose_selector(may_be_null), 2);
        return;
    }
    const bool looks =
        is({ZYDIS_MNEMONIC_LAR, ZYDIS_MNEMONIC_LSL, ZYDIS_MNEMONIC_VERR, ZYDIS_MNEMONIC_VERW});
    if (!looks && !loads) return;
    const ZydisDecodedOperand& source = operand(z().operand_count_visible > 1 ? 1 : 0);
    const u16 selector = choose_selector(may_be_null);
    if (source.type == ZYDIS_OPERAND_TYPE_MEMORY)
        put_word(m_target, selector, 2);
    else if (const u8 n = gpr_number(source.reg.value); n < 16)
        gpr(n) = (gpr(n) & ~u64{0xffff}) | selector;
}

/// Points transfers at a second stop.
bool SingleMaker::place_transfer() {
    const u64 next = m_sample.address + z().length;
    m_program.stops = {{next, m_program.code32}};
    const u64 taken = layout::code_begin + 0x20 + m_random.below(2 * page_size);
    switch (m_form.action) {
    case Action::jump_if:
    case Action::loop:
    case Action::call:
    case Action::ret:
    case Action::jump:
        if (z().meta.branch_type != ZYDIS_BRANCH_TYPE_FAR) return place_near(taken);
        return place_far(taken);
    default: break;
    }
    if (z().meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ||
        is({ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD, ZYDIS_MNEMONIC_IRETQ}))
        return place_far(taken);
    return true;
}

bool SingleMaker::place_near(u64 taken) {
    const u64 next = m_sample.address + z().length;
    const bool relative =
        operand(0).type == ZYDIS_OPERAND_TYPE_IMMEDIATE && m_form.action != Action::ret;
    if (relative && z().raw.imm[0].size == 8)
        taken = next + (m_random.percent(50) ? stop_size + m_random.below(100)
                                             : u64{0} - 48 - m_random.below(80));
    if (taken + stop_size > m_sample.address && taken < next + stop_size) return false;
    if (relative) {
        const auto& imm = z().raw.imm[0];
        const u64 relative_target = taken - next;
        std::memcpy(m_sample.bytes.data() + imm.offset, &relative_target, imm.size / 8U);
        if (!m_list.decode(m_sample)) return false;
    } else if (m_form.action == Action::ret) {
        put_word(gpr(processor::rsp), taken, 8);
    } else if (operand(0).type == ZYDIS_OPERAND_TYPE_MEMORY) {
        put_word(m_target, taken, operand(0).size / 8U);
    } else {
        gpr(gpr_number(operand(0).reg.value)) = taken;
    }
    // Targets of 16 bits are elsewhere: fetching there faults.
    m_program.stops.push_back({taken, m_program.code32});
    return true;
}

/// Far JMP, CALL and RET, and IRET: to 64-bit or 32-bit code, or where they fault.
bool SingleMaker::place_far(u64 taken) {
    const u64 next = m_sample.address + z().length;
    if (taken + stop_size > m_sample.address && taken < next + stop_size) return false;
    u16 selector = m_random.pick<u16>({layout::user_cs, layout::user_cs32});
    const bool to_code32 = selector == layout::user_cs32;
    if (m_random.percent(25)) selector = choose_selector(true);
    const std::size_t size = z().operand_width / 8U;
    // With 32 bits of the target's address in the new mode, or 16, fetching faults.
    m_program.stops.push_back({taken, to_code32});
    if (selector != layout::user_cs && selector != layout::user_cs32 && selector / 8 * 8 != 0x20 &&
        selector / 8 * 8 != 0x30) {
        // refused
    } else if ((selector / 8 * 8 == 0x20) != to_code32) {
        return false; // accepted, with another RPL: what lies there must be of its mode
    }
    if (operand(0).type == ZYDIS_OPERAND_TYPE_POINTER) {
        const auto& offset = z().raw.imm[0];
        const auto& segment = z().raw.imm[1];
        std::memcpy(m_sample.bytes.data() + offset.offset, &taken, offset.size / 8U);
        std::memcpy(m_sample.bytes.data() + segment.offset, &selector, sizeof selector);
        return m_list.decode(m_sample);
    }
    if (operand(0).type == ZYDIS_OPERAND_TYPE_MEMORY && explicit_memory(operand(0))) {
        put_word(m_target, taken, size);
        put_word(m_target + size, selector, 2);
        return true;
    }
    const u64 stack = gpr(processor::rsp);
    put_word(stack, taken, size);
    put_word(stack + size, selector, size);
    if (is({ZYDIS_MNEMONIC_RET})) {
        // Whether the stack after the return is looked at before the selector is up to the
        // processor: let it be where nothing faults.
        const bool refused = selector != layout::user_cs && selector != layout::user_cs32;
        if (refused && may_fault({stack + 2 * size, 2 * size})) return false;
        const auto& released = z().raw.imm[0];
        for (unsigned attempt = 0; attempt < 16 && released.size != 0; ++attempt) {
            const u64 bytes = m_random.below(0x10000);
            std::memcpy(m_sample.bytes.data() + released.offset, &bytes, 2);
            if (!may_fault({stack + 2 * size + bytes, size})) break;
        }
        return m_list.decode(m_sample);
    }
    const u64 flags = m_random.next() & ~(flags_kept_off | processor::rflags::vm);
    put_word(stack + 2 * size, flags, size);
    put_word(stack + 3 * size, layout::data_begin + m_random.below(layout::data_size), size);
    put_word(stack + 4 * size, m_random.percent(80) ? layout::user_ss : choose_selector(true),
             size);
    return true;
}

void SingleMaker::prepare_special() {
    switch (z().mnemonic) {
    case ZYDIS_MNEMONIC_CMPXCHG:
        if (m_random.percent(50)) {
            const u64 size = operand(0).size / 8U;
            gpr(processor::rax) = operand(0).type == ZYDIS_OPERAND_TYPE_MEMORY
                                      ? word_at(m_target, size)
                                      : gpr(gpr_number(operand(0).reg.value));
        }
        break;
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
        if (m_random.percent(50)) {
            const u64 half = operand(0).size / 16U;
            gpr(processor::rax) = word_at(m_target, half);
            gpr(processor::rdx) = word_at(m_target + half, half);
        }
        break;
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
        if (m_random.percent(85)) put_word(m_target, m_random.next() & 0xffff, 4);
        break;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ: { // no more bytes than it pops: others may lie behind the data area
        const u64 size = z().operand_width / 8U;
        put_word(gpr(processor::rsp), word_at(gpr(processor::rsp), size) & ~flags_kept_off, size);
        break;
    }
    case ZYDIS_MNEMONIC_BOUND:
        if (m_random.percent(70)) { // bounds that some numbers are within
            const u64 size = operand(0).size / 8U;
            put_word(m_target, 0 - m_random.below(0x4000), size);
            put_word(m_target + size, m_random.below(0x4000), size);
        }
        break;
    case ZYDIS_MNEMONIC_INT: {
        constexpr u8 linux_system_call = 0x80;
        u8& vector = m_sample.bytes[z().raw.imm[0].offset];
        if (m_random.percent(50)) vector = static_cast<u8>(m_random.below(32));
        if (vector == linux_system_call) vector = 0x81;
        (void)m_list.decode(m_sample);
        break;
    }
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
        if (m_random.percent(90)) {
            std::vector<u8> image(sizeof(ExtendedState));
            fill_extended_image(m_random, image);
            put(m_target, image);
        }
        break;
    default: prepare_selector(); break;
    }
    expect_x87_pointers();
}

/// What the architecture leaves open, of instructions that the software processor does itself:
/// others leave on both sides what the host's silicon does.
void SingleMaker::note_undefined() {
    using namespace processor::rflags;
    switch (z().mnemonic) {
    // SDM vol. 2A, each instruction's "Flags Affected".
    case ZYDIS_MNEMONIC_AAA:
    case ZYDIS_MNEMONIC_AAS: m_program.undefined_flags = of | sf | zf | pf; break;
    case ZYDIS_MNEMONIC_AAD:
    case ZYDIS_MNEMONIC_AAM: m_program.undefined_flags = of | af | cf; break;
    case ZYDIS_MNEMONIC_DAA:
    case ZYDIS_MNEMONIC_DAS: m_program.undefined_flags = of; break;
    // SDM vol. 2B, PUSH: of 32 bits either all are written, zero-extended, or the low half is.
    case ZYDIS_MNEMONIC_PUSH:
        if (pushes_wide_selector()) m_program.not_compared.push_back({gpr(processor::rsp) - 2, 2});
        break;
    // Which registers are loaded before the fault is up to the processor; not the stack pointer.
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
        m_program.undefined_registers_on_fault = 0xff & ~(1U << processor::rsp);
        break;
    default: break;
    }
}

/// The last-instruction pointers in memory images: guests see zeros, since what they would see is
/// where the translation lies.
void SingleMaker::expect_x87_pointers() {
    const auto expect = [this](Range range, bool written) {
        m_program.not_compared.push_back(range);
        if (written) m_program.guest_zeros.push_back(range);
    };
    switch (z().mnemonic) {
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
        if (z().operand_width == 16)
            expect({m_target + 6, 8}, true);
        else
            expect({m_target + 12, 14}, true);
        break;
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64: expect({m_target + 6, 18}, true); break;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
        expect({m_target + 6, 18}, (gpr(processor::rax) & processor::xcr0::x87) != 0);
        break;
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64: // these leave out what is in its initial state
        expect({m_target + 6, 18}, false);
        break;
    default: break;
    }
}

} // namespace gnomon::test
