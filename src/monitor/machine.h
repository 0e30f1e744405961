// SPDX-License-Identifier: Apache-2.0
/// @file A whole virtual machine: processor, board, shadow tables, interposer, and the loop that
/// runs them.
#pragma once

#include "base/address.h"
#include "base/result.h"
#include "base/statistics.h"
#include "monitor/completions/policy.h"
#include "platform/block/block_back_end.h"
#include "platform/block/disk_profile.h"
#include "processor/code_map.h"
#include "processor/processor.h"

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace gnomon::monitor {

/// Where a serial port's bytes go to and come from. Called only from the thread that runs the
/// machine.
class SerialEndpoint {
public:
    virtual ~SerialEndpoint() = default;
    /// Bytes that the guest transmitted. Must not block for long; returns how many were taken (the
    /// rest is offered again later: the guest's transmitter waits).
    virtual std::size_t transmitted(std::span<const std::byte> data) = 0;
    /// Bytes for the guest, up to out.size(); 0 if none now. Must not block.
    virtual std::size_t receive(std::span<std::byte> out) = 0;
    /// A descriptor that becomes readable when `receive` may have something (or -1).
    [[nodiscard]] virtual int poll_descriptor() const { return -1; }
};

class CompletionRules;    // monitor/completions/safepoints.h
class SystemCallObserver; // monitor/interposer.h

/// What a disk looks like to the guest.
enum class DiskModel : u8 { virtio, nvme, ide };

struct Disk {
    DiskModel model = DiskModel::virtio;
    std::unique_ptr<platform::BlockBackEnd> back_end; ///< not null
    std::string serial;                               ///< at most 20 characters
    bool read_only = false;                           ///< even if the back end may be written
    /// The physical disk whose timing it has.
    platform::DiskProfile profile = platform::DiskProfile::none;
};

/// The timing that a model of disks has unless the user says otherwise: that of what it was built
/// for.
[[nodiscard]] constexpr platform::DiskProfile default_profile(DiskModel model) {
    switch (model) {
    case DiskModel::virtio: break; // paravirtual: there is no such thing
    case DiskModel::nvme: return platform::DiskProfile::nvme_ssd;
    case DiskModel::ide: return platform::DiskProfile::hdd_7200;
    }
    return platform::DiskProfile::none;
}

struct MachineOptions {
    std::string kernel;            ///< path: bzImage or ELF
    std::vector<std::byte> initrd; ///< contents; empty: none. Kept for the next boot only
    std::string append;            ///< kernel command line
    u64 memory = u64{512} << 20;   ///< bytes
    u64 check_shadow =
        0; ///< compare the shadow with a strict walk at every n-th coherency point; 0: never
    processor::LinearViews linear_views = processor::LinearViews::busy;
    bool no_reboot = false;       ///< a reset ends the run instead of starting again
    bool measure_time = false;    ///< for `statistics`: counts alone cost nothing
    std::vector<Disk> disks;      ///< in the order in which the guest finds them
    CompletionPolicy completions; ///< when guests learn that their disks are done
    std::shared_ptr<const CompletionRules> completion_rules; ///< null: the usual ones
    std::array<SerialEndpoint*, 4> serial{}; ///< outlive the machine; nullptr: nothing attached
    processor::CodeMap* code_map =
        nullptr; ///< outlives the machine; told where translated code lies
    SystemCallObserver* observer = nullptr; ///< outlives the machine; nullptr: no interposition
};

enum class RunEnd { power_off, reset, triple_fault, stopped };

struct RunOutcome {
    RunEnd end = RunEnd::stopped;
    std::string processor_state; ///< triple_fault: registers as text, several lines
};

class Machine {
public:
    [[nodiscard]] static Result<std::unique_ptr<Machine>> create(MachineOptions options);
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    virtual ~Machine() = default;

    /// Runs the guest on the calling thread until it powers off, resets with no_reboot,
    /// triple-faults or `stop` is called.
    [[nodiscard]] virtual Result<RunOutcome> run() = 0;
    /// Makes `run` return with RunEnd::stopped soon. Async-signal-safe; any thread.
    virtual void stop() = 0;
    /// The process was stopped (SIGSTOP and the like) and goes on: the guest's clocks leave the
    /// time between out. For the handler of SIGCONT, on the thread that runs the machine, so that
    /// the guest sees no clock before it is set. Async-signal-safe.
    virtual void process_continued() = 0;
    /// What the machine has done in all its lives: groups of counts, and with
    /// MachineOptions::measure_time the group "time", which says what the thread that runs the
    /// machine spent its time on, without overlap. After `run`.
    [[nodiscard]] virtual Statistics statistics() const = 0;
    /// CLOCK_MONOTONIC when the guest ran first; 0 if it has not.
    [[nodiscard]] virtual u64 guest_start_ns() const = 0;

protected:
    Machine() = default;
};

} // namespace gnomon::monitor
