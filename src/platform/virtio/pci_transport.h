// SPDX-License-Identifier: Apache-2.0
/// @file A virtio device on the PCI bus, modern interface only: what all kinds of devices share.
///
/// Virtio 1.2, sections 2.1 (status), 2.2 (features), 4.1 (PCI).
#pragma once

#include "platform/pci/device.h"
#include "platform/virtio/queue.h"

namespace gnomon::platform {

/// The status protocol, features, queues and interrupts. A kind of device derives from it, and
/// processes queues.
class VirtioPciDevice : public PciDevice {
public:
    struct Status {
        static constexpr u8 acknowledge = 1, driver = 2, driver_ok = 4, features_ok = 8,
                            needs_reset = 64, failed = 128;
    };
    struct Feature {
        static constexpr u64 indirect_descriptors = u64{1} << 28, event_index = u64{1} << 29,
                             version_1 = u64{1} << 32;
    };
    /// Registers of the common configuration, little-endian. Written in their own width only; those
    /// of 64 bits in halves too.
    enum class CommonReg : u8 {
        device_feature_select = 0x00, // rw
        device_feature = 0x04,        // r-
        driver_feature_select = 0x08, // rw
        driver_feature = 0x0c,        // rw until features_ok
        config_msix_vector = 0x10,    // rw 16 bits, reset ffffh
        num_queues = 0x12,            // r- 16 bits
        device_status = 0x14,         // rw 8 bits; 0 resets
        config_generation = 0x15,     // r- 8 bits
        queue_select = 0x16,          // rw 16 bits; those below are the selected queue's
        queue_size = 0x18,            // rw 16 bits until enabled
        queue_msix_vector = 0x1a,     // rw 16 bits, reset ffffh
        queue_enable = 0x1c,          // rw 16 bits, 1 enables
        queue_notify_off = 0x1e,      // r- 16 bits
        queue_desc = 0x20,            // rw 64 bits until enabled
        queue_driver = 0x28,          // rw 64 bits until enabled
        queue_device = 0x30,          // rw 64 bits until enabled
    };
    // The places of the structures in the memory range 0.
    static constexpr u64 common_offset = 0, isr_offset = 0x1000, device_offset = 0x2000,
                         notify_offset = 0x3000, structure_size = 0x1000;
    static constexpr u32 notify_multiplier = 4;
    static constexpr unsigned memory_bar = 0, msix_bar = 2;

protected:
    struct Kind {
        u16 type = 0; ///< as section 5 numbers them
        u32 class_code = 0;
        std::string name;
        u64 features = 0; ///< of its own
        unsigned queues = 1;
        u16 queue_size = 256; ///< the largest, a power of two
    };
    VirtioPciDevice(PciSlot slot, const Kind& kind, GuestMemory& memory, DmaListener* listener);

    /// What the driver and the device have agreed on.
    [[nodiscard]] u64 features() const { return m_driver_features; }
    [[nodiscard]] VirtioQueue& queue(unsigned n) { return m_queues.at(n).queue; }
    [[nodiscard]] unsigned queue_count() const { return static_cast<unsigned>(m_queues.size()); }
    /// Whether queues are to be processed.
    [[nodiscard]] bool running() const;
    /// Interrupts if the driver wants it for what was pushed.
    void interrupt_for(unsigned n);
    /// The driver made an error that leaves no way to go on.
    void need_reset();
    /// What the driver's reset does; a device calls it before it goes.
    void reset();
    /// See `begin_reset`.
    void reset_finished();

    /// The driver has made something available in the queue; only while `running`.
    virtual void queue_notified(unsigned n) = 0;
    /// The device forgets what it does. False if that takes time: then it calls `reset_finished`
    /// later, and the driver waits so long.
    [[nodiscard]] virtual bool begin_reset() = 0;
    /// The guest reads or writes the device's own configuration, at an offset below 1000h.
    [[nodiscard]] virtual u8 device_config(u64 offset) const = 0;
    virtual void set_device_config(u64 offset, u8 value) = 0;
    /// The guest looks whether there is something to do for it.
    virtual void interrupt_status_read() = 0;

    void config_reading(unsigned offset, unsigned size) final;
    void config_written(unsigned offset, unsigned size) final;
    void function_reset() final { reset(); }

private:
    class Registers final : public BusDevice {
    public:
        explicit Registers(VirtioPciDevice& device) : m_device(device) {}
        [[nodiscard]] u64 read(u64 offset, unsigned size) override;
        void write(u64 offset, unsigned size, u64 value) override;

    private:
        VirtioPciDevice& m_device;
    };
    struct Queue {
        explicit Queue(Dma& dma) : queue(dma) {}
        VirtioQueue queue;
        VirtioQueue::Setting setting;
        u16 vector = no_vector;
    };
    static constexpr u16 no_vector = 0xffff;
    static constexpr u8 isr_queue = 1, isr_configuration = 2;

    void add_structures();
    [[nodiscard]] u8 common_byte(u64 offset) const;
    void write_common(u64 offset, unsigned size, u64 value);
    void write_selected_queue(u64 offset, unsigned size, u64 value);
    void enable_queue(Queue& queue);
    void set_status(u8 value);
    [[nodiscard]] u8 read_isr();
    void notify(u64 offset);
    void interrupt(u16 vector, u8 isr);
    [[nodiscard]] u16 usable_vector(u64 vector) const;
    /// What the capability for access without a memory range points at: device, offset and size.
    struct Target {
        BusDevice* device = nullptr; ///< null: nothing
        u64 offset = 0;
        unsigned size = 0;
    };
    [[nodiscard]] Target config_access_target() const;

    Registers m_registers{*this};
    u64 m_offered;
    u16 m_max_queue_size;
    std::vector<Queue> m_queues;
    unsigned m_config_access = 0; ///< offset of that capability
    u64 m_driver_features = 0;
    u32 m_device_feature_select = 0, m_driver_feature_select = 0;
    u16 m_config_vector = no_vector, m_queue_select = 0;
    u8 m_status = 0, m_isr = 0;
    bool m_resetting = false; ///< begun, and not yet finished
};

} // namespace gnomon::platform
