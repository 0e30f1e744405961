// SPDX-License-Identifier: Apache-2.0
#include "monitor/substitute_handler.h"

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

    void entry(std::size_t target, bool counted, u64& hypercall) {
        Xbyak::Label exit, go_on, log;
        save();
        if (counted) {
            // The number is 32 bits wide: the entry code sign-extends EAX.
            mov(h::eax, h::eax);
            cmp(h::eax, handler_call_numbers);
            jae(exit, T_NEAR);
            address(h::rcx, offsetof(HandlerData, calls));
            inc(qword[h::rcx + h::rax * 8]);
            address(h::rcx, offsetof(HandlerData, action));
            movzx(h::ecx, byte[h::rcx + h::rax]);
            test(h::ecx, h::ecx);
            jz(go_on, T_NEAR);
            cmp(h::ecx, static_cast<u32>(CallAction::log));
            je(log, T_NEAR);
        }
        L(exit);
        restore();
        db(0x0f), db(0x01), db(0xc1); // VMCALL
        hypercall = getSize();
        jump_through(target);
        if (!counted) return;

        L(log);
        store(offsetof(HandlerData, save_rdx), h::rdx);
        store(offsetof(HandlerData, save_rbx), h::rbx);
        load(h::rcx, offsetof(HandlerData, ring_head));
        load(h::rbx, offsetof(HandlerData, ring_tail));
        lea(h::rdx, ptr[h::rcx + 1]);
        sub(h::rcx, h::rbx);
        cmp(h::rcx, handler_ring_size);
        Xbyak::Label room;
        jb(room, T_NEAR);
        // Full: the hypercall lets the monitor empty it and take this call too. Nothing is lost.
        load(h::rdx, offsetof(HandlerData, save_rdx));
        load(h::rbx, offsetof(HandlerData, save_rbx));
        jmp(exit, T_NEAR);
        L(room);
        lea(h::rcx, ptr[h::rdx - 1]);
        and_(h::ecx, handler_ring_size - 1);
        imul(h::rcx, h::rcx, static_cast<int>(sizeof(HandlerEvent)));
        address(h::rbx, offsetof(HandlerData, ring));
        add(h::rbx, h::rcx);
        mov(ptr[h::rbx + static_cast<int>(offsetof(HandlerEvent, number))], h::rax);
        load(h::rcx, offsetof(HandlerData, save_rdx));
        const auto arg = [&](int n) {
            return ptr[h::rbx + static_cast<int>(offsetof(HandlerEvent, args)) + 8 * n];
        };
        mov(arg(0), h::rdi);
        mov(arg(1), h::rsi);
        mov(arg(2), h::rcx);
        mov(arg(3), h::r10);
        mov(arg(4), h::r8);
        mov(arg(5), h::r9);
        load(h::rcx, offsetof(HandlerData, save_rcx));
        mov(ptr[h::rbx + static_cast<int>(offsetof(HandlerEvent, user_rip))], h::rcx);
        mov(ptr[h::rbx + static_cast<int>(offsetof(HandlerEvent, user_rsp))], h::rsp);
        load(h::rcx, offsetof(HandlerData, current_pointer));
        mov(h::rcx, ptr[h::rcx]);
        mov(ptr[h::rbx + static_cast<int>(offsetof(HandlerEvent, task))], h::rcx);
        load(h::rcx, offsetof(HandlerData, cr3));
        mov(ptr[h::rbx + static_cast<int>(offsetof(HandlerEvent, cr3))], h::rcx);
        mov(h::rcx, h::rdx);
        rdtsc();
        shl(h::rdx, 32);
        or_(h::rax, h::rdx);
        mov(ptr[h::rbx + static_cast<int>(offsetof(HandlerEvent, tsc))], h::rax);
        store(offsetof(HandlerData, ring_head), h::rcx); // published last
        load(h::rdx, offsetof(HandlerData, save_rdx));
        load(h::rbx, offsetof(HandlerData, save_rbx));
        L(go_on);
        restore();
        jump_through(target);
    }
};

} // namespace

HandlerLayout assemble_handler(std::span<u8> code) { return HandlerAssembler(code).assemble(); }

} // namespace gnomon::monitor
