// SPDX-License-Identifier: Apache-2.0
/// @file The disks of one life of a machine: controllers on its board, over back ends that outlive
/// it.
#pragma once

#include "monitor/machine.h"
#include "platform/board.h"
#include "platform/completion.h"
#include "platform/ide/function.h"
#include "platform/pci/isa_bridge.h"

#include <memory>
#include <span>
#include <vector>

namespace gnomon::monitor {

/// Threads: the machine's.
class Disks {
public:
    /// Where the controllers begin on bus 0; what comes before is the chipset's.
    static constexpr unsigned first_slot = 2;
    static constexpr unsigned max_disks = 32 - first_slot; ///< with a controller each
    /// They share one, which is a function of the chipset.
    static constexpr unsigned max_ide_disks = 4;

    /// Puts a controller for each disk on the board, and one for all IDE disks: these are, in their
    /// order, first and second of the primary channel, then of the secondary one. All arguments
    /// must outlive the result, and the board is not to be used by the guest while that is
    /// destroyed.
    [[nodiscard]] static Result<std::unique_ptr<Disks>>
    create(std::span<const Disk> disks, platform::Board& board, GuestMemory& memory,
           platform::CompletionScheduler& completions, platform::DmaListener& listener,
           const platform::Clock& clock);
    Disks(const Disks&) = delete;
    Disks& operator=(const Disks&) = delete;
    /// Waits until the host has let go of the guest's memory.
    ~Disks();

    /// Has the controllers hear of what the host has done: interrupts may be pending then.
    void reap();
    /// Readable while `reap` has something to do.
    [[nodiscard]] std::vector<int> poll_descriptors() const;

private:
    Disks() = default;

    [[nodiscard]] Result<> create_ide(platform::Board& board, GuestMemory& memory,
                                      platform::CompletionScheduler& completions,
                                      platform::DmaListener& listener);

    std::vector<platform::BlockBackEnd*> m_back_ends;
    platform::PciIsaBridge m_isa_bridge; ///< on the board with m_ide, and not without
    std::unique_ptr<platform::ide::Function> m_ide;
    std::vector<std::unique_ptr<platform::PciDevice>> m_controllers;
};

} // namespace gnomon::monitor
