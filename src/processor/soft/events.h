// SPDX-License-Identifier: Apache-2.0
/// @file Interrupt and exception delivery beyond helpers.h: how two events combine, and software
/// interrupts.
#pragma once

#include "processor/soft/cpu.h"

#include <optional>

namespace gnomon::processor::soft {

/// What to deliver when exception `second` came up while `first` was being delivered (SDM vol. 3A
/// table 6-5): `second`, or #DF, or nothing more: the processor shuts down (nullopt).
/// @param first any event; all but the contributory exceptions, #PF and #DF are benign.
/// @param second of kind exception.
[[nodiscard]] std::optional<Injection> combine_exceptions(const Injection& first,
                                                          const Injection& second);

/// Delivers the trap of INT n, INT3 or INTO, whose RIP pushed is the next instruction's: checks the
/// gate's DPL, and leaves error codes without EXT. Never exits on int_intercept, and leaves
/// ControlBlock::injection alone.
HelperResult deliver_software_interrupt(Cpu& cpu, const Instruction& insn, u8 vector);

} // namespace gnomon::processor::soft
