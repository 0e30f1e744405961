// SPDX-License-Identifier: Apache-2.0
/// @file What the guest needs of the machine below it: the runtime of tests/guests, accesses that
/// may fault, registers, and the serial port.
#pragma once

#include "paging.h"

namespace histories {

/// One access that may fault, made by a routine of probes.S. The order of the fields is known
/// there.
struct Probe {
    u64 address = 0;
    u64 input = 0;   ///< address of the bytes to write
    u64 output = 0;  ///< address where the bytes read go
    u64 size = 0;    ///< for string instructions
    u64 routine = 0; ///< address of the routine
    u64 user = 0;    ///< made at CPL 3
    u64 ac = 0;      ///< with RFLAGS.AC
    u64 result = 0;  ///< RAX at the end
    // What ended it; vector 0x80 stands for a regular end at CPL 3, 0 for one at CPL 0.
    u64 vector = 0, error = 0, cr2 = 0;
};

/// A routine of probes.S, and what it moves.
struct Form {
    const char* name;
    void (*routine)();
    u8 size;        ///< bytes; 0: any number, by string instructions
    u8 alignment;   ///< that the address must have
    bool user_only; ///< for use at CPL 3 only
    bool needs_avx;
};

extern const Form read_forms[];
extern const Form write_forms[];
extern const unsigned read_form_count, write_form_count;
extern const Form fetch_form;

/// Makes the access; fills in the last four fields.
void make_access(Probe& probe);
/// Prepares exceptions, and SSE and AVX where there is AVX.
void start_machine();
[[nodiscard]] bool has_avx();
[[nodiscard]] bool has_pcid();
[[nodiscard]] bool has_invpcid();
[[nodiscard]] bool has_smep();
[[nodiscard]] bool has_smap();
[[nodiscard]] bool has_huge_pages();
[[nodiscard]] unsigned physical_width();

u64 read_cr0();
u64 read_cr3();
u64 read_cr4();
void write_cr0(u64 value);
void write_cr3(u64 value);
void write_cr4(u64 value);
void set_nxe(bool on);
void invlpg(u64 va);
void invpcid(u64 type, u64 pcid, u64 va);

/// The value of `name=` in the kernel command line, in decimal or 0x..., or `otherwise`.
[[nodiscard]] u64 parameter(const char* name, u64 otherwise);

void print(const char* text);
void print_number(u64 value);
void print_hexadecimal(u64 value);
[[noreturn]] void power_off();

} // namespace histories
