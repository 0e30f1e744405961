// SPDX-License-Identifier: Apache-2.0
#include "processor/soft/thunks.h"

#include "processor/soft/emission.h"

namespace gnomon::processor::soft {

namespace host = Xbyak::util;

namespace {

/// Guest registers that live in host registers of the same name.
const Xbyak::Reg64* const pinned[] = {&host::rax, &host::rcx, &host::rdx, &host::rbx, nullptr,
                                      &host::rbp, &host::rsi, &host::rdi, &host::r8,  &host::r9,
                                      &host::r10, &host::r11, &host::r12};

class ThunkMaker {
public:
    ThunkMaker(CodeCache& cache, const ThunkOptions& options)
        : m(cache), m_avx(options.avx), m_avx512(options.avx512), m_bmi2(options.bmi2),
          m_keep_vectors(options.keep_vectors) {}

    Thunks make(const ThunkTargets& targets) {
        Thunks t;
        make_masks(t.masks);
        const u32 run = m.here();
        make_run();
        const u32 outside = m.here();
        make_outside();
        t.leave = m_leave_live = m.here();
        if (m_keep_vectors) save_vectors();
        m_leave_saved = m.here();
        make_leave_saved();
        t.slow_access = make_call(targets.slow_access, m_keep_vectors);
        t.commit = make_call(targets.commit, m_keep_vectors);
        t.helper = make_call(targets.helper, m_keep_vectors);
        t.extended_helper = make_call(targets.extended_helper, false);
        t.straddle = make_call(targets.straddle, m_keep_vectors);
        t.group = make_call(targets.group, m_keep_vectors);
        t.guess = make_call(targets.guess, m_keep_vectors);
        t.chain_branch = make_call(targets.branch, m_keep_vectors);

        t.enter = m.here();
        m.load(host::r13, GNOMON_CPU(cb.state.rip));
        m.push(0); // a word that the block drops
        m.jump_through(GNOMON_CPU(next_entry));

        t.chain = m.here();
        m.push(0);
        t.entry_miss = m.here();
        m.pop(host::r14);
        m.jump_to(t.chain_branch);
        t.far_link = m.here();
        m.lea(host::rsp, m.ptr[host::rsp + 8]);
        static_cast<void>(make_call(targets.far_link, m_keep_vectors));
        for (unsigned set = 0; set < tlb_set_count; ++set)
            t.find[set] =
                m_bmi2 ? make_find(static_cast<TlbSet>(set), t.masks, t.entry_miss) : t.entry_miss;

        t.dispatch_offset = m.here();
        m.load(host::r14, GNOMON_CPU(page_base));
        m.lea(host::r13, m.ptr[host::r13 + host::r14]);
        t.dispatch = m.here();
        make_leave(Leave::dispatch);

        t.link = m.here();
        m.store(GNOMON_CPU(site), host::r14);
        m.load(host::r14, GNOMON_CPU(page_base));
        m.lea(host::r13, m.ptr[host::r13 + host::r14]);
        make_leave(Leave::link);

        t.branch = m.here();
        m.store(GNOMON_CPU(site), host::r14);
        make_leave(Leave::branch);

        t.host_fault = m.here();
        make_leave(Leave::host_fault);

        m.commit();
        m.cache().seal_thunks(t.entry_miss, t.find);
        // SAFETY: `run` was assembled just now for this signature.
        t.run = reinterpret_cast<int (*)(u64)>(static_cast<std::uintptr_t>(run));
        t.outside = reinterpret_cast<void (*)(void (*)(void*), void*)>(
            static_cast<std::uintptr_t>(outside));
        return t;
    }

private:
    /// In a cache line of their own: no code is run from it.
    void make_masks(LookUpMasks& masks) {
        constexpr unsigned line = 64;
        m.align(line, false);
        const auto put = [this](u64 mask) {
            const u32 at = m.here();
            m.dq(mask);
            return at;
        };
        masks.index = put(u64{tlb_size - 1} << page_shift);
        masks.page = put(~page_offset_mask);
        masks.offset = put(page_offset_mask);
        masks.sign = put(u64{1} << 63);
        masks.region = put(u64{view_delta_count - 1} << view_region_shift);
        m.align(line, false);
    }

    void make_run() {
        for (const auto* r :
             {&host::rbp, &host::rbx, &host::r12, &host::r13, &host::r14, &host::r15})
            m.push(*r);
        m.sub(host::rsp, frame_size);
        m.store(GNOMON_CPU(next_host), host::rdi);
        make_frame();
        m.push(0); // a word that the block drops
        restore_vectors();
        restore_registers(word);
        m.load(host::r13, GNOMON_CPU(cb.state.rip));
        m.jump_through(GNOMON_CPU(next_host));
    }

