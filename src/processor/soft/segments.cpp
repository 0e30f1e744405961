// SPDX-License-Identifier: Apache-2.0
// Segment registers and the descriptor-table registers (SDM vol. 3A chapters 2, 3 and 5).
#include "processor/soft/helpers.h"
#include "processor/soft/operands.h"
#include "processor/soft/segment_loading.h"

#include <Zydis/Mnemonic.h>

namespace gnomon::processor::soft {

namespace {

bool umip_forbids(const Cpu& cpu) { return (cpu.cb.state.cr4 & cr4::umip) != 0 && cpu.cpl() > 0; }

// What follows a load of `name`: SS holds interrupts off for one instruction (MOV and POP, not
// LSS), and outside 64-bit mode code depends on the segments that it was translated for.
HelperResult after_load(Cpu& cpu, const Instruction& insn, SegmentName name, bool shadow) {
    const bool shadowed = shadow && name == seg_ss;
    if (shadowed) {
        cpu.cb.interrupt_shadow = true;
        cpu.single_step_once = true;
        cpu.traps_held = true;
    }
    if (!shadowed && cpu.cb.state.code64()) return HelperResult::next;
    cpu.cb.state.rip = cpu.next_rip(insn);
    return HelperResult::dispatch;
}

bool is_loadable(unsigned reg) { return reg < segment_count && reg != seg_cs; }

void set_zf(Cpu& cpu, bool on) {
    u64& flags = cpu.cb.state.rflags;
    flags = on ? flags | rflags::zf : flags & ~rflags::zf;
}

/// The descriptor that LAR, LSL, VERR or VERW asks about, if the asker may see it.
enum class Visibility : u8 { visible, hidden, fault };

Visibility inspect(Cpu& cpu, const Instruction& insn, Descriptor& out) {
    u16 selector = 0;
    if (!read_rm16(cpu, insn, selector)) return Visibility::fault;
    if (is_null_selector(selector)) return Visibility::hidden;
    switch (look_up_descriptor(cpu, selector, out)) {
    case Lookup::fault: return Visibility::fault;
    case Lookup::outside: return Visibility::hidden;
    case Lookup::found: break;
    }
    const bool privileged =
        !out.is_conforming_code() && (cpu.cpl() > out.dpl() || selector_rpl(selector) > out.dpl());
    return privileged ? Visibility::hidden : Visibility::visible;
}

// Types of system descriptors that LAR (with gates) and LSL know: SDM vol. 2A, their tables.
bool is_known_system_type(const Cpu& cpu, unsigned type, bool gates) {
    switch (type) {
    case system_type::ldt:
    case system_type::tss_available:
    case system_type::tss_busy: return true;
    case system_type::call_gate: return gates;
    case system_type::tss16_available:
    case system_type::tss16_busy: return !cpu.cb.state.long_mode();
    case system_type::call_gate16:
    case system_type::task_gate: return gates && !cpu.cb.state.long_mode();
    default: return false;
    }
}

} // namespace

HelperResult mov_to_segment(Cpu& cpu, const Instruction& insn) {
    if (!is_loadable(insn.reg)) return cpu.raise(Vector::ud);
    const auto name = static_cast<SegmentName>(insn.reg);
    u16 selector = 0;
    if (!read_rm16(cpu, insn, selector) || !load_segment(cpu, name, selector))
        return HelperResult::fault;
    return after_load(cpu, insn, name, true);
}

HelperResult mov_from_segment(Cpu& cpu, const Instruction& insn) {
    if (insn.reg >= segment_count) return cpu.raise(Vector::ud);
    const u16 selector = cpu.cb.state.segment[insn.reg].selector;
    return store_system_register(cpu, insn, selector) ? HelperResult::next : HelperResult::fault;
}

HelperResult pop_segment(Cpu& cpu, const Instruction& insn) {
    if (!is_loadable(insn.reg)) return cpu.raise(Vector::ud);
    const auto name = static_cast<SegmentName>(insn.reg);
    const unsigned size = stack_item_size(cpu, insn);
    u64 item[1] = {};
    if (!read_stack(cpu, 0, size, item)) return HelperResult::fault;
    const Segment old_stack = cpu.cb.state.segment[seg_ss];
    if (!load_segment(cpu, name, static_cast<u16>(item[0]))) return HelperResult::fault;
    // The pop itself is from the old stack, whose width it has.
    Segment& stack = cpu.cb.state.segment[seg_ss];
    const Segment new_stack = stack;
    stack = old_stack;
    move_stack_pointer(cpu, size);
    stack = new_stack;
    return after_load(cpu, insn, name, true);
}

HelperResult push_segment(Cpu& cpu, const Instruction& insn) {
    if (insn.reg >= segment_count) return cpu.raise(Vector::ud);
    const unsigned size = stack_item_size(cpu, insn);
    const u16 selector = cpu.cb.state.segment[insn.reg].selector;
    if (size == 4) {
        // Intel's processors write 16 bits and leave the upper half of the item as it was.
        const u64 saved = cpu.cb.state.gpr[rsp];
        const u64 items[] = {selector};
        move_stack_pointer(cpu, u64{2} - size);
        const bool written = write_stack(cpu, 2, items);
        cpu.cb.state.gpr[rsp] = saved;
        if (!written) return HelperResult::fault;
    } else {
        const u64 items[] = {selector};
        if (!write_stack(cpu, size, items)) return HelperResult::fault;
    }
    move_stack_pointer(cpu, -u64{size});
    return HelperResult::next;
}

HelperResult load_far_pointer(Cpu& cpu, const Instruction& insn) {
    SegmentName name = seg_ds;
    switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_LSS: name = seg_ss; break;
    case ZYDIS_MNEMONIC_LFS: name = seg_fs; break;
    case ZYDIS_MNEMONIC_LGS: name = seg_gs; break;
    case ZYDIS_MNEMONIC_LES: name = seg_es; break;
    case ZYDIS_MNEMONIC_LDS: name = seg_ds; break;
    default: return cpu.raise(Vector::ud);
    }
    if (!insn.is_memory) return cpu.raise(Vector::ud);
    FarPointer pointer;
    if (!read_far_pointer(cpu, insn, pointer) || !load_segment(cpu, name, pointer.selector))
        return HelperResult::fault;
    cpu.set_gpr(insn.reg, insn.operand_size, pointer.offset);
    return after_load(cpu, insn, name, false);
}

