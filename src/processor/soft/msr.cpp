// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/msr.h"

#include "base/canonical.h"

#include "processor/soft/cpuid.h"
#include "processor/soft/helpers.h"

namespace gnomon::processor::soft {

namespace {

/// Storage of the registers that are nothing but storage once the value is checked; nullptr for
/// others.
u64* storage(RegisterBlock& state, u32 index) {
    switch (index) {
    case msr::sysenter_cs: return &state.sysenter_cs;
    case msr::sysenter_esp: return &state.sysenter_esp;
    case msr::sysenter_eip: return &state.sysenter_eip;
    case msr::pat: return &state.pat;
    case msr::star: return &state.star;
    case msr::lstar: return &state.lstar;
    case msr::cstar: return &state.cstar;
    case msr::fmask: return &state.fmask;
    case msr::fs_base: return &state.segment[seg_fs].base;
    case msr::gs_base: return &state.segment[seg_gs].base;
    case msr::kernel_gs_base: return &state.kernel_gs_base;
    case msr::tsc_aux: return &state.tsc_aux;
    default: return nullptr;
    }
}

bool holds_tsc_aux(const ControlBlock& cb) {
    return shows_feature(cb, cpuid_feature::rdtscp) || shows_feature(cb, cpuid_feature::rdpid);
}

/// What RDMSR and WRMSR find for an index: storage, or nullptr.
u64* find(ControlBlock& cb, u32 index) {
    if (index == msr::tsc_aux && !holds_tsc_aux(cb)) return nullptr;
    return storage(cb.state, index);
}

bool efer_allowed(const ControlBlock& cb, u64 value) {
    u64 writable = efer::lma; // read-only: what is written is ignored
    if (shows_feature(cb, cpuid_feature::syscall)) writable |= efer::sce;
    if (shows_feature(cb, cpuid_feature::long_mode)) writable |= efer::lme;
    if (shows_feature(cb, cpuid_feature::nx)) writable |= efer::nxe;
    if ((value & ~writable) != 0) return false;
    const bool changes_lme = ((value ^ cb.state.efer) & efer::lme) != 0;
    return !changes_lme || (cb.state.cr0 & cr0::pg) == 0;
}

bool pat_allowed(u64 value) {
    // SDM vol. 3A section 11.12.2: UC, WC, WT, WP, WB, UC-.
    for (unsigned i = 0; i < 8; ++i) {
        const unsigned type = (value >> (8 * i)) & 0xff;
        if (type > 7 || type == 2 || type == 3) return false;
    }
    return true;
}

HelperResult leave_for_msr(Cpu& cpu, const Instruction& insn, ExitReason reason, u32 index,
                           u64 value) {
    const HelperResult result = cpu.leave(reason, insn);
    cpu.exit.index = index;
    cpu.exit.value = value;
    return result;
}

} // namespace

bool msr_value_allowed(const ControlBlock& cb, u32 index, u64 value) {
    switch (index) {
    case msr::efer: return efer_allowed(cb, value);
    case msr::pat: return pat_allowed(value);
    case msr::fmask:
    case msr::tsc_aux: return (value >> 32) == 0;
    case msr::lstar:
    case msr::cstar:
    case msr::sysenter_esp:
    case msr::sysenter_eip:
    case msr::fs_base:
    case msr::gs_base:
    case msr::kernel_gs_base: return is_canonical(value);
    default: return true;
    }
}

u64 efer_after_write(const ControlBlock& cb, u64 value) {
    return (value & ~efer::lma) | (cb.state.efer & efer::lma);
}

HelperResult rdmsr(Cpu& cpu, const Instruction& insn) {
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    const u32 index = static_cast<u32>(cpu.gpr(rcx, 4));
    const u64* found = find(cpu.cb, index);
    const bool held = found != nullptr || index == msr::efer || index == msr::tsc;
    if (!held || cpu.cb.msr_read_intercept.test(index))
        return leave_for_msr(cpu, insn, ExitReason::msr_read, index, 0);
    const u64 value = found != nullptr     ? *found
                      : index == msr::efer ? cpu.cb.state.efer
                                           : guest_tsc(cpu.cb);
    cpu.set_gpr(rax, 4, value);
    cpu.set_gpr(rdx, 4, value >> 32);
    return HelperResult::next;
}

HelperResult wrmsr(Cpu& cpu, const Instruction& insn) {
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    const u32 index = static_cast<u32>(cpu.gpr(rcx, 4));
    const u64 value = (cpu.gpr(rdx, 4) << 32) | cpu.gpr(rax, 4);
    u64* const found = find(cpu.cb, index);
    if (cpu.cb.msr_write_intercept.test(index) || (found == nullptr && index != msr::efer))
        return leave_for_msr(cpu, insn, ExitReason::msr_write, index, value);
    if (!msr_value_allowed(cpu.cb, index, value)) return cpu.raise(Vector::gp, 0);
    if (found != nullptr) {
        *found = index == msr::sysenter_cs ? value & 0xffffffff : value;
        return HelperResult::next;
    }
    // EFER alters paging, so the monitor applies it.
    const u64 new_efer = efer_after_write(cpu.cb, value);
    if (new_efer == cpu.cb.state.efer) return HelperResult::next;
    return leave_for_msr(cpu, insn, ExitReason::msr_write, index, new_efer);
}

} // namespace gnomon::processor::soft
