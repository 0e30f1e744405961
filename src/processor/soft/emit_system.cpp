// SPDX-License-Identifier: Apache-2.0
/// @file BlockEmitter: system instructions that kernels execute so often that a call of their
/// helper would show. In blocks of 64-bit code that are not single steps; elsewhere the helpers do
/// them, and whatever is not the common case here.
///
/// All keep the host's flags, and are complete once they begin: no look at privilege is needed,
/// since blocks for a supervisor's set run at CPL 0 (Mode::of).
#include "processor/soft/emission.h"

namespace gnomon::processor::soft {

namespace h = Xbyak::util;

namespace {

constexpr u32 rflags_slot = static_cast<u32>(offsetof(Cpu, cb.state.rflags));

bool is_supervisor(TlbSet set) { return set == TlbSet::supervisor || set == TlbSet::supervisor_ac; }

} // namespace

/// Clears the bits of `r` that the mask behind GS lacks.
void BlockEmitter::pick_bits(const Xbyak::Reg64& r, u32 mask_slot) {
    m.db(0x65), m.pext(r, r, m.ptr[Xbyak::RegExp(std::size_t{mask_slot})]);
    m.db(0x65), m.pdep(r, r, m.ptr[Xbyak::RegExp(std::size_t{mask_slot})]);
}

BlockEmitter::InLine BlockEmitter::emit_in_line(const DecodedInstruction& d) {
    if (!m_bmi2 || !m_mode.has(Mode::code64) || m_mode.has(Mode::single)) return InLine::no;
    const bool supervisor = is_supervisor(m_mode.set());
    switch (d.z.mnemonic) {
    case ZYDIS_MNEMONIC_SWAPGS:
        if (!supervisor) return InLine::no;
        emit_swapgs();
        return InLine::done;
    case ZYDIS_MNEMONIC_CLI:
        if (!supervisor) return InLine::no;
        m.load(h::r13, rflags_slot);
        pick_bits(h::r13, GNOMON_CPU(all_but_if));
        m.store(rflags_slot, h::r13);
        return InLine::done;
    case ZYDIS_MNEMONIC_STI:
        if (!supervisor) return InLine::no;
        emit_sti(d.compact);
        return InLine::done;
    case ZYDIS_MNEMONIC_CLD:
        m.load(h::r13, rflags_slot);
        pick_bits(h::r13, GNOMON_CPU(all_but_df));
        m.store(rflags_slot, h::r13);
        return InLine::done;
    case ZYDIS_MNEMONIC_PUSHFQ:
        if (d.compact.operand_size != 8 || is_checked(seg_ss, true)) return InLine::no;
        emit_pushf(d.compact);
        return InLine::done;
    case ZYDIS_MNEMONIC_CLAC:
    case ZYDIS_MNEMONIC_STAC: return supervisor ? emit_clac_stac(d) : InLine::no;
    case ZYDIS_MNEMONIC_RDTSC: // which CR4.TSD forbids beyond ring 0
        if (!supervisor && m_mode.set() != TlbSet::monitor) return InLine::no;
        emit_rdtsc();
        return InLine::done;
    default: return InLine::no;
    }
}

/// MOV from a segment register to a general one.
bool BlockEmitter::emit_segment_read(const DecodedInstruction& d) {
    const ZydisDecodedOperand& to = d.operands[0];
    if (!m_mode.has(Mode::code64) || m_mode.has(Mode::single) ||
        to.type != ZYDIS_OPERAND_TYPE_REGISTER || d.compact.reg >= segment_count)
        return false;
    const u32 slot = GNOMON_CPU(cb.state.segment) +
                     d.compact.reg * static_cast<u32>(sizeof(Segment)) +
                     static_cast<u32>(offsetof(Segment, selector));
    m.db(0x65), m.movzx(h::r13d, m.word[Xbyak::RegExp(std::size_t{slot})]);
    store_guest(gpr_number(to.reg.value), to.size == 16 ? 2 : 8, h::r13);
    return true;
}

void BlockEmitter::emit_swapgs() {
    const u32 base = segment_base_slot(seg_gs), kernel = GNOMON_CPU(cb.state.kernel_gs_base);
    m.load(h::r13, base);
    m.load(h::r14, kernel);
    m.store(kernel, h::r13);
    m.store(base, h::r14);
}

/// The helper does it where something waits for interrupts to be enabled: then the interrupt shadow
/// matters.
void BlockEmitter::emit_sti(const Instruction& i) {
    m.load(h::r13, GNOMON_CPU(poll));
    m.db(0x65),
        m.movzx(h::r14d, m.byte[Xbyak::RegExp(std::size_t{GNOMON_CPU(cb.interrupt_window)})]);
    m.store(GNOMON_CPU(rcx_save), h::rcx);
    m.lea(h::rcx, m.ptr[h::r13 + h::r14]);
    const u32 nothing_waits = m.jrcxz_later();
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    emit_helper(i, sti, false);
    const u32 done = m.jump_later();
    m.bind_short(nothing_waits);
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    m.load(h::r13, rflags_slot);
    pick_bits(h::r13, GNOMON_CPU(all_but_if));
    m.lea(h::r13, m.ptr[h::r13 + static_cast<int>(rflags::if_)]);
    m.store(rflags_slot, h::r13);
    m.bind(done);
}

void BlockEmitter::emit_pushf(const Instruction& i) {
    m.pushfq();
    m.pop(h::r14);
    pick_bits(h::r14, GNOMON_CPU(arithmetic_mask));
    m.load(h::r13, rflags_slot);
    pick_bits(h::r13, GNOMON_CPU(pushed_system_mask));
    m.lea(h::r13, m.ptr[h::r13 + h::r14]);
    m.store(GNOMON_CPU(scratch0), h::r13);
    constexpr unsigned size = 8;
    stack_address(size);
    AccessSite& site = begin_access(i, size, false, true, seg_ss);
    m.lea(h::r14, m.ptr[h::r14 + h::r13]);
    m.load(h::r13, GNOMON_CPU(scratch0));
    m.mov(m.ptr[h::r14], h::r13);
    stack_lea(h::r15, -static_cast<int>(size));
    end_access(site);
}

/// Goes on in the translations of the set that the new AC asks for, by its fetch entries, if these
/// are of this mode but for the set; the helper does the rest. Where AC is what it will be, there
/// is nothing to do: SMAP is in force where the set says so.
BlockEmitter::InLine BlockEmitter::emit_clac_stac(const DecodedInstruction& d) {
    const bool set_ac = d.z.mnemonic == ZYDIS_MNEMONIC_STAC;
    const bool has_ac = m_mode.set() == TlbSet::supervisor_ac;
    if (!has_ac && !set_ac) return InLine::done;
    if (has_ac && set_ac) return InLine::no;
    const Instruction& i = d.compact;
    const TlbSet other = set_ac ? TlbSet::supervisor_ac : TlbSet::supervisor;
    const u32 wanted = (m_mode.bits & ~(Mode::set_mask | Mode::hooked)) | static_cast<u32>(other);
    m.store(GNOMON_CPU(rcx_save), h::rcx);
    m.load(h::rcx, tlb_offset(other, offsetof(Tlb, fetch_mode)));
    m.lea(h::rcx, m.ptr[h::rcx - static_cast<int>(wanted)]);
    const u32 same_mode = m.jrcxz_later();
    const u32 helper = m.here();
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    emit_helper(i, clac_stac, false);
    m.ud2(); // it never goes on here
    m.bind_short(same_mode);
    if (!set_ac) { // with SMAP off, AC = 0 asks for the same set
        m.load(h::r13, GNOMON_CPU(cb.state.cr4));
        m.db(0x65),
            m.pext(h::rcx, h::r13, m.ptr[Xbyak::RegExp(std::size_t{GNOMON_CPU(smap_mask)})]);
        m.lea(h::rcx, m.ptr[h::rcx - 1]);
        const u32 smap = m.jrcxz_later();
        m.jump_to(helper);
        m.bind_short(smap);
    }
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    m.load(h::r13, rflags_slot);
    pick_bits(h::r13, GNOMON_CPU(all_but_ac));
    if (set_ac) m.lea(h::r13, m.ptr[h::r13 + static_cast<int>(rflags::ac)]);
    m.store(rflags_slot, h::r13);
    load_page_base(h::r13);
    m.lea(h::r13, m.ptr[h::r13 + i.page_offset + i.length]);
    indirect_jump(nullptr, other);
    return InLine::block_ends;
}

/// As guest_tsc.
void BlockEmitter::emit_rdtsc() {
    constexpr u32 half = 32;
    m.store(GNOMON_CPU(rcx_save), h::rcx);
    const u32 again = m.here();
    m.load(h::r13, GNOMON_CPU(cb.tsc_offset));
    m.rdtsc();
    m.mov(h::r14d, half);
    m.shlx(h::rdx, h::rdx, h::r14);
    m.lea(h::rax, m.ptr[h::rax + h::rdx]);
    m.store(GNOMON_CPU(cb.tsc_read), h::rax);
    m.load(h::r14, GNOMON_CPU(cb.tsc_offset));
    m.not_(h::r14);
    m.lea(h::rcx, m.ptr[h::r13 + h::r14 + 1]);
    const u32 same = m.jrcxz_later();
    m.jump_to(again); // a handler that changed the offset meanwhile did not know of this reading
    m.bind_short(same);
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    m.lea(h::rax, m.ptr[h::rax + h::r13]);
    m.rorx(h::rdx, h::rax, half);
    m.mov(h::edx, h::edx);
    m.mov(h::eax, h::eax);
}

/// The near indirect JMP in monitor mode. What the handler was entered for in this run it goes on
/// with at once; after an exit there may be something to deliver first, and the helper does it.
void BlockEmitter::emit_leave_monitor_mode(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const i64 next = i64{i.page_offset} + i.length;
    if (!m_bmi2 || !m_mode.has(Mode::code64) || m_mode.has(Mode::single)) {
        emit_helper(i, leave_monitor_mode, false);
        go_to(next);
        return;
    }
    std::vector<u32> to_helper;
    const auto helper_unless_zero = [&] {
        const u32 zero = m.jrcxz_later();
        to_helper.push_back(m.jump_later());
        m.bind_short(zero);
    };
    const auto helper_if_zero = [&] { to_helper.push_back(m.jump_if_rcx_zero_later()); };
    const auto load_byte = [&](u32 slot) {
        m.db(0x65), m.movzx(h::ecx, m.byte[Xbyak::RegExp(std::size_t{slot})]);
    };
    const auto store_byte = [&](u32 slot, int value) {
        m.db(0x65), m.mov(m.byte[Xbyak::RegExp(std::size_t{slot})], value);
    };
    branch_target_to_r13(d);
    m.store(GNOMON_CPU(rcx_save), h::rcx);
    load_byte(GNOMON_CPU(handler_entered));
    helper_if_zero();
    load_byte(GNOMON_CPU(cb.monitor_mode_by_hook));
    const u32 by_vector = m.jump_if_rcx_zero_later();

    m.load(h::rcx, GNOMON_CPU(hook_rip));
    m.not_(h::rcx);
    m.lea(h::rcx, m.ptr[h::r13 + h::rcx + 1]);
    helper_unless_zero();
    m.load(h::r14, GNOMON_CPU(hook_continuation));
    store_byte(GNOMON_CPU(cb.monitor_mode), 0);
    store_byte(GNOMON_CPU(cb.monitor_mode_by_hook), 0);
    store_byte(GNOMON_CPU(hook_passed), 1);
    pick_bits(h::r13, GNOMON_CPU(page_bits));
    m.store(GNOMON_CPU(page_base), h::r13);
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    m.jmp(h::r14);

    // To a handler of the guest's in ring 0, with SMAP in force.
    m.bind(by_vector);
    const u32 wanted =
        (m_mode.bits & ~(Mode::set_mask | Mode::hooked)) | static_cast<u32>(TlbSet::supervisor);
    m.load(h::rcx, tlb_offset(TlbSet::supervisor, offsetof(Tlb, fetch_mode)));
    m.lea(h::rcx, m.ptr[h::rcx - static_cast<int>(wanted)]);
    helper_unless_zero();
    m.load(h::r14, rflags_slot);
    m.db(0x65), m.pext(h::rcx, h::r14, m.ptr[Xbyak::RegExp(std::size_t{GNOMON_CPU(ac_mask)})]);
    helper_unless_zero();
    m.load(h::r14, GNOMON_CPU(cb.state.cr4));
    m.db(0x65), m.pext(h::rcx, h::r14, m.ptr[Xbyak::RegExp(std::size_t{GNOMON_CPU(smap_mask)})]);
    helper_if_zero();
    store_byte(GNOMON_CPU(cb.monitor_mode), 0);
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    indirect_jump(nullptr, TlbSet::supervisor);

    for (const u32 jump : to_helper)
        m.bind(jump);
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    emit_helper(i, leave_monitor_mode, false);
    go_to(next);
}

} // namespace gnomon::processor::soft
