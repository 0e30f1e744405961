// SPDX-License-Identifier: Apache-2.0
/// @file The commands of ATA disks that are known here (ATA/ATAPI-7 volume 1, section 6; ACS-2,
/// section 7).
#pragma once

#include "base/types.h"

namespace gnomon::platform::ide {

/// What is not here is aborted, and IDENTIFY DEVICE offers none of it: host protected area, SMART,
/// security, device configuration overlay, streaming, logs, APM, packets, queues.
enum class Command : u8 {
    nop = 0x00, ///< is aborted always
    data_set_management = 0x06,
    device_reset = 0x08, ///< of packet devices: is aborted
    recalibrate = 0x10,  ///< to 1Fh
    read_sectors = 0x20,
    read_sectors_no_retry = 0x21,
    read_sectors_ext = 0x24,
    read_dma_ext = 0x25,
    read_native_max_ext = 0x27,
    read_multiple_ext = 0x29,
    write_sectors = 0x30,
    write_sectors_no_retry = 0x31,
    write_sectors_ext = 0x34,
    write_dma_ext = 0x35,
    write_multiple_ext = 0x39,
    write_dma_fua_ext = 0x3d,
    read_verify = 0x40,
    read_verify_no_retry = 0x41,
    read_verify_ext = 0x42,
    seek = 0x70, ///< to 7Fh
    execute_device_diagnostic = 0x90,
    initialize_device_parameters = 0x91,
    old_standby_immediate = 0x94,
    old_idle_immediate = 0x95,
    old_standby = 0x96,
    old_idle = 0x97,
    old_check_power_mode = 0x98,
    old_sleep = 0x99,
    read_multiple = 0xc4,
    write_multiple = 0xc5,
    set_multiple_mode = 0xc6,
    read_dma = 0xc8,
    read_dma_no_retry = 0xc9,
    write_dma = 0xca,
    write_dma_no_retry = 0xcb,
    write_multiple_fua_ext = 0xce,
    standby_immediate = 0xe0,
    idle_immediate = 0xe1,
    standby = 0xe2,
    idle = 0xe3,
    check_power_mode = 0xe5,
    sleep = 0xe6,
    flush_cache = 0xe7,
    flush_cache_ext = 0xea,
    identify_device = 0xec,
    set_features = 0xef,
    read_native_max = 0xf8,
};

/// Of SET FEATURES, in the Feature register.
enum class Feature : u8 {
    enable_write_cache = 0x02,
    set_transfer_mode = 0x03,
    disable_look_ahead = 0x55,
    keep_settings = 0x66, ///< over software resets
    disable_write_cache = 0x82,
    enable_look_ahead = 0xaa,
    revert_settings = 0xcc, ///< to power-on defaults by software resets
};

/// Of DATA SET MANAGEMENT, in the Feature register.
inline constexpr u8 data_set_trim = 1 << 0;

} // namespace gnomon::platform::ide
