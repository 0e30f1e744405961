// SPDX-License-Identifier: Apache-2.0
/// @file The transcript: what the guest sees, on the serial port. A case is a line with a digest of
/// all its values; with the option `verbose` the values themselves come before it.
#pragma once

#include "guest.h"

#include <initializer_list>

/// Words of the kernel command line.
struct Options {
    u64 seed = 1;
    u64 from = 0;           ///< first random case
    u64 cases = 100;        ///< how many
    u64 directed = ~u64{0}; ///< only this directed case; 0xffff for none: both leave the rest out
    bool verbose = false;
    bool list = false;  ///< print the system calls that were entered, as a tracer should see them
    bool fatal = false; ///< end with a case that shuts the processor down
};
[[nodiscard]] Options read_options();

void put_text(const char* text);
void put_hex(u64 value);

/// Values go into the digest of the current case, and are shown if `verbose`.
void begin_case(const char* name, u64 number, bool verbose);
void note(const char* name, u64 value);
void end_line();
void end_case();

/// A system call that a tracer must report, with the CR3 that it was made under.
void list_call(bool wanted, u64 tables, u64 number, const u64 (&args)[5]);
