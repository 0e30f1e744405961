// SPDX-License-Identifier: Apache-2.0
// SYSCALL, SYSENTER and their returns, SWAPGS and the FS and GS bases (SDM vol. 3A section 5.8.7
// and 5.8.8).
//
// The vector decides where an entry goes, and nothing else: a hooked vector (M1.1) is one that lies
// in the monitor-mode range.
#include "processor/soft/cpuid.h"
#include "processor/soft/helpers.h"
#include "processor/soft/segment_loading.h"

#include <Zydis/Mnemonic.h>

namespace gnomon::processor::soft {

namespace {

u16 selector_from(u64 value, u16 offset) { return static_cast<u16>((value & 0xffff) + offset); }

HelperResult enter_kernel(Cpu& cpu, u64 vector) {
    ControlBlock& cb = cpu.cb;
    cb.state.rip = vector;
    cpu.steps_by_new_tf = true;
    if (cb.monitor_root != 0 && Gva(vector) >= cb.monitor_mode_begin &&
        Gva(vector) < cb.monitor_mode_end) {
        cb.monitor_mode = cpu.handler_entered = true;
        ++cpu.statistics.hooked_calls;
    }
    return HelperResult::dispatch;
}

bool star_usable(const RegisterBlock& state) {
    return state.code64() && (state.efer & efer::sce) != 0;
}

} // namespace

HelperResult syscall(Cpu& cpu, const Instruction& insn) {
    RegisterBlock& state = cpu.cb.state;
    // Compatibility mode too: Intel's processors have no SYSCALL there, and never use CSTAR.
    if (!star_usable(state)) return cpu.raise(Vector::ud);
    state.gpr[rcx] = cpu.next_rip(insn);
    state.gpr[r11] = state.rflags & ~rflags::rf;
    state.rflags = (state.rflags & ~(state.fmask | rflags::rf)) | rflags::fixed1;
    const u64 selectors = state.star >> 32;
    state.segment[seg_cs] = flat_code(with_rpl(selector_from(selectors, 0), 0), 0, true);
    state.segment[seg_ss] = flat_stack(selector_from(selectors, 8), 0);
    return enter_kernel(cpu, state.lstar);
}

HelperResult sysret(Cpu& cpu, const Instruction& insn) {
    RegisterBlock& state = cpu.cb.state;
    if (!star_usable(state)) return cpu.raise(Vector::ud);
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    const bool to_code64 = insn.operand_size == 8;
    const u64 target = to_code64 ? state.gpr[rcx] : state.gpr[rcx] & 0xffffffff;
    // Checked while still at CPL 0, with the user's stack pointer: as Intel's processors do.
    if (!Cpu::canonical(target)) return cpu.raise(Vector::gp, 0);
    constexpr u64 loaded = rflags::arithmetic | rflags::tf | rflags::if_ | rflags::df |
                           rflags::iopl | rflags::nt | rflags::ac | rflags::id;
    state.rflags = (state.gpr[r11] & loaded) | rflags::fixed1;
    const u64 selectors = state.star >> 48;
    state.segment[seg_cs] =
        flat_code(selector_from(selectors, to_code64 ? 16 : 0) | 3, 3, to_code64);
    state.segment[seg_ss] = flat_stack(selector_from(selectors, 8) | 3, 3);
    state.rip = target;
    // Unlike IRET, a return that sets TF traps at once, as if the SYSCALL had just completed.
    cpu.steps_by_new_tf = true;
    return HelperResult::dispatch;
}

HelperResult sysenter(Cpu& cpu, const Instruction&) {
    RegisterBlock& state = cpu.cb.state;
    if (!shows_feature(cpu.cb, cpuid_feature::sep)) return cpu.raise(Vector::ud);
    if (is_null_selector(static_cast<u16>(state.sysenter_cs))) return cpu.raise(Vector::gp, 0);
    const bool long_mode = state.long_mode();
    const u64 width = long_mode ? ~u64{0} : 0xffffffff;
    state.rflags &= ~(rflags::vm | rflags::if_ | rflags::rf);
    const u64 selectors = state.sysenter_cs & 0xfffc;
    state.segment[seg_cs] = flat_code(selector_from(selectors, 0), 0, long_mode);
    state.segment[seg_ss] = flat_stack(selector_from(selectors, 8), 0);
    state.gpr[rsp] = state.sysenter_esp & width;
    return enter_kernel(cpu, state.sysenter_eip & width);
}

HelperResult sysexit(Cpu& cpu, const Instruction& insn) {
    RegisterBlock& state = cpu.cb.state;
    if (!shows_feature(cpu.cb, cpuid_feature::sep)) return cpu.raise(Vector::ud);
    if (cpu.cpl() != 0 || is_null_selector(static_cast<u16>(state.sysenter_cs)))
        return cpu.raise(Vector::gp, 0);
    const bool to_code64 = insn.operand_size == 8;
    const u64 width = to_code64 ? ~u64{0} : 0xffffffff;
    const u64 target = state.gpr[rdx] & width;
    const u64 stack = state.gpr[rcx] & width;
    if (!Cpu::canonical(target) || !Cpu::canonical(stack)) return cpu.raise(Vector::gp, 0);
    const u64 selectors = state.sysenter_cs & 0xffff;
    state.segment[seg_cs] =
        flat_code(selector_from(selectors, to_code64 ? 32 : 16) | 3, 3, to_code64);
    state.segment[seg_ss] = flat_stack(selector_from(selectors, to_code64 ? 40 : 24) | 3, 3);
    state.gpr[rsp] = stack;
    state.rip = target;
    return HelperResult::dispatch;
}

HelperResult swapgs(Cpu& cpu, const Instruction&) {
    RegisterBlock& state = cpu.cb.state;
    if (!state.code64()) return cpu.raise(Vector::ud);
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    u64& base = state.segment[seg_gs].base;
    const u64 old = base;
    base = state.kernel_gs_base;
    state.kernel_gs_base = old;
    return HelperResult::next;
}

HelperResult rdwr_fsgsbase(Cpu& cpu, const Instruction& insn) {
    RegisterBlock& state = cpu.cb.state;
    if (!state.code64() || (state.cr4 & cr4::fsgsbase) == 0 || insn.is_memory)
        return cpu.raise(Vector::ud);
    const bool is_fs =
        insn.mnemonic == ZYDIS_MNEMONIC_RDFSBASE || insn.mnemonic == ZYDIS_MNEMONIC_WRFSBASE;
    const bool is_write =
        insn.mnemonic == ZYDIS_MNEMONIC_WRFSBASE || insn.mnemonic == ZYDIS_MNEMONIC_WRGSBASE;
    u64& base = state.segment[is_fs ? seg_fs : seg_gs].base;
    const unsigned size = insn.operand_size == 8 ? 8 : 4; // prefix 66 means nothing
    if (!is_write) {
        cpu.set_gpr(insn.rm, size, size == 8 ? base : base & 0xffffffff);
        return HelperResult::next;
    }
    const u64 value = cpu.gpr(insn.rm, size);
    if (!Cpu::canonical(value)) return cpu.raise(Vector::gp, 0);
    base = value;
    return HelperResult::next;
}

} // namespace gnomon::processor::soft
