// SPDX-License-Identifier: Apache-2.0
/// @file The PCI function of an NVMe disk.
///
/// NVM Express Base Specification 1.4, section 2: a type 0 function of class 010802h.
#pragma once

#include "platform/nvme/controller.h"
#include "platform/pci/device.h"

#include <memory>

namespace gnomon::platform::nvme {

/// BAR 0: the controller's registers, 64-bit. BAR 4: MSI-X. Systems bind by the class; the device
/// number is of those that the vendor of virtio leaves for experiments.
class Function final : public PciDevice {
public:
    static constexpr PciIdentity identity = {.vendor_id = 0x1af4,
                                             .device_id = 0x10f1,
                                             .subsystem_vendor_id = 0x1af4,
                                             .subsystem_id = 0x1100,
                                             .class_code = 0x01'0802,
                                             .revision_id = 1};
    static constexpr unsigned register_bar = 0, message_bar = 4;

    /// @param name for messages and reports: "nvme0". @param disk, completions, clock, memory must
    /// outlive it, as must what `slot` names; nothing else uses `disk`. @param options the vendor's
    /// identifiers are filled in.
    Function(PciSlot slot, std::string name, BlockBackEnd& disk, CompletionScheduler& completions,
             std::unique_ptr<DelayModel> delays, const Clock& clock, Options options,
             GuestMemory& memory, DmaListener* listener);

private:
    void function_reset() override { m_controller.reset(); }

    std::unique_ptr<DelayModel> m_delays;
    Controller m_controller;
};

} // namespace gnomon::platform::nvme
