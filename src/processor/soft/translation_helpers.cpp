// SPDX-License-Identifier: Apache-2.0
/// @file Helpers that translation itself needs, beside those of the instruction table.
#include "processor/soft/helpers.h"

namespace gnomon::processor::soft {

HelperResult raise_nm(Cpu& cpu, const Instruction&) { return cpu.raise(Vector::nm); }

HelperResult check_execution_hook(Cpu& cpu, const Instruction& insn) {
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
        const HelperResult result = cpu.leave(ExitReason::execution_hook, insn);
        cpu.exit.index = i;
        return result;
    }
    return HelperResult::next_here;
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
    return HelperResult::dispatch;
}

} // namespace gnomon::processor::soft
