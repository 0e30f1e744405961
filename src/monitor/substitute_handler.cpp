// SPDX-License-Identifier: Apache-2.0
#include "monitor/substitute_handler.h"

#include <bit>
#include <cstddef>
#include <xbyak/xbyak.h>

namespace gnomon::monitor {

namespace {

namespace h = Xbyak::util;

class HandlerAssembler : public Xbyak::CodeGenerator {
public:
    explicit HandlerAssembler(std::span<u8> code) : CodeGenerator(code.size(), code.data()) {}

    HandlerLayout assemble() {
        HandlerLayout layout;
        layout.syscall = getSize();
        entry(offsetof(HandlerData, guest_lstar), true, layout.syscall_hypercall);
        align(16);
        layout.cstar = getSize();
        entry(offsetof(HandlerData, guest_cstar), false, layout.cstar_hypercall);
        align(16);
        layout.sysenter = getSize();
        entry(offsetof(HandlerData, guest_sysenter), false, layout.sysenter_hypercall);
        align(16);
        layout.returned = getSize();
        exit(layout.return_hypercall);
        layout.end = getSize();
        return layout;
    }

private:
    void load(const Xbyak::Reg64& r, std::size_t member) { rip_relative(0x8b, r, member); }
    void store(std::size_t member, const Xbyak::Reg64& r) { rip_relative(0x89, r, member); }
    void address(const Xbyak::Reg64& r, std::size_t member) { rip_relative(0x8d, r, member); }
    /// REX.W opcode /r with [RIP + disp32] naming handler_code_size + member.
    void rip_relative(u8 opcode, const Xbyak::Reg64& r, std::size_t member) {
        db(0x48U | (r.getIdx() >= 8 ? 4U : 0U));
        db(opcode);
        db(static_cast<u32>(r.getIdx() & 7) << 3 | 5U);
        dd(static_cast<u32>(handler_code_size + member - (getSize() + 4)));
    }
    void jump_through(std::size_t member) { // FF /4 [RIP + disp32]: leaves monitor mode
        db(0xff);
        db(0x25);
        dd(static_cast<u32>(handler_code_size + member - (getSize() + 4)));
    }

    void save() {
        store(offsetof(HandlerData, save_rax), h::rax);
        store(offsetof(HandlerData, save_rcx), h::rcx);
        lahf();
        seto(h::al);
        store(offsetof(HandlerData, save_flags), h::rax);
        load(h::rax, offsetof(HandlerData, save_rax));
    }
    void restore() {
        load(h::rax, offsetof(HandlerData, save_flags));
        add(h::al, 127); // OF from the saved byte
        sahf();
        load(h::rcx, offsetof(HandlerData, save_rcx));
        load(h::rax, offsetof(HandlerData, save_rax));
    }

    void save_more() {
        store(offsetof(HandlerData, save_rdx), h::rdx);
        store(offsetof(HandlerData, save_rbx), h::rbx);
    }
    void restore_more() {
        load(h::rdx, offsetof(HandlerData, save_rdx));
        load(h::rbx, offsetof(HandlerData, save_rbx));
    }

    static auto at(std::size_t member) { return h::rbx + static_cast<int>(member); }

    void load_task(const Xbyak::Reg64& r) {
        load(r, offsetof(HandlerData, current_pointer));
        mov(r, ptr[r]);
    }
    /// RBX = the PendingCall of the task in `task`; changes `scratch`.
    void find_pending(const Xbyak::Reg64& task, const Xbyak::Reg64& scratch) {
        mov(scratch, pending_slot_factor);
        mov(h::rbx, task);
        imul(h::rbx, scratch);
        shr(h::rbx, 64 - handler_pending_bits);
        shl(h::rbx, std::countr_zero(sizeof(PendingCall)));
        address(scratch, offsetof(HandlerData, pending));
        add(h::rbx, scratch);
    }
    /// RAX = the time; changes RDX.
    void read_time() {
        rdtsc();
        shl(h::rdx, 32);
        or_(h::rax, h::rdx);
    }

