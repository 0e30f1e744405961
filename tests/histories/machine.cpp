// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

// The runtime of tests/guests, and probes.S.
extern "C" {
extern u64 hooks[256];
extern u64 rec_cr2;
extern u64 boot_parameters, pvh_start_info;
extern u64 probe_stack;
void make_probe(histories::Probe* probe);
extern const char probe_end[];
[[noreturn]] void runtime_power_off() __asm__("power_off");
void read_1();
void read_2();
void read_4();
void read_8();
void read_8_r15();
void read_16();
void read_32();
void read_string();
void fetch();
void write_1();
void write_2();
void write_4();
void write_8();
void write_10();
void write_16();
void write_32();
void exchange_1();
void exchange_4();
void exchange_8();
void compare_exchange_8();
void compare_exchange_16();
void nontemporal_8();
void push_8();
void write_string();
void write_string_down();
// The compiler may call these.
void* memcpy(void* to, const void* from, u64 size) {
    void* const result = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return result;
}
void* memset(void* to, int value, u64 size) {
    void* const result = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return result;
}
int memcmp(const void* a, const void* b, u64 size) {
    const auto* x = static_cast<const unsigned char*>(a);
    const auto* y = static_cast<const unsigned char*>(b);
    for (; size != 0; --size, ++x, ++y)
        if (*x != *y) return *x < *y ? -1 : 1;
    return 0;
}
}