    /// What stays as it is as long as translated code runs: guesses change in C++ that it does not
    /// call.
    void make_frame() {
        const auto copy = [this](u32 to, std::size_t from, std::size_t bytes) {
            for (std::size_t n = 0; n < bytes; n += 8) {
                m.load(host::rax, static_cast<u32>(view_guesses_offset + from + n));
                m.store_frame(static_cast<u32>(to + n), host::rax);
            }
        };
        copy(GNOMON_FRAME(guess_piece), offsetof(ViewGuesses, piece), sizeof(ViewGuesses::piece));
        copy(GNOMON_FRAME(guess_delta), offsetof(ViewGuesses, delta), sizeof(ViewGuesses::delta));
    }

    void make_outside() {
        m.sub(host::rsp, 8);
        save_vectors();
        m.mov(host::rax, host::rdi);
        m.mov(host::rdi, host::rsi);
        m.call(host::rax);
        restore_vectors();
        m.add(host::rsp, 8);
        m.ret();
    }

    /// Guest registers are saved; EAX = Leave value.
    void make_leave_saved() {
        m.add(host::rsp, frame_size);
        for (const auto* r :
             {&host::r15, &host::r14, &host::r13, &host::r12, &host::rbx, &host::rbp})
            m.pop(*r);
        m.ret();
    }

    void make_leave(Leave reason) {
        save_registers();
        m.store(GNOMON_CPU(resume_rip), host::r13);
        save_vectors();
        m.mov(host::eax, static_cast<u32>(reason));
        m.jump_to(m_leave_saved);
    }

    /// As Thunks::find: see there.
    u32 make_find(TlbSet set, const LookUpMasks& masks, u32 miss) {
        const auto extract = [this](const Xbyak::Reg64& to, const Xbyak::Reg64& from, u32 mask) {
            constexpr u32 length = 9; // as BlockEmitter::extract
            const auto distance = static_cast<i32>(mask - (m.here() + length));
            m.pext(to, from, m.ptr[host::rip + distance]);
        };
        const u32 begin = m.here();
        m.push(host::rcx);
        m.push(host::rdx);
        extract(host::rdx, host::r13, masks.index);
        m.load_indexed(host::rcx, tlb_offset(set, offsetof(Tlb, fetch_tag)), host::rdx);
        m.load_indexed(host::rdx, tlb_offset(set, offsetof(Tlb, fetch_code)), host::rdx);
        m.lea(host::rcx, m.ptr[host::rcx + host::r13]);
        extract(host::rcx, host::rcx, masks.page);
        const u32 hit = m.jrcxz_later();
        m.pop(host::rdx);
        m.pop(host::rcx);
        m.jump_to(miss);
        m.bind_short(hit);
        m.lea(host::rdx, m.ptr[host::rdx + host::r13 * 4]); // into the entry table
        m.mov(host::ecx, m.dword[host::rdx]);
        jump_cache_place(m);
        m.db(0x65), m.mov(m.dword[host::r14 * 4 + std::size_t{jump_cache_offset(set)}], host::ecx);
        // What comes before the table's first entry, since ~x = -x - 1.
        extract(host::r14, host::r13, masks.offset);
        m.not_(host::r14);
        m.mov(host::edx, m.dword[host::rdx + host::r14 * 4]);
        m.lea(host::r14, m.ptr[host::r13 + host::r14 + 1]); // the page
        m.db(0x65), m.mov(m.qword[host::rdx], host::r14);
        if (set == TlbSet::user) { // as TlbSetState::fill_fetch
            m.push(host::rcx);
            extract(host::rcx, host::r14, masks.region);
            m.load_indexed(host::rcx, static_cast<u32>(view_deltas_offset), host::rcx);
            m.lea(host::rcx, m.ptr[host::rcx + host::r14]);
            m.db(0x65), m.mov(m.qword[host::rdx + std::size_t{data_slot_distance}], host::rcx);
            m.pop(host::rcx);
        }
        m.mov(host::r14, host::rcx);
        m.pop(host::rdx);
        m.pop(host::rcx);
        m.jmp(host::r14);
        return begin;
    }
    u32 make_call(ThunkTarget target, bool keep_vectors) {
        const u32 begin = m.here();
        save_registers();
        if (!keep_vectors) save_vectors();
        m.load(host::rdi, GNOMON_CPU(self));
        m.mov(host::rsi, host::r13);
        m.mov(host::rdx, host::r14);
        m.mov(host::rax, reinterpret_cast<std::uintptr_t>(target));
        m.call(host::rax);
        m.test(host::eax, host::eax);
        m.jump_if_to(Assembler::nz, keep_vectors ? m_leave_live : m_leave_saved);
        if (!keep_vectors) restore_vectors();
        restore_registers();
        m.load(host::r13, GNOMON_CPU(next_r13));
        m.load(host::r14, GNOMON_CPU(next_r14));
        m.jump_through(GNOMON_CPU(next_host));
        return begin;
    }

    void save_registers() {
        for (unsigned i = 0; i < std::size(pinned); ++i)
            if (pinned[i] != nullptr) m.store(gpr_slot(i), *pinned[i]);
        m.store(gpr_slot(rsp_index), host::r15);
        for (unsigned guest = 13; guest < 16; ++guest) {
            m.load_frame(host::rax, frame_high(guest));
            m.store(gpr_slot(guest), host::rax);
        }
        m.pushfq();
        m.db(0x65), m.pop(m.qword[Xbyak::RegExp(std::size_t{GNOMON_CPU(host_flags)})]);
    }

