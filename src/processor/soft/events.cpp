// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/events.h"

#include "processor/soft/helpers.h"
#include "processor/soft/operands.h"
#include "processor/soft/segment_loading.h"

namespace gnomon::processor::soft {

namespace {

constexpr u64 dr7_gd = 1 << 13;

/// One event on its way through the IDT.
struct Event {
    u8 vector;
    bool checks_gate_dpl; ///< INT n, INT3, INTO
    bool has_error_code;
    bool is_fault;    ///< RF = 1 in the pushed image: the instruction runs again without its
                      ///< instruction breakpoint
    bool is_software; ///< RF = 0 there
    u32 error_code;
    u32 ext; ///< EXT bit for error codes of faults that come up here
    u64 return_rip;
};

/// Where the event goes.
struct Handler {
    Descriptor gate;
    Descriptor code;
    u16 selector = 0; ///< of CS, RPL = new CPL
    unsigned cpl = 0;
};

bool refuse(Cpu& cpu, Vector vector, u32 error_code) {
    cpu.raise(vector, error_code);
    return false;
}

bool fetch_idt_gate(Cpu& cpu, const Event& event, Descriptor& gate) {
    const RegisterBlock& state = cpu.cb.state;
    const u32 error = event.vector * 8U | error_idt | event.ext;
    const u64 offset = u64{16} * event.vector;
    // Outside IA-32e mode there is no delivery: this processor is for 64-bit systems, and shuts
    // down.
    if (!state.long_mode() || offset + 15 > state.idtr.limit) return refuse(cpu, Vector::gp, error);
    gate.address = Gva(state.idtr.base + offset);
    u64 halves[2] = {};
    if (!cpu.read_object(gate.address, halves, AccessMode::supervisor)) return false;
    gate.low = halves[0];
    gate.high = halves[1];
    const unsigned type = gate.type();
    if (!gate.is_system() ||
        (type != system_type::interrupt_gate && type != system_type::trap_gate))
        return refuse(cpu, Vector::gp, error);
    if (event.checks_gate_dpl && gate.dpl() < cpu.cpl()) return refuse(cpu, Vector::gp, error);
    if (!gate.has(Segment::present)) return refuse(cpu, Vector::np, error);
    return true;
}

bool fetch_handler_code(Cpu& cpu, const Event& event, Handler& handler) {
    const u16 selector = handler.gate.gate_selector();
    const u32 error = selector_error(selector, event.ext);
    Descriptor& code = handler.code;
    if (is_null_selector(selector)) return refuse(cpu, Vector::gp, event.ext);
    if (!fetch_descriptor(cpu, selector, code, Vector::gp, event.ext)) return false;
    if (!code.is_code() || code.dpl() > cpu.cpl()) return refuse(cpu, Vector::gp, error);
    if (!code.has(Segment::present)) return refuse(cpu, Vector::np, error);
    if (!code.has(Segment::l) || code.has(Segment::db)) return refuse(cpu, Vector::gp, error);
    handler.cpl = code.is_conforming_code() ? cpu.cpl() : code.dpl();
    handler.selector = with_rpl(selector, handler.cpl);
    return true;
}

HelperResult deliver(Cpu& cpu, const Event& event) {
    RegisterBlock& state = cpu.cb.state;
    Handler handler;
    if (!fetch_idt_gate(cpu, event, handler.gate) || !fetch_handler_code(cpu, event, handler))
        return HelperResult::fault;

    const bool inner = handler.cpl < cpu.cpl();
    u64 stack = state.gpr[rsp];
    const unsigned ist = handler.gate.gate_ist();
    if ((inner || ist != 0) && !read_tss_stack(cpu, handler.cpl, ist, event.ext, stack))
        return HelperResult::fault;
    if (!Cpu::canonical(stack)) return cpu.raise(Vector::ss, event.ext);
    const u64 target = handler.gate.gate_offset();
    if (!Cpu::canonical(target)) return cpu.raise(Vector::gp, event.ext);

    u64 image = event.is_fault ? state.rflags | rflags::rf : state.rflags;
    if (event.is_software) image &= ~rflags::rf;
    const u64 items[] = {event.error_code,
                         event.return_rip,
                         state.segment[seg_cs].selector,
                         image,
                         state.gpr[rsp],
                         state.segment[seg_ss].selector};
    const std::span<const u64> pushed(items);
    const NewStackFrame frame(stack & ~u64{15}, event.has_error_code ? pushed : pushed.subspan(1));
    const AccessMode mode = inner ? AccessMode::supervisor : AccessMode::data;
    if (!frame.probe(cpu, mode, event.ext) || !mark_accessed(cpu, handler.code) ||
        !frame.write(cpu, mode))
        return HelperResult::fault;

    state.segment[seg_cs] = handler.code.code_or_data(handler.selector);
    if (inner) state.segment[seg_ss] = null_segment(static_cast<u16>(handler.cpl), handler.cpl);
    state.gpr[rsp] = frame.pointer();
    state.rip = target;
    u64 cleared = rflags::tf | rflags::nt | rflags::rf | rflags::vm;
    if (handler.gate.type() == system_type::interrupt_gate) cleared |= rflags::if_;
    state.rflags &= ~cleared;
    if (event.vector == static_cast<u8>(Vector::db) && !event.checks_gate_dpl)
        state.dr[7] &= ~dr7_gd;
    cpu.cb.interrupt_shadow = false;
    // A read that a device had answered for the interrupted instruction must not answer the
    // handler's.
    cpu.cb.io_data_valid = false;
    cpu.mmio_have = cpu.mmio_taken = 0;
    return HelperResult::dispatch;
}

void count_event(Cpu::Statistics& statistics, const Injection& event) {
    switch (event.kind) {
    case Injection::Kind::none: break;
    case Injection::Kind::external_interrupt: ++statistics.interrupts[event.vector]; break;
    case Injection::Kind::nmi: ++statistics.nmis; break;
    case Injection::Kind::exception: ++statistics.exceptions[event.vector % 32]; break;
    case Injection::Kind::software_interrupt: ++statistics.software_interrupts; break;
    }
}

// SDM vol. 3A table 6-1: the rest are traps (#DB as far as it is injected, #BP, #OF), aborts or
// interrupts.
bool is_fault_vector(u8 vector) {
    switch (static_cast<Vector>(vector)) {
    case Vector::db:
    case Vector::nmi:
    case Vector::bp:
    case Vector::of:
    case Vector::df:
    case Vector::mc: return false;
    default: return true;
    }
}

} // namespace

HelperResult deliver_event(Cpu& cpu) {
    const Injection injection = cpu.cb.injection;
    using Kind = Injection::Kind;
    cpu.mmio_taken = 0;
    if (injection.kind == Kind::none) return HelperResult::dispatch;

    const bool software = injection.kind == Kind::software_interrupt;
    const bool exception = injection.kind == Kind::exception;
    // INT1, INT3 and INTO raise traps: an injector that gives their length means the instruction
    // after.
    const bool trap = exception && !is_fault_vector(injection.vector);
    const u64 length = software || trap ? injection.instruction_length : 0;
    const u64 return_rip = cpu.cb.state.rip + length;
    const Event event{
        .vector = injection.kind == Kind::nmi ? static_cast<u8>(Vector::nmi) : injection.vector,
        .checks_gate_dpl = software,
        .has_error_code = exception && injection.has_error_code,
        .is_fault = exception && !trap,
        .is_software = software,
        .error_code = injection.error_code,
        .ext = software ? 0 : error_ext,
        .return_rip = cpu.cb.state.code64() ? return_rip : return_rip & 0xffffffff,
    };
    // Before delivery: the handler of a #DF that comes of it reads the address too.
    if (exception && event.vector == static_cast<u8>(Vector::pf)) cpu.cb.state.cr2 = injection.cr2;
    const HelperResult result = deliver(cpu, event);
    if (result != HelperResult::dispatch) {
        if (cpu.pending.kind == Pending::Kind::exit) cpu.exit.during_delivery = true;
        return result;
    }
    count_event(cpu.statistics, injection);
    if (injection.kind == Kind::nmi) cpu.cb.nmi_blocked = true;
    cpu.cb.injection = {};
    return result;
}

HelperResult deliver_software_interrupt(Cpu& cpu, const Instruction& insn, u8 vector) {
    cpu.steps_by_new_tf = true;
    const HelperResult result = deliver(cpu, {.vector = vector,
                                              .checks_gate_dpl = true,
                                              .has_error_code = false,
                                              .is_fault = false,
                                              .is_software = true,
                                              .error_code = 0,
                                              .ext = 0,
                                              .return_rip = cpu.next_rip(insn)});
    if (result == HelperResult::dispatch) ++cpu.statistics.software_interrupts;
    return result;
}

HelperResult int_n(Cpu& cpu, const Instruction& insn) {
    constexpr u8 int3 = 0xcc, int1 = 0xf1;
    const u8 vector = insn.opcode == int3   ? static_cast<u8>(Vector::bp)
                      : insn.opcode == int1 ? static_cast<u8>(Vector::db)
                                            : static_cast<u8>(insn.immediate);
    if (cpu.cb.int_intercept.test(vector)) {
        const HelperResult result = cpu.leave(ExitReason::software_interrupt, insn);
        cpu.exit.index = vector;
        return result;
    }
    if (insn.opcode != int1) {
        Exit exit;
        exit.reason = ExitReason::software_interrupt_delivered;
        exit.index = vector;
        exit.value = cpu.next_rip(insn);
        exit.gva = Gva(cpu.cb.state.gpr[rsp]);
        exit.from_user = cpu.cpl() == 3;
        const HelperResult result = deliver_software_interrupt(cpu, insn, vector);
        if (result == HelperResult::dispatch && cpu.cb.int_delivery_exit.test(vector)) {
            cpu.delivery_exit_wanted = true;
            cpu.delivery_exit = exit;
        }
        return result;
    }
    // INT1 stands for hardware's #DB: no check of the gate's DPL, and EXT is set.
    cpu.steps_by_new_tf = true;
    return deliver(cpu, {.vector = vector,
                         .checks_gate_dpl = false,
                         .has_error_code = false,
                         .is_fault = false,
                         .is_software = true,
                         .error_code = 0,
                         .ext = error_ext,
                         .return_rip = cpu.next_rip(insn)});
}

namespace {

void note_return(ControlBlock& cb) {
    ReturnWatch& watch = cb.return_watch;
    if (!watch.armed) return;
    const RegisterBlock& state = cb.state;
    if (state.gpr[rsp] != watch.rsp || state.segment[seg_cs].selector != watch.cs ||
        state.cr3 != watch.cr3)
        return;
    watch.armed = false;
    watch.seen = true;
    if (watch.opens_window) cb.interrupt_window = true;
}

} // namespace

HelperResult iret(Cpu& cpu, const Instruction& insn) {
    RegisterBlock& state = cpu.cb.state;
    const unsigned size = insn.operand_size;
    const unsigned old_cpl = cpu.cpl();
    const bool from_code64 = state.code64();
    // There is no task to return to in IA-32e mode, and no task switch outside it on this
    // processor.
    if ((state.rflags & rflags::nt) != 0) return cpu.raise(Vector::gp, 0);

    // RIP, CS, RFLAGS, RSP, SS: the last two always in 64-bit mode, else only to an outer level.
    u64 items[5] = {};
    const std::span<u64> popped(items);
    if (!read_stack(cpu, 0, size, from_code64 ? popped : popped.first(3)))
        return HelperResult::fault;
    const u64 target = items[0];
    const u16 cs = static_cast<u16>(items[1]);
    const u64 image = items[2];

    Descriptor code;
    if (!fetch_return_code(cpu, cs, code)) return HelperResult::fault;
    const unsigned new_cpl = selector_rpl(cs);
    const bool outer = new_cpl > old_cpl;
    const bool to_code64 = is_code64(cpu, code);
    const bool new_stack = outer || from_code64;
    if (new_stack && !from_code64 && !read_stack(cpu, u64{3} * size, size, popped.last(2)))
        return HelperResult::fault;
    ReturnStack stack;
    if (new_stack &&
        !fetch_return_stack(cpu, static_cast<u16>(items[4]), new_cpl, to_code64, stack))
        return HelperResult::fault;
    const bool marks_stack = new_stack && !stack.null;
    if (!check_target(cpu, code, target) ||
        (marks_stack && !probe_accessed(cpu, stack.descriptor)) || !mark_accessed(cpu, code) ||
        (marks_stack && !mark_accessed(cpu, stack.descriptor)))
        return HelperResult::fault;

    // RSP first when it stays in its segment: its width is that of the old stack.
    if (!new_stack) move_stack_pointer(cpu, u64{3} * size);
    state.segment[seg_cs] = code.code_or_data(cs);
    state.rip = target;
    if (new_stack) {
        state.segment[seg_ss] = stack.segment;
        set_returned_rsp(cpu, items[3]);
    }
    // VM does not exist in IA-32e mode; VIF and VIP are reserved without CPUID.VME.
    u64 mask = rflags::arithmetic | rflags::tf | rflags::df | rflags::nt;
    if (size > 2) mask |= rflags::rf | rflags::ac | rflags::id;
    if (old_cpl <= ((state.rflags & rflags::iopl) >> 12)) mask |= rflags::if_;
    if (old_cpl == 0) mask |= rflags::iopl;
    state.rflags = (state.rflags & ~(mask | rflags::rf)) | (image & mask) | rflags::fixed1;
    if (outer) drop_privileged_segments(cpu, new_cpl);
    cpu.cb.nmi_blocked = false;
    note_return(cpu.cb);
    return HelperResult::dispatch;
}

} // namespace gnomon::processor::soft
