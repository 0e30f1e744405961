// SPDX-License-Identifier: Apache-2.0
/// @file The assembler for glue code: Xbyak plus the idioms of the translated-code ABI
/// (ARCHITECTURE.md).
///
/// Host registers while translated code runs:
///   RAX RCX RDX RBX RBP RSI RDI R8-R12  the guest's registers of the same name
///   R15                                  the guest's RSP
///   R13 R14                              scratch: what the emitter knows of, or nothing
///   RSP                                  the Frame, on the host's stack
///   GS base                              the Cpu
///   RFLAGS                               the guest's arithmetic flags; DF = 0, AC = 0
///   YMM0-15, MXCSR, x87                  the guest's
#pragma once

#include "base/verify.h"
#include "processor/soft/code_cache.h"
#include "processor/soft/frame.h"
#include "processor/soft/sites.h"

#include <array>
#include <cstddef>
#include <xbyak/xbyak.h>

namespace gnomon::processor::soft {

/// Byte offset of a Cpu member: what translated code adds to GS.
#define GNOMON_CPU(member) static_cast<u32>(offsetof(::gnomon::processor::soft::Cpu, member))

constexpr u32 gpr_slot(unsigned index) {
    return static_cast<u32>(offsetof(Cpu, cb.state.gpr)) + 8 * index;
}

class Assembler : public Xbyak::CodeGenerator {
public:
    /// Assembles at the frontiers of `cache`, beginning at that of `part`.
    explicit Assembler(CodeCache& cache, CodePart part = CodePart::hot)
        : CodeGenerator(cache.memory().size(), cache.memory().data()), m_cache(cache),
          m_part(part), m_at{cache.frontier(CodePart::hot), cache.frontier(CodePart::cold)} {
        setSize(m_at[static_cast<unsigned>(part)]);
    }

    // --- parts ---
    /// What follows goes to that part, behind what was assembled there before.
    void switch_to(CodePart part) {
        m_at[static_cast<unsigned>(m_part)] = getSize();
        m_part = part;
        setSize(m_at[static_cast<unsigned>(part)]);
    }
    /// What was assembled is part of the cache from now on. @return its bytes. The last thing to
    /// call.
    std::size_t commit() {
        const std::size_t before = m_cache.used();
        switch_to(CodePart::hot);
        for (unsigned n = 0; n < code_part_count; ++n)
            m_cache.advance(static_cast<CodePart>(n), m_at[n]);
        return m_cache.used() - before;
    }

    /// Condition codes as in Jcc.
    static constexpr u8 ae = 3, z = 4, nz = 5, be = 6, a = 7;

    /// Executable address of the place about to be assembled.
    [[nodiscard]] u32 here() const { return m_cache.executable(getCurr()); }

    // --- operands behind GS ---
    void load(const Xbyak::Reg& r, u32 offset) {
        db(0x65), mov(r, ptr[Xbyak::RegExp(std::size_t{offset})]);
    }
    void store(u32 offset, const Xbyak::Reg& r) {
        db(0x65), mov(ptr[Xbyak::RegExp(std::size_t{offset})], r);
    }
    // --- operands in the frame ---
    [[nodiscard]] Xbyak::RegExp in_frame(u32 offset) const {
        return Xbyak::RegExp(Xbyak::util::rsp) + std::size_t{offset};
    }
    void load_frame(const Xbyak::Reg& r, u32 offset) { mov(r, ptr[in_frame(offset)]); }
    void store_frame(u32 offset, const Xbyak::Reg& r) { mov(ptr[in_frame(offset)], r); }

    void load_indexed(const Xbyak::Reg64& r, u32 offset, const Xbyak::Reg64& index) {
        db(0x65), mov(r, ptr[index * 8 + std::size_t{offset}]);
    }
    void jump_through(u32 offset) { db(0x65), jmp(ptr[Xbyak::RegExp(std::size_t{offset})]); }

