// SPDX-License-Identifier: Apache-2.0
/// @file A small driver of virtio devices, in the test: it finds the structures by the
/// capabilities, negotiates, and works on the rings in the guest's memory.
#pragma once

#include "pci_fixture.h"
#include "platform/virtio/pci_transport.h"

#include <map>

namespace gnomon::platform::test {

/// The rings of one queue, in guest memory.
class DriverQueue {
public:
    struct Descriptor {
        u64 address = 0;
        u32 size = 0;
        u16 flags = 0, next = 0;
    };
    static constexpr u16 next_follows = 1, device_writes = 2, indirect = 4;

    DriverQueue() = default;
    DriverQueue(GuestMemory& memory, Gpa base, u16 size)
        : m_memory(&memory), m_base(base), m_size(size) {
        std::vector<std::byte> zeroes(0x10000);
        EXPECT_TRUE(memory.write(base, zeroes));
    }
    [[nodiscard]] u16 size() const { return m_size; }
    [[nodiscard]] Gpa descriptors() const { return m_base; }
    [[nodiscard]] Gpa available() const { return m_base + 0x4000; }
    [[nodiscard]] Gpa used() const { return m_base + 0x8000; }

    void set(u16 n, const Descriptor& descriptor) { put(descriptors() + u64{16} * n, descriptor); }
    /// Makes a chain available, without telling the device.
    void offer(u16 head) {
        put(available() + 4 + u64{2} * (m_available % m_size), head);
        put(available() + 2, ++m_available);
    }
    void set_available_index(u16 index) { put(available() + 2, m_available = index); }
    void set_no_interrupt(bool none) { put(available(), static_cast<u16>(none)); }
    void set_used_event(u16 event) { put(available() + 4 + u64{2} * m_size, event); }
    [[nodiscard]] u16 available_event() { return get<u16>(used() + 4 + u64{8} * m_size); }
    [[nodiscard]] u16 used_index() { return get<u16>(used() + 2); }
    /// Head and length.
    [[nodiscard]] std::pair<u32, u32> used_element(u16 n) {
        return {get<u32>(used() + 4 + u64{8} * (n % m_size)),
                get<u32>(used() + 8 + u64{8} * (n % m_size))};
    }

    template <class T>
    void put(Gpa at, const T& value) {
        EXPECT_TRUE(m_memory->write_object(at, value));
    }
    template <class T>
    [[nodiscard]] T get(Gpa at) {
        T value{};
        EXPECT_TRUE(m_memory->read_object(at, value));
        return value;
    }

private:
    GuestMemory* m_memory = nullptr;
    Gpa m_base;
    u16 m_size = 0, m_available = 0;
};

class VirtioDriver {
public:
    /// Enables the device `slot` of bus 0, with its registers at 0xd0000000.
    VirtioDriver(PciHost& host, unsigned slot) : m_host(host), m_slot(slot) {
        host.config_write(slot, 0x10, 4, static_cast<u32>(base));
        host.config_write(slot, 0x14, 4, 0);
        host.config_write(slot, 0x18, 4, static_cast<u32>(msix_base));
        host.config_write(slot, 4, 2, 6);
        for (unsigned at = host.find_capability(slot, 9); at != 0;
             at = host.find_capability(slot, 9, at)) {
            const u32 type = host.config_read(slot, at + 3, 1);
            m_structures[type] = at;
            if (type == 2) m_multiplier = host.config_read(slot, at + 16, 4);
        }
    }
    static constexpr u64 base = 0xd0000000, msix_base = 0xd0100000;

    [[nodiscard]] unsigned capability(u32 type) const { return m_structures.at(type); }
    [[nodiscard]] u64 structure(u32 type) {
        return base + m_host.config_read(m_slot, capability(type) + 8, 4);
    }
    [[nodiscard]] u64 common(u64 offset, unsigned size) {
        return m_host.board().mmio_read(0, Gpa(structure(1) + offset), size);
    }
    void set_common(u64 offset, unsigned size, u64 value) {
        m_host.board().mmio_write(0, Gpa(structure(1) + offset), size, value);
    }
    [[nodiscard]] u64 device(u64 offset, unsigned size) {
        return m_host.board().mmio_read(0, Gpa(structure(4) + offset), size);
    }
    void set_device(u64 offset, unsigned size, u64 value) {
        m_host.board().mmio_write(0, Gpa(structure(4) + offset), size, value);
    }
    [[nodiscard]] u8 isr() {
        return static_cast<u8>(m_host.board().mmio_read(0, Gpa(structure(3)), 1));
    }
    [[nodiscard]] u8 status() { return static_cast<u8>(common(0x14, 1)); }
    void set_status(u8 value) { set_common(0x14, 1, value); }
    [[nodiscard]] u64 offered() {
        set_common(0, 4, 1);
        const u64 high = common(4, 4);
        set_common(0, 4, 0);
        return high << 32 | common(4, 4);
    }
    void accept(u64 features) {
        set_common(8, 4, 0);
        set_common(12, 4, features & 0xffffffff);
        set_common(8, 4, 1);
        set_common(12, 4, features >> 32);
    }
    /// Up to FEATURES_OK. @return whether the device agrees.
    [[nodiscard]] bool negotiate(u64 features) {
        set_status(0);
        set_status(1);
        set_status(3);
        accept(features);
        set_status(11);
        return (status() & 8) != 0;
    }
    /// Rings at 1 MiB + 64 KiB * n; messages to vector 0x50 + n if `messages`.
    DriverQueue& enable_queue(u16 n, u16 size, bool messages) {
        DriverQueue& queue = m_queues[n] =
            DriverQueue(m_host.memory(), Gpa(0x100000 + u64{0x10000} * n), size);
        set_common(0x16, 2, n);
        set_common(0x18, 2, size);
        set_common(0x1a, 2, messages ? n + 1U : 0xffffU);
        set_common(0x20, 8, queue.descriptors().value());
        set_common(0x28, 4, queue.available().value());
        set_common(0x2c, 4, 0);
        set_common(0x30, 8, queue.used().value());
        set_common(0x1c, 2, 1);
        return queue;
    }
    /// MSI-X: entry n sends vector 0x4f + n, the first for the configuration.
    void enable_messages(unsigned entries) {
        for (unsigned n = 0; n < entries; ++n) {
            const Gpa entry(msix_base + u64{16} * n);
            m_host.board().mmio_write(0, entry, 4, 0xfee00000);
            m_host.board().mmio_write(0, entry + 8, 4, 0x4f + n);
            m_host.board().mmio_write(0, entry + 12, 4, 0);
        }
        m_host.config_write(m_slot, m_host.find_capability(m_slot, 0x11) + 2, 2, 0x8000);
        set_common(0x10, 2, 0);
    }
    void notify(u16 n) {
        set_common(0x16, 2, n);
        const u64 at = structure(2) + common(0x1e, 2) * m_multiplier;
        m_host.board().mmio_write(0, Gpa(at), 2, n);
    }

private:
    PciHost& m_host;
    unsigned m_slot;
    std::map<u32, unsigned> m_structures;
    std::map<u16, DriverQueue> m_queues;
    u32 m_multiplier = 0;
};

} // namespace gnomon::platform::test
