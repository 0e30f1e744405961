// SPDX-License-Identifier: Apache-2.0
/// @file How a device on the PCI bus interrupts, whatever the guest has chosen: MSI-X or INTx.
#pragma once

#include "base/types.h"

namespace gnomon::platform {

/// A device's interrupt vectors, as the PCI function that it is part of offers them.
class InterruptVectors {
public:
    InterruptVectors() = default;
    InterruptVectors(const InterruptVectors&) = delete;
    InterruptVectors& operator=(const InterruptVectors&) = delete;
    virtual ~InterruptVectors() = default;

    /// Whether MSI-X is on; otherwise only `set_pin` interrupts.
    [[nodiscard]] virtual bool messages_enabled() const = 0;
    /// Sends the message of this table entry, or notes it as pending while that is masked. Entries
    /// that do not exist are ignored. Nothing while MSI-X is off.
    virtual void send(unsigned vector) = 0;
    /// The level of the INTx pin; it shows only while MSI-X is off and INTx is not disabled.
    virtual void set_pin(bool asserted) = 0;
};

} // namespace gnomon::platform
