// SPDX-License-Identifier: Apache-2.0
// Port I/O (SDM vol. 1 chapter 19). A read leaves and runs again once the monitor has the data; a
// write is complete when it leaves. String forms do one element at a time.
#include "processor/soft/access_checks.h"
#include "processor/soft/breakpoints.h"
#include "processor/soft/helpers.h"
#include "processor/soft/mmu.h"
#include "processor/soft/segment_loading.h"

namespace gnomon::processor::soft {

namespace {

/// Bytes that the instruction moves: opcodes with bit 0 clear are the byte forms; REX.W changes
/// nothing.
u8 io_size(const Instruction& insn) {
    if ((insn.opcode & 1) == 0) return 1;
    return insn.operand_size == 2 ? 2 : 4;
}

u16 port_of(const Cpu& cpu, const Instruction& insn) {
    const bool by_immediate = insn.opcode >= 0xe4 && insn.opcode <= 0xe7;
    return by_immediate ? static_cast<u16>(insn.immediate & 0xff)
                        : static_cast<u16>(cpu.gpr(rdx, 2));
}

bool refuse(Cpu& cpu) {
    cpu.raise(Vector::gp, 0);
    return false;
}

/// Whether IOPL or the TSS's I/O permission bit map allows [port, port + size); otherwise #GP(0) or
/// a failed read.
bool io_allowed(Cpu& cpu, u16 port, u8 size) {
    const RegisterBlock& state = cpu.cb.state;
    if (cpu.cpl() <= ((state.rflags & rflags::iopl) >> 12)) return true;
    const Segment& tr = state.tr;
    constexpr u64 map_base_offset = 0x66;
    const bool has_map =
        !tr.has(Segment::unusable) && tr.has(Segment::present) &&
        (tr.type() == system_type::tss_busy || tr.type() == system_type::tss_available);
    if (!has_map || tr.limit < map_base_offset + 1) return refuse(cpu);
    u16 map_base = 0;
    if (!cpu.read_object(Gva(tr.base + map_base_offset), map_base, AccessMode::supervisor))
        return false;
    // Two bytes are read, since the ports may straddle; both must lie within the limit.
    const u64 offset = u64{map_base} + port / 8U;
    if (offset + 1 > tr.limit) return refuse(cpu);
    u16 bits = 0;
    if (!cpu.read_object(Gva(tr.base + offset), bits, AccessMode::supervisor)) return false;
    const unsigned wanted = ((1U << size) - 1) << (port & 7);
    return (bits & wanted) == 0 || refuse(cpu);
}

void describe(Cpu& cpu, u16 port, u8 size, bool write, u64 data) {
    cpu.exit.port = port;
    cpu.exit.size = size;
    cpu.exit.write = write;
    cpu.exit.data = data;
}

/// Notes the I/O breakpoints (SDM vol. 3B section 18.3.1.3) that an access to ports meets, for the
/// trap after the instruction.
void note_watched_ports(Cpu& cpu, u16 port, u8 size) {
    if (!any_breakpoint(cpu.cb.state)) return;
    for (unsigned n = 0; n < 4; ++n) {
        const Breakpoint b = breakpoint(cpu.cb.state, n);
        if (b.type == Breakpoint::Type::io && b.covers(port, size)) cpu.watch_hits |= u64{1} << n;
    }
}

HelperResult leave_for_read(Cpu& cpu, const Instruction& insn, u16 port, u8 size) {
    const HelperResult result = cpu.leave(ExitReason::io, insn);
    describe(cpu, port, size, false, 0);
    return result;
}

/// The exit of a completed write; the caller has set RIP.
HelperResult exit_for_write(Cpu& cpu, const Instruction& insn, u16 port, u8 size, u64 data) {
    cpu.cb.interrupt_shadow = false;
    cpu.exit = {};
    cpu.exit.reason = ExitReason::io;
    cpu.exit.instruction_length = insn.length;
    describe(cpu, port, size, true, data);
    return HelperResult::exit;
}

/// A fault: if the instruction ends in an exception, data that a device has already given is lost,
/// as on hardware.
HelperResult failed(Cpu& cpu) {
    if (cpu.pending.kind == Pending::Kind::exception) cpu.cb.io_data_valid = false;
    return HelperResult::fault;
}

bool repeated(const Instruction& insn) { return insn.rep || insn.repne; }

bool nothing_to_do(const Cpu& cpu, const Instruction& insn) {
    return repeated(insn) && cpu.gpr(rcx, insn.address_size) == 0;
}

/// Steps rSI or rDI, and rCX under REP. Returns whether REP has more to do.
bool step(Cpu& cpu, const Instruction& insn, Gpr pointer, u8 size) {
    const u64 delta = (cpu.cb.state.rflags & rflags::df) != 0 ? -u64{size} : u64{size};
    cpu.set_gpr(pointer, insn.address_size, cpu.cb.state.gpr[pointer] + delta);
    if (!repeated(insn)) return false;
    cpu.set_gpr(rcx, insn.address_size, cpu.cb.state.gpr[rcx] - 1);
    cpu.mid_repeat = cpu.gpr(rcx, insn.address_size) != 0;
    return cpu.mid_repeat;
}

} // namespace

HelperResult in(Cpu& cpu, const Instruction& insn) {
    const u16 port = port_of(cpu, insn);
    const u8 size = io_size(insn);
    if (!io_allowed(cpu, port, size)) return failed(cpu);
    if (!cpu.cb.io_data_valid) return leave_for_read(cpu, insn, port, size);
    note_watched_ports(cpu, port, size);
    cpu.set_gpr(rax, size, take_io_data(cpu));
    return HelperResult::next;
}

HelperResult out(Cpu& cpu, const Instruction& insn) {
    const u16 port = port_of(cpu, insn);
    const u8 size = io_size(insn);
    if (!io_allowed(cpu, port, size)) return failed(cpu);
    note_watched_ports(cpu, port, size);
    cpu.cb.state.rip = cpu.next_rip(insn);
    return exit_for_write(cpu, insn, port, size, cpu.gpr(rax, size));
}

HelperResult ins(Cpu& cpu, const Instruction& insn) {
    if (nothing_to_do(cpu, insn)) return HelperResult::next;
    const u16 port = port_of(cpu, insn);
    const u8 size = io_size(insn);
    if (!io_allowed(cpu, port, size)) return failed(cpu);
    // Probed before the device is asked: reading a port may have side effects, and cannot be taken
    // back.
    const Gva destination = cpu.linear(seg_es, cpu.gpr(rdi, insn.address_size));
    if (!check_access(cpu, seg_es, destination, size, true) || !cpu.probe_write(destination, size))
        return failed(cpu);
    if (!cpu.cb.io_data_valid) return leave_for_read(cpu, insn, port, size);
    const u64 data = cpu.cb.io_data;
    if (!cpu.write(destination, &data, size)) return failed(cpu);
    take_io_data(cpu);
    note_watched_ports(cpu, port, size);
    // Between elements the instruction stands to be interrupted: RIP is still at it.
    return step(cpu, insn, rdi, size) ? HelperResult::dispatch : HelperResult::next;
}

HelperResult outs(Cpu& cpu, const Instruction& insn) {
    if (nothing_to_do(cpu, insn)) return HelperResult::next;
    const u16 port = port_of(cpu, insn);
    const u8 size = io_size(insn);
    if (!io_allowed(cpu, port, size)) return failed(cpu);
    const Gva source = cpu.linear(insn.segment, cpu.gpr(rsi, insn.address_size));
    if (insn.segment == seg_ss && cpu.cb.state.code64() &&
        (!Cpu::canonical(source.value()) || !Cpu::canonical((source + (size - 1U)).value())))
        return cpu.raise(Vector::ss, 0);
    u64 data = 0;
    if (!check_access(cpu, insn.segment, source, size, false) || !cpu.read(source, &data, size))
        return failed(cpu);
    note_watched_ports(cpu, port, size);
    if (!step(cpu, insn, rsi, size)) cpu.cb.state.rip = cpu.next_rip(insn);
    return exit_for_write(cpu, insn, port, size, data);
}

} // namespace gnomon::processor::soft
