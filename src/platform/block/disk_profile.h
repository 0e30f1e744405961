// SPDX-License-Identifier: Apache-2.0
/// @file The physical disks whose timing virtual ones have: the table of nominal delays (M3.2).
#pragma once

#include "platform/block/delay_model.h"
#include "platform/clock.h"

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace gnomon::platform {

enum class DiskProfile : u8 {
    none,     ///< no physical counterpart
    hdd_7200, ///< "hdd-7200": 3.5 inch, 7200 turns a minute, SATA
    sata_ssd, ///< "sata-ssd"
    nvme_ssd, ///< "nvme-ssd": PCI Express 3.0 x4
};

/// By the name that users write.
[[nodiscard]] std::optional<DiskProfile> disk_profile_named(std::string_view name);
[[nodiscard]] std::string_view name_of(DiskProfile profile);
/// All names, for messages: "none, hdd-7200, ...".
[[nodiscard]] std::string disk_profile_names();

/// A disk with one arm: one request after the other, in order, so that they mature in order.
///
/// From the data sheets of desktop disks of 1 to 2 TB with 7200 turns a minute, rounded: seek from
/// track to track 0.8 ms, on average 8.5 ms; average latency 4.16 ms, which is half a turn;
/// sustained transfer 200 MB/s; interface 600 MB/s. The seek's growth with the square root of the
/// distance and the command overhead are the usual approximations: with a full stroke of 15.2 ms,
/// random distances take 8.5 ms on average. No write cache: what is written is on the medium, so
/// that a flush has nothing left to do. Consecutive requests need neither seek nor turn.
struct RotatingFigures {
    u64 command_ns = 200'000;
    u64 track_seek_ns = 800'000, full_seek_ns = 15'200'000;
    u64 turn_ns = 60'000'000'000 / 7200;
    u64 medium_bytes_per_second = 200'000'000;
    u64 track_bytes = 1'666'560; ///< what passes in a turn, in whole sectors
};

/// A disk with several flash units that work at once, behind one link. A request takes the units
/// that its addresses are on, then the link. Writes end in the cache, which drains at the medium's
/// rate; a flush waits for that.
///
/// From the data sheets of consumer drives of 250 to 500 GB, rounded. `sata-ssd`: 550 MB/s read,
/// 520 MB/s write; random 4 KiB at depth 1 10,000 reads and 42,000 writes a second, at depth 32
/// 98,000 reads. `nvme-ssd`: 3400 and 2300 MB/s; 15,000 and 50,000; 370,000 at depth 32 in several
/// threads. Unit times follow from depth 1, their number from depth 32. A flush's own time is that
/// of one program operation of TLC flash, 700 us.
struct FlashFigures {
    u64 command_ns = 0;   ///< controller and protocol, each command
    u64 read_unit_ns = 0; ///< from a unit's cells
    u64 write_ns = 0;     ///< into the cache
    u64 flush_ns = 0;
    unsigned units = 1;
    u64 stripe_bytes = 16384; ///< consecutive bytes on one unit, read at once
    u64 link_bytes_per_second = 1;
    u64 write_bytes_per_second = 1; ///< sustained
    u64 cache_bytes = 0;
};

/// @param disk_bytes the disk's size, over which seeks are stretched. @param clock the machine's;
/// must outlive the model.
[[nodiscard]] std::unique_ptr<DelayModel> make_delay_model(DiskProfile profile, u64 disk_bytes,
                                                           const Clock& clock);

/// No nominal delay is longer, however much is queued: guests give a command 30 s, some 7.
inline constexpr u64 longest_nominal_ns = 2'000'000'000;

} // namespace gnomon::platform
