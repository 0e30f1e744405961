// SPDX-License-Identifier: Apache-2.0
#include "host_cpu.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

namespace gnomon::processor {
namespace {

constexpr u16 user_code32 = 0x23, user_data = 0x2b;

// Offsets in the executable page.
constexpr u64 code_at = 0, trampoline_at = 0x100, code32_at = 0x180, saved_rsp_at = 0x40 + 0x200,
              far_pointer_at = 0x48 + 0x200, base_at = 0x200, stack_top = 0x1ff0;

void* map_low(u64 size, int protection) {
    void* const p = mmap(nullptr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (p == MAP_FAILED) std::abort();
    return p;
}

static_assert(offsetof(HostRegisters, gpr) == 0 && offsetof(HostRegisters, rflags) == 128 &&
              offsetof(HostRegisters, extended) == 136 &&
              offsetof(HostRegisters, components) == 144);

/// SAFETY: `code` ends with RET and keeps RSP, RBP and R12-R15.
void execute(const void* code, HostRegisters* registers) {
    register const void* code_in asm("r14") = code;
    register HostRegisters* registers_in asm("r15") = registers;
    asm volatile("lea -128(%%rsp), %%rsp\n\t" // the red zone
                 "push %%rbx\n\t"
                 "mov 136(%%r15), %%r13\n\t"
                 "test %%r13, %%r13\n\t"
                 "jz 1f\n\t"
                 "mov 144(%%r15), %%eax\n\t"
                 "xor %%edx, %%edx\n\t"
                 "xrstor64 (%%r13)\n"
                 "1:\tpushq 128(%%r15)\n\t"
                 "popfq\n\t"
                 "mov 0(%%r15), %%rax\n\t"
                 "mov 8(%%r15), %%rcx\n\t"
                 "mov 16(%%r15), %%rdx\n\t"
                 "mov 24(%%r15), %%rbx\n\t"
                 "mov 48(%%r15), %%rsi\n\t"
                 "mov 56(%%r15), %%rdi\n\t"
                 "mov 64(%%r15), %%r8\n\t"
                 "mov 72(%%r15), %%r9\n\t"
                 "mov 80(%%r15), %%r10\n\t"
                 "mov 88(%%r15), %%r11\n\t"
                 "call *%%r14\n\t"
                 "mov %%rax, 0(%%r15)\n\t"
                 "mov %%rcx, 8(%%r15)\n\t"
                 "mov %%rdx, 16(%%r15)\n\t"
                 "mov %%rbx, 24(%%r15)\n\t"
                 "mov %%rsi, 48(%%r15)\n\t"
                 "mov %%rdi, 56(%%r15)\n\t"
                 "mov %%r8, 64(%%r15)\n\t"
                 "mov %%r9, 72(%%r15)\n\t"
                 "mov %%r10, 80(%%r15)\n\t"
                 "mov %%r11, 88(%%r15)\n\t"
                 "pushfq\n\t"
                 "popq 128(%%r15)\n\t"
                 "cld\n\t"
                 "test %%r13, %%r13\n\t"
                 "jz 2f\n\t"
                 "mov 144(%%r15), %%eax\n\t"
                 "xor %%edx, %%edx\n\t"
                 "xsave64 (%%r13)\n\t"
                 "fninit\n\t"
                 "movl $0x1f80, -16(%%rsp)\n\t"
                 "ldmxcsr -16(%%rsp)\n\t"
                 "vzeroupper\n"
                 "2:\tpop %%rbx\n\t"
                 "lea 128(%%rsp), %%rsp\n\t"
                 : "+r"(code_in), "+r"(registers_in)
                 :
                 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r13", "memory",
                   "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                   "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "st", "st(1)",
                   "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
}

constexpr u64 settable = rflags::arithmetic | rflags::df;

} // namespace

HostCpu::HostCpu()
    : m_page(static_cast<u8*>(map_low(2 * page_size, PROT_READ | PROT_WRITE | PROT_EXEC))) {}

HostCpu::~HostCpu() { munmap(m_page, 2 * page_size); }

void HostCpu::run(const Code& code, HostRegisters& registers) {
    if (code.size() >= trampoline_at) std::abort();
    std::memcpy(m_page + code_at, code.data(), code.size());
    m_page[code_at + code.size()] = 0xc3;
    registers.rflags = (registers.rflags & settable) | rflags::fixed1 | rflags::if_;
    execute(m_page + code_at, &registers);
    registers.rflags = (registers.rflags & settable) | rflags::fixed1;
}

bool HostCpu::has_compatibility_mode() {
    u32 rights = 0;
    bool valid = false;
    asm("lar %2, %0" : "=r"(rights), "=@ccz"(valid) : "r"(u32{user_code32}));
    return valid && (rights & 0x9800) == 0x9800; // present code segment
}

void HostCpu::run_compatibility(const Code& code, HostRegisters& registers) {
    if (code.size() >= base_at - code32_at) std::abort();
    // From 64-bit mode: RSP moves below 4 GiB for the while of a far call, whose return address
    // must be there too.
    static constexpr u8 trampoline[] = {
        0x49, 0x89, 0x62, 0x40,                   // mov [r10 + 40h], rsp
        0x49, 0x8d, 0xa2, 0xf0, 0x1d, 0x00, 0x00, // lea rsp, [r10 + 1df0h]
        0x41, 0x52,                               // push r10
        0x41, 0xff, 0x5a, 0x48,                   // call far dword [r10 + 48h]
        0x41, 0x5a,                               // pop r10
        0x49, 0x8b, 0x62, 0x40,                   // mov rsp, [r10 + 40h]
    };
    static_assert(base_at + 0x40 == saved_rsp_at && base_at + 0x48 == far_pointer_at &&
                  base_at + 0x1df0 == stack_top);
    std::memcpy(m_page + trampoline_at, trampoline, sizeof trampoline);
    m_page[trampoline_at + sizeof trampoline] = 0xc3;
    std::memcpy(m_page + code32_at, code.data(), code.size());
    m_page[code32_at + code.size()] = 0xcb; // retf
    const auto entry = static_cast<u32>(reinterpret_cast<u64>(m_page + code32_at));
    std::memcpy(m_page + far_pointer_at, &entry, sizeof entry);
    std::memcpy(m_page + far_pointer_at + 4, &user_code32, sizeof user_code32);
    asm volatile("mov %0, %%ds; mov %0, %%es" : : "r"(u32{user_data}));
    registers.gpr[r10] = reinterpret_cast<u64>(m_page + base_at);
    registers.rflags = (registers.rflags & settable) | rflags::fixed1 | rflags::if_;
    execute(m_page + trampoline_at, &registers);
    registers.rflags = (registers.rflags & settable) | rflags::fixed1;
}

LowMemory::LowMemory(u64 pages)
    : m_data(static_cast<std::byte*>(map_low(pages * page_size, PROT_READ | PROT_WRITE))),
      m_size(pages * page_size) {}

LowMemory::~LowMemory() { munmap(m_data, m_size); }

} // namespace gnomon::processor