HelperResult lgdt_lidt(Cpu& cpu, const Instruction& insn) {
    if (!insn.is_memory) return cpu.raise(Vector::ud);
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    struct [[gnu::packed]] {
        u16 limit;
        u64 base;
    } operand = {0, 0};
    const bool code64 = cpu.cb.state.code64();
    if (!read_operand(cpu, insn, &operand, code64 ? 10 : 6)) return HelperResult::fault;
    u64 base = operand.base;
    if (!code64 && insn.operand_size == 2) base &= 0xffffff;
    if (!Cpu::canonical(base)) return cpu.raise(Vector::gp, 0);
    RegisterBlock& state = cpu.cb.state;
    DescriptorTable& table = insn.mnemonic == ZYDIS_MNEMONIC_LGDT ? state.gdtr : state.idtr;
    table = {base, operand.limit, 0};
    return HelperResult::next;
}

HelperResult sgdt_sidt(Cpu& cpu, const Instruction& insn) {
    if (!insn.is_memory) return cpu.raise(Vector::ud);
    if (umip_forbids(cpu)) return cpu.raise(Vector::gp, 0);
    const RegisterBlock& state = cpu.cb.state;
    const DescriptorTable& table = insn.mnemonic == ZYDIS_MNEMONIC_SGDT ? state.gdtr : state.idtr;
    struct [[gnu::packed]] {
        u16 limit;
        u64 base;
    } const operand = {static_cast<u16>(table.limit), table.base};
    return write_operand(cpu, insn, &operand, state.code64() ? 10 : 6) ? HelperResult::next
                                                                       : HelperResult::fault;
}

HelperResult lldt(Cpu& cpu, const Instruction& insn) {
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    u16 selector = 0;
    if (!read_rm16(cpu, insn, selector)) return HelperResult::fault;
    if (is_null_selector(selector)) {
        cpu.cb.state.ldtr = null_segment(selector);
        return HelperResult::next;
    }
    const u32 error = selector_error(selector);
    if ((selector & 4) != 0) return cpu.raise(Vector::gp, error);
    Descriptor d;
    if (!fetch_descriptor(cpu, selector, d)) return HelperResult::fault;
    if (!d.is_system() || d.type() != system_type::ldt) return cpu.raise(Vector::gp, error);
    if (!d.has(Segment::present)) return cpu.raise(Vector::np, error);
    if (cpu.cb.state.long_mode() && !fetch_upper_half(cpu, selector, d)) return HelperResult::fault;
    if (!Cpu::canonical(d.base())) return cpu.raise(Vector::gp, error);
    cpu.cb.state.ldtr = d.system(selector);
    return HelperResult::next;
}

