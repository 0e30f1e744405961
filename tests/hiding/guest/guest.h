// SPDX-License-Identifier: Apache-2.0
/// @file What the hiding guest gets from the runtime of the bare-metal guests (tests/guests) and
/// from entries.S.
#pragma once

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long;
using i64 = long;

/// Registers as the runtime hands them to a hook: FRAME_* of guest.inc.
struct Frame {
    u64 rax, rcx, rdx, rbx, rsp_unused, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
    u64 vector, error, rip, cs, rflags, rsp, ss;
};
static_assert(sizeof(Frame) == 184);

enum Selector : u64 {
    kcode = 0x08,
    kdata = 0x10,
    ucode32 = 0x1b,
    udata = 0x23,
    ucode64 = 0x2b,
};
enum Flag : u64 {
    flag_fixed = 2,
    flag_tf = 0x100,
    flag_if = 0x200,
    flag_df = 0x400,
    flag_iopl3 = 0x3000,
    flag_nt = 0x4000,
    flag_rf = 0x10000,
    flag_ac = 0x40000,
    flag_id = 0x200000,
};
enum Pte : u64 { pte_p = 1, pte_w = 2, pte_u = 4, pte_a = 0x20, pte_d = 0x40 };
constexpr u64 pte_nx = u64{1} << 63;
/// Where user mode sees the low gigabyte.
constexpr u64 user_alias = 0x40000000;
constexpr u64 local_apic = 0xfee00000;

extern "C" {
// runtime.S
extern u64 hooks[256];
extern u64 boot_parameters;
extern u8 idt[4096];
extern u64 pml4[512];
extern u8 page_a[4096], page_b[4096], page_c[4096], page_d[4096];
extern u8 rsp0_top[], user_stack_top[];
[[noreturn]] void power_off();
// entries.S
void enter_experiment(Frame* frame);
void experiment_ended();
extern Frame entry_frame;
extern u8 kernel_stack_top[], sysenter_stack_top[];
extern u8 syscall_handler[], syscall_handler_end[], compatibility_handler[],
    compatibility_handler_end[], sysenter_handler[], sysenter_handler_end[];
extern u8 sysret64_instruction[];
}

// ---- instructions

inline u64 read_cr4() {
    u64 v;
    asm volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}
inline void write_cr4(u64 v) { asm volatile("mov %0, %%cr4" : : "r"(v) : "memory"); }
inline u64 read_cr2() {
    u64 v;
    asm volatile("mov %%cr2, %0" : "=r"(v));
    return v;
}
inline void write_cr2(u64 v) { asm volatile("mov %0, %%cr2" : : "r"(v)); }
inline u64 read_cr3() {
    u64 v;
    asm volatile("mov %%cr3, %0" : "=r"(v));
    return v;
}
inline void write_cr3(u64 v) { asm volatile("mov %0, %%cr3" : : "r"(v) : "memory"); }
inline u64 read_msr(u32 index) {
    u32 low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
    return u64{high} << 32 | low;
}
inline void write_msr(u32 index, u64 value) {
    asm volatile("wrmsr"
                 :
                 : "c"(index), "a"(static_cast<u32>(value)), "d"(static_cast<u32>(value >> 32))
                 : "memory");
}
