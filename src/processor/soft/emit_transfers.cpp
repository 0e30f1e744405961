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

/// Out of translated code, to R13 = RIP, if the branch of `site` may go there.
void BlockEmitter::leave_for(const BranchSite* site) {
    const bool single = m_mode.has(Mode::single);
    if (site == nullptr) {
        m.jump_to(single ? m_thunks.dispatch : m_thunks.chain);
        return;
    }
    m.mov(h::r14, reinterpret_cast<std::uintptr_t>(site));
    m.jump_to(single ? m_thunks.branch : m_thunks.chain_branch);
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

/// To an address in another page, or anywhere from a block of one instruction. Once the target is
/// known the jump leads straight to its entry, which compares.
void BlockEmitter::far_jump_to(const Target& target, HostJump kind) {
    load_page_base(h::r13);
    const bool wide = m_mode.has(Mode::code64);
    if (fits_i32(target.offset)) {
        const auto offset = static_cast<int>(target.offset);
        m.lea(wide ? Xbyak::Reg(h::r13) : Xbyak::Reg(h::r13d), m.ptr[h::r13 + offset]);
    } else {
        m.mov(h::r14, static_cast<u64>(target.offset));
        m.lea(wide ? Xbyak::Reg(h::r13) : Xbyak::Reg(h::r13d), m.ptr[h::r13 + h::r14]);
    }
    if (target.narrow) m.movzx(h::r13d, h::r13w);
    if (target.narrow || !has_base_slot()) {
        indirect_jump(target.site, kind);
        return;
    }
    FarLinkSite* const site = m_cache.allocate<FarLinkSite>();
    site->branch = target.site;
    if (kind == HostJump::call) {
        site->jump = m.call_later();
    } else {
        VERIFY(kind == HostJump::jump);
        push_site(target.site);
        site->jump = m.jump_later();
    }
    m_far_links.push_back(site);
}

void BlockEmitter::jump_if(const Instruction& i, u8 condition) {
    const Target target = branch_target(i);
    m_links.push_back({m.jump_if_later(condition), target});
}

/// Jumps to R13 = RIP, keeping the flags, by the jump cache. The block that it names compares where
/// it is entered, so what misses goes there too, and on by the fetch TLB (Thunks::find). What that
/// misses leaves: whether the branch may go to its target is looked at only then, since what the
/// TLB holds has been looked at.
void BlockEmitter::indirect_jump(const BranchSite* site, TlbSet set, HostJump kind) {
    if (m_mode.has(Mode::single) || !m_bmi2) {
        leave_for(site);
        return;
    }
    jump_cache_place(m);
    m.db(0x65), m.mov(h::r14d, m.dword[h::r14 * 4 + std::size_t{jump_cache_offset(set)}]);
    // With a word on the host's stack that the block drops, and that names the site.
    if (kind == HostJump::call) {
        m.call(h::r14);
        return;
    }
    push_site(site);
    if (kind == HostJump::jump) {
        m.jmp(h::r14);
    } else { // goes where it is told, and is predicted to go behind the last CALL
        m.push(h::r14);
        m.ret();
    }
}

void BlockEmitter::push_site(const BranchSite* site) {
    m.push(static_cast<int>(reinterpret_cast<std::uintptr_t>(site)));
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
        m.mov(h::r13, m.ptr[grouped_operand(i)]);
        return;
    }
    if (o.type == ZYDIS_OPERAND_TYPE_MEMORY && size == 8)
        if (const auto place = view_place(i)) {
            m.mov(h::r13, m.ptr[expression(*place)]);
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
        emit_leave_monitor_mode(d);
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
        const Xbyak::RegExp at = grouped_place(m_stack_access, h::r15, -8);
        if (branch != nullptr) {
            m.mov(h::r13, m.ptr[at]);
            m.store(GNOMON_CPU(overwritten), h::r13);
        }
        load_page_base(h::r13);
        m.lea(h::r13, m.ptr[h::r13 + static_cast<int>(next)]);
        m.mov(m.ptr[at], h::r13);
        stack_lea(h::r15, -8);
        // Only a chance to look at what is pending is left out: loops have others.
        call_tail(d, target, branch, false);
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
    load_page_base(h::r13);
    m.lea(h::r13, m.ptr[h::r13 + static_cast<int>(next)]);
    m.mov(m.ptr[h::r14], sized(h::r13));
    stack_lea(h::r15, -static_cast<int>(size));
    end_access(site);
    call_tail(d, target, branch, true); // the push may have left an exit, or have changed code
}

/// What follows the push of a near CALL: the branch, as a host CALL. Nothing returns by the host's
/// stack: the return address that the host pushes is dropped at once, and RET computes where it
/// goes. What remains is the host's prediction that a RET goes to the pad behind the CALL; so all
/// translations of one guest CALL share one host CALL, whose target is polled.
void BlockEmitter::call_tail(const DecodedInstruction& d, const Target& target,
                             const BranchSite* branch, bool polled) {
    const Instruction& i = d.compact;
    const bool direct = d.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    const auto branch_on = [&](HostJump kind) {
        const bool call = kind == HostJump::call;
        if (!direct) {
            m.load(h::r13, GNOMON_CPU(branch_target));
            indirect_jump(branch, kind);
        } else if (!is_near(target)) {
            far_jump_to(target, kind);
        } else {
            m_links.push_back({call ? m.call_later() : m.jump_later(), target, polled, call});
        }
    };
    const u32 next = u32{i.page_offset} + i.length;
    if (!predicts_returns() || next >= page_size) {
        branch_on(HostJump::jump);
        return;
    }
    const auto return_offset = static_cast<u16>(next);
    if (const auto known = m_page.calls.find(return_offset); known != m_page.calls.end()) {
        if (known->second.page_offset == i.page_offset)
            m.jump_to(known->second.begin);
        else
            branch_on(HostJump::jump); // instructions overlap: returns from one are predicted
        return;
    }
    CallTail tail;
    tail.page_offset = i.page_offset;
    tail.site = branch;
    tail.begin = m.here();
    branch_on(HostJump::call);
    tail.pad = m.here();
    m.jump_to(m_thunks.entry_miss); // until there is an entry
    m_cache.add_call(m_page, return_offset, tail);
    m_new_return_offset = return_offset;
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
        m.mov(h::r13, m.ptr[grouped_place(m_stack_access, h::r15, 0)]);
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
    indirect_jump(&branch, predicts_returns() ? HostJump::ret : HostJump::jump);
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
