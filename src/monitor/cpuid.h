// SPDX-License-Identifier: Apache-2.0
/// @file The processor that guests are shown: CPUID leaves and the model-specific registers that go
/// with them.
#pragma once

#include "base/types.h"
#include "processor/control_block.h"

#include <optional>
#include <vector>

namespace gnomon::monitor {

/// The CPUID table of a guest on this host: GenuineIntel family 6, x86-64-v4 where the host has it,
/// only what the software processor really does. @param tsc_hz of the virtual clock. @param apic_id
/// of this processor.
[[nodiscard]] std::vector<processor::CpuidLeaf> guest_cpuid(u64 tsc_hz, u32 apic_id);

/// The APIC timer's input clock that CPUID leaf 0x15 states for this TSC frequency (the core
/// crystal), in Hz.
[[nodiscard]] constexpr u64 crystal_hz(u64 tsc_hz) { return tsc_hz / 2; }

/// IA32_ARCH_CAPABILITIES: the processor is not subject to the known transient-execution faults.
/// The translator re-emits the guest's loads between its own checks, so what the guest's
/// mitigations would buy is up to the host's.
inline constexpr u64 arch_capabilities = u64{1} << 0     // RDCL_NO
                                         | u64{1} << 1   // IBRS_ALL
                                         | u64{1} << 3   // SKIP_L1DFL_VMENTRY
                                         | u64{1} << 4   // SSB_NO
                                         | u64{1} << 5   // MDS_NO
                                         | u64{1} << 6   // IF_PSCHANGE_MC_NO
                                         | u64{1} << 8   // TAA_NO
                                         | u64{1} << 13  // SBDR_SSDP_NO
                                         | u64{1} << 14  // FBSDP_NO
                                         | u64{1} << 15  // PSDP_NO
                                         | u64{1} << 20  // BHI_NO
                                         | u64{1} << 24  // PBRSB_NO
                                         | u64{1} << 26  // GDS_NO
                                         | u64{1} << 27  // RFDS_NO
                                         | u64{1} << 62; // ITS_NO

} // namespace gnomon::monitor