    /// RBX = the ring's next event and RDX = ring_head behind it; or to `full`. Changes RCX.
    void next_event(Xbyak::Label& full) {
        load(h::rcx, offsetof(HandlerData, ring_head));
        load(h::rbx, offsetof(HandlerData, ring_tail));
        lea(h::rdx, ptr[h::rcx + 1]);
        sub(h::rcx, h::rbx);
        cmp(h::rcx, handler_ring_size);
        jae(full, T_NEAR);
        lea(h::rcx, ptr[h::rdx - 1]);
        and_(h::ecx, handler_ring_size - 1);
        imul(h::rcx, h::rcx, static_cast<int>(sizeof(HandlerEvent)));
        address(h::rbx, offsetof(HandlerData, ring));
        add(h::rbx, h::rcx);
    }
    /// The members that all events have, but for the number in EAX, and its publication. RDX =
    /// ring_head behind it. Changes RAX, RCX and RDX.
    void finish_event(HandlerEvent::Kind kind) {
        mov(ptr[at(offsetof(HandlerEvent, number))], h::eax);
        mov(dword[at(offsetof(HandlerEvent, kind))], static_cast<u32>(kind));
        load_task(h::rcx);
        mov(ptr[at(offsetof(HandlerEvent, task))], h::rcx);
        load(h::rcx, offsetof(HandlerData, cr3));
        mov(ptr[at(offsetof(HandlerEvent, cr3))], h::rcx);
        mov(h::rcx, h::rdx);
        read_time();
        mov(ptr[at(offsetof(HandlerEvent, tsc))], h::rax);
        store(offsetof(HandlerData, ring_head), h::rcx); // published last
    }

    void hypercall(u64& behind) {
        restore();
        db(0x0f), db(0x01), db(0xc1); // VMCALL
        behind = getSize();
    }
    void go_on(std::size_t target) {
        restore();
        jump_through(target);
    }

    void entry(std::size_t target, bool counted, u64& behind_hypercall) {
        if (!counted) {
            db(0x0f), db(0x01), db(0xc1); // VMCALL
            behind_hypercall = getSize();
            jump_through(target);
            return;
        }
        Xbyak::Label to_monitor, to_monitor_more, done, done_more, log, log_more, occupied;
        save();
        // The number is 32 bits wide: the entry code sign-extends EAX.
        mov(h::eax, h::eax);
        cmp(h::eax, handler_call_numbers);
        jae(to_monitor, T_NEAR);
        address(h::rcx, offsetof(HandlerData, calls));
        inc(qword[h::rcx + h::rax * 8]);
        address(h::rcx, offsetof(HandlerData, action));
        movzx(h::ecx, byte[h::rcx + h::rax]);
        test(h::ecx, h::ecx);
        jz(done, T_NEAR);
        cmp(h::ecx, static_cast<u32>(CallAction::log));
        je(log, T_NEAR);
        cmp(h::ecx, static_cast<u32>(CallAction::sum));
        jne(to_monitor, T_NEAR);

        save_more();
        load_task(h::rcx);
        test(h::rcx, h::rcx);
        jz(log_more, T_NEAR);
        find_pending(h::rcx, h::rdx);
        mov(h::rdx, ptr[at(offsetof(PendingCall, task))]);
        test(h::rdx, h::rdx);
        jnz(occupied, T_NEAR);
        mov(ptr[at(offsetof(PendingCall, number))], h::rax);
        read_time();
        mov(ptr[at(offsetof(PendingCall, tsc))], h::rax);
        mov(ptr[at(offsetof(PendingCall, task))], h::rcx); // published last
        L(done_more);
        restore_more();
        L(done);
        go_on(target);

        L(occupied); // by another task; or by this one, whose last call has not been seen to return
        cmp(h::rdx, h::rcx);
        jne(log_more, T_NEAR);
        // Where the ring is full: the hypercall lets the monitor empty it and take this call too.
        // Nothing is lost.
        L(to_monitor_more);
        restore_more();
        L(to_monitor);
        hypercall(behind_hypercall);
        jump_through(target);

        L(log);
        save_more();
        L(log_more);
        next_event(to_monitor_more);
        load(h::rcx, offsetof(HandlerData, save_rdx));
        const auto arg = [&](int n) { return ptr[at(offsetof(HandlerEvent, args)) + 8 * n]; };
        mov(arg(0), h::rdi);
        mov(arg(1), h::rsi);
        mov(arg(2), h::rcx);
        mov(arg(3), h::r10);
        mov(arg(4), h::r8);
        mov(arg(5), h::r9);
        load(h::rcx, offsetof(HandlerData, save_rcx));
        mov(ptr[at(offsetof(HandlerEvent, user_rip))], h::rcx);
        mov(ptr[at(offsetof(HandlerEvent, user_rsp))], h::rsp);
        finish_event(HandlerEvent::entry);
        jmp(done_more, T_NEAR);
    }