namespace histories {

const Form read_forms[] = {
    {"mov 1", read_1, 1, 1, false, false},           {"mov 2", read_2, 2, 1, false, false},
    {"mov 4", read_4, 4, 1, false, false},           {"mov 8", read_8, 8, 1, false, false},
    {"mov 8 (r15)", read_8_r15, 8, 1, false, false}, {"movups", read_16, 16, 1, false, false},
    {"vmovdqu", read_32, 32, 1, false, true},        {"rep movsb", read_string, 0, 1, false, false},
};
const Form write_forms[] = {
    {"mov 1", write_1, 1, 1, false, false},
    {"mov 2", write_2, 2, 1, false, false},
    {"mov 4", write_4, 4, 1, false, false},
    {"mov 8", write_8, 8, 1, false, false},
    {"fstp 10", write_10, 10, 1, false, false},
    {"movups", write_16, 16, 1, false, false},
    {"vmovdqu", write_32, 32, 1, false, true},
    {"xchg 1", exchange_1, 1, 1, false, false},
    {"xchg 4", exchange_4, 4, 1, false, false},
    {"xchg 8", exchange_8, 8, 1, false, false},
    {"cmpxchg 8", compare_exchange_8, 8, 1, false, false},
    {"cmpxchg16b", compare_exchange_16, 16, 16, false, false},
    {"movnti 8", nontemporal_8, 8, 1, false, false},
    {"push", push_8, 8, 1, true, false},
    {"rep movsb", write_string, 0, 1, false, false},
    {"rep movsb down", write_string_down, 0, 1, false, false},
};
const unsigned read_form_count = sizeof read_forms / sizeof read_forms[0];
const unsigned write_form_count = sizeof write_forms / sizeof write_forms[0];
const Form fetch_form = {"fetch", fetch, 8, 1, false, false};

namespace {

constexpr u64 vector_db = 1, vector_ud = 6, vector_ss = 12, vector_gp = 13, vector_pf = 14,
              vector_user_end = 0x80;

Probe* g_probe = nullptr; // under way
bool g_avx = false;

struct Frame { // as the runtime's stubs push it
    u64 gpr[16];
    u64 vector, error, rip, cs, rflags, rsp, ss;
};

extern "C" void on_event(Frame* frame) {
    if (g_probe == nullptr) {
        print("FAIL unexpected event ");
        print_number(frame->vector);
        print(" error ");
        print_hexadecimal(frame->error);
        print(" rip ");
        print_hexadecimal(frame->rip);
        print(" cr2 ");
        print_hexadecimal(rec_cr2);
        print("\n");
        power_off();
    }
    g_probe->vector = frame->vector;
    g_probe->error = frame->error;
    g_probe->cr2 = rec_cr2;
    g_probe->result = frame->gpr[0];
    constexpr u64 kernel_code = 0x08, kernel_data = 0x10;
    frame->rip = reinterpret_cast<u64>(probe_end);
    frame->cs = kernel_code;
    frame->rflags = 2;
    frame->rsp = probe_stack;
    frame->ss = kernel_data;
}

struct Cpuid {
    u32 a, b, c, d;
};
Cpuid cpuid(u32 leaf, u32 subleaf = 0) {
    Cpuid r{};
    __asm__ volatile("cpuid"
                     : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
                     : "a"(leaf), "c"(subleaf));
    return r;
}
bool feature7(unsigned bit) { return cpuid(0).a >= 7 && (cpuid(7).b >> bit & 1) != 0; }

const char* command_line() {
    // SAFETY: the boot protocols put these structures below 1 GiB, which is mapped one to one.
    if (boot_parameters != 0) {
        constexpr u64 cmd_line_ptr = 0x228;
        return reinterpret_cast<const char*>(
            u64{*reinterpret_cast<const u32*>(boot_parameters + cmd_line_ptr)});
    }
    constexpr u64 cmdline_paddr = 24;
    if (pvh_start_info != 0)
        return reinterpret_cast<const char*>(
            *reinterpret_cast<const u64*>(pvh_start_info + cmdline_paddr));
    return "";
}

} // namespace

void make_access(Probe& probe) {
    probe.vector = probe.error = probe.cr2 = probe.result = 0;
    g_probe = &probe;
    make_probe(&probe);
    g_probe = nullptr;
}

void start_machine() {
    for (const u64 vector :
         {vector_db, vector_ud, vector_ss, vector_gp, vector_pf, vector_user_end})
        hooks[vector] = reinterpret_cast<u64>(on_event);
    const u32 features = cpuid(1).c;
    constexpr u32 xsave = u32{1} << 26, avx = u32{1} << 28;
    g_avx = (features & xsave) != 0 && (features & avx) != 0;
    if (g_avx) {
        write_cr4(read_cr4() | u64{1} << 18); // OSXSAVE
        __asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
    }
}

bool has_avx() { return g_avx; }
bool has_pcid() { return (cpuid(1).c >> 17 & 1) != 0; }
bool has_invpcid() { return feature7(10); }
bool has_smep() { return feature7(7); }
bool has_smap() { return feature7(20); }
bool has_huge_pages() { return (cpuid(0x80000001).d >> 26 & 1) != 0; }
unsigned physical_width() { return cpuid(0x80000008).a & 0xff; }

u64 read_cr0() {
    u64 v = 0;
    __asm__ volatile("mov %%cr0, %0" : "=r"(v));
    return v;
}
u64 read_cr3() {
    u64 v = 0;
    __asm__ volatile("mov %%cr3, %0" : "=r"(v));
    return v;
}
u64 read_cr4() {
    u64 v = 0;
    __asm__ volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}
void write_cr0(u64 value) { __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory"); }
void write_cr3(u64 value) { __asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory"); }
void write_cr4(u64 value) { __asm__ volatile("mov %0, %%cr4" : : "r"(value) : "memory"); }
void set_nxe(bool on) {
    constexpr u32 efer = 0xc0000080, nxe = u32{1} << 11;
    u32 low = 0, high = 0;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(efer));
    low = on ? low | nxe : low & ~nxe;
    __asm__ volatile("wrmsr" : : "a"(low), "d"(high), "c"(efer) : "memory");
}
void invlpg(u64 va) { __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory"); }
void invpcid(u64 type, u64 pcid, u64 va) {
    const u64 descriptor[2] = {pcid, va};
    __asm__ volatile("invpcid %1, %0" : : "r"(type), "m"(descriptor) : "memory");
}

u64 parameter(const char* name, u64 otherwise) {
    const char* text = command_line();
    while (*text != 0) {
        const char* wanted = name;
        while (*wanted != 0 && *text == *wanted)
            ++text, ++wanted;
        if (*wanted == 0 && *text == '=') {
            ++text;
            u64 value = 0;
            const bool hexadecimal = text[0] == '0' && text[1] == 'x';
            if (hexadecimal) text += 2;
            for (;; ++text) {
                u64 digit = 99;
                if (*text >= '0' && *text <= '9') digit = static_cast<u64>(*text - '0');
                if (hexadecimal && *text >= 'a' && *text <= 'f')
                    digit = static_cast<u64>(*text - 'a') + 10;
                if (digit == 99) return value;
                value = value * (hexadecimal ? 16 : 10) + digit;
            }
        }
        while (*text != 0 && *text != ' ')
            ++text;
        while (*text == ' ')
            ++text;
    }
    return otherwise;
}

void print(const char* text) {
    for (; *text != 0; ++text) {
        constexpr u16 data = 0x3f8, status = 0x3fd;
        u8 ready = 0;
        do
            __asm__ volatile("inb %1, %0" : "=a"(ready) : "Nd"(status));
        while ((ready & 0x20) == 0);
        __asm__ volatile("outb %0, %1" : : "a"(*text), "Nd"(data));
    }
}
void print_number(u64 value) {
    char text[24];
    unsigned at = sizeof text;
    text[--at] = 0;
    do
        text[--at] = static_cast<char>('0' + value % 10);
    while ((value /= 10) != 0);
    print(text + at);
}
void print_hexadecimal(u64 value) {
    char text[24];
    unsigned at = sizeof text;
    text[--at] = 0;
    do
        text[--at] = "0123456789abcdef"[value % 16];
    while ((value /= 16) != 0);
    print("0x");
    print(text + at);
}
void power_off() { runtime_power_off(); }

} // namespace histories
