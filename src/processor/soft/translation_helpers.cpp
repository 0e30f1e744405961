// SPDX-License-Identifier: Apache-2.0
/// @file Helpers that translation itself needs, beside those of the instruction table.
#include "processor/soft/helpers.h"
#include "processor/soft/mmu.h"

#include <cstring>

namespace gnomon::processor::soft {

HelperResult raise_nm(Cpu& cpu, const Instruction&) { return cpu.raise(Vector::nm); }

namespace {

/// The operands are mostly in one page, which was in use just now.
bool read_operands(Cpu& cpu, const HookHandler& handler, u64 (&operands)[hook_operand_count]) {
    const Gva base(cpu.cb.state.gpr[handler.base]);
    const Tlb& t = cpu.tlb(current_set(cpu));
    const unsigned i = tlb_index(base);
    const bool cached = t.read_tag[i] == tlb_tag(base);
    for (unsigned n = 0; n < hook_operand_count; ++n) {
        const u64 in_page = base.page_offset() + static_cast<u64>(i64{handler.offset[n]});
        if (cached && in_page <= page_size - sizeof(u64)) {
            // SAFETY: filled by fill_tlb from a frame's host address.
            std::memcpy(&operands[n], reinterpret_cast<Hva>(t.host_page[i]) + in_page, sizeof(u64));
        } else if (!cpu.peek(base + static_cast<u64>(i64{handler.offset[n]}), operands[n])) {
            return false;
        }
    }
    return true;
}

/// Goes to the handler of a hook at RIP. @return false, and nothing has changed: the hook exits.
bool enter_handler(Cpu& cpu, const HookHandler& handler) {
    ControlBlock& cb = cpu.cb;
    RegisterBlock& s = cb.state;
    if (handler.entry == Gva() || cb.monitor_root == 0 || !s.code64() ||
        (s.rflags & rflags::rf) != 0 || cpu.watch_hits != 0)
        return false;
    u64 operands[hook_operand_count];
    if (handler.operands > cb.monitor_pages_size - sizeof operands ||
        !read_operands(cpu, handler, operands))
        return false;
    std::memcpy(cb.monitor_pages + handler.operands, operands, sizeof operands);
    cb.monitor_mode = cb.monitor_mode_by_hook = cpu.handler_entered = true;
    cpu.hook_rip = s.rip;
    s.rip = handler.entry.value();
    ++cpu.statistics.handled_hooks;
    return true;
}

HelperResult check(Cpu& cpu, const Instruction& insn, bool by_itself) {
    cpu.hook_passed = false;
    for (unsigned i = 0; i < execution_hook_count; ++i) {
        if (cpu.cb.execution_hook[i] == Gva() ||
            cpu.cb.execution_hook[i].value() != cpu.cb.state.rip)
            continue;
        if (!cpu.cb.execution_hook_armed) {
            cpu.cb.execution_hook_armed = true;
            // What could not be delivered before it is to be looked at soon.
            if (cpu.cb.interrupt_window || cpu.cb.nmi_window) cpu.poll = 1;
            return HelperResult::next_here;
        }
        if (!by_itself && enter_handler(cpu, cpu.cb.hook_handler[i]))
            return HelperResult::to_handler;
        const HelperResult result = cpu.leave(ExitReason::execution_hook, insn);
        cpu.exit.index = i;
        return result;
    }
    return HelperResult::next_here;
}

} // namespace

HelperResult check_execution_hook(Cpu& cpu, const Instruction& insn) {
    return check(cpu, insn, false);
}

HelperResult check_execution_hook_singly(Cpu& cpu, const Instruction& insn) {
    return check(cpu, insn, true);
}

HelperResult leave_monitor_mode(Cpu& cpu, const Instruction& insn) {
    u64 target = 0;
    if (insn.is_memory) {
        if (!cpu.read_object(cpu.effective_address(insn), target)) return HelperResult::fault;
    } else {
        target = cpu.cb.state.gpr[insn.rm];
    }
    cpu.cb.monitor_mode = false;
    cpu.cb.state.rip = target;
    if (!cpu.cb.monitor_mode_by_hook) return HelperResult::dispatch;
    cpu.cb.monitor_mode_by_hook = false;
    if (target != cpu.hook_rip) return HelperResult::dispatch;
    if (cpu.handler_entered) {
        cpu.page_base = target & ~page_offset_mask;
        cpu.hook_passed = true;
        return HelperResult::from_handler;
    }
    cpu.cb.execution_hook_armed = false; // the check of another run lets it pass
    return HelperResult::dispatch;
}

} // namespace gnomon::processor::soft