HelperResult ltr(Cpu& cpu, const Instruction& insn) {
    if (cpu.cpl() != 0) return cpu.raise(Vector::gp, 0);
    u16 selector = 0;
    if (!read_rm16(cpu, insn, selector)) return HelperResult::fault;
    if (is_null_selector(selector)) return cpu.raise(Vector::gp, 0);
    const u32 error = selector_error(selector);
    if ((selector & 4) != 0) return cpu.raise(Vector::gp, error);
    Descriptor d;
    if (!fetch_descriptor(cpu, selector, d)) return HelperResult::fault;
    const bool long_mode = cpu.cb.state.long_mode();
    const bool available = d.type() == system_type::tss_available ||
                           (!long_mode && d.type() == system_type::tss16_available);
    if (!d.is_system() || !available) return cpu.raise(Vector::gp, error);
    if (!d.has(Segment::present)) return cpu.raise(Vector::np, error);
    if (long_mode && !fetch_upper_half(cpu, selector, d)) return HelperResult::fault;
    if (!Cpu::canonical(d.base())) return cpu.raise(Vector::gp, error);
    constexpr u64 busy = u64{2} << 40;
    const u8 rights = static_cast<u8>((d.low | busy) >> 40);
    if (!cpu.write_object(d.address + 5, rights, AccessMode::supervisor))
        return HelperResult::fault;
    d.low |= busy;
    cpu.cb.state.tr = d.system(selector);
    return HelperResult::next;
}

HelperResult sldt_str(Cpu& cpu, const Instruction& insn) {
    if (umip_forbids(cpu)) return cpu.raise(Vector::gp, 0);
    const RegisterBlock& state = cpu.cb.state;
    const bool is_sldt = insn.mnemonic == ZYDIS_MNEMONIC_SLDT;
    const u16 selector = is_sldt ? state.ldtr.selector : state.tr.selector;
    return store_system_register(cpu, insn, selector) ? HelperResult::next : HelperResult::fault;
}

HelperResult lar_lsl(Cpu& cpu, const Instruction& insn) {
    const bool is_lar = insn.mnemonic == ZYDIS_MNEMONIC_LAR;
    Descriptor d;
    const Visibility visibility = inspect(cpu, insn, d);
    if (visibility == Visibility::fault) return HelperResult::fault;
    const bool ok = visibility == Visibility::visible &&
                    (!d.is_system() || is_known_system_type(cpu, d.type(), is_lar));
    set_zf(cpu, ok);
    if (ok) {
        // Bits 19:16 are undefined (SDM vol. 2A, LAR): processors show those of the limit.
        const u32 rights = static_cast<u32>(d.low >> 32) & 0x00ffff00;
        cpu.set_gpr(insn.reg, insn.operand_size, is_lar ? rights : d.limit());
    }
    return HelperResult::next;
}

HelperResult verr_verw(Cpu& cpu, const Instruction& insn) {
    Descriptor d;
    const Visibility visibility = inspect(cpu, insn, d);
    if (visibility == Visibility::fault) return HelperResult::fault;
    const bool for_write = insn.mnemonic == ZYDIS_MNEMONIC_VERW;
    set_zf(cpu, visibility == Visibility::visible &&
                    (for_write ? d.is_writable_data() : d.is_readable()));
    return HelperResult::next;
}

HelperResult arpl(Cpu& cpu, const Instruction& insn) {
    if (cpu.cb.state.code64()) return cpu.raise(Vector::ud);
    u16 selector = 0;
    if (!read_rm16(cpu, insn, selector)) return HelperResult::fault;
    const unsigned rpl = static_cast<unsigned>(cpu.gpr(insn.reg, 2)) & 3;
    const bool raised = selector_rpl(selector) < rpl;
    if (raised) {
        const u16 value = with_rpl(selector, rpl);
        if (!insn.is_memory)
            cpu.set_gpr(insn.rm, 2, value);
        else if (!write_operand(cpu, insn, &value, sizeof value))
            return HelperResult::fault;
    }
    set_zf(cpu, raised);
    return HelperResult::next;
}

} // namespace gnomon::processor::soft