    /// The flags by SAHF and an addition that overflows or not: POPF takes much longer.
    /// @param depth of the frame on the stack
    void restore_registers(u32 depth = 0) {
        for (unsigned guest = 13; guest < 16; ++guest) {
            m.load(host::rax, gpr_slot(guest));
            m.store_frame(depth + frame_high(guest), host::rax);
        }
        m.db(0x65), m.movzx(host::eax, m.word[Xbyak::RegExp(std::size_t{GNOMON_CPU(host_flags)})]);
        m.xchg(host::al, host::ah);
        m.and_(host::al, 8); // OF
        m.shl(host::al, 4);
        m.add(host::al, host::al);
        m.sahf();
        m.load(host::r15, gpr_slot(rsp_index));
        for (unsigned i = 0; i < std::size(pinned); ++i)
            if (pinned[i] != nullptr) m.load(*pinned[i], gpr_slot(i));
    }

    void save_vectors() {
        for (int i = 0; i < 16; ++i) {
            const std::size_t at = GNOMON_CPU(vector_spill) + 32U * static_cast<unsigned>(i);
            m.db(0x65);
            if (m_avx)
                m.vmovups(m.ptr[Xbyak::RegExp(at)], Xbyak::Ymm(i));
            else
                m.movups(m.ptr[Xbyak::RegExp(at)], Xbyak::Xmm(i));
        }
        if_avx512_in_use([this](int i) {
            m.db(0x65), m.vextractf64x4(m.ptr[zmm_high(i)], Xbyak::Zmm(i), 1);
            m.db(0x65), m.vmovaps(m.ptr[high_zmm(i)], Xbyak::Zmm(16 + i));
            if (i < 8) m.db(0x65), m.kmovq(m.qword[opmask(i)], Xbyak::Opmask(i));
        });
        if (m_avx) m.vzeroupper();
        m.db(0x65), m.stmxcsr(m.dword[Xbyak::RegExp(std::size_t{GNOMON_CPU(guest_mxcsr)})]);
        m.db(0x65), m.ldmxcsr(m.dword[Xbyak::RegExp(std::size_t{GNOMON_CPU(host_mxcsr)})]);
    }

    void restore_vectors() {
        m.db(0x65), m.ldmxcsr(m.dword[Xbyak::RegExp(std::size_t{GNOMON_CPU(guest_mxcsr)})]);
        for (int i = 0; i < 16; ++i) {
            const std::size_t at = GNOMON_CPU(vector_spill) + 32U * static_cast<unsigned>(i);
            m.db(0x65);
            if (m_avx)
                m.vmovups(Xbyak::Ymm(i), m.ptr[Xbyak::RegExp(at)]);
            else
                m.movups(Xbyak::Xmm(i), m.ptr[Xbyak::RegExp(at)]);
        }
        if_avx512_in_use([this](int i) {
            m.db(0x65), m.vinsertf64x4(Xbyak::Zmm(i), Xbyak::Zmm(i), m.ptr[zmm_high(i)], 1);
            m.db(0x65), m.vmovaps(Xbyak::Zmm(16 + i), m.ptr[high_zmm(i)]);
            if (i < 8) m.db(0x65), m.kmovq(Xbyak::Opmask(i), m.qword[opmask(i)]);
        });
    }

    /// What the guest's state of AVX-512 needs, if it has any. Flags are lost.
    template <class Each>
    void if_avx512_in_use(Each&& each) {
        if (!m_avx512) return;
        m.db(0x65), m.cmp(m.byte[Xbyak::RegExp(std::size_t{GNOMON_CPU(avx512_in_use)})], 0);
        const u32 unused = m.jump_if_later(Assembler::z);
        for (int i = 0; i < 16; ++i)
            each(i);
        m.bind(unused);
    }
    static Xbyak::RegExp zmm_high(int i) {
        return {std::size_t{GNOMON_CPU(cb.state.extended.zmm_high)} + 32U * static_cast<u32>(i)};
    }
    static Xbyak::RegExp high_zmm(int i) {
        return {std::size_t{GNOMON_CPU(cb.state.extended.high_zmm)} + 64U * static_cast<u32>(i)};
    }
    static Xbyak::RegExp opmask(int i) {
        return {std::size_t{GNOMON_CPU(cb.state.extended.opmask)} + 8U * static_cast<u32>(i)};
    }

    static constexpr unsigned rsp_index = 4;
    static constexpr u32 word = 8;
    /// With what makes RSP, after the return address and six registers, a multiple of 16.
    static constexpr u32 frame_size = sizeof(Frame) + 8;
    Assembler m;
    bool m_avx, m_avx512, m_bmi2, m_keep_vectors;
    u32 m_leave_live = 0, m_leave_saved = 0;
};

} // namespace

Thunks make_thunks(CodeCache& cache, const ThunkTargets& targets, const ThunkOptions& options) {
    return ThunkMaker(cache, options).make(targets);
}

} // namespace gnomon::processor::soft
