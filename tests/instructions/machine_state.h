// SPDX-License-Identifier: Apache-2.0
/// @file What a case starts from and what it leaves: the state that both processors are compared
/// in.
#pragma once

#include "processor/registers.h"

#include <string>
#include <vector>

namespace gnomon::test {

/// User-mode state. RIP is part of the case and of the outcome.
struct MachineState {
    u64 gpr[16] = {};
    u64 rflags = processor::rflags::fixed1;
    u64 fs_base = 0, gs_base = 0;
    u16 selector[processor::segment_count] = {}; ///< of an outcome only; all begin in the same way
    processor::ExtendedState extended;
};

/// What is compared after each instruction of a program that is single-stepped.
struct Step {
    u64 rip = 0;
    u64 rflags = 0;
    u64 gpr[16] = {};
    u16 cs = 0;
    processor::ExtendedState extended;
};
inline constexpr std::size_t step_limit = 2048; ///< of one program

/// How a run ended.
struct Outcome {
    enum class Kind : u8 {
        stopped,    ///< reached a stop
        faulted,    ///< an exception, at `rip`
        unexpected, ///< anything else: `note` says what
    };
    Kind kind = Kind::unexpected;
    u64 rip = 0;
    u8 vector = 0;
    u32 error_code = 0;
    u64 cr2 = 0; ///< when vector is #PF
    std::string note;
};

/// Bytes to be placed at an address.
struct Bytes {
    u64 address = 0;
    std::vector<u8> content;
};

/// A range of addresses.
struct Range {
    u64 address = 0, size = 0;
};

/// Where a program ends.
struct Stop {
    u64 address = 0; ///< nothing else lies within 16 bytes after
    bool code32 = false;
};

/// A program with all that it starts from.
struct Program {
    bool code32 = false;  ///< runs in compatibility mode
    bool stepped = false; ///< RFLAGS.TF is set: the state is compared after each instruction
    u64 rip = 0;
    std::vector<Bytes> code;
    std::vector<Stop> stops;
    std::vector<Bytes> memory;
    MachineState state;
    std::vector<u64>
        translated; ///< addresses in a `code` page that the guest is to have translated code at
    std::vector<Range>
        not_compared; ///< memory that is not compared, with the reason where it is added
    std::vector<Range> not_compared_on_fault;
    std::vector<Range> guest_zeros; ///< memory where the guest finds zeros, whatever the host does
    Range operand;                  ///< the memory operand that a case is about, if any
    /// All that it accesses, `operand` included, where each is checked for itself: which of several
    /// that fault is reported is up to the processor.
    std::vector<Range> accesses;
    bool in_pieces = false;  ///< `operand` is accessed in several, in an order of the processor's
    bool misaligned = false; ///< `operand` is not aligned as some instructions want it
    u32 undefined_registers_on_fault = 0; ///< by number
    u64 undefined_flags = 0; ///< that the architecture leaves open, and processors differ in
    bool flags_compared_on_fault = true;
    bool vectors_compared_on_fault = true;
    bool place_refused = false; ///< its operand cannot have the place that was asked for
    u64 instructions = 1;       ///< that every way through the program executes, at least
    u32 kept_registers = 0;     ///< by number: those that hold addresses and counts
    std::string text;           ///< disassembly
};

} // namespace gnomon::test
