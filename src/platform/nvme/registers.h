// SPDX-License-Identifier: Apache-2.0
/// @file The registers of an NVMe controller, BAR 0 (NVM Express Base Specification 1.4, section
/// 3).
#pragma once

#include "base/types.h"

namespace gnomon::platform::nvme {

/// Byte offsets. Registers are accessed as aligned dwords, those of 64 bits as qwords too; other
/// writes are ignored, other reads give the bytes.
enum class Reg : u16 {
    cap = 0x00,         // r- 64 bits, Cap::value
    vs = 0x08,          // r- 00010400h: 1.4
    intms = 0x0c,       // rw 1 sets, reset 00000000h
    intmc = 0x10,       // rw 1 clears, reads as INTMS
    cc = 0x14,          // rw Cc::writable, reset 00000000h
    csts = 0x1c,        // r- but NSSRO, 1 clears; reset 00000000h
    nssr = 0x20,        // -w Nssr::reset, reads as 0
    aqa = 0x24,         // rw Aqa::writable, reset 00000000h
    asq = 0x28,         // rw 64 bits, 4 KiB aligned, reset 0
    acq = 0x30,         // rw 64 bits, 4 KiB aligned, reset 0
    cmbloc = 0x38,      // r- 00000000h: no controller memory buffer
    cmbsz = 0x3c,       // r- 00000000h
    doorbells = 0x1000, // -w queue y: tail of its SQ at 8 y, head of its CQ at 8 y + 4
};

/// What is between and behind the registers reads as 0; so do boot partitions (BPINFO) and the
/// persistent memory region (PMRCAP), which say that there are none.
inline constexpr u64 register_bytes = 0x2000;

inline constexpr u32 version = 0x0001'0400;

struct Cap {
    static constexpr u64 max_queue_entries = 1024; ///< MQES + 1
    static constexpr u64 contiguous_queues = u64{1} << 16;
    /// TO: how long CC.EN may take, in units of 500 ms. A slow server may have requests under way.
    static constexpr u64 timeout_units = 60;
    static constexpr u64 subsystem_reset = u64{1} << 36;
    static constexpr u64 nvm_command_set = u64{1} << 37;
    /// MPSMIN is 4 KiB, MPSMAX 64 KiB: 2 ^ (12 + n).
    static constexpr u64 max_page_shift = 4;
    static constexpr u64 value = (max_queue_entries - 1) | contiguous_queues | timeout_units << 24 |
                                 subsystem_reset | nvm_command_set | max_page_shift << 52;
};

struct Cc {
    static constexpr u32 enable = 1, writable = 0x00ff'fff1;
    static constexpr u32 command_set(u32 cc) { return cc >> 4 & 7; }
    static constexpr u32 page_shift(u32 cc) { return cc >> 7 & 15; }
    static constexpr u32 arbitration(u32 cc) { return cc >> 11 & 7; }
    static constexpr u32 shutdown(u32 cc) { return cc >> 14 & 3; }
    static constexpr u32 submission_entry_shift(u32 cc) { return cc >> 16 & 15; }
    static constexpr u32 completion_entry_shift(u32 cc) { return cc >> 20 & 15; }
};

struct Csts {
    static constexpr u32 ready = 1 << 0, fatal = 1 << 1, shutdown_occurring = 1 << 2,
                         shutdown_complete = 2 << 2, subsystem_reset_occurred = 1 << 4;
};

struct Nssr {
    static constexpr u32 reset = 0x4e56'4d65; ///< "NVMe"
};

struct Aqa {
    static constexpr u32 writable = 0x0fff'0fff;
    static constexpr u32 submission_entries(u32 aqa) { return (aqa & 0xfff) + 1; }
    static constexpr u32 completion_entries(u32 aqa) { return (aqa >> 16 & 0xfff) + 1; }
};

} // namespace gnomon::platform::nvme
