// SPDX-License-Identifier: Apache-2.0
// Control, debug and extended control registers, and what invalidates caches (SDM vol. 3A
// section 2.5, chapter 17; vol. 1 chapter 13). Writes of CR0, CR3 and CR4 are checked here and
// applied by the monitor.
#include "processor/soft/cpuid.h"
#include "processor/soft/helpers.h"
#include "processor/soft/operands.h"

#include "base/guest_memory.h"

namespace gnomon::processor::soft {

namespace {

constexpr u64 dr6_writable = 0xe00f, dr6_fixed1 = 0xffff0ff0, dr6_bd = 1 << 13;
constexpr u64 dr7_writable = 0xffff23ff, dr7_fixed1 = 0x400, dr7_gd = 1 << 13;

u64 operand_width(const Cpu& cpu) { return cpu.cb.state.code64() ? 8 : 4; }

HelperResult leave_for_control_register(Cpu& cpu, const Instruction& insn, u32 index, u64 value) {
    const HelperResult result = cpu.leave(ExitReason::control_register, insn);
    cpu.exit.index = index;
    cpu.exit.value = value;
    return result;
}

// Each returns whether the new value is one that the processor takes; otherwise #GP(0).

bool cr0_allowed(const Cpu& cpu, u64 value) {
    const RegisterBlock& state = cpu.cb.state;
    if ((value >> 32) != 0) return false;
    if ((value & cr0::pg) != 0 && (value & cr0::pe) == 0) return false;
    if ((value & cr0::nw) != 0 && (value & cr0::cd) == 0) return false;
    const bool was_paging = (state.cr0 & cr0::pg) != 0;
    const bool paging = (value & cr0::pg) != 0;
    if (!was_paging && paging && (state.efer & efer::lme) != 0) {
        // Entering IA-32e mode (SDM vol. 3A section 9.8.5): with PAE, from code and a task that are
        // not 64-bit or 16-bit.
        const bool tss16 = state.tr.type() == 1 || state.tr.type() == 3;
        if ((state.cr4 & cr4::pae) == 0 || state.segment[seg_cs].has(Segment::l) || tss16)
            return false;
    }
    return !was_paging || paging || (!state.code64() && (state.cr4 & cr4::pcide) == 0);
}

bool cr3_allowed(const Cpu& cpu, u64 value) {
    constexpr u64 keep_translations = u64{1} << 63;
    const RegisterBlock& state = cpu.cb.state;
    if ((state.cr4 & cr4::pcide) != 0) value &= ~keep_translations;
    return (value >> guest_physical_bits) == 0;
}

u64 shown_cr4_bits(const ControlBlock& cb) {
    struct {
        CpuidFeature feature;
        u64 bits;
    } static constexpr table[] = {
        {cpuid_feature::vme, cr4::vme | cr4::pvi},
        {cpuid_feature::tsc, cr4::tsd},
        {cpuid_feature::de, cr4::de},
        {cpuid_feature::pse, cr4::pse},
        {cpuid_feature::pae, cr4::pae},
        {cpuid_feature::mce, cr4::mce},
        {cpuid_feature::pge, cr4::pge},
        {cpuid_feature::fxsr, cr4::osfxsr},
        {cpuid_feature::sse, cr4::osxmmexcpt},
        {cpuid_feature::umip, cr4::umip},
        {cpuid_feature::fsgsbase, cr4::fsgsbase},
        {cpuid_feature::pcid, cr4::pcide},
        {cpuid_feature::xsave, cr4::osxsave},
        {cpuid_feature::smep, cr4::smep},
        {cpuid_feature::smap, cr4::smap},
    };
    u64 bits = cr4::pce;
    for (const auto& row : table)
        if (shows_feature(cb, row.feature)) bits |= row.bits;
    return bits;
}

bool cr4_allowed(const Cpu& cpu, u64 value) {
    const RegisterBlock& state = cpu.cb.state;
    if ((value & ~shown_cr4_bits(cpu.cb)) != 0) return false;
    if (state.long_mode() && (value & cr4::pae) == 0) return false;
    const u64 rising = value & ~state.cr4;
    return (rising & cr4::pcide) == 0 || (state.long_mode() && (state.cr3 & 0xfff) == 0);
}

/// The debug register that an encoding names: DR4 and DR5 are DR6 and DR7 unless CR4.DE. -1: #UD.
int debug_register(const Cpu& cpu, unsigned reg) {
    if (reg > 7) return -1;
    if (reg != 4 && reg != 5) return static_cast<int>(reg);
    return (cpu.cb.state.cr4 & cr4::de) != 0 ? -1 : static_cast<int>(reg) + 2;
}

/// Checks common to MOV to and from a debug register; `next`: none stands in the way.
HelperResult check_debug_access(Cpu& cpu, int index) {
    if (index < 0) return cpu.raise(Vector::ud);
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    if ((cpu.cb.state.dr[7] & dr7_gd) == 0) return HelperResult::next;
    const HelperResult result = cpu.raise(Vector::db);
    cpu.pending.dr6 = dr6_bd;
    return result;
}

} // namespace

HelperResult mov_from_control(Cpu& cpu, const Instruction& insn) {
    const RegisterBlock& state = cpu.cb.state;
    u64 value = 0;
    switch (insn.reg) {
    case 0: value = state.cr0; break;
    case 2: value = state.cr2; break;
    case 3: value = state.cr3; break;
    case 4: value = state.cr4; break;
    case 8: value = state.cr8; break;
    default: return cpu.raise(Vector::ud);
    }
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    const unsigned width = static_cast<unsigned>(operand_width(cpu));
    cpu.set_gpr(insn.rm, width, value);
    return HelperResult::next;
}

HelperResult mov_to_control(Cpu& cpu, const Instruction& insn) {
    const unsigned index = insn.reg;
    if (index != 0 && index != 2 && index != 3 && index != 4 && index != 8)
        return cpu.raise(Vector::ud);
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    u64 value = cpu.gpr(insn.rm, static_cast<unsigned>(operand_width(cpu)));
    bool allowed = true;
    switch (index) {
    case 0: {
        allowed = cr0_allowed(cpu, value);
        // Reserved bits of the lower half are ignored; ET is fixed.
        constexpr u64 writable = cr0::pe | cr0::mp | cr0::em | cr0::ts | cr0::ne | cr0::wp |
                                 cr0::am | cr0::nw | cr0::cd | cr0::pg;
        value = (value & writable) | cr0::et;
        break;
    }
    case 2: cpu.cb.state.cr2 = value; return HelperResult::next;
    case 3: allowed = cr3_allowed(cpu, value); break;
    case 4: allowed = cr4_allowed(cpu, value); break;
    default: allowed = value <= 15; break;
    }
    if (!allowed) return cpu.raise(Vector::gp, 0);
    return leave_for_control_register(cpu, insn, index, value);
}

HelperResult mov_from_debug(Cpu& cpu, const Instruction& insn) {
    const int index = debug_register(cpu, insn.reg);
    const HelperResult checked = check_debug_access(cpu, index);
    if (checked != HelperResult::next) return checked;
    cpu.set_gpr(insn.rm, static_cast<unsigned>(operand_width(cpu)), cpu.cb.state.dr[index]);
    return HelperResult::next;
}

HelperResult mov_to_debug(Cpu& cpu, const Instruction& insn) {
    const int index = debug_register(cpu, insn.reg);
    const HelperResult checked = check_debug_access(cpu, index);
    if (checked != HelperResult::next) return checked;
    u64 value = cpu.gpr(insn.rm, static_cast<unsigned>(operand_width(cpu)));
    if (index >= 6) {
        if ((value >> 32) != 0) return cpu.raise(Vector::gp, 0);
        value =
            index == 6 ? (value & dr6_writable) | dr6_fixed1 : (value & dr7_writable) | dr7_fixed1;
    }
    cpu.cb.state.dr[index] = value;
    // Breakpoints change what code is translated to.
    cpu.cb.state.rip = cpu.next_rip(insn);
    return HelperResult::dispatch;
}

HelperResult clts(Cpu& cpu, const Instruction& insn) {
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    const u64 old = cpu.cb.state.cr0;
    if ((old & cr0::ts) == 0) return HelperResult::next;
    return leave_for_control_register(cpu, insn, 0, old & ~cr0::ts);
}

HelperResult lmsw(Cpu& cpu, const Instruction& insn) {
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    u16 word = 0;
    if (!read_rm16(cpu, insn, word)) return HelperResult::fault;
    // PE can be set, not cleared.
    constexpr u64 replaced = cr0::mp | cr0::em | cr0::ts;
    const u64 value = (cpu.cb.state.cr0 & ~replaced) | (word & (replaced | cr0::pe));
    return leave_for_control_register(cpu, insn, 0, value);
}

HelperResult smsw(Cpu& cpu, const Instruction& insn) {
    const RegisterBlock& state = cpu.cb.state;
    if ((state.cr4 & cr4::umip) != 0 && cpu.cpl() > 0) return cpu.raise(Vector::gp, 0);
    return store_system_register(cpu, insn, state.cr0) ? HelperResult::next : HelperResult::fault;
}

HelperResult invlpg(Cpu& cpu, const Instruction& insn) {
    if (!insn.is_memory) return cpu.raise(Vector::ud);
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    const Gva gva = cpu.effective_address(insn);
    if (!Cpu::canonical(gva.value())) return HelperResult::next; // a no-operation in 64-bit mode
    const HelperResult result = cpu.leave(ExitReason::invlpg, insn);
    cpu.exit.gva = gva;
    return result;
}

HelperResult invpcid(Cpu& cpu, const Instruction& insn) {
    if (!insn.is_memory || !shows_feature(cpu.cb, cpuid_feature::invpcid))
        return cpu.raise(Vector::ud);
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    enum : u64 { one_address, one_context, all_with_global, all };
    const u64 type = cpu.gpr(insn.reg, static_cast<unsigned>(operand_width(cpu)));
    if (type > all) return cpu.raise(Vector::gp, 0);
    u64 descriptor[2] = {};
    if (!read_operand(cpu, insn, descriptor, sizeof descriptor)) return HelperResult::fault;
    const u64 pcid = descriptor[0];
    const bool names_context = type == one_address || type == one_context;
    const bool pcide = (cpu.cb.state.cr4 & cr4::pcide) != 0;
    if (pcid > 0xfff || (names_context && !pcide && pcid != 0) ||
        (type == one_address && !Cpu::canonical(descriptor[1])))
        return cpu.raise(Vector::gp, 0);
    const HelperResult result = cpu.leave(ExitReason::invpcid, insn);
    cpu.exit.index = static_cast<u32>(type);
    cpu.exit.value = pcid;
    cpu.exit.gva = Gva(descriptor[1]);
    return result;
}

HelperResult xsetbv(Cpu& cpu, const Instruction& insn) {
    RegisterBlock& state = cpu.cb.state;
    if ((state.cr4 & cr4::osxsave) == 0) return cpu.raise(Vector::ud);
    const u64 value = (state.gpr[rdx] << 32) | (state.gpr[rax] & 0xffffffff);
    const bool avx_alone = (value & xcr0::avx) != 0 && (value & xcr0::sse) == 0;
    const u64 avx512 = value & xcr0::avx512;
    const bool avx512_in_part = avx512 != 0 && (avx512 != xcr0::avx512 || (value & xcr0::avx) == 0);
    if (cpu.cpl() != 0 || cpu.gpr(rcx, 4) != 0 || (value & xcr0::x87) == 0 || avx_alone ||
        avx512_in_part || (value & ~supported_xcr0(cpu.cb)) != 0)
        return cpu.raise(Vector::gp, 0);
    state.xcr0 = value;
    state.rip = cpu.next_rip(insn);
    return HelperResult::dispatch;
}

HelperResult xgetbv(Cpu& cpu, const Instruction&) {
    RegisterBlock& state = cpu.cb.state;
    if ((state.cr4 & cr4::osxsave) == 0) return cpu.raise(Vector::ud);
    const u64 index = cpu.gpr(rcx, 4);
    constexpr CpuidFeature xgetbv_ecx1{0xd, &CpuidLeaf::eax, 2}; // in subleaf 1
    const CpuidLeaf* leaf = index == 1 ? find_cpuid_leaf(cpu.cb, xgetbv_ecx1.leaf, 1) : nullptr;
    const bool shows_in_use = leaf != nullptr && ((leaf->eax >> xgetbv_ecx1.bit) & 1) != 0;
    if (index != 0 && !shows_in_use) return cpu.raise(Vector::gp, 0);
    // XCR1 (XINUSE): a component may always be reported as in use.
    cpu.set_gpr(rax, 4, state.xcr0 & 0xffffffff);
    cpu.set_gpr(rdx, 4, state.xcr0 >> 32);
    return HelperResult::next;
}

HelperResult wbinvd(Cpu& cpu, const Instruction& insn) {
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    return cpu.leave(ExitReason::wbinvd, insn);
}

} // namespace gnomon::processor::soft
