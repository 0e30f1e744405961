// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

// The runtime of tests/guests.
extern "C" {
extern unsigned long long hooks[256];
extern unsigned long long boot_parameters, rec_cr2;
extern unsigned long long win_table[512];
[[noreturn]] void runtime_power_off() __asm__("power_off");
void* memset(void* to, int value, unsigned long size) {
    void* const result = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return result;
}
void* memcpy(void* to, const void* from, unsigned long size) {
    void* const result = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return result;
}
}

namespace fragile {

namespace {

constexpr u64 local_apic = 0xfee0'0000, apic_eoi = 0xb0, apic_spurious = 0xf0;
constexpr u64 window = 0x8000'0000; // tests/guests/guest.inc, WIN: pages that are not present yet
constexpr u64 present_and_writable = 3;

alignas(4096) u8 g_stack[4096];

extern "C" void on_double_fault() { fail("the stack has overflowed"); }
extern "C" void on_page_fault() { fail("a page fault"); }

} // namespace

void set_handler(u8 vector, void (*handler)()) { hooks[vector] = reinterpret_cast<u64>(handler); }

void enable_local_apic() {
    constexpr u32 enable = 1 << 8, spurious_vector = 0xff;
    write_register<u32>(local_apic + apic_spurious, enable | spurious_vector);
}

void end_at_local_apic() { write_register<u32>(local_apic + apic_eoi, 0); }

void run_on_small_stack(void (*function)(), u64 bytes) {
    constexpr u64 double_fault = 8, page_fault = 14; // the former on a stack of its own
    set_handler(double_fault, on_double_fault);
    set_handler(page_fault, on_page_fault);
    win_table[1] = reinterpret_cast<u64>(g_stack) | present_and_writable;
    barrier();
    __asm__ volatile("mov %%rsp, %%rbx; mov %1, %%rsp; call *%0; mov %%rbx, %%rsp"
                     :
                     : "r"(function), "r"(window + 4096 + bytes / 16 * 16)
                     : "rbx", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory",
                       "cc");
}

u64 parameter(const char* name, u64 otherwise) {
    constexpr u64 cmd_line_ptr = 0x228; // Linux's boot protocol
    // SAFETY: the boot protocol puts both below 1 GiB, which is mapped one to one.
    const char* text = reinterpret_cast<const char*>(
        u64{*reinterpret_cast<const u32*>(boot_parameters + cmd_line_ptr)});
    while (*text != 0) {
        const char* wanted = name;
        while (*wanted != 0 && *text == *wanted)
            ++text, ++wanted;
        if (*wanted == 0 && *text == '=') {
            u64 value = 0;
            for (++text; *text >= '0' && *text <= '9'; ++text)
                value = value * 10 + static_cast<u64>(*text - '0');
            return value;
        }
        while (*text != 0 && *text != ' ')
            ++text;
        while (*text == ' ')
            ++text;
    }
    return otherwise;
}

void print(const char* text) {
    constexpr u16 data = 0x3f8, status = 0x3fd;
    for (; *text != 0; ++text) {
        while ((inb(status) & 0x20) == 0) {
        }
        outb(data, static_cast<u8>(*text));
    }
}

void print(u64 number) {
    char text[24];
    unsigned at = sizeof text;
    text[--at] = 0;
    do
        text[--at] = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    print(text + at);
}

void fail(const char* why) {
    interrupts_off();
    print("FAIL ");
    print(why);
    print("\n");
    power_off();
}

void power_off() { runtime_power_off(); }

} // namespace fragile
