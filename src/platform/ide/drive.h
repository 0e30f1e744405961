// SPDX-License-Identifier: Apache-2.0
/// @file One ATA disk of a channel: what it is made of, how it is set, and its registers.
#pragma once

#include "platform/block/block_back_end.h"
#include "platform/block/delay_model.h"
#include "platform/ide/options.h"
#include "platform/ide/task_file.h"

#include <memory>

namespace gnomon::platform::ide {

/// What a disk is made of.
struct DriveParts {
    std::string name;   ///< for reports of its completions: "ide0"
    BlockBackEnd& disk; ///< must outlive the channel; nothing else uses it
    std::unique_ptr<DelayModel> delays;
    DriveOptions options;
};

/// What commands set, with the values after power-on.
struct DriveSettings {
    static constexpr u8 most_multiple = 16;
    static constexpr u8 most_udma_mode = 5, most_multiword_mode = 2, most_pio_mode = 4;
    /// SET TRANSFER MODE: the kind is in bits 7:3.
    static constexpr u8 default_pio = 0x00, pio = 0x08, multiword = 0x20, udma = 0x40;

    u8 multiple = most_multiple; ///< sectors in a block of READ MULTIPLE; 0: not possible
    bool write_cache = true, look_ahead = true;
    bool revert = false;         ///< a software reset makes all as after power-on
    u8 dma_mode = multiword | 2; ///< `multiword` or `udma`, and a number
};

struct Drive {
    Drive(DriveParts parts, unsigned scheduler_number, bool is_second)
        : disk(parts.disk), delays(std::move(parts.delays)), options(std::move(parts.options)),
          device(scheduler_number), second(is_second) {
        power_on();
    }

    [[nodiscard]] u64 sectors() const { return disk.size() / sector_bytes; }
    [[nodiscard]] bool read_only() const { return options.read_only || disk.read_only(); }
    void power_on() {
        settings = {};
        geometry = Geometry::standard(sectors());
        show_signature();
    }
    /// What software resets do.
    void reset() {
        if (settings.revert) {
            settings = {};
            geometry = Geometry::standard(sectors());
        }
        show_signature();
    }
    /// As resets and diagnostics leave the registers.
    void show_signature() {
        registers.reset();
        status = StatusBits::idle;
        error = ErrorBits::diagnostic_passed;
        interrupt = standby = sleeping = false;
    }

    BlockBackEnd& disk;
    const std::unique_ptr<DelayModel> delays;
    const DriveOptions options;
    const unsigned device; ///< the scheduler's number for it
    const bool second;     ///< device 1 of its channel

    TaskFile registers;
    u8 status = 0, error = 0; ///< while no command is under way
    bool interrupt = false;   ///< pending: INTRQ, when it is selected and may
    DriveSettings settings;
    Geometry geometry;
    bool standby = false;
    bool sleeping = false; ///< until the next reset
};

} // namespace gnomon::platform::ide
