// SPDX-License-Identifier: Apache-2.0
#include "loops.h"

#include <cstring>

namespace gnomon::bench {

namespace {

using namespace Xbyak::util;
using Code = Xbyak::CodeGenerator;

/// `body`, RSI times; RSI is the body's to keep.
template <class Body>
void repeat(Code& c, Body body) {
    Xbyak::Label again;
    c.align(16);
    c.L(again);
    body();
    c.dec(rsi);
    c.jnz(again, Code::T_NEAR);
}

/// NOPs up to the next page; the code begins at one.
void next_page(Code& c) {
    while (c.getSize() % page_size != 0)
        c.nop();
}

/// Code that is called, behind the loop: `function` bound there, and skipped by what falls out.
template <class Body>
void function(Code& c, Xbyak::Label& name, Body body) {
    Xbyak::Label over;
    c.jmp(over, Code::T_NEAR);
    c.L(name);
    body();
    c.ret();
    c.L(over);
}

void alu_and_branch(Code& c) {
    c.xor_(eax, eax);
    c.mov(edx, 12345);
    repeat(c, [&] {
        Xbyak::Label even;
        c.add(rax, rdx);
        c.imul(edx, edx, 1103515245);
        c.add(edx, 12345);
        c.test(esi, 1);
        c.jz(even);
        c.xor_(eax, edx);
        c.L(even);
        c.rol(rax, 7);
    });
}

void two_loads_and_store(Code& c) {
    c.lea(rdx, ptr[rdi + 0x4000]);
    c.lea(rbx, ptr[rdi + 0x8000]);
    c.xor_(ecx, ecx);
    repeat(c, [&] {
        c.mov(rax, ptr[rdi + rcx * 8]);
        c.add(rax, ptr[rdx + rcx * 8]);
        c.mov(ptr[rbx + rcx * 8], rax);
        c.inc(ecx);
        c.and_(ecx, 0x3ff);
    });
}

void prepare_chain(std::span<u8> data, u64 address) {
    const u64 places = data.size() / 64;
    for (u64 n = 0; n < places; ++n) { // 197 is prime to the number of places: one cycle
        const u64 next = address + (n + 197) % places * 64;
        std::memcpy(data.data() + n * 64, &next, sizeof next);
    }
}
void pointer_chase(Code& c) {
    repeat(c, [&] { c.mov(rdi, ptr[rdi]); });
}

void structure_fields(Code& c) {
    c.xor_(ecx, ecx);
    repeat(c, [&] {
        c.lea(rbx, ptr[rdi + rcx]);
        c.mov(eax, ptr[rbx + 8]);
        c.add(eax, ptr[rbx + 0x10]);
        c.mov(rdx, ptr[rbx + 0x18]);
        c.lea(rdx, ptr[rdx + rax + 1]);
        c.mov(ptr[rbx + 0x20], eax);
        c.mov(ptr[rbx + 0x18], rdx);
        c.add(dword[rbx + 0x28], 3);
        c.add(ecx, 64);
        c.and_(ecx, 0xffc0);
    });
}

void locals(Code& c) {
    c.sub(rsp, 64);
    c.mov(qword[rsp], 0);
    c.mov(qword[rsp + 8], 1);
    repeat(c, [&] {
        c.mov(rax, ptr[rsp]);
        c.mov(rdx, ptr[rsp + 8]);
        c.add(rax, rdx);
        c.mov(ptr[rsp + 16], rax);
        c.xor_(rdx, ptr[rsp + 16]);
        c.mov(ptr[rsp + 8], rdx);
        c.inc(qword[rsp]);
    });
    c.add(rsp, 64);
}

void call_direct(Code& c) {
    Xbyak::Label callee;
    repeat(c, [&] {
        c.call(callee);
        c.add(rbx, rax);
    });
    function(c, callee, [&] { c.lea(rax, ptr[rsi + 1]); });
}

void call_to_another_page(Code& c) {
    Xbyak::Label callee, over;
    repeat(c, [&] {
        c.call(callee);
        c.add(rbx, rax);
    });
    c.jmp(over, Code::T_NEAR);
    next_page(c);
    c.L(over);
    function(c, callee, [&] { c.lea(rax, ptr[rsi + 1]); });
}

void call_indirect(Code& c) {
    Xbyak::Label callee;
    c.lea(rdx, ptr[rip + callee]);
    repeat(c, [&] {
        c.call(rdx);
        c.add(rbx, rax);
    });
    function(c, callee, [&] { c.lea(rax, ptr[rsi + 1]); });
}

/// As a compiler makes a function that keeps values over calls.
void call_with_frame(Code& c) {
    Xbyak::Label callee;
    repeat(c, [&] {
        c.mov(rax, rsi);
        c.call(callee);
    });
    function(c, callee, [&] {
        c.push(r14);
        c.push(r12);
        c.push(rbp);
        c.push(rbx);
        c.sub(rsp, 24);
        c.mov(rbx, rax);
        c.mov(ptr[rsp + 8], rax);
        c.add(rbx, ptr[rsp + 8]);
        c.mov(rax, rbx);
        c.add(rsp, 24);
        c.pop(rbx);
        c.pop(rbp);
        c.pop(r12);
        c.pop(r14);
    });
}

/// A function called from eight places: the predictor of returns has something to do.
void call_from_many_places(Code& c) {
    Xbyak::Label callee;
    repeat(c, [&] {
        for (int n = 0; n < 8; ++n) {
            c.call(callee);
            c.add(rbx, rax);
        }
    });
    function(c, callee, [&] { c.lea(rax, ptr[rsi + 1]); });
}

void recursion(Code& c) {
    Xbyak::Label fibonacci;
    repeat(c, [&] {
        c.mov(ecx, 8);
        c.call(fibonacci);
    });
    function(c, fibonacci, [&] {
        Xbyak::Label leaf;
        c.mov(eax, 1);
        c.cmp(ecx, 2);
        c.jb(leaf);
        c.push(rbx);
        c.push(rcx);
        c.dec(ecx);
        c.call(fibonacci);
        c.mov(rbx, rax);
        c.mov(ecx, ptr[rsp]);
        c.sub(ecx, 2);
        c.call(fibonacci);
        c.add(rax, rbx);
        c.pop(rcx);
        c.pop(rbx);
        c.L(leaf);
    });
}

/// A jump through a table, as of a switch in an interpreter's loop.
void jump_table(Code& c) {
    constexpr unsigned cases = 8;
    Xbyak::Label place[cases], table, next;
    c.lea(rdx, ptr[rip + table]);
    c.mov(ebx, 1);
    repeat(c, [&] {
        c.imul(ebx, ebx, 1103515245);
        c.add(ebx, 12345);
        c.mov(eax, esi);
        c.and_(eax, cases - 1);
        c.movsxd(rax, dword[rdx + rax * 4]);
        c.add(rax, rdx);
        c.jmp(rax);
        for (unsigned n = 0; n < cases; ++n) {
            c.L(place[n]);
            c.add(rbx, static_cast<int>(n));
            c.jmp(next);
        }
        c.L(next);
    });
    Xbyak::Label over;
    c.jmp(over, Code::T_NEAR);
    c.align(4);
    const std::size_t base = c.getSize();
    c.L(table);
    for (unsigned n = 0; n < cases; ++n) {
        const auto at = static_cast<std::size_t>(place[n].getAddress() - c.getCode());
        c.dd(static_cast<u32>(at - base));
    }
    c.L(over);
}

void scalar_double(Code& c) {
    c.xor_(ecx, ecx);
    c.xorpd(xmm0, xmm0);
    repeat(c, [&] {
        c.movsd(xmm1, ptr[rdi + rcx * 8]);
        c.mulsd(xmm1, ptr[rdi + rcx * 8 + 0x4000]);
        c.addsd(xmm0, xmm1);
        c.inc(ecx);
        c.and_(ecx, 0x3ff);
    });
}

void packed_sse2(Code& c) {
    c.xor_(ecx, ecx);
    repeat(c, [&] {
        for (int n = 0; n < 4; ++n) {
            c.movdqa(xmm0, ptr[rdi + rcx + 16 * n]);
            c.paddd(xmm0, ptr[rdi + rcx + 0x4000 + 16 * n]);
            c.pxor(xmm0, xmm1);
            c.movdqa(ptr[rdi + rcx + 0x8000 + 16 * n], xmm0);
        }
        c.add(ecx, 64);
        c.and_(ecx, 0x3fc0);
    });
}

void packed_avx(Code& c) {
    c.xor_(ecx, ecx);
    c.vxorps(ymm0, ymm0, ymm0);
    c.vxorps(ymm1, ymm1, ymm1);
    repeat(c, [&] {
        c.vmovups(ymm2, ptr[rdi + rcx]);
        c.vmovups(ymm3, ptr[rdi + rcx + 32]);
        c.vfmadd231ps(ymm0, ymm2, ptr[rdi + rcx + 0x4000]);
        c.vfmadd231ps(ymm1, ymm3, ptr[rdi + rcx + 0x4020]);
        c.add(ecx, 64);
        c.and_(ecx, 0x3fc0);
    });
    c.vzeroupper();
}

void copy_by_vectors(Code& c) {
    c.lea(rdx, ptr[rdi + 0x8000]);
    c.xor_(ecx, ecx);
    repeat(c, [&] {
        c.lea(rax, ptr[rdi + rcx]);
        c.lea(rbx, ptr[rdx + rcx]);
        for (int n = 0; n < 4; ++n)
            c.movdqu(Xbyak::Xmm(n), ptr[rax + 16 * n]);
        for (int n = 0; n < 4; ++n)
            c.movups(ptr[rbx + 16 * n], Xbyak::Xmm(n));
        c.add(ecx, 64);
        c.and_(ecx, 0x3fc0);
    });
}

void copy_by_bytes(Code& c) {
    c.lea(rdx, ptr[rdi + 0x8000]);
    c.xor_(ecx, ecx);
    repeat(c, [&] {
        c.movzx(eax, byte[rdi + rcx]);
        c.mov(ptr[rdx + rcx], al);
        c.inc(ecx);
        c.and_(ecx, 0x3fff);
    });
}

/// A row of a product of long numbers, with two chains of carries that live over the loop's end,
/// as OpenSSL's RSA has it: eight words a turn, in R8 to R15.
void carry_chains(Code& c) {
    const Xbyak::Reg64 word[] = {r8, r9, r10, r11, r12, r13, r14, r15};
    c.lea(rbp, ptr[rdi + 0x1000]);
    c.mov(rdx, 0x123456789);
    c.mov(rcx, std::size_t{0} - 64);
    c.xor_(ebx, ebx);
    repeat(c, [&] {
        c.mov(rbx, r8);
        for (int n = 0; n < 8; ++n) {
            c.mulx(word[n], rax, ptr[rbp + 8 * n]);
            c.adcx(n == 0 ? rbx : word[n - 1], rax);
            if (n < 7) c.adox(word[n], word[n + 1]);
        }
        c.mov(rdx, ptr[rdi + rcx * 8 + 0x800]);
        c.mov(ptr[rdi + rcx * 8 + 0x2000], rbx);
        c.lea(rcx, ptr[rcx + 1]);
        c.movsx(rcx, cl);
    });
}

/// The same with one chain, by MUL and ADC, and what is carried in R13.
void carry_chain(Code& c) {
    c.mov(r14, 0x123456789);
    c.mov(r15, 0x987654321);
    c.xor_(ecx, ecx);
    repeat(c, [&] {
        c.mov(rax, ptr[rdi + rcx]);
        c.mov(rbx, rax);
        c.mul(r14);
        c.add(r13, rax);
        c.mov(rax, rbx);
        c.mov(r12, rdx);
        c.adc(r12, 0);
        c.add(r13, ptr[rdi + rcx + 0x4000]);
        c.adc(r12, 0);
        c.mul(r15);
        c.add(r12, rax);
        c.mov(ptr[rdi + rcx + 0x4000], r13);
        c.mov(r13, rdx);
        c.adc(r13, 0);
        c.add(ecx, 8);
        c.and_(ecx, 0x3ff8);
    });
}

/// What a compiler keeps in registers that calls preserve.
void preserved_registers(Code& c) {
    c.xor_(r12d, r12d);
    c.xor_(r15d, r15d);
    c.mov(r14, rdi);
    repeat(c, [&] {
        Xbyak::Label even;
        c.lea(r13, ptr[r14 + r12]);
        c.mov(rax, ptr[r13]);
        c.mov(r13, ptr[r13 + 8]);
        c.add(r15, rax);
        c.add(r13, 1);
        c.mov(ptr[r14 + r12 + 8], r13);
        c.test(r15, r15);
        c.jz(even);
        c.inc(r15);
        c.L(even);
        c.add(r12d, 64);
        c.and_(r12d, 0xffc0);
    });
}

/// Chains of a hash table in arrays, as gzip looks for earlier strings.
void prepare_matches(std::span<u8> data, u64) {
    u32 value = 1;
    for (u64 n = 0; n < 0x4000; ++n) {
        value = value * 1103515245 + 12345;
        const auto next = static_cast<u16>(value >> 16 & 0x3fff);
        std::memcpy(data.data() + 2 * n, &next, sizeof next);
    }
}
void match_chain(Code& c) {
    Xbyak::Label other;
    c.lea(r9, ptr[rdi + 0x8000]);
    c.mov(r8d, 3);
    c.mov(r10d, 0xff);
    c.xor_(edx, edx);
    repeat(c, [&] {
        c.and_(edx, 0x3fff);
        c.movzx(edx, word[rdi + rdx * 2]);
        c.xor_(edx, esi);
        c.and_(edx, 0x3fff);
        c.movsxd(rbx, r8d);
        c.mov(eax, edx);
        c.add(rax, r9);
        c.cmp(ptr[rax + rbx - 1], r10b);
        c.jz(other, Code::T_NEAR);
        c.cmp(ptr[rax + rbx], r10b);
        c.jz(other, Code::T_NEAR);
    });
    c.L(other);
}

constexpr Loop all[] = {
    {"alu_and_branch", alu_and_branch},
    {"two_loads_and_store", two_loads_and_store},
    {"pointer_chase", pointer_chase, false, prepare_chain},
    {"structure_fields", structure_fields},
    {"locals", locals},
    {"call_direct", call_direct},
    {"call_to_another_page", call_to_another_page},
    {"call_indirect", call_indirect},
    {"call_with_frame", call_with_frame},
    {"call_from_many_places", call_from_many_places, false, nullptr, 8},
    {"recursion", recursion, false, nullptr, 40},
    {"jump_table", jump_table},
    {"scalar_double", scalar_double},
    {"packed_sse2", packed_sse2},
    {"packed_avx", packed_avx, true},
    {"copy_by_vectors", copy_by_vectors},
    {"copy_by_bytes", copy_by_bytes},
    {"carry_chains", carry_chains, true},
    {"carry_chain", carry_chain},
    {"preserved_registers", preserved_registers},
    {"match_chain", match_chain, false, prepare_matches},
};

} // namespace

std::span<const Loop> loops() { return all; }

} // namespace gnomon::bench
