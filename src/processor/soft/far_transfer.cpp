// SPDX-License-Identifier: Apache-2.0
// Far JMP, CALL and RET (SDM vol. 2A and 2B; vol. 3A section 5.8).
#include "processor/soft/helpers.h"
#include "processor/soft/operands.h"
#include "processor/soft/segment_loading.h"

namespace gnomon::processor::soft {

namespace {

/// Where a far JMP or CALL goes, all its checks passed.
struct Target {
    Descriptor code;
    u16 selector = 0; ///< RPL = CPL there
    u64 rip = 0;
    unsigned cpl = 0;
    bool by_gate = false;
};

bool refuse(Cpu& cpu, Vector vector, u32 error_code) {
    cpu.raise(vector, error_code);
    return false;
}

bool resolve_code(Cpu& cpu, const FarPointer& pointer, Target& target) {
    const Descriptor& d = target.code;
    const unsigned cpl = cpu.cpl();
    const u32 error = selector_error(pointer.selector);
    const bool allowed = d.is_conforming_code()
                             ? d.dpl() <= cpl
                             : d.dpl() == cpl && selector_rpl(pointer.selector) <= cpl;
    if (!allowed || has_reserved_size(cpu, d)) return refuse(cpu, Vector::gp, error);
    if (!d.has(Segment::present)) return refuse(cpu, Vector::np, error);
    target.selector = with_rpl(pointer.selector, cpl);
    target.rip = pointer.offset;
    target.cpl = cpl;
    return check_target(cpu, d, target.rip);
}

bool resolve_call_gate(Cpu& cpu, u16 gate_selector, Descriptor gate, bool is_call, Target& target) {
    const unsigned cpl = cpu.cpl();
    const u32 gate_error = selector_error(gate_selector);
    // Task gates and TSSs are no targets in IA-32e mode, nor, here, outside it.
    if (!cpu.cb.state.long_mode() || gate.type() != system_type::call_gate || gate.dpl() < cpl ||
        gate.dpl() < selector_rpl(gate_selector))
        return refuse(cpu, Vector::gp, gate_error);
    if (!gate.has(Segment::present)) return refuse(cpu, Vector::np, gate_error);
    if (!fetch_upper_half(cpu, gate_selector, gate)) return false;

    const u16 selector = gate.gate_selector();
    const u32 error = selector_error(selector);
    Descriptor& code = target.code;
    if (is_null_selector(selector)) return refuse(cpu, Vector::gp, 0);
    if (!fetch_descriptor(cpu, selector, code)) return false;
    const bool lowers_only_by_call = is_call || code.is_conforming_code() || code.dpl() == cpl;
    if (!code.is_code() || code.dpl() > cpl || !lowers_only_by_call || !code.has(Segment::l) ||
        code.has(Segment::db))
        return refuse(cpu, Vector::gp, error);
    if (!code.has(Segment::present)) return refuse(cpu, Vector::np, error);
    target.cpl = code.is_conforming_code() ? cpl : code.dpl();
    target.selector = with_rpl(selector, target.cpl);
    target.rip = gate.gate_offset();
    target.by_gate = true;
    return check_target(cpu, code, target.rip);
}

bool resolve(Cpu& cpu, const Instruction& insn, bool is_call, Target& target) {
    FarPointer pointer;
    if (!read_far_pointer(cpu, insn, pointer)) return false;
    if (is_null_selector(pointer.selector)) return refuse(cpu, Vector::gp, 0);
    if (!fetch_descriptor(cpu, pointer.selector, target.code)) return false;
    if (target.code.is_code()) return resolve_code(cpu, pointer, target);
    if (target.code.is_system())
        return resolve_call_gate(cpu, pointer.selector, target.code, is_call, target);
    return refuse(cpu, Vector::gp, selector_error(pointer.selector));
}

HelperResult go(Cpu& cpu, const Target& target) {
    cpu.cb.state.segment[seg_cs] = target.code.code_or_data(target.selector);
    cpu.cb.state.rip = target.rip;
    return HelperResult::dispatch;
}

// The pushes of a 64-bit call gate: always 8 bytes an item, on a 64-bit stack.
HelperResult call_by_gate(Cpu& cpu, const Target& target, u64 return_rip) {
    RegisterBlock& state = cpu.cb.state;
    const bool inner = target.cpl < cpu.cpl();
    u64 stack = state.gpr[rsp];
    if (inner && !read_tss_stack(cpu, target.cpl, 0, 0, stack)) return HelperResult::fault;
    const u64 items[] = {return_rip, state.segment[seg_cs].selector, state.gpr[rsp],
                         state.segment[seg_ss].selector};
    const std::span<const u64> pushed(items);
    const NewStackFrame frame(stack, inner ? pushed : pushed.first(2));
    const AccessMode mode = inner ? AccessMode::supervisor : AccessMode::data;
    if (!frame.probe(cpu, mode, 0) || !mark_accessed(cpu, target.code) || !frame.write(cpu, mode))
        return HelperResult::fault;
    state.gpr[rsp] = frame.pointer();
    if (inner) state.segment[seg_ss] = null_segment(static_cast<u16>(target.cpl), target.cpl);
    return go(cpu, target);
}

} // namespace

HelperResult far_jump(Cpu& cpu, const Instruction& insn) {
    Target target;
    if (!resolve(cpu, insn, false, target) || !mark_accessed(cpu, target.code))
        return HelperResult::fault;
    return go(cpu, target);
}

HelperResult far_call(Cpu& cpu, const Instruction& insn) {
    Target target;
    if (!resolve(cpu, insn, true, target)) return HelperResult::fault;
    const u64 return_rip = cpu.next_rip(insn);
    if (target.by_gate) return call_by_gate(cpu, target, return_rip);
    const unsigned size = insn.operand_size;
    const u64 items[] = {return_rip, cpu.cb.state.segment[seg_cs].selector};
    if (!probe_accessed(cpu, target.code) || !write_stack(cpu, size, items) ||
        !mark_accessed(cpu, target.code))
        return HelperResult::fault;
    move_stack_pointer(cpu, -(u64{2} * size));
    return go(cpu, target);
}

HelperResult far_return(Cpu& cpu, const Instruction& insn) {
    RegisterBlock& state = cpu.cb.state;
    constexpr u8 with_immediate = 0xca;
    const unsigned size = insn.operand_size;
    const u64 released = insn.opcode == with_immediate ? insn.immediate & 0xffff : 0;

    u64 items[4] = {}; // RIP, CS; RSP, SS
    const std::span<u64> popped(items);
    if (!read_stack(cpu, 0, size, popped.first(2))) return HelperResult::fault;
    const u16 cs = static_cast<u16>(items[1]);
    Descriptor code;
    if (!fetch_return_code(cpu, cs, code)) return HelperResult::fault;
    const unsigned new_cpl = selector_rpl(cs);
    const bool outer = new_cpl > cpu.cpl();
    const bool to_code64 = is_code64(cpu, code);
    ReturnStack stack;
    if (outer && (!read_stack(cpu, u64{2} * size + released, size, popped.last(2)) ||
                  !fetch_return_stack(cpu, static_cast<u16>(items[3]), new_cpl, to_code64, stack)))
        return HelperResult::fault;
    const bool marks_stack = outer && !stack.null;
    if (!check_target(cpu, code, items[0]) ||
        (marks_stack && !probe_accessed(cpu, stack.descriptor)) || !mark_accessed(cpu, code) ||
        (marks_stack && !mark_accessed(cpu, stack.descriptor)))
        return HelperResult::fault;

    if (!outer) move_stack_pointer(cpu, u64{2} * size + released);
    state.segment[seg_cs] = code.code_or_data(cs);
    state.rip = items[0];
    if (outer) {
        state.segment[seg_ss] = stack.segment;
        set_returned_rsp(cpu, items[2]);
        move_stack_pointer(cpu, released);
        drop_privileged_segments(cpu, new_cpl);
    }
    return HelperResult::dispatch;
}

} // namespace gnomon::processor::soft
