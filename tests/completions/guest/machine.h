// SPDX-License-Identifier: Apache-2.0
/// @file What the fragile guest needs of the machine below it; the runtime is that of tests/guests.
#pragma once

namespace fragile {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned;
using u64 = unsigned long long;

inline void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
inline void outl(u16 port, u32 value) {
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
[[nodiscard]] inline u8 inb(u16 port) {
    u8 value = 0;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
[[nodiscard]] inline u16 inw(u16 port) {
    u16 value = 0;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
[[nodiscard]] inline u32 inl(u16 port) {
    u32 value = 0;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
/// Off while it lives, then as before.
class InterruptsOff {
public:
    InterruptsOff() { __asm__ volatile("pushfq; popq %0; cli" : "=r"(m_flags) : : "memory"); }
    InterruptsOff(const InterruptsOff&) = delete;
    InterruptsOff& operator=(const InterruptsOff&) = delete;
    ~InterruptsOff() { __asm__ volatile("pushq %0; popfq" : : "r"(m_flags) : "memory", "cc"); }

private:
    u64 m_flags;
};
inline void interrupts_on() { __asm__ volatile("sti" : : : "memory"); }
inline void interrupts_off() { __asm__ volatile("cli" : : : "memory"); }
/// Nothing comes between the two.
inline void interrupts_on_and_halt() { __asm__ volatile("sti; hlt" : : : "memory"); }
inline void barrier() { __asm__ volatile("" : : : "memory"); }

template <class T>
[[nodiscard]] T read_register(u64 address) {
    // SAFETY: device registers, mapped one to one.
    return *reinterpret_cast<volatile T*>(address);
}
template <class T>
void write_register(u64 address, T value) {
    // SAFETY: as above.
    *reinterpret_cast<volatile T*>(address) = value;
}

/// `handler` runs with interrupts off at this vector.
void set_handler(u8 vector, void (*handler)());
void enable_local_apic();
void end_at_local_apic();
/// Runs `function` on so many bytes of stack, at most 4096, above a page that is not mapped.
void run_on_small_stack(void (*function)(), u64 bytes);
/// Number NAME=N of the command line.
[[nodiscard]] u64 parameter(const char* name, u64 otherwise);
void print(const char* text);
void print(u64 number);
/// Ends the run: "FAIL why".
[[noreturn]] void fail(const char* why);
[[noreturn]] void power_off();

} // namespace fragile