    // --- jumps within the cache ---
    void jump_to(u32 target) {
        db(0xe9);
        dd(target - (here() + 4));
    }
    /// A jump whose rel32 is set later by `bind_here` or `patch`; returns the executable address
    /// after it.
    [[nodiscard]] u32 jump_later() {
        db(0xe9), dd(0);
        return here();
    }
    [[nodiscard]] u32 call_later() {
        db(0xe8), dd(0);
        return here();
    }
    [[nodiscard]] u32 jump_if_later(u8 condition) {
        db(0x0f), db(0x80 | condition), dd(0);
        return here();
    }
    void jump_if_to(u8 condition, u32 target) {
        const u32 after = jump_if_later(condition);
        patch(m_cache, after, target);
    }
    [[nodiscard]] u32 jrcxz_later() { // rel8
        db(0xe3), db(0);
        return here();
    }
    /// A jump if RCX = 0, whose rel32 is set later, for what seldom happens: if it does not, no
    /// branch is taken, so none enters the history that the host predicts by. The rel8 of JRCXZ
    /// leads into the middle of a NOP: its last five bytes, from the SIB byte on, are a JMP.
    [[nodiscard]] u32 jump_if_rcx_zero_later() { return seldom_later(0xe3); }
    /// Likewise a jump unless RCX = 1, which takes one from it.
    [[nodiscard]] u32 jump_unless_rcx_one_later() { return seldom_later(0xe2); }
    void bind(u32 after_jump) { patch(m_cache, after_jump, here()); }
    void bind_short(u32 after_jump) {
        VERIFY(here() - after_jump < 128);
        m_cache.writable(after_jump)[-1] = static_cast<u8>(here() - after_jump);
    }
    /// Points the rel32 that ends at `after_jump` at `target`.
    static void patch(CodeCache& cache, u32 after_jump, u32 target) {
        cache.patch(after_jump, target);
    }

    CodeCache& cache() { return m_cache; }

private:
    u32 seldom_later(u8 opcode) {
        db(opcode), db(3);
        db(0x0f), db(0x1f), db(0x84);
        return jump_later();
    }

    CodeCache& m_cache;
    CodePart m_part;
    std::array<std::size_t, code_part_count> m_at; ///< of the parts that are not assembled to now
};

/// Executable addresses of the PEXT masks of look-ups, which lie with the thunks.
struct LookUpMasks {
    u32 index = 0;  ///< address -> TLB index
    u32 page = 0;   ///< not zero iff not within one page
    u32 offset = 0; ///< offset in the page
    u32 sign = 0;   ///< 1 for negative numbers, else 0
    u32 region = 0; ///< address -> number of its region (linear_view.h)
};

/// Addresses of the fixed routines at the start of the code cache (thunks.cpp). All are jumped to,
/// none called.
struct Thunks {
    int (*run)(u64 executable_address) = nullptr; ///< enters translated code; returns a Leave value
    /// Calls a function with the guest's vector registers saved around it.
    void (*outside)(void (*function)(void*), void* argument) = nullptr;

    // These expect R14 = their site; the first also R13 = guest-virtual address of the access.
    u32 slow_access = 0;
    u32 commit = 0;
    u32 helper = 0;
    u32 extended_helper = 0;
    u32 straddle = 0;        ///< R14 = StraddleSite whose second page the fetch TLB does not show
    u32 group = 0;           ///< R13 = address of the group's first byte, R14 = GroupSite
    u32 guess = 0;           ///< R13 = address, R14 = GuessSite
    u32 link = 0;            ///< leaves with Leave::link; R13 = page offset of the target
    u32 branch = 0;          ///< leaves with Leave::branch; R13 = RIP, R14 = BranchSite
    u32 dispatch = 0;        ///< leaves with Leave::dispatch; R13 = RIP
    u32 dispatch_offset = 0; ///< likewise; R13 = offset from the page base
    // These two go on there without leaving where that is possible. Not from blocks of one
    // instruction.
    u32 chain = 0;        ///< R13 = RIP
    u32 chain_branch = 0; ///< R13 = RIP, R14 = what names the BranchSite: see on_branch
    u32 far_link = 0;     ///< R13 = RIP, R14 = FarLinkSite; entered as blocks are
    u32 entry_miss = 0;   ///< default content of entry tables; entered as blocks are
    /// By set: to the block at R13 = RIP by the fetch TLB, and has the jump cache lead there from
    /// now on. Default content of jump caches; entered as blocks are. Needs BMI2, else entry_miss.
    std::array<u32, tlb_set_count> find{};
    u32 enter = 0;      ///< goes to Cpu::next_entry, an entry as tables hold them, for state.rip
    u32 host_fault = 0; ///< where the signal handler sends a faulting instruction
    LookUpMasks masks;
    u32 leave = 0; ///< the end of all that leave; its own address is for profilers only
};

} // namespace gnomon::processor::soft
