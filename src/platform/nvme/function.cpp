// SPDX-License-Identifier: Apache-2.0
#include "platform/nvme/function.h"

namespace gnomon::platform::nvme {

namespace {

Options with_identity(Options options) {
    options.vendor_id = Function::identity.vendor_id;
    options.subsystem_vendor_id = Function::identity.subsystem_vendor_id;
    return options;
}

} // namespace

Function::Function(PciSlot slot, std::string name, BlockBackEnd& disk,
                   CompletionScheduler& completions, std::unique_ptr<DelayModel> delays,
                   const Clock& clock, Options options, GuestMemory& memory, DmaListener* listener)
    : PciDevice(std::move(slot), identity, name, memory, listener), m_delays(std::move(delays)),
      m_controller({*this, dma(), disk, completions, *m_delays, clock},
                   with_identity(std::move(options)), name) {
    add_memory_range(register_bar, register_bytes, m_controller, true);
    add_msix(message_bar, m_controller.vectors());
    add_express();
}

} // namespace gnomon::platform::nvme
