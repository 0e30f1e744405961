// SPDX-License-Identifier: Apache-2.0
/// @file What all PCI functions with registers of their own have in common: configuration space,
/// base addresses, capabilities, interrupts, and the right to master the bus.
///
/// PCI Local Bus Specification 3.0, chapter 6; PCI Express Base Specification 4.0, section 7.5.3.
#pragma once

#include "platform/apic_bus.h"
#include "platform/dma.h"
#include "platform/interrupt_line.h"
#include "platform/interrupt_vectors.h"
#include "platform/pci/decoder.h"
#include "platform/pci/msix.h"
#include "platform/pci/segment.h"

#include <array>
#include <optional>
#include <span>

namespace gnomon::platform {

struct PciIdentity {
    u16 vendor_id = 0, device_id = 0;
    u16 subsystem_vendor_id = 0, subsystem_id = 0;
    u32 class_code = 0; ///< 24 bits: class, subclass, programming interface
    u8 revision_id = 0;
};

/// What a slot of the board offers. All must outlive the function.
struct PciSlot {
    PciAddress address;
    PciDecoder& decoder;
    ApicBus& messages;
    InterruptLine pin;     ///< INTA
    u8 interrupt_line = 0; ///< ISA IRQ that `pin` has at the 8259s, for the guest to read
};

/// A type 0 function. It claims what its base address registers say while the command register
/// lets it, and reaches memory and sends messages only as bus master.
///
/// A device derives from it, adds in its constructor what it has, and is then inserted into the
/// segment. It must not be used by the guest while it is destroyed.
class PciDevice : public PciFunction, public InterruptVectors {
public:
    /// Registers of the header. Reset values are those that the device was made with, or 0.
    enum class Reg : u8 {
        vendor_id = 0x00,           // r-
        device_id = 0x02,           // r-
        command = 0x04,             // rw see Command; bit 0 only where there is an I/O range
        status = 0x06,              // r- bit 3 interrupt status, bit 4 capability list
        revision_id = 0x08,         // r-
        class_code = 0x09,          // r-
        cache_line_size = 0x0c,     // rw no effect
        latency_timer = 0x0d,       // rw no effect
        header_type = 0x0e,         // r- 00h
        bar0 = 0x10,                // rw to 24h, as far as there are ranges
        subsystem_vendor_id = 0x2c, // r-
        subsystem_id = 0x2e,        // r-
        capabilities = 0x34,        // r- the first one, or 0
        interrupt_line = 0x3c,      // rw
        interrupt_pin = 0x3d,       // r- 1: INTA
    };
    struct Command {
        static constexpr u16 io = 1 << 0, memory = 1 << 1, bus_master = 1 << 2, parity = 1 << 6,
                             serr = 1 << 8, interrupt_disable = 1 << 10;
    };

    ~PciDevice() override;

    [[nodiscard]] u32 config_read(unsigned offset, unsigned size) final;
    void config_write(unsigned offset, unsigned size, u32 value) final;

    [[nodiscard]] bool messages_enabled() const override { return m_msix && m_msix->enabled(); }
    void send(unsigned vector) override;
    void set_pin(bool asserted) override;

    [[nodiscard]] PciAddress address() const { return m_slot.address; }

protected:
    static constexpr unsigned bar_count = 6;
    static constexpr u8 capability_vendor = 0x09, capability_express = 0x10, capability_msix = 0x11;

    /// @param name for messages. @param memory, listener as for Dma.
    PciDevice(PciSlot slot, const PciIdentity& identity, std::string name, GuestMemory& memory,
              DmaListener* listener);

    /// Memory whose registers are `device`'s. @param bar 0 to 5, and with `wide` (64-bit) the next
    /// one too. @param size a power of two, 16 at least (VERIFY).
    void add_memory_range(unsigned bar, u64 size, BusDevice& device, bool wide = false);
    /// Ports. @param size a power of two, 4 to 256 (VERIFY).
    void add_port_range(unsigned bar, u32 size, BusDevice& device);
    /// A register of the device's own, or another value of one of the header's. It is not to lie
    /// where capabilities do, which begin at 40h. @param size 1 to 4. @param writable bits that the
    /// guest can change.
    void add_register(unsigned offset, unsigned size, u32 value, u32 writable = 0) {
        put(offset, size, value, writable);
    }
    /// Appends a capability. @param body what follows the two bytes of id and next. @param writable
    /// which bits of it the guest can change; may be shorter than `body`, the rest is read-only.
    /// @return its offset.
    unsigned add_capability(u8 id, std::span<const u8> body, std::span<const u8> writable = {});
    /// MSI-X with a table in the memory range `bar`, which it has to itself.
    void add_msix(unsigned bar, unsigned vectors);
    /// PCI Express as an endpoint of the root complex, with function-level reset.
    void add_express();

    [[nodiscard]] Dma& dma() { return m_dma; }
    /// For ranges at addresses that no base address register says.
    [[nodiscard]] PciDecoder& decoder() { return m_slot.decoder; }
    [[nodiscard]] BusDevice* range_device(unsigned bar) const;
    [[nodiscard]] u64 range_size(unsigned bar) const; ///< 0: there is none

    /// The guest is about to read these bytes of the configuration space (`config_value`).
    virtual void config_reading(unsigned /*offset*/, unsigned /*size*/) {}
    /// The guest has written these bytes, as far as they are writable.
    virtual void config_written(unsigned /*offset*/, unsigned /*size*/) {}
    /// Function-level reset: configuration and interrupts are already as at power-on.
    virtual void function_reset() = 0;

    /// The configuration space as it is, without effects. @param size 1, 2 or 4.
    [[nodiscard]] u32 config_value(unsigned offset, unsigned size) const;
    void set_config_value(unsigned offset, unsigned size, u32 value);

private:
    using ConfigSpace = std::array<u8, pci_config_size>;
    struct Range {
        std::size_t decoded = 0; ///< in the decoder
        u64 size = 0;            ///< 0: there is none
        BusDevice* device = nullptr;
        bool port = false, wide = false;
    };

    void put(unsigned offset, unsigned size, u32 value, u32 writable = 0);
    void put(Reg reg, unsigned size, u32 value, u32 writable = 0) {
        put(static_cast<unsigned>(reg), size, value, writable);
    }
    void add_range(unsigned bar, const Range& range, PciDecoder::Space space);
    [[nodiscard]] u16 command() const;
    void update_ranges();
    void update_messages();
    void update_pin();
    void reset_function();

    PciSlot m_slot;
    std::string m_name;
    Dma m_dma;
    ConfigSpace m_config{}, m_initial{}, m_writable{};
    std::array<Range, bar_count> m_ranges{};
    unsigned m_capability_end = 0x40, m_last_capability = 0;
    std::optional<MsixTable> m_msix;
    unsigned m_msix_capability = 0, m_express_capability = 0; ///< 0: there is none
    bool m_pin = false;
};

} // namespace gnomon::platform
