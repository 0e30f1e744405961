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
    processor::ExtendedState extended;
};

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

/// A program with all that it starts from.
struct Program {
    u64 rip = 0;
    std::vector<Bytes> code;
    std::vector<u64>
        stops; ///< addresses where the program ends; nothing else lies within 16 bytes after
    std::vector<Bytes> memory;
    MachineState state;
    std::vector<u64>
        translated; ///< addresses in a `code` page that the guest is to have translated code at
    std::vector<Range>
        not_compared; ///< memory that is not compared, with the reason where it is added
    std::vector<Range> not_compared_on_fault;
    Range operand;           ///< the explicit memory operand, if any
    bool misaligned = false; ///< `operand` is not aligned as some instructions want it
    bool several_faults =
        false; ///< more than one access can fault, in an order that is up to the processor
    bool flags_compared_on_fault = true;
    bool vectors_compared_on_fault = true;
    std::string text; ///< disassembly
};

} // namespace gnomon::test
