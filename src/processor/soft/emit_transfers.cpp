// SPDX-License-Identifier: Apache-2.0
/// @file BlockEmitter: jumps, calls and returns.
#include "processor/soft/emission.h"

#include "base/verify.h"

#include <algorithm>

namespace gnomon::processor::soft {

namespace h = Xbyak::util;

// ---------------------------------------------------------------- control transfers

void BlockEmitter::leave_with_offset(i64 offset) {
    m.mov(h::r13, static_cast<u64>(offset));
    m.jump_to(m_thunks.dispatch_offset);
}

BranchSite& BlockEmitter::branch_site(const Instruction& i) {
    BranchSite& site = *m_cache.allocate<BranchSite>();
    site.page_offset = i.page_offset;
    return site;
}

BlockEmitter::Target BlockEmitter::branch_target(const Instruction& i) {
    Target target;
    target.offset = i64{i.page_offset} + i.length + static_cast<i64>(i.immediate);
    target.narrow = !i.code64 && i.operand_size == 2;
    if (!is_near(target)) target.site = &branch_site(i);
    return target;
}

void BlockEmitter::branch_to(const Target& target, bool polled) {
    if (is_near(target))
        m_links.push_back({m.jump_later(), target, polled});
    else
        far_jump_to(target);
}

void BlockEmitter::go_to(i64 offset) { branch_to({offset, false, nullptr}); }

/// To an address in another page, or anywhere from a block of one instruction.
void BlockEmitter::far_jump_to(const Target& target) {
    m.load(h::r13, GNOMON_CPU(page_base));
    m.mov(h::r14, static_cast<u64>(target.offset));
    if (m_mode.has(Mode::code64))
        m.lea(h::r13, m.ptr[h::r13 + h::r14]);
    else
        m.lea(h::r13d, m.ptr[h::r13 + h::r14]);
    if (target.narrow) m.movzx(h::r13d, h::r13w);
    indirect_jump(target.site);
}

void BlockEmitter::jump_if(const Instruction& i, u8 condition) {
    const Target target = branch_target(i);
    m_links.push_back({m.jump_if_later(condition), target});
}

/// Jumps to R13 = RIP, keeping the flags, by way of the fetch TLB and the page's entry table. What
/// misses there leaves: whether the branch may go to its target is looked at only then, since what
/// the TLB holds has been looked at.
void BlockEmitter::indirect_jump(const BranchSite* site, TlbSet set) {
    const bool single = m_mode.has(Mode::single);
    const auto leave = [&] {
        if (site == nullptr) {
            m.jump_to(single ? m_thunks.dispatch : m_thunks.chain);
            return;
        }
        m.mov(h::r14, reinterpret_cast<std::uintptr_t>(site));
        m.jump_to(single ? m_thunks.branch : m_thunks.chain_branch);
    };
    if (single || !m_bmi2) {
        leave();
        return;
    }
    const u32 tag = tlb_offset(set, offsetof(Tlb, fetch_tag));
    tlb_index(h::r14, h::r13);
    m.store(GNOMON_CPU(rcx_save), h::rcx);
    m.load_indexed(h::rcx, tag, h::r14);
    m.lea(h::rcx, m.ptr[h::r13 + h::rcx]);
    m.store(GNOMON_CPU(scratch0), h::rcx);
    m.db(0x65), m.pext(h::rcx, h::rcx, m.ptr[Xbyak::RegExp(std::size_t{GNOMON_CPU(page_mask)})]);
    const u32 hit = m.jrcxz_later();
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    leave();
    m.bind_short(hit);
    m.load_indexed(h::rcx, tlb_offset(set, offsetof(Tlb, fetch_page)), h::r14);
    m.store(GNOMON_CPU(page_base), h::rcx);
    m.load(h::rcx, GNOMON_CPU(rcx_save));
    m.load(h::r13, GNOMON_CPU(scratch0));
    m.load_indexed(h::r14, tlb_offset(set, offsetof(Tlb, fetch_code)), h::r14);
    m.mov(h::r14d, m.ptr[h::r14 + h::r13 * 4]);
    m.jmp(h::r14);
}

/// R13 = the `size` bytes that the access found.
void BlockEmitter::load_branch_target(unsigned size) {
    if (size == 8)
        m.mov(h::r13, m.ptr[h::r14 + h::r13]);
    else if (size == 4)
        m.mov(h::r13d, m.ptr[h::r14 + h::r13]);
    else
        m.movzx(h::r13d, m.word[h::r14 + h::r13]);
}

/// R13 = target of a near branch through a register or memory.
void BlockEmitter::branch_target_to_r13(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const ZydisDecodedOperand& o = d.operands[0];
    const unsigned size = o.size / 8U;
    if (o.type == ZYDIS_OPERAND_TYPE_MEMORY && m_memory_access.is_grouped()) {
        const int at = load_group(m_memory_access);
        m.mov(h::r13, m.ptr[h::r14 + at]);
        return;
    }
    if (o.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        emit_address(i, true);
        AccessSite& site = begin_access(i, size, true, false, i.segment);
        load_branch_target(size);
        end_access(site);
        return;
    }
    load_guest(h::r13, gpr_number(o.reg.value));
    if (size == 4) m.mov(h::r13d, h::r13d);
    if (size == 2) m.movzx(h::r13d, h::r13w);
}

void BlockEmitter::emit_jump(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const i64 next = i64{i.page_offset} + i.length;
    if (d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        emit_helper(i, far_jump, false);
        go_to(next);
        return;
    }
    if (d.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        branch_to(branch_target(i));
        return;
    }
    if (m_mode.set() == TlbSet::monitor) {
        emit_helper(i, leave_monitor_mode, false);
        go_to(next);
        return;
    }
    branch_target_to_r13(d);
    indirect_jump(&branch_site(i));
}

void BlockEmitter::emit_call(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const i64 next = i64{i.page_offset} + i.length;
    const unsigned size = i.code64 ? 8 : i.operand_size;
    if (d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        emit_helper(i, far_call, false);
        go_to(next);
        return;
    }
    const bool direct = d.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    const Target target = direct ? branch_target(i) : Target{};
    BranchSite* const branch = direct ? target.site : &branch_site(i);
    if (branch != nullptr) {
        branch->stack_delta = -static_cast<i32>(size);
        branch->pushed_size = static_cast<u8>(size);
    }
    if (!direct) {
        branch_target_to_r13(d);
        m.store(GNOMON_CPU(branch_target), h::r13);
        m_group_before = m_group_in_r14;
    }
    if (m_stack_access.is_grouped()) {
        const int at = load_group(m_stack_access);
        if (branch != nullptr) {
            m.mov(h::r13, m.ptr[h::r14 + at]);
            m.store(GNOMON_CPU(overwritten), h::r13);
        }
        m.load(h::r13, GNOMON_CPU(page_base));
        m.lea(h::r13, m.ptr[h::r13 + static_cast<int>(next)]);
        m.mov(m.ptr[h::r14 + at], h::r13);
        stack_lea(h::r15, -8);
        // Only a chance to look at what is pending is left out: loops have others.
        finish_call(target, branch, direct, false);
        return;
    }
    const auto sized = [size](const Xbyak::Reg64& r) {
        return size == 8   ? Xbyak::Reg(r)
               : size == 4 ? Xbyak::Reg(r.cvt32())
                           : Xbyak::Reg(r.cvt16());
    };
    stack_address(size);
    if (!m_mode.has(Mode::flat)) add_segment_base(seg_ss);
    AccessSite& site = begin_access(i, size, false, true, seg_ss);
    site.completes = false;
    site.indirect_call = !direct;
    m.lea(h::r14, m.ptr[h::r14 + h::r13]);
    if (branch != nullptr) {
        m.mov(sized(h::r13), m.ptr[h::r14]);
        m.store(GNOMON_CPU(overwritten), h::r13);
    }
    m.load(h::r13, GNOMON_CPU(page_base));
    m.lea(h::r13, m.ptr[h::r13 + static_cast<int>(next)]);
    m.mov(m.ptr[h::r14], sized(h::r13));
    stack_lea(h::r15, -static_cast<int>(size));
    end_access(site);
    finish_call(target, branch, direct, true); // the push may have left an exit, or changed code
}

/// What follows the push of a near CALL: the branch.
void BlockEmitter::finish_call(const Target& target, const BranchSite* branch, bool direct,
                               bool polled) {
    if (direct) {
        branch_to(target, polled);
        return;
    }
    m.load(h::r13, GNOMON_CPU(branch_target));
    indirect_jump(branch);
}

void BlockEmitter::emit_return(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const unsigned size = i.code64 ? 8 : i.operand_size;
    if (d.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        emit_helper(i, far_return, false);
        go_to(i64{i.page_offset} + i.length);
        return;
    }
    const int popped = static_cast<int>(i.immediate & 0xffff);
    if (m_stack_access.is_grouped()) {
        const int at = load_group(m_stack_access);
        m.mov(h::r13, m.ptr[h::r14 + at]);
        stack_lea(h::r15, static_cast<int>(size) + popped);
    } else {
        stack_lea(h::r13, 0);
        if (!m_mode.has(Mode::flat)) add_segment_base(seg_ss);
        AccessSite& site = begin_access(i, size, true, false, seg_ss);
        load_branch_target(size);
        stack_lea(h::r15, static_cast<int>(size) + popped);
        end_access(site);
    }
    BranchSite& branch = branch_site(i);
    branch.stack_delta = static_cast<i32>(size) + popped;
    indirect_jump(&branch);
}

void BlockEmitter::emit_loop(const DecodedInstruction& d) {
    const Instruction& i = d.compact;
    const i64 next = i64{i.page_offset} + i.length;
    const bool wide = i.address_size == 8;
    const bool counts = d.z.mnemonic == ZYDIS_MNEMONIC_LOOP ||
                        d.z.mnemonic == ZYDIS_MNEMONIC_LOOPE ||
                        d.z.mnemonic == ZYDIS_MNEMONIC_LOOPNE;
    const bool narrow = i.address_size == 2; // CX, which JRCXZ cannot test on this host
    if (counts) {
        if (wide)
            m.lea(h::rcx, m.ptr[h::rcx - 1]);
        else if (narrow)
            m.lea(h::cx, m.ptr[h::rcx - 1]);
        else
            m.lea(h::ecx, m.ptr[h::rcx - 1]);
    }
    if (narrow) {
        m.store(GNOMON_CPU(rcx_save), h::rcx);
        m.movzx(h::ecx, h::cx);
    }
    const auto restore = [&] {
        if (narrow) m.load(h::rcx, GNOMON_CPU(rcx_save));
    };
    if (!wide) m.db(0x67);
    const u32 zero = m.jrcxz_later();
    restore();
    const Target target = branch_target(i);
    if (!counts) {
        m_links.push_back({m.jump_later(), {next, false, nullptr}});
        m.bind_short(zero);
        restore();
        branch_to(target);
        return;
    }
    if (target.site != nullptr) target.site->counter_size = i.address_size;
    u32 flag_exit = 0;
    if (d.z.mnemonic != ZYDIS_MNEMONIC_LOOP)
        flag_exit =
            m.jump_if_later(d.z.mnemonic == ZYDIS_MNEMONIC_LOOPE ? Assembler::nz : Assembler::z);
    m_links.push_back({m.jump_later(), target});
    m.bind_short(zero);
    restore();
    if (flag_exit != 0) m.bind(flag_exit);
    go_to(next);
}

} // namespace gnomon::processor::soft
