// SPDX-License-Identifier: Apache-2.0
/// @file The guest of tests/completions/guest on a machine with one disk.
#pragma once

#include "completions/ram_disk.h"
#include "monitor/completions/safepoints.h"
#include "monitor/machine.h"

#include <memory>
#include <string>

namespace gnomon::test {

/// As the guest numbers them.
enum class Bug : unsigned {
    none, ///< the robust twin
    flag_after_command,
    end_before_work,
    result_after_ack,
    command_in_handler,
};

struct FragileRun {
    /// nvme or ide.
    monitor::DiskModel model = monitor::DiskModel::nvme;
    Bug bug = Bug::none;
    u64 requests = 1000;
    unsigned depth = 1;
    bool batch = false; ///< writes what commands it can with interrupts off
    bool spin = false;  ///< waits without halting
    u64 work = 0;       ///< turns of a loop
    u64 parts = 1;      ///< how often, with an access to a device after each
    u64 stack = 4096;   ///< bytes, at most so many
    u64 seed = 1;
    RamDiskOptions disk;
    std::string file; ///< instead of `disk`: what platform::open_disk takes
    platform::DiskProfile profile = platform::DiskProfile::hdd_7200;
    monitor::CompletionPolicy policy;
    std::shared_ptr<const monitor::CompletionRules> rules;
    u64 limit_s = 60; ///< then the machine is stopped
};

struct FragileOutcome {
    bool survived = false; ///< every request had its answer, once
    std::string text;      ///< what the guest said, or what became of it
    u64 deepest = 0;       ///< handlers within each other, as the guest saw it
    u64 run_ns = 0;        ///< from the first request to the last, and the boot
    u64 cpu_ns = 0;        ///< of the host's processors meanwhile, all threads
    Statistics statistics;
    std::string group; ///< the disk's
    /// Of the disk's group.
    [[nodiscard]] u64 statistic(const std::string& name) const;
};

[[nodiscard]] FragileOutcome run_fragile(const FragileRun& run);

} // namespace gnomon::test
