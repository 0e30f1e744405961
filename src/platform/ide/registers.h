// SPDX-License-Identifier: Apache-2.0
/// @file The registers of an ATA channel and of the PIIX function that drives two of them.
///
/// ATA/ATAPI-7 volume 1, section 5, and volume 2, section 7 (command block and control block);
/// Intel 82371SB (PIIX3), section 2.3 (IDE), and SFF-8038i (bus master).
#pragma once

#include "base/types.h"

namespace gnomon::platform::ide {

inline constexpr unsigned channel_count = 2, drives_per_channel = 2;
inline constexpr u64 sector_bytes = 512;

/// The command block: ports 1F0h and 170h. Both drives take what is written; the one that
/// DeviceBits::second selects answers.
enum class CommandBlockReg : u8 {
    data = 0, // rw 16 or 32 bits (8 too): of the sector under way
    /// r- Error, ErrorBits; reset 01h (diagnostic passed)
    /// -w Feature
    error = 1,
    count = 2,    // rw Sector Count, reset 01h
    lba_low = 3,  // rw Sector Number, reset 01h
    lba_mid = 4,  // rw Cylinder Low, reset 00h
    lba_high = 5, // rw Cylinder High, reset 00h
    device = 6,   // rw DeviceBits, reset 00h
    /// r- Status, StatusBits; ends the interrupt; reset DRDY | DSC
    /// -w Command
    status = 7,
};
inline constexpr u16 command_block_port_count = 8;
/// The control block is one port, 3F6h and 376h: reads Alternate Status, which ends no interrupt;
/// writes Device Control, ControlBits.
inline constexpr u16 control_block_port_count = 1;

struct StatusBits {
    static constexpr u8 error = 1 << 0, ///< ERR
        data_request = 1 << 3,          ///< DRQ
        seek_complete = 1 << 4,         ///< DSC
        ready = 1 << 6,                 ///< DRDY
        busy = 1 << 7;                  ///< BSY: the other bits mean nothing
    static constexpr u8 idle = ready | seek_complete;
};

struct ErrorBits {
    static constexpr u8 none = 0,
                        abort = 1 << 2,        ///< ABRT: not known, not possible, or failed
        id_not_found = 1 << 4,                 ///< IDNF: no such address
        uncorrectable = 1 << 6;                ///< UNC: cannot be read
    static constexpr u8 diagnostic_passed = 1; ///< after a reset and by EXECUTE DEVICE DIAGNOSTIC
};

struct DeviceBits {
    static constexpr u8 head = 0xf;      ///< head, or bits 27:24 of a 28-bit LBA
    static constexpr u8 second = 1 << 4; ///< DEV
    static constexpr u8 lba = 1 << 6;    ///< an LBA, not cylinder, head and sector
};

struct ControlBits {
    static constexpr u8 no_interrupt = 1 << 1;   ///< nIEN
    static constexpr u8 software_reset = 1 << 2; ///< SRST
    static constexpr u8 high_order = 1 << 7;     ///< HOB: reads give what was written before
};

/// The bus master's ports: eight for each channel.
enum class BusMasterReg : u8 {
    command = 0, // rw BusMasterCommand, reset 00h
    status = 2,  // rw BusMasterStatus, reset 00h
    table = 4,   // rw 32 bits: descriptor table, bits 31:2, reset 00000000h
};
inline constexpr u16 bus_master_port_count = 16, bus_master_ports_of_channel = 8;

struct BusMasterCommand {
    static constexpr u8 start = 1 << 0;     ///< SSBM: 0 to 1 starts, 0 stops
    static constexpr u8 to_memory = 1 << 3; ///< RWCON: reads from the disk; fixed while active
    static constexpr u8 writable = start | to_memory;
};
struct BusMasterStatus {
    static constexpr u8 active = 1 << 0;    ///< BMIDEA: started, and the table has not ended
    static constexpr u8 error = 1 << 1;     ///< memory could not be reached; 1 clears
    static constexpr u8 interrupt = 1 << 2; ///< the drive's interrupt has risen; 1 clears
    static constexpr u8 capable = 3 << 5;   ///< of DMA, drive 0 and 1: for software's own use
    // Bit 7 (simplex) is 0: both channels work at once.
};

/// What PIIX3 has in the configuration space beside the header.
enum class ConfigReg : u8 {
    primary_timing = 0x40,   // rw IDETIM, 16 bits, Timing; reset 8000h here, as firmware leaves it
    secondary_timing = 0x42, // rw the same for the second channel
    slave_timing = 0x44,     // rw SIDETIM, 8 bits, no effect; reset 00h
};
struct Timing {
    static constexpr u16 decode_enable = 1 << 15; ///< the channel's ports answer
    static constexpr u16 writable = 0xf3ff;       ///< the rest has no effect
};

} // namespace gnomon::platform::ide
