// SPDX-License-Identifier: Apache-2.0
/// @file The model-specific registers that the processor holds itself (SDM vol. 4).
#pragma once

#include "processor/control_block.h"

namespace gnomon::processor::soft {

namespace msr {
inline constexpr u32 tsc = 0x10, sysenter_cs = 0x174, sysenter_esp = 0x175, sysenter_eip = 0x176,
                     pat = 0x277, efer = 0xc0000080, star = 0xc0000081, lstar = 0xc0000082,
                     cstar = 0xc0000083, fmask = 0xc0000084, fs_base = 0xc0000100,
                     gs_base = 0xc0000101, kernel_gs_base = 0xc0000102, tsc_aux = 0xc0000103;
}

/// Whether WRMSR of `value`, at CPL 0, passes the checks of this processor; otherwise it is #GP(0).
/// An intercepted write has not been checked, so the monitor asks here before it takes the value.
/// True for registers that the processor does not hold.
[[nodiscard]] bool msr_value_allowed(const ControlBlock& cb, u32 index, u64 value);

/// The value that IA32_EFER gets from WRMSR of `value`: LMA stays as it is.
[[nodiscard]] u64 efer_after_write(const ControlBlock& cb, u64 value);

} // namespace gnomon::processor::soft
