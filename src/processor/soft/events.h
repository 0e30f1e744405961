// SPDX-License-Identifier: Apache-2.0
/// @file Interrupt and exception delivery beyond helpers.h: software interrupts.
#pragma once

#include "processor/soft/cpu.h"

namespace gnomon::processor::soft {

/// Delivers the trap of INT n, INT3 or INTO, whose RIP pushed is the next instruction's: checks the
/// gate's DPL, and leaves error codes without EXT. Never exits on int_intercept, and leaves
/// ControlBlock::injection alone.
HelperResult deliver_software_interrupt(Cpu& cpu, const Instruction& insn, u8 vector);

} // namespace gnomon::processor::soft
