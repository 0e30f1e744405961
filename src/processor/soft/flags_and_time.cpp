// SPDX-License-Identifier: Apache-2.0
// RFLAGS beyond arithmetic, HLT, CPUID, the time-stamp counter, and VMCALL.
#include "processor/soft/cpuid.h"
#include "processor/soft/helpers.h"
#include "processor/soft/operands.h"

#include <Zydis/Mnemonic.h>

namespace gnomon::processor::soft {

namespace {

unsigned iopl(const Cpu& cpu) { return (cpu.cb.state.rflags & rflags::iopl) >> 12; }

// Whether something waits for interrupts to be enabled.
bool window_wanted(const Cpu& cpu) {
    return cpu.cb.interrupt_window || __atomic_load_n(&cpu.poll, __ATOMIC_RELAXED) != 0;
}

HelperResult dispatch_after(Cpu& cpu, const Instruction& insn) {
    cpu.cb.state.rip = cpu.next_rip(insn);
    return HelperResult::dispatch;
}

// The instruction is complete, and so is a shadow that it stood in.
HelperResult exit_after(Cpu& cpu, const Instruction& insn, ExitReason reason) {
    cpu.cb.state.rip = cpu.next_rip(insn);
    cpu.cb.interrupt_shadow = false;
    cpu.exit = {};
    cpu.exit.reason = reason;
    cpu.exit.instruction_length = insn.length;
    return HelperResult::exit;
}

bool tsc_forbidden(const Cpu& cpu) { return (cpu.cb.state.cr4 & cr4::tsd) != 0 && cpu.cpl() > 0; }

void load_tsc(Cpu& cpu) {
    const u64 value = guest_tsc(cpu.cb);
    cpu.set_gpr(rax, 4, value);
    cpu.set_gpr(rdx, 4, value >> 32);
}

constexpr u32 extended_leaves = 0x80000000, hypervisor_leaves = 0x40000000;

/// Which leaf answers for `leaf` (SDM vol. 2A, CPUID): beyond the highest of its range, the highest
/// basic one does.
u32 answering_leaf(const ControlBlock& cb, u32 leaf) {
    const CpuidLeaf* first = find_cpuid_leaf(cb, 0);
    const u32 highest_basic = first != nullptr ? first->eax : 0;
    if (leaf <= highest_basic) return leaf;
    for (const u32 range : {extended_leaves, hypervisor_leaves}) {
        const CpuidLeaf* head = leaf >= range ? find_cpuid_leaf(cb, range) : nullptr;
        if (head != nullptr && leaf <= head->eax) return leaf;
    }
    return highest_basic;
}

/// The parts of leaves that follow other registers.
void apply_dynamic_bits(const Cpu& cpu, u32 leaf, u32 subleaf, CpuidLeaf& out) {
    const RegisterBlock& state = cpu.cb.state;
    constexpr u32 osxsave = 1U << 27, ospke = 1U << 4, syscall_bit = 1U << 11;
    switch (leaf) {
    case 1:
        out.ecx = (state.cr4 & cr4::osxsave) != 0 ? out.ecx | osxsave : out.ecx & ~osxsave;
        break;
    case 7:
        if (subleaf == 0) out.ecx &= ~ospke; // CR4.PKE cannot be set
        break;
    case 0xd:
        // Size of the XSAVE area for XCR0; with no supervisor components the compacted size is the
        // same.
        if (subleaf <= 1 && out.eax != 0)
            out.ebx = (state.xcr0 & xcr0::avx512) != 0 ? sizeof(ExtendedState)
                      : (state.xcr0 & xcr0::avx) != 0  ? offsetof(ExtendedState, opmask)
                                                       : offsetof(ExtendedState, ymm_high);
        break;
    case extended_leaves + 1:
        if (!state.code64())
            out.edx &= ~syscall_bit; // Intel's processors show it in 64-bit mode only
        break;
    default: break;
    }
}

} // namespace

HelperResult cli(Cpu& cpu, const Instruction&) {
    if (cpu.cpl() > iopl(cpu)) return cpu.raise(Vector::gp, 0);
    cpu.cb.state.rflags &= ~rflags::if_;
    return HelperResult::next;
}

HelperResult sti(Cpu& cpu, const Instruction& insn) {
    if (cpu.cpl() > iopl(cpu)) return cpu.raise(Vector::gp, 0);
    u64& flags = cpu.cb.state.rflags;
    if ((flags & rflags::if_) != 0) return HelperResult::next; // no shadow when IF was set
    flags |= rflags::if_;
    // With nothing waiting the shadow has nothing to hold off: the next instruction simply follows.
    if (!window_wanted(cpu)) return HelperResult::next;
    cpu.cb.interrupt_shadow = true;
    cpu.single_step_once = true;
    return dispatch_after(cpu, insn);
}

HelperResult pushf(Cpu& cpu, const Instruction& insn) {
    const unsigned size = stack_item_size(cpu, insn);
    const u64 items[] = {cpu.cb.state.rflags & ~(rflags::vm | rflags::rf)};
    if (!write_stack(cpu, size, items)) return HelperResult::fault;
    move_stack_pointer(cpu, -u64{size});
    return HelperResult::next;
}

HelperResult popf(Cpu& cpu, const Instruction& insn) {
    const unsigned size = stack_item_size(cpu, insn);
    u64 item[1] = {};
    if (!read_stack(cpu, 0, size, item)) return HelperResult::fault;
    u64 mask = rflags::arithmetic | rflags::tf | rflags::df | rflags::nt;
    if (size > 2) mask |= rflags::ac | rflags::id;
    if (cpu.cpl() <= iopl(cpu)) mask |= rflags::if_;
    if (cpu.cpl() == 0) mask |= rflags::iopl;
    u64& flags = cpu.cb.state.rflags;
    const u64 old = flags;
    flags = (old & ~(mask | rflags::rf)) | (item[0] & mask) | rflags::fixed1;
    move_stack_pointer(cpu, size);
    const u64 changed = old ^ flags;
    const bool opened = (changed & flags & rflags::if_) != 0;
    if ((changed & (rflags::tf | rflags::ac)) != 0 || (opened && window_wanted(cpu)))
        return dispatch_after(cpu, insn);
    return HelperResult::next;
}

HelperResult clac_stac(Cpu& cpu, const Instruction& insn) {
    // CR4.SMAP can only be set where the feature is shown: the usual case needs no look into the
    // table.
    const bool shown =
        (cpu.cb.state.cr4 & cr4::smap) != 0 || shows_feature(cpu.cb, cpuid_feature::smap);
    if (!shown || cpu.cpl() != 0) return cpu.raise(Vector::ud);
    u64& flags = cpu.cb.state.rflags;
    flags = insn.mnemonic == ZYDIS_MNEMONIC_STAC ? flags | rflags::ac : flags & ~rflags::ac;
    return dispatch_after(cpu, insn);
}

HelperResult cld_std(Cpu& cpu, const Instruction& insn) {
    u64& flags = cpu.cb.state.rflags;
    flags = insn.mnemonic == ZYDIS_MNEMONIC_STD ? flags | rflags::df : flags & ~rflags::df;
    return HelperResult::next;
}

HelperResult hlt(Cpu& cpu, const Instruction& insn) {
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    return exit_after(cpu, insn, ExitReason::halt);
}

HelperResult cpuid(Cpu& cpu, const Instruction&) {
    const u32 leaf = answering_leaf(cpu.cb, static_cast<u32>(cpu.gpr(rax, 4)));
    const u32 subleaf = static_cast<u32>(cpu.gpr(rcx, 4));
    CpuidLeaf out;
    if (const CpuidLeaf* entry = find_cpuid_leaf(cpu.cb, leaf, subleaf)) {
        out = *entry;
    } else if (const CpuidLeaf* topology = find_cpuid_leaf(cpu.cb, leaf, 0);
               topology != nullptr && (leaf == 0xb || leaf == 0x1f)) {
        // An invalid level of the topology leaves still shows its number and the x2APIC ID.
        out.ecx = subleaf & 0xff;
        out.edx = topology->edx;
    }
    apply_dynamic_bits(cpu, leaf, subleaf, out);
    cpu.set_gpr(rax, 4, out.eax);
    cpu.set_gpr(rbx, 4, out.ebx);
    cpu.set_gpr(rcx, 4, out.ecx);
    cpu.set_gpr(rdx, 4, out.edx);
    return HelperResult::next;
}

HelperResult rdtsc(Cpu& cpu, const Instruction&) {
    if (tsc_forbidden(cpu)) return cpu.raise(Vector::gp, 0);
    load_tsc(cpu);
    return HelperResult::next;
}

HelperResult rdtscp(Cpu& cpu, const Instruction&) {
    if (!shows_feature(cpu.cb, cpuid_feature::rdtscp)) return cpu.raise(Vector::ud);
    if (tsc_forbidden(cpu)) return cpu.raise(Vector::gp, 0);
    asm volatile("lfence" ::: "memory"); // waits until what precedes it has executed
    load_tsc(cpu);
    cpu.set_gpr(rcx, 4, cpu.cb.state.tsc_aux);
    return HelperResult::next;
}

HelperResult rdpid(Cpu& cpu, const Instruction& insn) {
    if (insn.is_memory || !shows_feature(cpu.cb, cpuid_feature::rdpid))
        return cpu.raise(Vector::ud);
    cpu.set_gpr(insn.rm, cpu.cb.state.code64() ? 8 : 4, cpu.cb.state.tsc_aux & 0xffffffff);
    return HelperResult::next;
}

// There are no performance counters, so every index is invalid.
HelperResult rdpmc(Cpu& cpu, const Instruction&) { return cpu.raise(Vector::gp, 0); }

HelperResult vmcall(Cpu& cpu, const Instruction& insn) {
    if (!cpu.cb.monitor_mode) return cpu.raise(Vector::ud);
    const HelperResult result = exit_after(cpu, insn, ExitReason::hypercall);
    cpu.exit.index = static_cast<u32>(cpu.gpr(rax, 4));
    return result;
}

HelperResult raise_ud(Cpu& cpu, const Instruction&) { return cpu.raise(Vector::ud); }

HelperResult raise_gp(Cpu& cpu, const Instruction&) { return cpu.raise(Vector::gp, 0); }

} // namespace gnomon::processor::soft