    void exit(u64& behind_hypercall) {
        constexpr std::size_t target = offsetof(HandlerData, return_hook);
        constexpr u32 user_code_selector = 0x33; // __USER_CS: the task returns to 64-bit code
        Xbyak::Label to_monitor, to_monitor_more, done, done_more, not_pending;
        save();
        load(h::rax, offsetof(HandlerData, returned.orig_ax));
        mov(h::eax, h::eax); // the number is EAX, as on entry
        cmp(h::eax, handler_call_numbers);
        jae(to_monitor, T_NEAR);
        address(h::rcx, offsetof(HandlerData, return_action));
        cmp(byte[h::rcx + h::rax], static_cast<u32>(CallAction::none));
        je(done, T_NEAR);

        save_more();
        load_task(h::rdx);
        test(h::rdx, h::rdx);
        jz(not_pending, T_NEAR);
        find_pending(h::rdx, h::rcx);
        cmp(h::rdx, ptr[at(offsetof(PendingCall, task))]);
        jne(not_pending, T_NEAR);
        cmp(h::rax, ptr[at(offsetof(PendingCall, number))]);
        jne(to_monitor_more, T_NEAR); // the number was changed inside; it knows what that means
        lea(h::rcx, ptr[h::rax + h::rax * 2]);
        static_assert(sizeof(CallSums) == 3 * 8);
        read_time();
        sub(h::rax, ptr[at(offsetof(PendingCall, tsc))]);
        mov(qword[at(offsetof(PendingCall, task))], 0);
        address(h::rbx, offsetof(HandlerData, sums));
        lea(h::rbx, ptr[h::rbx + h::rcx * 8]);
        inc(qword[at(offsetof(CallSums, calls))]);
        add(ptr[at(offsetof(CallSums, ticks))], h::rax);
        load(h::rax, offsetof(HandlerData, returned.ax));
        cmp(h::rax, -4095);
        jb(done_more, T_NEAR);
        inc(qword[at(offsetof(CallSums, errors))]);
        L(done_more);
        restore_more();
        L(done);
        go_on(target);

        L(not_pending);
        address(h::rcx, offsetof(HandlerData, return_action));
        cmp(byte[h::rcx + h::rax], static_cast<u32>(CallAction::log));
        jne(to_monitor_more, T_NEAR);
        load(h::rcx, offsetof(HandlerData, returned.cs));
        cmp(h::cx, user_code_selector);
        jne(to_monitor_more, T_NEAR);
        next_event(to_monitor_more);
        load(h::rcx, offsetof(HandlerData, returned.ax));
        mov(ptr[at(offsetof(HandlerEvent, args))], h::rcx);
        finish_event(HandlerEvent::exit);
        jmp(done_more, T_NEAR);

        L(to_monitor_more);
        restore_more();
        L(to_monitor);
        hypercall(behind_hypercall);
        jump_through(target);
    }
};

} // namespace

HandlerLayout assemble_handler(std::span<u8> code) { return HandlerAssembler(code).assemble(); }

} // namespace gnomon::monitor
