// SPDX-License-Identifier: Apache-2.0
#include "monitor/disks.h"

#include "base/verify.h"
#include "platform/nvme/function.h"
#include "platform/virtio/block.h"

namespace gnomon::monitor {

Result<std::unique_ptr<Disks>> Disks::create(std::span<const Disk> disks, platform::Board& board,
                                             GuestMemory& memory,
                                             platform::CompletionScheduler& completions,
                                             platform::DmaListener& listener,
                                             const platform::Clock& clock) {
    if (disks.size() > max_disks)
        return usage_error("{} disks: a machine has room for {}", disks.size(), max_disks);
    std::unique_ptr<Disks> made(new Disks);
    for (unsigned n = 0; n < disks.size(); ++n) {
        const Disk& disk = disks[n];
        VERIFY(disk.back_end != nullptr);
        platform::PciSlot slot = board.pci_slot(first_slot + n);
        std::unique_ptr<platform::PciDevice> controller;
        switch (disk.model) {
        case DiskModel::virtio:
            controller = std::make_unique<platform::VirtioBlock>(
                std::move(slot), *disk.back_end, completions,
                platform::VirtioBlockOptions{.name = fmt::format("virtio{}", n),
                                             .serial = disk.serial,
                                             .read_only = disk.read_only},
                memory, &listener);
            break;
        case DiskModel::nvme: {
            platform::nvme::Options options;
            options.serial = disk.serial;
            options.read_only = disk.read_only;
            controller = std::make_unique<platform::nvme::Function>(
                std::move(slot), fmt::format("nvme{}", n), *disk.back_end, completions,
                platform::make_delay_model(disk.profile, disk.back_end->size(), clock), clock,
                std::move(options), memory, &listener);
            break;
        }
        }
        if (auto placed = board.pci().insert(controller->address(), *controller); !placed)
            return tl::unexpected(placed.error());
        made->m_back_ends.push_back(disk.back_end.get());
        made->m_controllers.push_back(std::move(controller));
    }
    return made;
}

Disks::~Disks() = default;

bool Disks::reap() {
    unsigned done = 0;
    for (platform::BlockBackEnd* back_end : m_back_ends)
        if (back_end->under_way() != 0) done += back_end->reap();
    return done != 0;
}

std::vector<int> Disks::poll_descriptors() const {
    std::vector<int> descriptors;
    for (const platform::BlockBackEnd* back_end : m_back_ends)
        descriptors.push_back(back_end->poll_descriptor());
    return descriptors;
}

} // namespace gnomon::monitor
