// SPDX-License-Identifier: Apache-2.0
#include "monitor/disks.h"

#include "base/verify.h"
#include "platform/nvme/function.h"
#include "platform/virtio/block.h"

#include <algorithm>

namespace gnomon::monitor {

namespace {

constexpr unsigned isa_bridge_slot = 1;

platform::ide::DriveParts ide_drive(const Disk& disk, unsigned n, const platform::Clock& clock) {
    platform::ide::DriveOptions options;
    options.serial = disk.serial;
    options.read_only = disk.read_only;
    switch (disk.profile) {
    case platform::DiskProfile::none: break;
    case platform::DiskProfile::hdd_7200: options.rotation = 7200; break;
    case platform::DiskProfile::sata_ssd:
    case platform::DiskProfile::nvme_ssd: options.rotation = 1; break;
    }
    return {fmt::format("ide{}", n), *disk.back_end,
            platform::make_delay_model(disk.profile, disk.back_end->size(), clock),
            std::move(options)};
}

} // namespace

Result<std::unique_ptr<Disks>> Disks::create(std::span<const Disk> disks, platform::Board& board,
                                             GuestMemory& memory,
                                             platform::CompletionScheduler& completions,
                                             platform::DmaListener& listener,
                                             const platform::Clock& clock) {
    const auto ide_disks =
        std::ranges::count(disks, DiskModel::ide, [](const Disk& disk) { return disk.model; });
    if (ide_disks > max_ide_disks)
        return usage_error("{} IDE disks: a machine has room for {}", ide_disks, max_ide_disks);
    const std::size_t others = disks.size() - static_cast<std::size_t>(ide_disks);
    if (others > max_disks)
        return usage_error("{} disks: a machine has room for {}", others, max_disks);
    std::unique_ptr<Disks> made(new Disks);
    if (ide_disks != 0)
        if (auto ide = made->create_ide(board, memory, completions, listener); !ide)
            return tl::unexpected(ide.error());
    unsigned slots = first_slot, ide_places = 0;
    for (unsigned n = 0; n < disks.size(); ++n) {
        const Disk& disk = disks[n];
        VERIFY(disk.back_end != nullptr);
        made->m_back_ends.push_back(disk.back_end.get());
        if (disk.model == DiskModel::ide) {
            made->m_ide->attach(ide_places++, ide_drive(disk, n, clock));
            continue;
        }
        platform::PciSlot slot = board.pci_slot(slots++);
        std::unique_ptr<platform::PciDevice> controller;
        switch (disk.model) {
        case DiskModel::virtio:
            controller = std::make_unique<platform::VirtioBlock>(
                std::move(slot), *disk.back_end, completions,
                platform::VirtioBlockOptions{.name = fmt::format("virtio{}", n),
                                             .serial = disk.serial,
                                             .read_only = disk.read_only},
                memory, &listener,
                platform::make_delay_model(disk.profile, disk.back_end->size(), clock));
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
        case DiskModel::ide: break; // above
        }
        if (auto placed = board.pci().insert(controller->address(), *controller); !placed)
            return tl::unexpected(placed.error());
        made->m_controllers.push_back(std::move(controller));
    }
    return made;
}

Result<> Disks::create_ide(platform::Board& board, GuestMemory& memory,
                           platform::CompletionScheduler& completions,
                           platform::DmaListener& listener) {
    platform::PciSlot slot = board.pci_slot(isa_bridge_slot);
    if (auto placed = board.pci().insert(slot.address, m_isa_bridge); !placed) return placed;
    slot.address.function = 1;
    m_ide = std::make_unique<platform::ide::Function>(
        std::move(slot), "ide", completions,
        platform::ide::Function::Interrupts{board.isa_line(platform::layout::ide_irq[0]),
                                            board.isa_line(platform::layout::ide_irq[1])},
        memory, &listener);
    return board.pci().insert(m_ide->address(), *m_ide);
}

Disks::~Disks() = default;

void Disks::reap() {
    for (platform::BlockBackEnd* back_end : m_back_ends)
        if (back_end->under_way() != 0) static_cast<void>(back_end->reap());
}

std::vector<int> Disks::poll_descriptors() const {
    std::vector<int> descriptors;
    for (const platform::BlockBackEnd* back_end : m_back_ends)
        descriptors.push_back(back_end->poll_descriptor());
    return descriptors;
}

} // namespace gnomon::monitor
